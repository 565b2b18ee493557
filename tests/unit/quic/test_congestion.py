"""The controllers against RFC 9438's formulas, and on a path with one bottleneck."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastrelay.quic.congestion import Cubic, Delay
from fastrelay.quic.congestion.cubic import ALPHA, BETA, C
from unit.quic.bbr import Bbr, Paced
from unit.quic.bottleneck import SEGMENT, Bottleneck, Flow

MBIT = 125_000


def grown(
    controller: Cubic, seconds: float, *, begin: float, rtt: float
) -> list[tuple[float, int]]:
    """Windows, each a round trip apart, of a sender that uses all of it."""
    found, now = [], begin
    while now < begin + seconds:
        controller.round_trip(rtt, now, used=True)
        for _ in range(controller.window // SEGMENT):
            controller.acknowledged(SEGMENT, now - rtt, now, used=True)
        found.append((now, controller.window))
        now += rtt
    return found


def test_slow_start_doubles() -> None:
    cubic = Cubic(SEGMENT)
    assert cubic.window == 10 * SEGMENT
    windows = [window for _, window in grown(cubic, 0.15, begin=1.0, rtt=0.05)]
    assert windows == [20 * SEGMENT, 40 * SEGMENT, 80 * SEGMENT]


def avoiding(segments: int, at: float, kind: Callable[[int], Cubic] = Cubic) -> Cubic:
    """One with that window, which loses a packet then."""
    cubic = kind(SEGMENT)
    cubic.acknowledged((segments - 10) * SEGMENT, at - 0.1, at - 0.05, used=True)
    assert cubic.window == segments * SEGMENT
    cubic.lost(at - 0.01, at)
    return cubic


def test_a_loss_cuts_once_a_round_trip() -> None:
    cubic = avoiding(100, 5.0)
    assert cubic.window == pytest.approx(BETA * 100 * SEGMENT, abs=1)
    cubic.lost(4.995, 5.01)
    assert cubic.window == pytest.approx(BETA * 100 * SEGMENT, abs=1)
    cubic.lost(5.001, 5.1)
    assert cubic.window == pytest.approx(BETA**2 * 100 * SEGMENT, abs=1)


def test_what_left_before_a_loss_was_noticed_does_not_grow_the_window() -> None:
    cubic = avoiding(100, 5.0)
    before = cubic.window
    cubic.acknowledged(SEGMENT, 4.999, 5.02, used=True)
    assert cubic.window == before


def test_the_window_follows_the_cubic_function() -> None:
    """Section 4.2: a long round trip, so that Reno's growth is below it."""
    cubic = avoiding(1000, 5.0)
    k = (1000 * (1 - BETA) / C) ** (1 / 3)
    windows = grown(cubic, 2 * k, begin=5.2, rtt=0.2)
    epoch = 5.2
    for now, window in windows[1:]:
        # Each acknowledgement goes a part of the way to W_cubic(t + RTT).
        t = now - epoch
        low, high = (C * (at - k) ** 3 * SEGMENT + 1000 * SEGMENT for at in (t - 0.2, t + 0.2))
        assert low - SEGMENT <= window <= high + SEGMENT
    assert windows[-1][1] > 1200 * SEGMENT


def test_the_window_grows_as_renos_where_that_is_more() -> None:
    """Section 4.3: a short round trip, so that the cubic function is below it."""
    cubic = avoiding(20, 5.0)
    begin = cubic.window
    windows = grown(cubic, 0.1, begin=5.01, rtt=0.01)
    expected = begin + len(windows) * ALPHA * SEGMENT
    assert windows[-1][1] == pytest.approx(expected, rel=0.05)


def test_above_the_window_of_the_loss_reno_grows_by_a_segment_a_round_trip() -> None:
    cubic = avoiding(20, 5.0)
    windows = grown(cubic, 0.4, begin=5.01, rtt=0.01)
    first = next(place for place, (_, window) in enumerate(windows) if window > 21 * SEGMENT)
    assert windows[first + 5][1] - windows[first][1] == pytest.approx(5 * SEGMENT, rel=0.1)


def test_fast_convergence() -> None:
    """Section 4.7: who is cut below its last maximum leaves room for others."""
    cubic = avoiding(100, 5.0)
    cubic.lost(5.1, 5.2)
    cubic.acknowledged(SEGMENT, 5.21, 5.3, used=True)
    plateau = 70 * (1 + BETA) / 2
    k = ((plateau - cubic.window / SEGMENT) / C) ** (1 / 3)
    assert cubic.target(k) == pytest.approx(plateau * SEGMENT, rel=0.01)


@pytest.mark.parametrize("kind", [Cubic, Delay])
def test_an_unused_window_does_not_grow_nor_does_its_time_pass(kind: type[Cubic]) -> None:
    cubic = avoiding(100, 5.0, kind)
    cubic.acknowledged(SEGMENT, 5.01, 5.05, used=True)
    before = cubic.window
    for step in range(1000):
        now = 5.1 + step / 10
        cubic.round_trip(0.04, now, used=False)
        cubic.acknowledged(SEGMENT, now - 0.04, now, used=False)
    assert cubic.window == before
    cubic.acknowledged(SEGMENT, 105.0, 105.04, used=True)
    assert cubic.window - before < SEGMENT


