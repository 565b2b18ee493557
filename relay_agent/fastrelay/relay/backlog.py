"""Memory that fetches need beside the cache, bounded for the whole relay.

That is objects from upstream of which the group is not whole yet, and groups that have left
the cache while somebody still reads them. Who fetches decides how much is asked for, and reads
as slowly as it likes: so what waits longest is given up first when all of it becomes too much.
"""

from __future__ import annotations

from typing import Protocol

from fastrelay.relay.timers import Timers


class Holder(Protocol):
    def overloaded(self) -> None:
        """Give up what is held."""


class Backlog:
    """``total``: bytes that are held, at most about ``limit``."""

    __slots__ = ("_due", "_held", "_timers", "limit", "total")

    def __init__(self, limit: int, timers: Timers) -> None:
        self.limit = limit
        self.total = 0
        self._timers = timers
        self._held: dict[Holder, int] = {}
        self._due = False

    def hold(self, holder: Holder, size: int) -> None:
        """``holder`` needs so many bytes more."""
        self._held[holder] = self._held.get(holder, 0) + size
        self.total += size
        if self.total > self.limit and not self._due:
            # Not at once: whoever calls is in the middle of what would be given up.
            self._due = True
            self._timers.after(0, self._shed)

    def release(self, holder: Holder) -> None:
        """It needs nothing any more."""
        self.total -= self._held.pop(holder, 0)

    def _shed(self) -> None:
        self._due = False
        while self.total > self.limit:
            oldest = next(iter(self._held))
            self.release(oldest)
            oldest.overloaded()
