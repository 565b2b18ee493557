"""Our session goes before others as long as a bench lasts, where the kernel groups sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import precedence


def test_afterwards_it_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "autogroup"
    group.write_text("/autogroup-7 nice 3\n")
    monkeypatch.setattr(precedence, "_group", lambda _: group)
    with precedence.we_first():
        assert group.read_text() == precedence.FIRST
    assert group.read_text() == "3"


def test_a_kernel_that_groups_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "_group", lambda _: tmp_path / "autogroup")
    with precedence.we_first():
        assert list(tmp_path.iterdir()) == []
