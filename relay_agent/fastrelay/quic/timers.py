"""The deadlines of many connections behind one timer of the event loop.

A connection's deadline moves with nearly every packet, mostly into the future. A timer of
the loop for each would either be moved as often or wake the loop for nothing; here moving
one later is an assignment, and the loop's timer is set once per batch of packets.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

_LOOKAHEAD = 2
"""Seconds. No entry lies further ahead, so that entries that were overtaken by an earlier
one soon come up and go; far deadlines are looked at again together, on whole seconds."""

_serials = itertools.count()


class Deadline:
    """When to call ``on_due(now)``, in the loop's time; ``math.inf``: never.

    ``ask(now)``: where it is meanwhile, to be asked when it comes up, if somebody knows it then.
    """

    __slots__ = ("ask", "at", "entered_at", "on_due", "serial")

    def __init__(
        self, on_due: Callable[[float], None], ask: Callable[[float], float] | None = None
    ) -> None:
        self.on_due = on_due
        self.ask = ask
        self.at = math.inf
        self.entered_at = math.inf
        """The time of the one entry in the heap that counts; others were overtaken."""
        self.serial = next(_serials)


class Timers:
    """A heap whose entries may be too early; they are put right when they come up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_due: Callable[[list[Deadline], float], None],
    ) -> None:
        """``on_due`` gets what is due, and calls :meth:`arm` when it has dealt with it."""
        self._loop = loop
        self._on_due = on_due
        self._heap: list[tuple[float, int, Deadline]] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed_at = math.inf

    def set(self, deadline: Deadline, at: float, now: float) -> None:
        """Move a deadline; takes effect with the next :meth:`arm`."""
        deadline.at = at
        if at < deadline.entered_at:
            self._enter(deadline, now)

    def arm(self, now: float) -> None:
        """Set the loop's timer to the earliest deadline there is."""
        heap = self._heap
        horizon = math.floor(now) + _LOOKAHEAD
        while heap:
            at, serial, deadline = heap[0]
            if at != deadline.entered_at:
                heappop(heap)
            elif deadline.at == math.inf:
                heappop(heap)
                deadline.entered_at = math.inf
            elif at < (later := min(deadline.at, horizon)):
                deadline.entered_at = later
                heapreplace(heap, (later, serial, deadline))
            else:
                break
        at = heap[0][0] if heap else math.inf
        if at == self._armed_at:
            return
        self._armed_at = at
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if at == math.inf else self._loop.call_at(at, self._fire)

    def stop(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self.arm(0.0)

    def _enter(self, deadline: Deadline, now: float) -> None:
        at = min(deadline.at, math.floor(now) + _LOOKAHEAD)
        if at < deadline.entered_at:
            deadline.entered_at = at
            heappush(self._heap, (at, deadline.serial, deadline))

    def _fire(self) -> None:
        self._handle = None
        self._armed_at = math.inf
        now = self._loop.time()
        heap = self._heap
        due: list[Deadline] = []
        while heap and heap[0][0] <= now:
            at, _, deadline = heappop(heap)
            if at == deadline.entered_at:
                deadline.entered_at = math.inf
                if deadline.ask is not None:
                    deadline.at = deadline.ask(now)
                if deadline.at <= now:
                    due.append(deadline)
                elif deadline.at < math.inf:
                    self._enter(deadline, now)
        self._on_due(due, now)
