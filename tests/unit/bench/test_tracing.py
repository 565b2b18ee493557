"""Who mounts the list of tracepoints, and who takes it away; with a directory instead of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import tracing


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is there while it is mounted."""
    events = tmp_path / "tracing" / "events"
    events.parent.mkdir()

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if command[0] == "mount":
            events.mkdir()
        else:
            assert command[0] == "umount"
            events.rmdir()
        assert command[-1] == str(events.parent)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tracing, "TRACING", events.parent)
    monkeypatch.setattr(tracing, "USERS", tmp_path / "users")
    monkeypatch.setattr(subprocess, "run", run)
    return events


def test_the_last_who_needs_it_unmounts_it(events: Path) -> None:
    for _ in range(2):
        first, second = tracing.mounted(), tracing.mounted()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert events.exists(), "the second one still needs it"
        second.__exit__(None, None, None)
        assert not events.exists()


def test_what_was_mounted_stays(events: Path) -> None:
    events.mkdir()
    with tracing.mounted():
        pass
    assert events.exists()


def test_why_it_cannot_be_mounted(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 32, "", "mount: permission denied\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match="permission denied"), tracing.mounted():
        pass
    assert not events.exists()
