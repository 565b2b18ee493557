"""What a connection's acknowledgements tell, on paths that are computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import pytest

from fastrelay.quic.measurements import Measuring

SIZE = 1200
DELAY = 0.02
"""Seconds from the sender to the bottleneck and back, without waiting there."""


class Path:
    """A bottleneck with an endless queue; every packet is acknowledged by itself."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.now = 0.0
        self.measuring = Measuring()
        self._free = 0.0
        self._acks: deque[tuple[float, float]] = deque()
        self._smoothed = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._acks) * SIZE

    def send(self) -> None:
        self._free = max(self._free, self.now) + SIZE / self.rate
        self._acks.append((self._free + DELAY, self.now))

    def run(self, until: float, full: Callable[[], bool]) -> Iterator[None]:
        """One acknowledgement after the other, as far as there are any until then."""
        while self._acks and self._acks[0][0] <= until:
            self.now, sent = self._acks.popleft()
            measuring = self.measuring
            self._smoothed += (self.now - sent - self._smoothed) / 8
            if self.now >= measuring.due and measuring.idle:
                measuring.begin(sent)
            measuring.delivered += SIZE
            if self.now >= measuring.due:
                measuring.sample(
                    self.now, sent, self.in_flight, self._smoothed, min_rtt=DELAY, full=full()
                )
            elif not self._acks:
                measuring.idle = True
            yield
        self.now = until

    def fill(self, window: int, until: float) -> None:
        """Always so many bytes in flight."""
        while self.in_flight < window:
            self.send()
        for _ in self.run(until, lambda: True):
            self.send()

    def stream(self, rate: float, until: float, burst: int = 1) -> None:
        """Packets of an application, ``burst`` of them at once."""
        at = self.now
        while at < until:
            for _ in self.run(at, lambda: False):
                pass
            for _ in range(burst):
                self.send()
            at += burst * SIZE / rate


@pytest.mark.parametrize("rate", [50_000, 250_000, 1_000_000])
def test_a_full_path_is_measured_exactly(rate: float) -> None:
    path = Path(rate)
    path.fill(max(5 * SIZE, int(2 * rate * DELAY)), until=3.0)
    measuring = path.measuring
    assert measuring.delivery_rate == pytest.approx(rate, rel=0.05)
    assert not measuring.application_limited
    assert measuring.bandwidth == pytest.approx(rate, rel=0.05)


def test_less_than_the_path_carries_says_nothing_of_it() -> None:
    path = Path(1_000_000)
    path.fill(40_000, until=3.0)
    path.stream(100_000, until=10.0)
    measuring = path.measuring
    assert measuring.delivery_rate == pytest.approx(100_000, rel=0.15)
    assert measuring.application_limited
    assert measuring.bandwidth == pytest.approx(1_000_000, rel=0.05)


def test_a_bottleneck_that_gets_narrower_is_known_within_a_second() -> None:
    path = Path(1_000_000)
    path.fill(40_000, until=5.0)
    path.rate = 250_000
    path.fill(40_000, until=6.0)
    assert path.measuring.bandwidth == pytest.approx(250_000, rel=0.1)
    path.rate = 1_000_000
    path.fill(40_000, until=8.0)
    assert path.measuring.bandwidth == pytest.approx(1_000_000, rel=0.1)


def test_bursts_tell_more_than_their_average_and_never_too_much() -> None:
    """Pictures: 20 packets every 200 ms."""
    path, found = Path(1_000_000), []
    for end in range(1, 30):
        path.stream(20 * SIZE / 0.2, until=float(end), burst=20)
        found.append(path.measuring.bandwidth or 0.0)
    assert max(found) <= 1_000_000
    assert found[-1] > 2 * 20 * SIZE / 0.2
    assert path.measuring.application_limited


def test_a_pause_is_not_measured() -> None:
    path = Path(500_000)
    path.fill(20_000, until=2.0)
    path.stream(1, until=path.now + 0.5)
    path.now += 60
    path.fill(20_000, until=path.now + 2.0)
    assert path.measuring.bandwidth == pytest.approx(500_000, rel=0.1)
    assert path.measuring.delivery_rate == pytest.approx(500_000, rel=0.05)


def test_samples_are_rare_and_remember_little() -> None:
    path = Path(1_000_000)
    measuring, samples = path.measuring, 0
    real = Measuring.sample

    def counted(*arguments: float, **named: float) -> None:
        nonlocal samples
        samples += 1
        real(measuring, *arguments, **named)  # type: ignore[arg-type]

    path.measuring = type("Counting", (Measuring,), {"sample": staticmethod(counted)})()
    measuring = path.measuring
    path.fill(40_000, until=10.0)
    assert 100 <= samples <= 10 / 0.02
    assert len(measuring._history) < 10


def test_acknowledgements_of_the_distant_past_are_no_sample() -> None:
    measuring = Measuring()
    measuring.begin(10.0)
    measuring.delivered = SIZE
    measuring.sample(10.1, 9.0, 0, 0.1, min_rtt=0.01, full=True)
    assert measuring.delivery_rate is None
    assert measuring.bandwidth is None


def test_losses_fade() -> None:
    measuring = Measuring()
    assert measuring.loss == 0.0
    now = 0.0

    def second(lost: int) -> float:
        nonlocal now
        now += 1.0
        measuring.delivered += 9_000
        measuring.lost += lost
        measuring.sample(now, now - 0.05, 0, 0.05, min_rtt=0.05, full=False)
        return measuring.loss

    assert [second(1_000) for _ in range(5)] == [pytest.approx(0.1)] * 5
    later = [second(0) for _ in range(30)]
    assert later == sorted(later, reverse=True)
    assert later[1] > 0.05
    assert later[-1] < 0.001


def test_jitter_is_the_mean_difference() -> None:
    measuring = Measuring()
    for _ in range(200):
        measuring.round_trip(0.004)
        measuring.round_trip(-0.004)
    assert measuring.jitter == pytest.approx(0.004, rel=0.01)
    for _ in range(200):
        measuring.round_trip(0.0)
    assert measuring.jitter < 1e-6
