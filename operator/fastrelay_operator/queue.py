"""A queue of keys: each once, each with one worker at a time, each again when time has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """What is added while it is being worked on comes again afterwards."""

    def __init__(self) -> None:
        self._first: asyncio.Queue[K] = asyncio.Queue()
        self._others: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting) + len(self._again)

    def add(self, key: K, after: float | None = 0.0, *, first: bool = False) -> None:
        """``after``: seconds, in place of a later time that was set before; None: not at all.
        ``first``: for those workers who wait for such keys alone."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if after is None:
            return
        if after > 0:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(after, self.add, key)
        elif key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            (self._first if first else self._others).put_nowait(key)

    @asynccontextmanager
    async def next(self, *, first: bool = False) -> AsyncIterator[K]:
        """The next key of the one kind or the other, as long as it is worked on."""
        key = await (self._first if first else self._others).get()
        self._waiting.discard(key)
        self._active.add(key)
        try:
            yield key
        finally:
            self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
