from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.fastpath.bands import (
    ALWAYS,
    MAX_LEVEL,
    MIN_RATE,
    REMEMBERED,
    SECOND,
    Bands,
    Shares,
    Verdict,
    band_of,
    group_hash,
    price,
    rate,
)
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS, CONNECTION_BANDS, JUDGED

LAST = BANDS - 1
WORDS = CONNECTION_BANDS.dtype.itemsize // 8


@given(st.integers(MIN_RATE, 1 << 34))
def test_a_rate_has_a_price(wanted: int) -> None:
    assert wanted <= rate(price(wanted)) <= wanted * 1.02 + 1
    assert price(0) == rate(0) == 0


@pytest.mark.parametrize("step", [1, 2, 30, 1 << 20])
def test_any_part_of_a_band_is_about_that_part_of_its_groups(step: int) -> None:
    hashes = [group_hash(step * group) for group in range(1000)]
    assert min(hashes) >= 0
    assert max(hashes) < BAND_LEVELS
    for part in (64, 128, 192):
        assert sum(each < part for each in hashes) == pytest.approx(1000 * part / 256, abs=30)


@given(st.integers(0, 255), st.integers(0, 255))
def test_bands_by_priority(publisher: int, subscriber: int) -> None:
    ends = Shares().ends
    assert band_of(ends, publisher, 128) == next(
        i for i, end in enumerate(ends) if publisher <= end
    )
    assert band_of(ends, publisher, subscriber) <= band_of(ends, publisher, 255)
    assert band_of((255,), publisher, subscriber) == 0


@given(st.integers(0, MAX_LEVEL), st.integers(0, MAX_LEVEL), st.integers(0, (1 << 64) - 1))
def test_a_higher_level_drops_the_same_and_more(low: int, high: int, group: int) -> None:
    if low > high:
        low, high = high, low
    bands = Bands(Shares())
    for band in range(BANDS):
        bands.set_level(low)
        before = bands.judge(band, group, 0)
        bands.set_level(high)
        assert before is Verdict.ADMITTED or bands.judge(band, group, 0) is Verdict.LEVEL
    bands.set_level(0)
    assert not bands.limited
    assert all(bands.judge(band, group, 0) is Verdict.ADMITTED for band in range(BANDS))
    bands.set_level(MAX_LEVEL)
    assert all(bands.judge(band, group, 0) is Verdict.LEVEL for band in range(BANDS))


def verdicts(bands: Bands, groups: int, now: int) -> list[Verdict]:
    """Of a datagram of each."""
    return [bands.judge(LAST, group, now, datagram=True) for group in range(groups)]


def test_a_group_of_datagrams_goes_on_as_it_began() -> None:
    bands = Bands(Shares())
    bands.remember(ALWAYS)
    before = verdicts(bands, JUDGED, SECOND)
    assert set(before) == {Verdict.ADMITTED}
    bands.set_level(MAX_LEVEL)
    assert verdicts(bands, JUDGED, 2 * SECOND) == before
    assert bands.recalled(LAST, 0, 2 * SECOND) is Verdict.ADMITTED
    assert bands.judge(LAST, 0, 2 * SECOND) is Verdict.LEVEL  # a stream
    # Memory is small: a group in the place of the first one.
    assert bands.recalled(LAST, JUDGED, 2 * SECOND) is None
    assert bands.judge(LAST, JUDGED, 2 * SECOND, datagram=True) is Verdict.LEVEL
    assert bands.recalled(LAST, 0, 2 * SECOND) is None
    bands.set_level(0)
    assert bands.judge(LAST, JUDGED, 3 * SECOND, datagram=True) is Verdict.LEVEL
    assert bands.judge(0, JUDGED, 3 * SECOND, datagram=True) is Verdict.ADMITTED


