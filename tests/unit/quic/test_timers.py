"""One timer of the loop for many deadlines."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from fastrelay.quic.timers import Deadline, Timers


class Handle:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The two methods of a loop that are used, and a clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Handle:
        self.made += 1
        self.handles.append(Handle(at, call))
        return self.handles[-1]

    def advance(self, until: float) -> None:
        while True:
            self.handles = [h for h in self.handles if not h.cancelled]
            assert len(self.handles) <= 1, "one timer for all"
            if not self.handles or self.handles[0].at > until:
                break
            handle = self.handles.pop()
            self.now = max(self.now, handle.at)
            handle.call()
        self.now = until


class Clock:
    """Timers with a list of what was due and when."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.due: list[tuple[str, float]] = []
        self.rounds = 0
        loop: Any = self.loop
        self.timers = Timers(loop, self._on_due)

    def deadline(self, name: str) -> Deadline:
        return Deadline(lambda now: self.due.append((name, now)))

    def set(self, deadline: Deadline, at: float) -> None:
        self.timers.set(deadline, at, self.loop.now)
        self.timers.arm(self.loop.now)

    def _on_due(self, due: list[Deadline], now: float) -> None:
        self.rounds += 1
        for deadline in due:
            deadline.on_due(now)
        self.timers.arm(now)


def test_each_is_called_at_its_time() -> None:
    clock = Clock()
    for name, at in (("b", 100.2), ("a", 100.1), ("far", 135.5), ("c", 100.2)):
        clock.set(clock.deadline(name), at)
    clock.loop.advance(140.0)
    assert clock.due == [("a", 100.1), ("b", 100.2), ("c", 100.2), ("far", 135.5)]


def test_moving_later_costs_no_wake_up() -> None:
    clock = Clock()
    deadline = clock.deadline("x")
    for step in range(100):
        clock.loop.advance(100.0 + step * 0.01)
        clock.set(deadline, 100.0 + step * 0.01 + 0.03)
    assert clock.rounds == 0
    clock.loop.advance(200.0)
    assert [name for name, _ in clock.due] == ["x"]
    assert clock.due[0][1] == 100.99 + 0.03


def test_moving_earlier_counts_once() -> None:
    clock = Clock()
    deadline = clock.deadline("x")
    for at in (103.0, 102.0, 101.0):
        clock.set(deadline, at)
    clock.loop.advance(110.0)
    assert clock.due == [("x", 101.0)]


def test_one_that_has_moved_meanwhile_says_so_when_it_comes_up() -> None:
    clock = Clock()
    deadline = clock.deadline("x")
    moved = iter((102.0, math.inf, 104.0))
    deadline.ask = lambda now: next(moved)
    clock.set(deadline, 101.0)
    clock.loop.advance(103.0)
    assert clock.due == []
    assert [h for h in clock.loop.handles if not h.cancelled] == []
    clock.set(deadline, 104.0)
    clock.loop.advance(105.0)
    assert clock.due == [("x", 104.0)]


def test_no_deadline_no_timer() -> None:
    clock = Clock()
    deadline = clock.deadline("x")
    clock.set(deadline, 101.0)
    clock.set(deadline, math.inf)
    assert [h for h in clock.loop.handles if not h.cancelled] == []
    clock.set(deadline, 102.0)
    clock.timers.stop()
    clock.loop.advance(110.0)
    assert clock.due == []


def test_overtaken_entries_do_not_pile_up() -> None:
    """Far after each acknowledgement, near after each packet: the life of a connection."""
    clock = Clock()
    deadlines = [clock.deadline(str(n)) for n in range(10)]
    for step in range(3000):
        clock.loop.advance(100.0 + step * 0.02)
        for deadline in deadlines:
            clock.set(deadline, clock.loop.now + (0.03 if step % 2 else 30.0))
    assert len(clock.timers._heap) < 10 * 120
    assert clock.due == []


def test_idle_deadlines_are_looked_at_together() -> None:
    clock = Clock()
    rng = random.Random(1)
    for number in range(500):
        clock.set(clock.deadline(str(number)), 130.0 + rng.random())
    clock.loop.advance(129.0)
    assert clock.rounds <= 30
    clock.loop.advance(131.0)
    assert len(clock.due) == 500


def test_random_moves() -> None:
    clock = Clock()
    rng = random.Random(2)
    deadlines = {str(n): clock.deadline(str(n)) for n in range(8)}
    expected: dict[str, float] = {}
    for _ in range(2000):
        name = rng.choice(list(deadlines))
        expected[name] = clock.loop.now + rng.choice([0.001, 0.03, 0.5, 3.0, 30.0, math.inf])
        clock.set(deadlines[name], expected[name])
        before = len(clock.due)
        clock.loop.advance(clock.loop.now + rng.random() * 0.1)
        for called, at in clock.due[before:]:
            assert at == expected.pop(called)
            deadlines[called].at = math.inf
        assert all(at > clock.loop.now for at in expected.values())
