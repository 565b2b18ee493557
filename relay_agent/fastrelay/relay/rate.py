"""Token buckets that are one number each: the generic cell rate algorithm.

Times are nanoseconds of one clock, whole ones: what the kernel computes too (``bpf/rate.h``).
Source: ITU-T I.371, the virtual scheduling algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second on average, and so many at once after a quiet time."""

    per_second: int
    burst: int

    @property
    def interval(self) -> int:
        """From one to the next."""
        return 1_000_000_000 // self.per_second

    @property
    def tolerance(self) -> int:
        """How far the next may be ahead of its time."""
        return (self.burst - 1) * self.interval


@dataclass(slots=True)
class Meter:
    """``empty_at``: when the next would be due if all came evenly; from then on, as if new."""

    empty_at: int = 0

    def blocked(self, rate: Rate) -> int:
        """Until when there is no room for one more."""
        return self.empty_at - rate.tolerance

    def charge(self, rate: Rate, now: int) -> None:
        """Count one, whether there is room for it or not."""
        self.empty_at = max(self.empty_at, now) + rate.interval

    def take(self, rate: Rate, now: int) -> bool:
        """Count one if there is room for it."""
        if self.blocked(rate) > now:
            return False
        self.charge(rate, now)
        return True