@pytest.mark.parametrize("kind", [Cubic, Delay])
def test_the_window_has_a_floor(kind: type[Cubic]) -> None:
    cubic = kind(SEGMENT)
    for step in range(50):
        cubic.lost(step + 0.5, step + 1.0)
    assert cubic.window == 2 * SEGMENT
    cubic.persistent()
    assert cubic.window == 2 * SEGMENT


def test_after_persistent_congestion_slow_start_goes_to_the_threshold() -> None:
    cubic = avoiding(100, 5.0)
    cubic.persistent()
    assert cubic.in_slow_start
    windows = grown(cubic, 0.24, begin=6.0, rtt=0.05)
    assert [window // SEGMENT for _, window in windows] == [4, 8, 16, 32, 64]


# On a path


@pytest.mark.parametrize("round_trip", [0.01, 0.04, 0.15])
@pytest.mark.parametrize("rate", [2 * MBIT, 8 * MBIT])
def test_the_queue_stays_short(rate: int, round_trip: float) -> None:
    flow = Flow(Delay(SEGMENT), round_trip)
    Bottleneck(rate, 0.5).run([flow], 12)
    queueing = flow.queueing(3, 12)
    assert queueing[len(queueing) * 95 // 100] < 0.07
    assert flow.throughput(3, 12) > 0.9 * rate


def test_cubic_fills_the_queue() -> None:
    """What the other one is for."""
    flow = Flow(Cubic(SEGMENT))
    Bottleneck(2 * MBIT, 0.5).run([flow], 12)
    assert max(flow.queueing(3, 12)) > 0.45


@pytest.mark.parametrize("begin", [0.0, 3.0])
def test_two_share(begin: float) -> None:
    first, second = Flow(Delay(SEGMENT)), Flow(Delay(SEGMENT), begin=begin)
    Bottleneck(4 * MBIT, 0.5).run([first, second], 25)
    shares = [flow.throughput(13, 25) for flow in (first, second)]
    assert min(shares) > 0.8 * max(shares)
    assert first.queueing(13, 25)[-1] < 0.1


@pytest.mark.parametrize("round_trip", [0.02, 0.06])
@pytest.mark.parametrize("rate", [2 * MBIT, 8 * MBIT])
@pytest.mark.parametrize("long", [True, False])
def test_beside_one_that_keeps_a_queue_neither_starves(
    rate: int, round_trip: float, long: bool
) -> None:
    """A long one until something is lost, or one of about a round trip."""
    ours = Flow(Delay(SEGMENT), round_trip)
    theirs = Flow(Cubic(SEGMENT), round_trip, 2.0) if long else Paced(Bbr(SEGMENT), round_trip, 2.0)
    Bottleneck(rate, 0.2).run([ours, theirs], 45)
    for flow in (ours, theirs):
        assert flow.throughput(10, 45) > 0.2 * rate


@pytest.mark.parametrize(("many", "share"), [(3, 1 * MBIT), (8, 2 * MBIT)])
def test_many_share_and_none_takes_the_others_for_somebody_else(many: int, share: int) -> None:
    """Their few segments together stand in the queue for longer than what one may have there."""
    rules = [Delay(SEGMENT) for _ in range(many)]
    flows = [Flow(rule, 0.04, begin) for begin, rule in enumerate(rules)]
    Bottleneck(many * share, 0.2).run(flows, 30)
    assert not any(rule.stubborn for rule in rules)
    shares = [flow.throughput(15, 30) for flow in flows]
    assert min(shares) > 0.6 * max(shares)
    assert sum(shares) > 0.9 * many * share
    assert flows[0].queueing(15, 30)[-1] < 0.1


def test_a_path_that_became_longer_is_no_queue() -> None:
    rule = Delay(SEGMENT)
    grown(rule, 0.06, begin=0.0, rtt=0.02)
    before = rule.window
    windows = grown(rule, 8.0, begin=0.1, rtt=0.08)
    assert rule.stubborn
    assert windows[-1][1] > before


def test_when_the_other_one_has_gone_the_queue_is_short_again() -> None:
    ours, theirs = Flow(Delay(SEGMENT)), Flow(Cubic(SEGMENT), begin=2.0, end=10.0)
    Bottleneck(4 * MBIT, 0.2).run([ours, theirs], 50)
    queueing = ours.queueing(44, 50)
    assert queueing[len(queueing) * 95 // 100] < 0.05
    assert ours.throughput(44, 50) > 0.9 * 4 * MBIT


def test_random_loss_costs_no_more_than_in_cubic() -> None:
    rates = []
    for kind in (Cubic, Delay):
        flow = Flow(kind(SEGMENT))
        Bottleneck(20 * MBIT, 0.2, loss=0.01).run([flow], 15)
        rates.append(flow.throughput(2, 15))
    assert rates[1] > 0.9 * rates[0]
