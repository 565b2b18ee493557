"""A controller for live media: CUBIC that takes the queue it makes for congestion, too.

Packets that wait on the path for more than ``TARGET`` for a while, never less, stand in a queue
(CoDel's observation, RFC 8289). Who has more than ``OWN`` segments in it (TCP Vegas's estimate:
the part of the window that the path without a queue would not hold) has a congestion event, and
cuts its window so far that its own part of the queue is gone for a moment. By that it learns, and
others do, how long the path really is; and as the largest window is cut first, all that send
like this share the path.

Somebody else's queue does not go away by that, however short the other one keeps it (BBR's is a
round trip long), nor does one of many like this, each with its few segments. So when a queue has
stood for ``STANDS`` seconds, there is a trial: all that see it empty their part at the same time,
that is at the next multiple of ``TRIAL`` seconds of the clock, which all connections of a relay
have in common. If the queue is gone then, it was theirs. If not, it is somebody else's, or the path
has become longer: the cuts are taken back, and only losses count, until a trial shows that the
queue goes away again. Among TCP flows this is CUBIC.
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
STANDS = 1.0
TRIAL, STUBBORN_TRIAL = 2.0, 10.0
"""Seconds: trials are at multiples of these; the second one is a multiple of the first one."""
TRIPS = 3
"""Round trips within which a queue is gone when everybody has emptied his part."""

_NEVER = float("inf")


class Delay(Cubic):
    """See the module."""

    def __init__(self, segment: int) -> None:
        super().__init__(segment)
        self.base = _NEVER
        """The shortest round trip time that is known; ``inf``: none is."""
        self.stubborn = False
        """Somebody else's queue is in the way, and only losses count."""
        self._since = 0.0
        """Samples of packets that left since then are looked at together."""
        self._shortest = _NEVER
        self._samples = 0
        self._empty_at = _NEVER
        """When there was no queue last."""
        self._kept: tuple[float, float] | None = None
        """Window and W_max before the cuts that the present queue was the reason for."""
        self._next_trial = 0.0
        self._trial_until: float | None = None

    def round_trip(self, rtt: float, now: float, *, used: bool) -> None:
        super().round_trip(rtt, now, used=used)
        self.base = min(self.base, rtt)
        if rtt - self.base <= TARGET:
            self._is_empty(now)
        elif self._trial_until is not None:
            if now > self._trial_until:
                self._be_stubborn(now)
        elif used and now >= self._next_trial:
            self._try(rtt, now)
        if not used:
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
        queue = rtt - self.base
        if self.stubborn or self._trial_until is not None or queue <= TARGET:
            return
        self._keep()
        if self._window * queue > OWN * self.segment * rtt:
            self.reduce(min(max(DEPTH * self.base / rtt, HARDEST), BETA), now)

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = self._window, self._largest

    def _is_empty(self, now: float) -> None:
        """There is no queue."""
        self._empty_at = now
        if self._trial_until is not None or now >= self._next_trial:
            self._be_polite()
        if not self.stubborn:
            self._kept = None

    def _try(self, rtt: float, now: float) -> None:
        """Whether the queue goes away."""
        if now - self._empty_at < STANDS:
            self._be_polite()
            self._await_trial(now)
            return
        self._keep()
        self._trial_until = now + TRIPS * rtt
        self.reduce(min(DEPTH * self.base / rtt, BETA), now)

    def _be_polite(self) -> None:
        self.stubborn = False
        self._trial_until = None
        self._next_trial = 0.0

    def _await_trial(self, now: float) -> None:
        pause = STUBBORN_TRIAL if self.stubborn else TRIAL
        self._next_trial = (now // pause + 1) * pause

    def _be_stubborn(self, now: float) -> None:
        assert self._kept is not None
        self.stubborn = True
        self._await_trial(now)
        self._trial_until = None
        self._window, self._largest = self._kept
        self.threshold = self._window
        self._kept = None
        self._epoch = None

    def persistent(self) -> None:
        super().persistent()
        self.base = _NEVER
