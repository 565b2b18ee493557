"""One-way delays from two clocks."""

from __future__ import annotations

import random
import statistics

import pytest

from fastrelay.relay.delays import WINDOW, Delays, DelayStatistics

RTT = 0.04


def after(pairs: list[tuple[float, float]]) -> DelayStatistics:
    delays = Delays()
    for sent, arrived in pairs:
        delays.add(sent, arrived, RTT)
    found = delays.statistics()
    assert found is not None
    return found


def sending(
    delay: list[float], *, offset: float = 0.0, drift: float = 0.0
) -> list[tuple[float, float]]:
    """An object each 20 ms; ``drift``: seconds a second that the other clock is too fast."""
    return [
        (at := 1000 + number * 0.02, (at + each) * (1 + drift) + offset)
        for number, each in enumerate(delay)
    ]


@pytest.mark.parametrize("offset", [0.0, 1e9, -900.0])
def test_clocks_need_not_agree(offset: float) -> None:
    generator = random.Random(1)
    delay = [0.02 + generator.choice([0.0, 0.01, 0.03]) for _ in range(2000)]
    found = after(sending(delay, offset=offset))
    recent = delay[-WINDOW:]
    assert found.latest == pytest.approx(delay[-1], abs=1e-5)
    assert found.average == pytest.approx(statistics.fmean(recent), abs=1e-5)
    assert found.variance == pytest.approx(statistics.pvariance(recent), abs=1e-7)
    assert found.deviation == pytest.approx(statistics.pstdev(recent), abs=1e-5)
    assert found.ewma == pytest.approx(statistics.fmean(delay), rel=0.2)
    assert found.jitter == pytest.approx(0.013, rel=0.7)
    assert found.objects == 2000


def test_a_clock_that_drifts_is_followed() -> None:
    """A hundred times as fast as clocks do: after ten minutes it would be 600 ms."""
    found = after(sending([0.02] * 30_000, drift=0.001))
    assert 0.02 <= found.latest < 0.02 + 0.065


def test_a_clock_that_is_set_begins_anew() -> None:
    pairs = sending([0.02] * 100)
    for step in (-1000.0, 1000.0):
        found = after([*pairs, *((sent + 2, arrived + 2 + step) for sent, arrived in pairs)])
        assert found.objects == 100
        assert found.latest == pytest.approx(0.02, abs=1e-6)
        assert found.jitter == pytest.approx(0.0, abs=1e-6)


def test_nothing_is_known_before_the_first() -> None:
    assert Delays().statistics() is None
