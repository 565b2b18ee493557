"""Names as people read and type them."""

from __future__ import annotations

import pytest

from fastrelay.moqt.names import FullTrackName, Location, parse_namespace


def test_locations_compare_group_first() -> None:
    assert Location(1, 9) < Location(2, 0) < Location(2, 1)


def test_readable_names() -> None:
    track = FullTrackName((b"example.net", b"team2", b"project_x"), b"report")
    assert str(track) == "example.2enet-team2-project_x--report"
    assert str(FullTrackName((b"\x00-",), b"")) == ".00.2d--"


def test_only_ascii_is_readable() -> None:
    assert str(FullTrackName(("ä".encode("latin-1"),), b"\xb2")) == ".e4--.b2"


@pytest.mark.parametrize("text", ["live/demo", "/live/demo/"])
def test_typed_namespaces(text: str) -> None:
    assert parse_namespace(text) == (b"live", b"demo")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty field"), ("live//demo", "empty field"), ("/".join("x" * 33), "more than 32")],
)
def test_what_is_no_namespace(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_namespace(text)
