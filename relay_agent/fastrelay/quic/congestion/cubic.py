"""CUBIC congestion control (RFC 9438), as QUIC has it (RFC 9002 section 7).

The window grows only while it is used (section 7.8 of RFC 9002), and time in which it is not
does not count as time since the last congestion event: media have their own rate, and a window
that had grown meanwhile would be no limit when the path gets worse. So the window itself is what
is cut, and not what happens to be in flight.

Sizes are bytes, times seconds of any monotonic clock.
"""

from __future__ import annotations

C = 0.4
"""Segments a second cubed."""
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)
"""Segments in a round trip by which Reno's window grows if it is cut by ``BETA``."""
INITIAL_SEGMENTS = 10
MINIMUM_SEGMENTS = 2


class Cubic:
    """One connection's. ``segment``: the largest UDP payload."""

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self._window = float(INITIAL_SEGMENTS * segment)
        self.threshold: float | None = None
        """ssthresh; None: slow start has never ended."""
        self.recovery_since = float("-inf")
        """When the latest congestion event was noticed: what left before has no say any more."""
        self._largest = 0.0
        """W_max."""
        self._prior = 0.0
        """cwnd_prior: the window before the latest congestion event."""
        self._reno = 0.0
        """W_est; so are the following of the current stage of congestion avoidance."""
        self._k = 0.0
        self._epoch: float | None = None
        """When it began; None: it begins with the next acknowledgement."""
        self._last = 0.0
        """When bytes were acknowledged last."""
        self._rtt = 0.0

    @property
    def window(self) -> int:
        return int(self._window)

    @property
    def minimum(self) -> int:
        return MINIMUM_SEGMENTS * self.segment

    @property
    def in_slow_start(self) -> bool:
        return self.threshold is None or self._window < self.threshold

    def acknowledged(self, size: int, sent_at: float, now: float, *, used: bool) -> None:
        """So many bytes arrived, the newest of which left at ``sent_at``.

        :param used: whether the window was (mostly) in use before.
        """
        before, self._last = self._last, now
        if sent_at <= self.recovery_since:
            return
        if not used:
            if self._epoch is not None:
                self._epoch += now - before
        elif self.in_slow_start:
            self._window += size
        else:
            self._avoid(size, now)

    def _avoid(self, size: int, now: float) -> None:
        segment, window = self.segment, self._window
        if self._epoch is None:
            self._begin(now)
        assert self._epoch is not None
        alpha = ALPHA if self._reno < self._prior else 1.0
        self._reno += alpha * size / window * segment
        elapsed = now - self._epoch
        if self.target(elapsed) < self._reno:
            self._window = max(window, self._reno)
            return
        target = min(max(self.target(elapsed + self._rtt), window), 1.5 * window)
        self._window += (target - window) * min(size / window, 1.0)

    def _begin(self, now: float) -> None:
        """A stage of congestion avoidance."""
        self._epoch = now
        self._reno = self._window
        if self._largest < self._window:
            self._largest = self._window  # slow start ended without a congestion event
        self._k = ((self._largest - self._window) / self.segment / C) ** (1 / 3)

    def target(self, elapsed: float) -> float:
        """W_cubic: the window so long after the stage began."""
        return C * (elapsed - self._k) ** 3 * self.segment + self._largest

    def round_trip(self, rtt: float, now: float, *, used: bool) -> None:
        """A new sample."""
        self._rtt = rtt

    def end_slow_start(self) -> None:
        """The path's queue grows (HyStart)."""
        if self.threshold is None:
            self.threshold = self._window

    def lost(self, sent_at: float, now: float) -> None:
        """Packets are lost, the newest of which left at ``sent_at``. Once a round trip this is a
        congestion event."""
        if sent_at > self.recovery_since:
            self.reduce(BETA, now)

    def reduce(self, factor: float, now: float) -> None:
        """A congestion event."""
        self.recovery_since = now
        window = self._window
        # Fast convergence: others may be growing.
        self._largest = window * (1 + BETA) / 2 if window < self._largest else window
        self._prior = window
        self._window = self.threshold = max(window * factor, self.minimum)
        self._epoch = None

    def persistent(self) -> None:
        """Everything was lost for several probe timeouts (RFC 9002 section 7.6)."""
        self._window = float(self.minimum)
        self.recovery_since = float("-inf")
        self._epoch = None
