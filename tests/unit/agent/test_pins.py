"""Directories of pins, on an ordinary file system."""

from __future__ import annotations

from pathlib import Path

from fastrelay.agent import pins


def test_an_empty_directory_is_no_relay_yet(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "maps").mkdir(parents=True)
    assert pins.names(tmp_path) == ["old"]
    assert pins.names(tmp_path / "nowhere") == []


def test_empty_directories_go_when_nobody_has_used_them_for_long(tmp_path: Path) -> None:
    for name in ("kept", "empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "maps").mkdir()
    pins.remove_empty(tmp_path, 600)
    assert len(list(tmp_path.iterdir())) == 3
    pins.remove_empty(tmp_path, 0, keep={"kept"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "kept"]
