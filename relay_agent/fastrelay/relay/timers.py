"""Deadlines of the core: a heap, driven from outside."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """A deadline that can be cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """``wake`` is called with the earliest deadline whenever that moves closer."""

    def __init__(self, clock: Callable[[], float], wake: Callable[[float], None]) -> None:
        self.now = clock
        self._wake = wake
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now() + seconds, callback)
        earliest = self._heap[0][0] if self._heap else None
        heapq.heappush(self._heap, (timer.when, next(self._order), timer))
        if earliest is None or timer.when < earliest:
            self._wake(timer.when)
        return timer

    def expire(self, now: float) -> float | None:
        """Run what is due; returns the next deadline."""
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][2].callback is None):
            timer = heapq.heappop(heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        return heap[0][0] if heap else None
