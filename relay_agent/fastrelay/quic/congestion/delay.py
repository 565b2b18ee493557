"""A controller for live media: CUBIC that takes the queue it makes for congestion, too.

Packets that wait on the path for more than ``TARGET`` for a while, never less, stand in a queue
(CoDel's observation, RFC 8289). Who has more than ``OWN`` segments in it (TCP Vegas's estimate:
the part of the window that the path without a queue would not hold) has a congestion event, and
cuts its window so far that its own part of the queue is gone for a moment. By that it learns, and
others do, how long the path really is; and as the largest window is cut first, all that send
like this share the path.

Somebody else's queue does not go away by that. When the cuts have not helped for ``VAIN`` seconds,
they are taken back, and for a while only losses count: among TCP flows this is CUBIC. The same
happens when a path has become longer.
"""

from __future__ import annotations

from fastrelay.quic.congestion.cubic import BETA, Cubic

TARGET = 0.015
"""Seconds: what is below may be the timing of the hosts."""
OWN = 4
PERIOD = 0.05
"""So long, or for two round trips, no packet waits less."""
SAMPLES = 3
DEPTH = 0.7
"""Of what the path holds without a queue, so much is left by a cut."""
HARDEST = 0.2
FOREIGN = 0.09
"""Seconds: a queue of some flows like this, each with its own few segments, is shorter."""
VAIN = 2.0
STUBBORN = (10.0, 40.0)
"""Seconds: at first, and at last, each time twice as long."""

_NEVER = float("inf")


class Delay(Cubic):
    """See the module."""

    def __init__(self, segment: int) -> None:
        super().__init__(segment)
        self.base = _NEVER
        """The shortest round trip time that is known; ``inf``: none is."""
        self.stubborn_until = -_NEVER
        """Until then somebody else's queue is in the way, and only losses count."""
        self._stubborn = STUBBORN[0]
        self._since = 0.0
        """Samples of packets that left since then are looked at together."""
        self._shortest = _NEVER
        self._samples = 0
        self._vain_since: float | None = None
        """Since when there is somebody else's queue, as it seems."""
        self._kept = (0.0, 0.0)
        """Window and W_max at that time."""

    def round_trip(self, rtt: float, now: float, *, used: bool) -> None:
        super().round_trip(rtt, now, used=used)
        self.base = min(self.base, rtt)
        if not used:
            self._vain_since = None
            self._look_from(now)
        elif now - rtt >= self._since:
            self._shortest = min(self._shortest, rtt)
            self._samples += 1
            if self._samples >= SAMPLES and now - self._since >= max(PERIOD, 2 * self._shortest):
                self._judge(self._shortest, now)
                self._look_from(now)

    def _look_from(self, now: float) -> None:
        self._since, self._shortest, self._samples = now, _NEVER, 0

    def _judge(self, rtt: float, now: float) -> None:
        """No packet took less than ``rtt`` lately."""
        if now < self.stubborn_until:
            return
        queue = rtt - self.base
        if queue <= FOREIGN:
            self._vain_since = None
            self._stubborn = STUBBORN[0]
        elif self._vain_since is None:
            self._vain_since = now
            self._kept = (self._window, self._largest)
        elif now - self._vain_since > VAIN:
            self._be_stubborn(now)
            return
        if queue > TARGET and self._window * queue > OWN * self.segment * rtt:
            self.reduce(min(max(DEPTH * self.base / rtt, HARDEST), BETA), now)

    def _be_stubborn(self, now: float) -> None:
        self._vain_since = None
        self.stubborn_until = now + self._stubborn
        self._stubborn = min(2 * self._stubborn, STUBBORN[1])
        self._window, self._largest = self._kept
        self.threshold = self._window
        self._epoch = None

    def persistent(self) -> None:
        super().persistent()
        self.base = _NEVER
