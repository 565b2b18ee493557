"""The loops that keep the CPUs from sleeping: idle, apart from everybody, and gone at the end."""

from __future__ import annotations

import os

import pytest
from bench.awake import Awake


def test_they_take_idle_time_until_the_end() -> None:
    with Awake() as awake:
        loops = {process.pid for process in awake._processes}
        assert len(loops) == len(os.sched_getaffinity(0))
        assert {os.sched_getscheduler(pid) for pid in loops} == {os.SCHED_IDLE}
        assert {os.getsid(pid) for pid in loops} == loops
        alive = {pid for pid in loops if _is_there(pid)}
        assert alive == loops
    assert not any(map(_is_there, loops))


def test_one_that_cannot_begin_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = os.sched_getaffinity(0)
    nowhere = os.cpu_count() or 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: everywhere | {4 * nowhere})
    awake = Awake()
    with pytest.raises(RuntimeError, match="ended with 1"):
        awake.__enter__()
    assert awake._processes == []


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
