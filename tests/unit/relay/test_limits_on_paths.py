"""What a member gets of media in bands on simulated paths: all of it where the path carries it,
whatever happens to its host for a moment; else the most important bands, whole and in time."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fastrelay.quic.congestion import Cubic, Delay
from unit.quic.bbr import Bbr, Paced
from unit.quic.bottleneck import Bottleneck, Flow
from unit.relay.paths import MBIT, Media

WIDE = 100 * MBIT
BUFFER = 0.2
THIN = (0.1e6, 0.3e6, 0.3e6, 0.3e6)
"""Bits a second, by band: CUBIC carries that with one packet of twenty lost in 40 ms."""


def played(rule: type[Cubic], path: Bottleneck, seconds: float, **how: Any) -> Media:
    media = Media(rule(1200), **how)
    path.run([media], seconds)
    return media


@pytest.mark.parametrize("rule", [Cubic, Delay])
@pytest.mark.parametrize("rate", [WIDE, 8 * MBIT, 5 * MBIT])
@pytest.mark.parametrize(("round_trip", "pause"), [(0.002, 3.0), (0.04, 0.3), (0.04, 3.0)])
def test_a_receiver_that_stands_still_for_a_moment_loses_nothing(
    rule: type[Cubic], rate: float, round_trip: float, pause: float
) -> None:
    pauses = ((5.3, 5.3 + pause),)
    media = played(rule, Bottleneck(rate, BUFFER), 14, round_trip=round_trip, pauses=pauses)
    assert media.dropped == []
    assert media.late(0, 5.3) > pause - 0.1


@pytest.mark.parametrize("rule", [Cubic, Delay])
def test_a_receiver_that_hardly_gets_its_turn_loses_nothing(rule: type[Cubic]) -> None:
    pauses = [(5 + turn, 5.97 + turn) for turn in range(5)]
    media = played(rule, Bottleneck(WIDE, BUFFER), 14, round_trip=0.002, pauses=pauses)
    assert media.dropped == []
    assert media.late(0, 5) > 0.9


@pytest.mark.parametrize("rule", [Cubic, Delay])
@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_packets_lost_at_random_drop_nothing(rule: type[Cubic], loss: float) -> None:
    media = played(rule, Bottleneck(WIDE, BUFFER, loss=loss), 40, bits=THIN)
    assert media.lost > 30
    assert media.dropped == []


@pytest.mark.parametrize("rule", [Cubic, Delay])
@pytest.mark.parametrize(("rate", "key"), [(WIDE, 10.0), (8 * MBIT, 25.0)])
def test_large_key_frames_drop_nothing(rule: type[Cubic], rate: float, key: float) -> None:
    media = played(rule, Bottleneck(rate, BUFFER), 14, key=key)
    assert media.dropped == []


@pytest.mark.parametrize("rule", [Cubic, Delay])
def test_jitter_drops_nothing(rule: type[Cubic]) -> None:
    media = played(rule, Bottleneck(WIDE, BUFFER, jitter=0.05), 14)
    assert media.dropped == []
    assert media.late(0, 0.0) < 0.2


@pytest.mark.parametrize("rule", [Cubic, Delay])
def test_of_a_path_that_is_too_narrow_the_most_important_bands_get_what_they_need(
    rule: type[Cubic],
) -> None:
    """Two bands of four fit, and a part of the third."""
    media = played(rule, Bottleneck(2 * MBIT, BUFFER), 40, round_trip=0.02)
    bands = [sum(band == each for _, each, _ in media.dropped) for band in range(4)]
    assert bands[:2] == [0, 0]
    assert 5 < bands[2] < 30 < bands[3]
    assert max(media.late(0, 0), media.late(1, 0)) < 0.6
    assert media.late(2, 10, 0.9) < 2.5
    assert media.throughput(10, 40) > 0.75 * 2 * MBIT


@pytest.mark.parametrize("rule", [Cubic, Delay])
@pytest.mark.parametrize(("part", "longest"), [(0.2, 0.3), (0.4, 0.3), (0.6, 0.05)])
@pytest.mark.parametrize("rate", [2 * MBIT, 5 * MBIT, WIDE])
def test_a_relay_that_is_late_drops_nothing_that_fits(
    rule: type[Cubic], part: float, longest: float, rate: float
) -> None:
    """It does nothing for 20 ms and more, again and again, for so much of the time."""
    away = absences(part, longest, 40)
    media = played(rule, Bottleneck(rate, BUFFER), 40, round_trip=0.02, away=away)
    bands = [sum(band == each for _, each, _ in media.dropped) for band in range(4)]
    assert bands[:2] == [0, 0]
    assert max(media.late(0, 0), media.late(1, 0)) < 1.0
    if rate == WIDE:
        assert not media.dropped
    if rate == 2 * MBIT:
        assert bands[3] > 30


def absences(part: float, longest: float, seconds: float) -> list[tuple[float, float]]:
    chance, at, found = Random(1), 0.0, []
    while at < seconds:
        long = chance.uniform(0.02, longest)
        at += chance.expovariate(part / (1 - part) / long)
        found.append((at, at + long))
        at += long
    return found


@pytest.mark.parametrize("rule", [Cubic, Delay])
@pytest.mark.parametrize("long", [True, False])
def test_beside_a_flow_that_takes_all_it_gets_a_member_does_not_starve(
    rule: type[Cubic], long: bool
) -> None:
    """A flow that fills the queue, or one that keeps a short one."""
    media = Media(rule(1200), round_trip=0.02)
    other = Flow(Cubic(1200), 0.02, 2.0) if long else Paced(Bbr(1200), 0.02, 2.0)
    Bottleneck(4 * MBIT, BUFFER).run([media, other], 50)
    assert media.throughput(10, 50) > 0.2 * 4 * MBIT
    assert other.throughput(10, 50) > 0.2 * 4 * MBIT
    assert not any(band == 0 for _, band, _ in media.dropped)