def test_groups_need_not_end() -> None:
    """What was decided holds for some seconds only, whether it was to send or to drop."""
    bands = Bands(Shares())
    bands.remember(ALWAYS)
    now = SECOND
    for level, verdict in ((MAX_LEVEL, Verdict.LEVEL), (0, Verdict.ADMITTED)):
        bands.set_level(level)
        assert verdicts(bands, 1, now) == [verdict]
        bands.set_level(MAX_LEVEL - level)
        assert verdicts(bands, 1, now - SECOND // 2) == [verdict]  # as others' clock says
        assert verdicts(bands, 1, now + REMEMBERED - SECOND // 10) == [verdict]
        now += REMEMBERED + SECOND // 10


def test_memory_ends() -> None:
    bands = Bands(Shares())
    bands.remember(3 * SECOND)
    bands.set_level(MAX_LEVEL)
    assert verdicts(bands, 1, 2 * SECOND) == [Verdict.LEVEL]
    bands.set_level(0)
    assert verdicts(bands, 1, 2 * SECOND) == [Verdict.LEVEL]
    bands.forget(2 * SECOND)
    assert bands.limited
    assert verdicts(bands, 1, 3 * SECOND) == [Verdict.ADMITTED]
    bands.forget(3 * SECOND)
    assert not bands.limited


@pytest.mark.parametrize("level", [-1, MAX_LEVEL + 1])
def test_there_is_no_such_level(level: int) -> None:
    with pytest.raises(ValueError, match="levels are"):
        Bands(Shares()).set_level(level)


def offered(bands: Bands, offers: dict[int, int], seconds: int, now: int) -> dict[int, int]:
    """Bytes that were sent, of datagrams of 1000 bytes; ``offers``: bytes a second by band."""
    sent = dict.fromkeys(offers, 0)
    waiting = dict.fromkeys(offers, 0)
    for _ in range(1000 * seconds):
        now += SECOND // 1000
        for band in sorted(offers, reverse=True):
            waiting[band] += offers[band]
            if waiting[band] >= 1000 * 1000:
                waiting[band] -= 1000 * 1000
                if bands.judge(band, 0, now) is Verdict.ADMITTED:
                    bands.charge(band, 1000, now)
                    sent[band] += 1000
    return sent


def test_what_a_band_takes_of_others_it_pays_back() -> None:
    bands = Bands(Shares(burst=SECOND // 10, overflow=500))
    now = SECOND
    bands.set_rate(100_000, now)
    alone = offered(bands, {2: 100_000}, 10, now)
    assert alone[2] == pytest.approx(1_000_000, rel=0.05)
    now += 10 * SECOND
    # It is half a second ahead of its share: the others come first, then it has its share.
    first = offered(bands, {0: 50_000, 1: 60_000, 2: 100_000}, 1, now)
    assert first[0] + first[1] > 90_000
    assert first[2] < 15_000
    now += SECOND
    later = offered(bands, {0: 50_000, 1: 60_000, 2: 100_000}, 10, now)
    assert later[2] == pytest.approx(200_000, rel=0.15)
    assert sum(later.values()) == pytest.approx(1_000_000, rel=0.1)


def test_a_new_rate_forgives_what_was_owed() -> None:
    bands = Bands(Shares())
    bands.set_rate(1000, 0)
    bands.charge(0, 1_000_000, 0)
    assert bands.judge(1, 0, SECOND) is Verdict.ADMITTED  # within its share
    assert bands.judge(0, 0, 0) is Verdict.SHARE
    bands.set_rate(1_000_000, 0)
    assert bands.judge(0, 0, SECOND // 5) is Verdict.ADMITTED
    bands.set_rate(0, 0)
    assert not bands.limited


def test_the_numbers_go_along_into_the_maps_and_back() -> None:
    bands = Bands(Shares())
    bands.set_level(300)
    bands.set_rate(50_000, 0)
    bands.note(1, 5)
    bands.charge(1, 7, 0)
    words = [0] * (WORDS + 4)
    bands.enter(words, 4, 0)
    assert (bands.level, bands.bytes(1), bands.rate) == (300, 12, 50_000)
    bands.set_level(10)
    bands.drop(2)
    bands.charge(1, 8, 0)
    bands.leave()
    words[:] = [0] * len(words)
    assert (bands.level, bands.bytes(1), bands.dropped(2), bands.rate) == (10, 20, 1, 50_000)


def test_bands_that_are_not_used() -> None:
    """Two bands: the others have no share, and nothing is in them."""
    bands = Bands(Shares((100, 255), (60, 40), SECOND, 0))
    bands.set_rate(10_000, 0)
    assert {bands.band(priority, 128) for priority in range(256)} == {0, 1}


def test_the_less_important_leave_room_in_the_window() -> None:
    bands = Bands(Shares())
    bands.set_window(100_000)
    assert [bands.limit(band, 60_000) for band in range(4)] == [60_000, 40_000, 10_000, 10_000]
    assert bands.limit(3, 40_000) == 0
    bands.set_window(0)
    assert [bands.limit(band, 60_000) for band in range(4)] == [60_000] * 4
