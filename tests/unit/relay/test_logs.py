"""Logs: one place, two forms."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fastrelay.relay import logs


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_has_one_object_a_line_from_every_logger() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    structlog.stdlib.get_logger("a").info("session opened", peer="::1", draft=18)
    logging.getLogger("fastrelay.quic").warning("certificate %s", "reloaded")
    structlog.stdlib.get_logger("a").debug("not shown")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "session opened", "level": "info", "peer": "::1", "draft": 18}
    assert (second["event"], second["level"]) == ("certificate reloaded", "warning")


def test_console_is_key_value_without_colours_in_a_file() -> None:
    stream = io.StringIO()
    logs.configure("debug", "console", stream)
    structlog.stdlib.get_logger("a").debug("joined", track="live--video")
    line = stream.getvalue()
    assert "joined" in line
    assert "track=live--video" in line
    assert "\x1b" not in line


def test_tracebacks_stay_within_their_object() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    try:
        raise RuntimeError("on purpose")
    except RuntimeError:
        logging.getLogger("a").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "on purpose"
