"""The choice of a rendition, on paths that are simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.relay.adaptation import (
    BLIND_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PROVEN_SECONDS,
    Adapter,
    Sample,
)

MBIT = 1e6 / 8
RATES = [0.5 * MBIT, 1.2 * MBIT, 2.5 * MBIT, 5 * MBIT]
TICK = 0.1
GROUP = 0.5
"""Seconds: a switch takes effect where the next one begins."""
QUEUE_SECONDS = 0.2
"""Of the bottleneck; what does not fit there waits in the relay."""


@dataclass
class Path:
    """Carries so many bytes a second at a time; ``bursts``: whether the relay learns of it from
    bursts of frames; ``promised``: what it learns instead, by the rendition."""

    capacity: Callable[[float], float]
    bursts: bool = True
    cap: float | None = None
    other: float = 0.0
    promised: Sequence[float] = ()
    chosen: list[tuple[float, int]] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)

    def run(self, seconds: float, adapter: Adapter | None = None) -> Adapter:
        adapter = adapter or Adapter(RATES)
        backlog = delivered = 0.0
        playing = adapter.index
        for tick in range(round(seconds / TICK)):
            now = tick * TICK
            if tick % round(GROUP / TICK) == 0:
                playing = adapter.index
            capacity = self.capacity(now)
            backlog += (RATES[playing] + self.other) * TICK
            sent = min(backlog, capacity * TICK)
            backlog -= sent
            delivered += sent
            queue = min(backlog, capacity * QUEUE_SECONDS)
            queueing = queue / capacity
            adapter.look(
                Sample(
                    now,
                    round(delivered),
                    round(backlog - queue),
                    queueing,
                    (self.promised[playing] if self.promised else capacity)
                    if self.bursts
                    else None,
                    self.other,
                    self.cap,
                )
            )
            self.chosen.append((now, adapter.index))
            self.lags.append((now, backlog / capacity))
        return adapter

    def at(self, time: float) -> int:
        return max(entry for entry in self.chosen if entry[0] <= time)[1]


def steps(*parts: tuple[float, float]) -> Callable[[float], float]:
    """Mbit/s from a time on."""
    return lambda now: max(part for part in parts if part[0] <= now)[1] * MBIT


def test_a_path_that_carries_everything_gets_the_best_step_by_step() -> None:
    path = Path(steps((0, 8)))
    path.run(15)
    changes = [
        (time, after) for (_, before), (time, after) in pairwise(path.chosen) if before != after
    ]
    assert [index for _, index in changes] == [1, 2, 3]
    times = [0.0, *(time for time, _ in changes)]
    assert all(later - earlier >= PROVEN_SECONDS - TICK for earlier, later in pairwise(times))


def test_without_bursts_it_takes_longer() -> None:
    """From when it has been busy."""
    path = Path(steps((0, 0.4), (3, 8)), bursts=False)
    path.run(3 + 3 * BLIND_SECONDS + 5)
    assert path.at(3 + BLIND_SECONDS - TICK) == 0
    assert path.chosen[-1][1] == 3


def test_a_path_that_was_never_busy_is_tried_soon() -> None:
    path = Path(steps((0, 8)), bursts=False)
    path.run(3 * (PROVEN_SECONDS + GROUP))
    assert path.chosen[-1][1] == 3


def test_a_path_that_narrows_is_followed_at_once() -> None:
    path = Path(steps((0, 8), (20, 2), (40, 1), (60, 6)))
    path.run(80)
    assert path.at(19.9) == 3
    assert path.at(20 + GROUP + 0.3) == 1
    assert path.at(40 + 2.0) == 0  # what is too much by a fifth only shows later
    assert path.at(79.9) == 3
    for begin in (20, 40):
        worst = max(lag for time, lag in path.lags if begin <= time < begin + 5)
        assert worst < 1.5
    assert max(lag for time, lag in path.lags if time >= 62) < 0.5


def test_what_is_too_much_is_tried_more_and_more_seldom() -> None:
    path = Path(lambda now: 2 * MBIT, bursts=False)
    path.run(200)
    ups = [time for (_, before), (time, after) in pairwise(path.chosen) if after > before == 1]
    pauses = [later - earlier for earlier, later in pairwise(ups)]
    assert len(ups) >= 3
    assert all(later >= earlier - 1.0 for earlier, later in pairwise(pauses))
    assert pauses[-1] >= 4 * FIRST_PAUSE_SECONDS


def test_a_path_that_is_wide_again_is_used_soon_after_failed_trials() -> None:
    """Bursts show it; on the narrow path, they do not."""
    path = Path(steps((0, 8), (20, 1), (100, 6)))
    path.run(130)
    trials = [
        time
        for (_, before), (time, after) in pairwise(path.chosen)
        if after > before and 25 < time < 100
    ]
    assert 2 <= len(trials) <= 5
    assert 100 - trials[-1] < 30, "the next one would be late"
    assert path.at(100 + 3 * (PROVEN_SECONDS + GROUP) + 1) == 3


def test_a_trial_that_failed_says_nothing_of_what_is_larger_still() -> None:
    """Nothing is learnt from bursts; the larger one has been tried in vain a while ago."""
    path = Path(steps((0, 2), (120, 1), (135, 6)), bursts=False)
    path.run(200)
    first = next(time for time, index in path.chosen if time > 135 and index > 0)
    second = next(time for time, index in path.chosen if time > 135 and index > 1)
    assert second - first <= 2 * BLIND_SECONDS


@pytest.mark.parametrize("larger", [10, 1])
def test_bursts_that_promise_too_much_change_nothing(larger: float) -> None:
    """A bottleneck that lets bursts through and no more (a token bucket): all of them, or only
    the small ones of the smallest rendition."""
    path = Path(steps((0, 1.12)), promised=[10 * MBIT, *[larger * MBIT] * 3])
    path.run(200)
    ups = [time for (_, before), (time, after) in pairwise(path.chosen) if after > before]
    pauses = [later - earlier for earlier, later in pairwise(ups)]
    assert pauses[-1] >= 4 * FIRST_PAUSE_SECONDS


@pytest.mark.parametrize("mbit", [0.55, 1.15, 1.25, 2.45, 2.7, 4.9])
@pytest.mark.parametrize("bursts", [True, False])
def test_a_path_that_carries_a_rendition_just_so_is_no_swing(mbit: float, bursts: bool) -> None:
    """The one above is tried in vain, and the same then looks too much for a moment."""
    path = Path(lambda now: mbit * MBIT, bursts=bursts)
    path.run(200)
    downs = [time for (_, before), (time, after) in pairwise(path.chosen) if after < before]
    assert len(downs) <= 200 / LONGEST_PAUSE_SECONDS + 4


def test_a_cap_is_kept() -> None:
    path = Path(steps((0, 100)), cap=1.5 * MBIT)
    path.run(60)
    assert max(index for _, index in path.chosen) == 1


def test_what_else_the_session_gets_counts() -> None:
    path = Path(steps((0, 6)), other=2 * MBIT)
    path.run(60)
    assert path.chosen[-1][1] == 2


def test_nothing_is_known_of_a_path_that_delivers_nothing() -> None:
    adapter = Adapter(RATES)
    for tick in range(100):
        assert adapter.look(Sample(tick * TICK, 0, 10_000_000)) == 0


def test_a_lag_that_only_grows_is_believed_more_than_what_is_delivered() -> None:
    adapter = Adapter(RATES)
    adapter.moved(3, 0.0)
    index = 3
    for tick in range(40):
        delivered = round(tick * TICK * 8 * MBIT)
        index = adapter.look(Sample(tick * TICK, delivered, tick * 200_000))
    assert index < 3


def test_a_rendition_that_proves_itself_is_tried_soon_again() -> None:
    adapter = Adapter(RATES)
    path = Path(steps((0, 8), (30, 1), (40, 8), (70, 1), (80, 8)))
    path.run(110, adapter)
    assert path.at(29) == path.at(69) == path.at(109) == 3


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(0.2, 10), st.integers(5, 100)), min_size=1, max_size=8),
    st.booleans(),
)
def test_on_any_path_it_ends_where_the_path_is(
    parts: list[tuple[float, int]], bursts: bool
) -> None:
    """Whatever was before: on a path that stays, it is seldom on more than that carries, never
    more than one step above, and little lags."""
    begin = 0.0
    plan: list[tuple[float, float]] = []
    for mbit, ticks in parts:
        plan.append((begin, mbit))
        begin += ticks * TICK
    last = parts[-1][0]
    path = Path(steps(*plan), bursts=bursts)
    path.run(begin + 200)
    assert all(0 <= index < len(RATES) for _, index in path.chosen)
    ups = [time for (_, before), (time, after) in pairwise(path.chosen) if after > before]
    assert all(later - earlier >= PROVEN_SECONDS - 2 * TICK for earlier, later in pairwise(ups))
    tail = [index for time, index in path.chosen if time >= begin + 100]
    # A tenth too much is hard to tell from enough: it only shows after a while.
    fits = max((i for i, rate in enumerate(RATES) if rate <= 1.1 * last * MBIT), default=0)
    assert sum(index > fits for index in tail) <= 0.25 * len(tail)
    assert max(tail) <= fits + 1
    usable = max((i for i, rate in enumerate(RATES) if rate <= 0.8 * last * MBIT), default=0)
    assert sum(index < usable for index in tail) <= 0.5 * len(tail)
    if RATES[0] < 0.9 * last * MBIT:
        assert max(lag for time, lag in path.lags if time >= begin + 100) < 2.5
