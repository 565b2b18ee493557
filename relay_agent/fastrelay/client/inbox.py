"""A bounded queue between a session's events and one reader."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from fastrelay.client.values import QueueLimits

T = TypeVar("T")


class Inbox(Generic[T]):
    """An async iterator over what was put in; ends or fails once it is empty."""

    def __init__(self, limits: QueueLimits = QueueLimits()) -> None:  # noqa: B008 - immutable
        self._limits = limits
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be put in."""
        return self._ended

    def has_room(self, size: int) -> bool:
        """Whether one more item of ``size`` bytes keeps to the limits."""
        return len(self._items) < self._limits.objects and (
            not self._items or self._bytes + size <= self._limits.bytes
        )

    def put(self, item: T, size: int = 0) -> None:
        """Append, whatever the limits say: the caller asked :meth:`has_room` where it can act."""
        if self._ended:
            return
        self._items.append((item, size))
        self._bytes += size
        self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; the reader gets what is there, then ``error`` if given."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake()

    def discard(self) -> None:
        """Nothing more is wanted."""
        self._items.clear()
        self._bytes = 0
        self.end()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Inbox[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        item, size = self._items.popleft()
        self._bytes -= size
        return item
