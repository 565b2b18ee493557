"""What a member is limited to: by its path, down at once and up slowly; and by hand."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from fastrelay.fastpath.bands import MAX_LEVEL, Bands, Shares, Verdict, nanoseconds
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS
from fastrelay.relay.limits import FITTING_SECONDS, HURT_SECONDS, Limiter, Look, level_for

MBIT = 125_000
STEP = 0.1
VIDEO = (0.1 * MBIT, 1.3 * MBIT, 1.3 * MBIT, 1.3 * MBIT)
"""Audio, and three layers."""


@pytest.mark.parametrize(
    ("budget", "offered", "level"),
    [
        (400.0, (100, 100, 100, 100), 0),
        (300.0, (100, 100, 100, 100), BAND_LEVELS),
        (350.0, (100, 100, 100, 100), BAND_LEVELS // 2),
        (250.0, (100, 100, 100, 100), BAND_LEVELS * 3 // 2),
        (150.0, (100, 100, 0, 100), BAND_LEVELS * 5 // 2),
        (50.0, (100, 100, 100, 100), BAND_LEVELS * 3),
        (0.0, (100, 100, 100, 100), BAND_LEVELS * 3),
        (50.0, (0, 0, 100, 100), BAND_LEVELS),
        (50.0, (0, 0, 0, 100), 0),
        (50.0, (0, 0, 0, 0), 0),
    ],
)
def test_the_level_leaves_what_fits(budget: float, offered: tuple[float, ...], level: int) -> None:
    assert level_for(budget, offered) == level


@dataclass
class Member:
    """On a path of some bytes a second, which takes what the limiter lets through, in the order of
    bands."""

    offered: tuple[float, ...] = VIDEO
    configured: int = 0
    path: float = 10 * MBIT
    now: float = 100.0
    delivered: float = 0.0
    levels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bands = Bands(Shares())
        self.limiter = Limiter(self.bands, self.configured, lambda: self.now)
        self.waiting: list[deque[tuple[float, float]]] = [deque() for _ in self.offered]
        """Of each band: when bytes came, and how many."""

    def admitted(self) -> list[float]:
        """Bytes a second that are not dropped, by band."""
        left, found = self.bands.level, []
        for rate in reversed(self.offered):
            found.append(rate * (1 - min(left, BAND_LEVELS) / BAND_LEVELS))
            left = max(0, left - BAND_LEVELS)
        return found[::-1]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            left = self.path * STEP
            for queue, rate in zip(self.waiting, self.admitted(), strict=True):
                queue.append((self.now, rate * STEP))
                while queue and left > 0:
                    at, size = queue.popleft()
                    sent = min(size, left)
                    left -= sent
                    self.delivered += sent
                    if sent < size:
                        queue.appendleft((at, size - sent))
            waiting = sum(size for queue in self.waiting for _, size in queue)
            oldest = [self.now - queue[0][0] if queue else 0.0 for queue in self.waiting]
            delivered = int(self.delivered)
            self.limiter.look(Look(self.now, delivered, int(waiting), self.offered, oldest))
            self.levels.append(self.bands.level)


def test_a_path_that_carries_all_is_no_limit() -> None:
    member = Member()
    member.run(20)
    assert (member.bands.rate, member.bands.level, member.limiter.why) == (0, 0, "")
    assert member.limiter.is_idle


def test_it_goes_down_at_once() -> None:
    member = Member()
    member.run(2)
    member.path = 2 * MBIT
    member.run(3.5)
    assert sum(member.admitted()) < 2 * MBIT
    assert member.limiter.why == "path"
    assert member.limiter.estimate is not None
    assert 1.5 * MBIT < member.limiter.estimate < 2 * MBIT


def test_most_of_the_path_is_used() -> None:
    member = Member(path=2 * MBIT)
    member.run(60)
    before = member.delivered
    member.run(60)
    assert member.delivered - before > 0.8 * 60 * member.path


def test_what_has_shown_that_there_is_no_more_is_tried_less_often() -> None:
    member = Member(path=2 * MBIT)
    member.run(60)
    member.levels.clear()
    member.run(60)
    tries = sum(a > b for a, b in pairwise([0, *member.levels]) if not b)
    assert tries <= 60 / 8 + 1


def test_when_the_path_is_wide_again_there_is_no_limit() -> None:
    member = Member(path=2 * MBIT)
    member.run(60)
    member.path = 10 * MBIT
    member.run(15)
    assert (member.bands.rate, member.bands.level, member.limiter.why) == (0, 0, "")
    assert member.limiter.is_idle


@pytest.mark.parametrize("hurt", [1, 2, 3, 4])
def test_a_band_is_not_dropped_unless_it_or_one_before_it_waits(hurt: int) -> None:
    """However little comes."""
    member = Member()
    oldest = [HURT_SECONDS + 1 if band >= hurt else HURT_SECONDS for band in range(BANDS)]
    for step in range(100):
        look = Look(step * STEP, step * 1000, 10_000_000, VIDEO, oldest)
        member.limiter.look(look)
    assert member.limiter.why == "path"
    assert member.bands.level == (BANDS - hurt) * BAND_LEVELS


@pytest.mark.parametrize("offered", [(0, 0, 0, 4 * MBIT), (0, 3 * MBIT, 0, MBIT)])
def test_the_first_band_is_never_limited(offered: tuple[float, ...]) -> None:
    """Whatever waits: bands without a priority above them are not dropped for it."""
    member = Member(offered=offered, path=MBIT)
    member.run(30)
    first = next(band for band, rate in enumerate(offered) if rate)
    now = nanoseconds(member.now)
    for group in range(100):
        member.bands.charge(first, 100_000, now)
        assert member.bands.judge(first, group, now) is Verdict.ADMITTED


def test_a_path_that_takes_nothing() -> None:
    """Silence does not say what a path carries."""
    member = Member(path=0.0)
    member.run(30)
    assert member.limiter.why == ""


@pytest.mark.parametrize("path", [0.0, 0.02 * MBIT, 0.2 * MBIT])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.0])
def test_a_host_that_does_nothing_for_a_while_is_no_narrow_path(
    path: float, seconds: float
) -> None:
    """Everything is sent again within seconds, and hardly anything was dropped before."""
    member = Member()
    member.run(5)
    member.path = path
    member.run(seconds)
    member.path = 10 * MBIT
    member.run(5)
    assert (member.bands.rate, member.bands.level) == (0, 0)
    assert sum(level > 0 for level in member.levels) * STEP < 5
    if not path or seconds < 1:
        assert not any(member.levels)
    member.run(FITTING_SECONDS)
    assert member.limiter.why == ""


def test_a_limit_goes_when_groups_that_may_be_sent_again_have_begun() -> None:
    """That they fit is not known before."""
    member = Member(path=2 * MBIT)
    member.run(10)
    assert member.bands.level
    member.path = 10 * MBIT
    while member.bands.level:
        member.run(STEP)
    member.run(FITTING_SECONDS - 2 * STEP)
    assert member.limiter.why == "path"
    member.run(5)
    assert member.limiter.why == ""


@pytest.mark.parametrize("seconds", [0.5, 0.7])
def test_half_a_second_in_which_little_came_is_no_reason_to_drop_what_fits(seconds: float) -> None:
    member = Member(offered=(0.1 * MBIT, MBIT, 1.3 * MBIT, 1.6 * MBIT), path=2 * MBIT)
    for _ in range(10):
        member.run(5)
        member.path = 0.6 * MBIT
        member.run(seconds)
        member.path = 2 * MBIT
    assert max(member.levels) <= 2 * BAND_LEVELS


def test_a_receiver_that_was_away_for_a_second_loses_nothing() -> None:
    member = Member(offered=(8_000, 67_000, 0, 0), path=100 * MBIT)
    member.run(5)
    member.path = 0
    member.run(1)
    member.path = 100 * MBIT
    member.run(5)
    assert not any(member.levels)
    assert member.limiter.estimate is None


def test_a_person_sets_it_and_takes_it_back() -> None:
    member = Member(path=2 * MBIT)
    member.run(10)
    limiter, bands = member.limiter, member.bands
    limiter.set_by_hand(rate=MBIT, level=700)
    assert (bands.level, limiter.why) == (700, "hand")
    assert bands.rate == pytest.approx(MBIT, rel=0.01)
    member.run(5)
    assert bands.level == 700
    limiter.set_by_hand(rate=0, level=0)
    assert (bands.rate, bands.level) == (0, 0)
    limiter.set_by_hand(rate=None, level=None)
    assert limiter.why != "hand"
    member.levels.clear()
    member.run(20)
    assert max(member.levels) > 0


@pytest.mark.parametrize(("rate", "level"), [(-1, None), (1 << 40, None), (0, -1), (0, 1025)])
def test_nonsense_is_refused(rate: int, level: int | None) -> None:
    assert MAX_LEVEL == 1024
    member = Member()
    with pytest.raises(ValueError, match="not"):
        member.limiter.set_by_hand(rate=rate, level=level)
    assert member.limiter.why == ""


def test_the_configured_rate_stays_the_most() -> None:
    member = Member(configured=MBIT, path=3 * MBIT)
    assert member.limiter.why == "configured"
    assert member.bands.rate == pytest.approx(MBIT, rel=0.01)
    member.run(20)
    assert member.bands.rate == pytest.approx(MBIT, rel=0.01)
    assert member.limiter.cap == MBIT
    member.limiter.set_by_hand(rate=2 * MBIT, level=None)
    assert member.limiter.cap == 2 * MBIT
    assert member.bands.rate == pytest.approx(2 * MBIT, rel=0.01)
