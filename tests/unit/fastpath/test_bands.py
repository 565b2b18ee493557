from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.fastpath.bands import (
    MAX_LEVEL,
    MIN_RATE,
    SECOND,
    Bands,
    Shares,
    Verdict,
    band_of,
    group_hash,
    price,
    rate,
)
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS, CONNECTION_BANDS

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
