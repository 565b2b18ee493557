"""What others' TCP does: BBR, as far as a queue at a bottleneck can tell."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fastrelay.quic.congestion import Cubic
from unit.quic.bottleneck import SEGMENT, Flow, Packet

STARTUP_GAIN = 2.885
GAINS = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
ROUNDS = 10
"""Over which it remembers the largest rate."""
PROBE_SECONDS = 10.0
PROBING_SECONDS = 0.2
SPARE = 12
"""Segments that Linux adds to its window, about."""
BURST_SECONDS = 0.005


class Bbr(Cubic):
    """BBR's first version: twice what the path holds is in flight, paced; every ten seconds next to
    nothing for a moment."""

    def __init__(self, segment: int) -> None:
        super().__init__(segment)
        self._rate = self._full = 0.0
        self._rates: deque[float] = deque(maxlen=ROUNDS)
        self._base = float("inf")
        self._base_at = self._probes_until = 0.0
        self._now = 0.0
        self._rounds = 0
        self._delivered = self._before = 0
        self._round_at = 0.0

    @property
    def window(self) -> int:
        if not self._rates:
            return 10 * self.segment
        if self._now < self._probes_until:
            return 4 * self.segment
        return int(2 * self._rate * self._base) + SPARE * self.segment

    @property
    def pace(self) -> float:
        """Bytes a second."""
        gain = STARTUP_GAIN if not self._full else GAINS[self._rounds % len(GAINS)]
        return gain * self._rate or float("inf")

    def acknowledged(self, size: int, sent_at: float, now: float, *, used: bool) -> None:
        self._now = now
        self._delivered += size
        self._measure(now - sent_at, now)
        if sent_at < self._round_at:
            return
        if self._round_at:
            self._rounds += 1
            self._rates.append((self._delivered - self._before) / (now - self._round_at))
            before, self._rate = self._rate, max(self._rates)
            if not self._full and self._rate < 1.25 * before:
                self._full = self._rate
        self._round_at, self._before = now, self._delivered

    def _measure(self, rtt: float, now: float) -> None:
        if rtt <= self._base:
            self._base, self._base_at = rtt, now
        elif now - self._base_at > PROBE_SECONDS:
            self._base, self._base_at = rtt, now
            self._probes_until = now + rtt + PROBING_SECONDS

    def round_trip(self, rtt: float, now: float, *, used: bool) -> None:
        """It measures itself."""

    def lost(self, sent_at: float, now: float) -> None:
        """It does not care."""


@dataclass(eq=False)
class Paced(Flow):
    """As much as goes, at the pace of its rule, which is a :class:`Bbr`."""

    rule: Bbr = field(default_factory=lambda: Bbr(SEGMENT))
    _next: float = 0.0

    def due(self, now: float) -> float:
        return max(self._next, now)

    def take(self, now: float) -> Packet:
        self._next = max(self._next, now - BURST_SECONDS) + SEGMENT / self.rule.pace
        return super().take(now)
