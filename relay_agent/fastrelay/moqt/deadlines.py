"""What a session waits for, without a clock of its own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from fastrelay.moqt.codes import SessionError


@dataclass(slots=True)
class Deadline:
    """``since`` is the time at which :meth:`Deadlines.expired` first saw it."""

    limit: float
    code: SessionError
    reason: str
    since: float | None = None


class Deadlines:
    """Things that the peer owes us; times are seconds of the owner's monotonic clock.

    A deadline starts with the first call of :meth:`expired` after it was set, so it is met
    late by up to the interval of those calls and never early.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, Deadline] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, key: Hashable, limit: float, code: SessionError, reason: str) -> None:
        """Wait for ``key``; nothing changes if it is waited for already."""
        if key not in self._waiting:
            self._waiting[key] = Deadline(limit, code, reason)

    def stop(self, key: Hashable) -> None:
        """``key`` has come, or is no longer needed."""
        self._waiting.pop(key, None)

    def expired(self, now: float) -> Deadline | None:
        """One deadline that is over, if any."""
        for deadline in self._waiting.values():
            if deadline.since is None:
                deadline.since = now
            elif now - deadline.since >= deadline.limit:
                return deadline
        return None
