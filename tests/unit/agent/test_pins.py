"""Directories of pins, on an ordinary file system."""

from __future__ import annotations

from pathlib import Path

from fastrelay.agent import pins


def test_an_empty_directory_is_no_relay_yet(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "maps").mkdir(parents=True)
    assert pins.names(tmp_path) == ["old"]
    assert pins.names(tmp_path / "nowhere") == []
