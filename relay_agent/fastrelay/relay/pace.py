"""How often the objects of a track come."""

from __future__ import annotations

QUIET_INTERVALS = 3
QUIET_SECONDS = 1.0
SELDOM_SECONDS = 0.5


class Pace:
    """Counts objects since the relay subscribed to the publisher."""

    __slots__ = ("_first", "_last", "beats")

    def __init__(self) -> None:
        self.beats = 0
        self._first = 0.0
        self._last = 0.0

    def beat(self, now: float) -> None:
        """An object has come."""
        if not self.beats:
            self._first = now
        self.beats += 1
        self._last = now

    def is_quiet(self, now: float, group_open: bool) -> bool:
        """Whether the next object may be long in coming.

        Objects usually come seldom, or nothing came for three times their usual interval;
        while a stream of the newest group is open, for at least a second.
        """
        if self.beats == 0:
            return False
        interval = (self._last - self._first) / max(1, self.beats - 1)
        if interval >= SELDOM_SECONDS:
            return True
        limit = QUIET_INTERVALS * interval
        if group_open:
            limit = max(limit, QUIET_SECONDS)
        return now - self._last >= limit
