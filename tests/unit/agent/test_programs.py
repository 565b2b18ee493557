"""Loading, with something in the kernel's place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from fastrelay.agent import programs

EAGAIN = OSError(errno.EAGAIN, "again")
FD = 7


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[Iterator[object]]:
    """Its answers come from the iterator that is put in here."""
    answers: list[Iterator[object]] = []

    def call(*_: object) -> int:
        answer = next(answers[0])
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, int)
        return answer

    monkeypatch.setattr(programs, "call", call)
    return answers


def test_who_is_interrupted_begins_anew(kernel: list[Iterator[object]]) -> None:
    kernel.append(chain(repeat(EAGAIN, programs.ATTEMPTS - 1), [FD]))
    assert programs._load("program", bytes(8), programs.ProgramKind.SCHED_CLS, None) == FD


def test_who_is_interrupted_always_gives_up(kernel: list[Iterator[object]]) -> None:
    kernel.append(repeat(EAGAIN))
    with pytest.raises(programs.RefusedError):
        programs.load("program", bytes(8))
