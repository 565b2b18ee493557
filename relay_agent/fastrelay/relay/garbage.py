"""When Python looks for cyclic garbage.

A full collection stops the process for about a millisecond per thousand objects, so a busy
relay would stall its media every few seconds for nothing: what it has made in the meantime
are cached objects, which are no cycles. Cycles are left behind by sessions that end. So full
collections run when sessions have ended, as seldom as memory allows, and never look at what
was there at the start.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Self

from prometheus_client import Histogram

INTERVAL = 1.0
"""Seconds between two looks."""
LIVE_PER_ENDED = 4
"""A collection is due when one session has ended for so many that live."""
LONGEST_WAIT = 600.0
"""Seconds after which one is due anyway: other cycles are few, but there may be some."""
_NEVER = 1_000_000
_YOUNGER = 5000, _NEVER
"""Of the youngest generation, that pauses stay short. What a relay makes for an object is mostly
gone by itself before there are so many, and what is not is cached: nobody looks again."""


class GarbageCollection:
    """Takes over full collections of the process for the time of a ``with`` block.

    :param live: how many sessions there are.
    :param ended: how many have ended since the start.
    :param pauses: seconds that collections of every generation took.
    """

    def __init__(
        self, live: Callable[[], int], ended: Callable[[], int], pauses: Histogram
    ) -> None:
        self._live, self._ended, self._pauses = live, ended, pauses
        self._looked_at = 0
        self._last = 0.0
        self._began = 0.0
        self._thresholds = gc.get_threshold()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_YOUNGER, _NEVER)
        gc.callbacks.append(self._measure)
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        gc.callbacks.remove(self._measure)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _look(self) -> None:
        if self.due(self._loop.time()):
            gc.collect()
            self._looked_at, self._last = self._ended(), self._loop.time()
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def due(self, now: float) -> bool:
        """Whether a full collection is worth its pause."""
        ended = self._ended() - self._looked_at
        if ended and ended * LIVE_PER_ENDED >= self._live():
            return True
        return now - self._last >= LONGEST_WAIT

    def _measure(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._pauses.observe(time.perf_counter() - self._began)
