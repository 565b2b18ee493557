"""How often the objects of a track come."""

from __future__ import annotations

QUIET_INTERVALS = 3
QUIET_SECONDS = 1.0
SELDOM_SECONDS = 0.5
UNHEARD_SECONDS = 0.3


class Pace:
    """Counts objects since the relay subscribed to the publisher, at ``now``."""

    __slots__ = ("_begun", "_first", "_last", "beats")

    def __init__(self, now: float) -> None:
        self.beats = 0
        self._begun = now
        self._first = now
        self._last = now

    def beat(self, now: float) -> None:
        """An object has come."""
        if not self.beats:
            self._first = now
        self.beats += 1
        self._last = now

    def is_quiet(self, now: float, group_open: bool) -> bool:
        """Whether the next object may be long in coming.

        Objects usually come seldom, or nothing came for three times their usual interval;
        while a stream of the newest group is open, for at least a second. Of a track that the
        relay has just joined, one that was silent for a moment.
        """
        if self.beats == 0:
            return now - self._begun >= UNHEARD_SECONDS
        interval = (self._last - self._first) / max(1, self.beats - 1)
        if interval >= SELDOM_SECONDS:
            return True
        limit = QUIET_INTERVALS * interval
        if group_open:
            limit = max(limit, QUIET_SECONDS)
        return now - self._last >= limit
