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


def test_what_peers_say_cannot_steer_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    structlog.stdlib.get_logger("a").info("session closed", reason="x\x1b[2J", more="a b\n\x9bc")
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "\\x1b[2J" in line


@pytest.mark.parametrize("style", ["json", "console"])
def test_tracebacks_show_no_values(style: str) -> None:
    stream = io.StringIO()
    logs.configure("info", style, stream)
    secret = "-".join(["correct", "horse"])
    try:
        raise RuntimeError(f"on purpose, {len(secret)}")
    except RuntimeError:
        logging.getLogger("a").exception("failed")
    text = stream.getvalue()
    assert "on purpose, 13" in text
    assert "correct-horse" not in text
    if style == "json":
        assert json.loads(text)["exception"][0]["exc_type"] == "RuntimeError"
