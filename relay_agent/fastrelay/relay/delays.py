"""How long objects are on their way to one subscriber, from two clocks that need not agree.

What is known is when an object was sent, by our clock, and when it arrived, by the subscriber's.
The smallest difference that was seen lately belongs to an object that waited nowhere; half of the
smallest round trip time is taken for how long it was on its way, and what others took longer than
it is added. Clocks that drift are followed, as the smallest difference is forgotten after a while.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

ALPHA = 0.01
"""Of the moving average that weighs exponentially."""
WINDOW = 64
"""Objects of the plain moving average, the variance and the deviation."""
_MEMORY = 60.0
"""Seconds for half of which, at least, the smallest difference is remembered."""
_JITTER_GAIN = 1 / 16
_STEP = 30.0
"""Seconds by which no object can be late: a clock was set."""


@dataclass(frozen=True, slots=True)
class DelayStatistics:
    """Seconds; ``variance`` in their squares."""

    latest: float
    ewma: float
    jitter: float
    """RFC 3550 section 6.4.1."""
    average: float
    variance: float
    deviation: float
    objects: int
    """So many were counted."""


class Delays:
    """Fed with pairs of times in seconds."""

    __slots__ = (
        "_base",
        "_ewma",
        "_jitter",
        "_latest",
        "_older",
        "_recent",
        "_since",
        "objects",
    )

    def __init__(self) -> None:
        self.objects = 0
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._base = self._older = math.inf
        """Smallest differences: since ``_since``, and in the time before."""
        self._since = -math.inf
        self._ewma = self._jitter = 0.0
        self._latest = math.nan
        """The difference of the latest one."""

    def add(self, sent: float, arrived: float, min_rtt: float) -> None:
        """One object."""
        difference = arrived - sent
        if not self.objects or abs(difference - min(self._base, self._older)) > _STEP:
            self._begin(sent, difference)
        if sent - self._since > _MEMORY / 2:
            self._older, self._base, self._since = self._base, difference, sent
        self._base = min(self._base, difference)
        delay = difference - min(self._base, self._older) + min_rtt / 2
        self._recent.append(delay)
        self._ewma = delay if not self.objects else self._ewma + ALPHA * (delay - self._ewma)
        self._jitter += (abs(difference - self._latest) - self._jitter) * _JITTER_GAIN
        self._latest = difference
        self.objects += 1

    def _begin(self, sent: float, difference: float) -> None:
        """Nothing of what was before can be compared with this."""
        self._recent.clear()
        self._base, self._older, self._since = difference, math.inf, sent
        self._latest = difference
        self._jitter = 0.0
        self.objects = 0

    def statistics(self) -> DelayStatistics | None:
        """None: nothing is known."""
        recent = self._recent
        if not recent:
            return None
        average = math.fsum(recent) / len(recent)
        variance = math.fsum((delay - average) ** 2 for delay in recent) / len(recent)
        return DelayStatistics(
            latest=recent[-1],
            ewma=self._ewma,
            jitter=self._jitter,
            average=average,
            variance=variance,
            deviation=math.sqrt(variance),
            objects=self.objects,
        )
