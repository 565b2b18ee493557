"""When full collections run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Histogram

from fastrelay.relay import garbage
from fastrelay.relay.garbage import LONGEST_WAIT, GarbageCollection


@dataclass
class Sessions:
    live: int = 0
    ended: int = 0


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def collection(sessions: Sessions, registry: CollectorRegistry) -> GarbageCollection:
    histogram = Histogram("pauses", "Pauses.", registry=registry)
    return GarbageCollection(lambda: sessions.live, lambda: sessions.ended, histogram)


@pytest.mark.parametrize(
    ("live", "ended", "due"),
    [(0, 0, False), (0, 1, True), (4, 1, True), (5, 1, False), (400, 99, False), (400, 100, True)],
)
def test_a_quarter_as_many_ended_as_live(
    collection: GarbageCollection, sessions: Sessions, live: int, ended: int, due: bool
) -> None:
    sessions.live, sessions.ended = live, ended
    assert collection.due(0.0) is due


def test_some_day_it_is_due_anyway(collection: GarbageCollection, sessions: Sessions) -> None:
    sessions.live = 1000
    assert not collection.due(LONGEST_WAIT - 1)
    assert collection.due(LONGEST_WAIT)


class Cycle:
    def __init__(self) -> None:
        self.itself = self


async def test_cycles_of_ended_sessions_go(
    collection: GarbageCollection,
    sessions: Sessions,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "INTERVAL", 0.001)
    thresholds = gc.get_threshold()
    gone = asyncio.Event()
    with collection:
        youngest, *others = gc.get_threshold()
        assert 1000 < youngest < 10_000
        assert min(others) > 100_000
        cycle = Cycle()
        finalizer = weakref.finalize(cycle, gone.set)
        del cycle
        sessions.ended = 1
        async with asyncio.timeout(60):
            await gone.wait()
    assert not finalizer.alive
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
    assert (registry.get_sample_value("pauses_count") or 0) >= 1
