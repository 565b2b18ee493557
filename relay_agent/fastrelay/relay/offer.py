"""What a track brings, by publisher priority: bytes a second, lately."""

from __future__ import annotations

_GAIN = 0.5
_LEAST = 1.0
"""Bytes a second below which there is nothing."""


class Offer:
    """``rates``: by publisher priority; None: what does not say its own."""

    __slots__ = ("_bytes", "_since", "rates")

    def __init__(self, now: float) -> None:
        self.rates: dict[int | None, float] = {}
        self._bytes: dict[int | None, int] = {}
        self._since = now

    def count(self, priority: int | None, size: int) -> None:
        """So many bytes have come."""
        self._bytes[priority] = self._bytes.get(priority, 0) + size

    def roll(self, now: float) -> None:
        """To be called about once a second."""
        seconds = now - self._since
        if seconds <= 0 or not (self._bytes or self.rates):
            self._since = now
            return
        fresh, self._bytes, self._since = self._bytes, {}, now
        rates = self.rates
        for priority in (*rates, *(each for each in fresh if each not in rates)):
            rate = fresh.get(priority, 0) / seconds
            before = rates.get(priority, rate)
            rates[priority] = before + (rate - before) * _GAIN
        self.rates = {priority: rate for priority, rate in rates.items() if rate > _LEAST}
