"""What acknowledgements tell of a path: how fast it delivers, how evenly, what it loses.

The delivery rate is draft-cheng-iccrg-delivery-rate-estimation's, without a word in each packet,
which the kernel would have to write: what a packet would have noted when it left (how much was
delivered by then, and when) is looked up in a short history of acknowledgements by the time at
which it left. An acknowledgement costs two additions and a comparison; every now and then
(:data:`PAUSE`) one of them makes a sample.

Packets are the kernel's and user space's alike, with the times at which they really left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

PAUSE = 0.02
"""Seconds between two samples, at least; half of the round trip time where that is more."""
LONGEST_PAUSE = 0.1
WINDOW = 1.0
"""Seconds after which what was lost weighs a fifth less."""
_HISTORY = 64
_FADE = 0.8
_GAIN_UP = 1 / 8
_GAIN_DOWN = 1 / 4
_JITTER_GAIN = 1 / 16


@dataclass(frozen=True, slots=True)
class Measurements:
    """Of one connection. Times in seconds, sizes in bytes of UDP payload; the times are 0 before
    the first acknowledgement."""

    min_rtt: float
    smoothed_rtt: float
    latest_rtt: float
    rtt_variance: float
    """As RFC 9002 section 5 has it: a mean deviation."""
    jitter: float
    """Of round trip times: RFC 3550 section 6.4.1, with them for transit times."""
    delivery_rate: float | None
    """Bytes a second, of the latest sample; None: not known yet."""
    application_limited: bool
    """The sample is of a time when there was no more to send: the path may carry more."""
    bandwidth: float | None
    """What the path carries at least, in bytes a second: follows the samples, but is not lowered by
    those that were application-limited. None: not known yet."""
    delivered: int
    """Bytes that were acknowledged."""
    lost: int
    """Packets; those that a probe timeout gave up do not count."""
    loss: float
    """Share of the bytes that were lost of those that arrived or were lost lately, 0 to 1."""
    bytes_in_flight: int
    congestion_window: int


class _Mark(NamedTuple):
    """What a packet notes that leaves between this acknowledgement and the next."""

    time: float
    delivered: int
    sent: float
    """When the newest of the packets left that were acknowledged by then."""
    limited: bool


class Measuring:
    """One connection's. The owner adds to ``delivered`` and ``lost`` as it hears of bytes, and
    calls :meth:`sample` with acknowledgements that come at :attr:`due` or later."""

    __slots__ = (
        "_history",
        "_lately",
        "_limited_until",
        "_lost_lately",
        "_rolled",
        "application_limited",
        "bandwidth",
        "delivered",
        "delivery_rate",
        "due",
        "idle",
        "jitter",
        "lost",
    )

    def __init__(self) -> None:
        self.delivered = 0
        """Bytes acknowledged."""
        self.lost = 0
        """Bytes found lost."""
        self.due = 0.0
        """When the next sample may be taken."""
        self.idle = True
        """Nothing was in flight after the last acknowledgement: :meth:`begin` comes before the next
        sample."""
        self.jitter = 0.0
        self.delivery_rate: float | None = None
        self.application_limited = True
        self.bandwidth: float | None = None
        self._history: deque[_Mark] = deque(maxlen=_HISTORY)
        self._limited_until = 0
        """Packets that leave before so much is delivered belong to a time with too little to
        send; 0: none do."""
        self._rolled = (0.0, 0, 0)
        self._lately = self._lost_lately = 0.0

    def begin(self, sent: float) -> None:
        """After a pause: the first packet left at this time."""
        self.idle = False
        self._history.append(_Mark(sent, self.delivered, sent, True))

    def sample(
        self, now: float, sent: float, in_flight: int, rtt: float, *, min_rtt: float, full: bool
    ) -> None:
        """An acknowledgement came, and ``delivered`` has its bytes.

        :param sent: when the newest of its packets left.
        :param in_flight: bytes that still are.
        :param full: the window, or something else than the application, held packets back.
        """
        pause = rtt / 2
        self.due = now + (PAUSE if pause < PAUSE else min(pause, LONGEST_PAUSE))
        history, delivered = self._history, self.delivered
        while len(history) > 1 and history[1].time <= sent:
            history.popleft()
        if history and history[0].time <= sent:
            begin = history[0]
            interval = max(sent - begin.sent, now - begin.time)
            if interval >= min_rtt and interval > 0:
                self._take((delivered - begin.delivered) / interval, begin.limited)
        if delivered > self._limited_until:
            self._limited_until = 0
        if not full:
            self._limited_until = delivered + in_flight
        newest = max(sent, history[-1].sent) if history else sent
        history.append(_Mark(now, delivered, newest, self._limited_until > 0))
        self.idle = not in_flight
        if now - self._rolled[0] >= WINDOW:
            self._roll(now)

    def round_trip(self, difference: float) -> None:
        """So much longer was the latest round trip than the one before."""
        self.jitter += (abs(difference) - self.jitter) * _JITTER_GAIN

    @property
    def loss(self) -> float:
        """Share of bytes, lately."""
        _, delivered, lost = self._rolled
        lost_lately = self._lost_lately + self.lost - lost
        lately = self._lately + self.delivered - delivered + self.lost - lost
        return lost_lately / lately if lately else 0.0

    def _take(self, rate: float, limited: bool) -> None:
        self.delivery_rate, self.application_limited = rate, limited
        known = self.bandwidth
        if known is None:
            self.bandwidth = rate
        elif rate > known:
            self.bandwidth = known + (rate - known) * _GAIN_UP
        elif not limited:
            self.bandwidth = known + (rate - known) * _GAIN_DOWN

    def _roll(self, now: float) -> None:
        _, delivered, lost = self._rolled
        self._lost_lately = _FADE * self._lost_lately + self.lost - lost
        self._lately = _FADE * self._lately + self.delivered - delivered + self.lost - lost
        self._rolled = (now, self.delivered, self.lost)
