"""What the sampler feeds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from fastrelay.quic.counters import EndpointCounters
from fastrelay.quic.measurements import Measurements
from fastrelay.relay import sampling
from fastrelay.relay.delays import Delays
from fastrelay.relay.metrics import Metrics, State
from fastrelay.relay.ports import Counters
from fastrelay.relay.sampling import Sampler
from unit.relay.harness import STILL


@dataclass(eq=False)
class FakeTransport:
    found: Measurements

    def measurements(self) -> Measurements:
        return self.found


@dataclass
class FakePeer:
    subscriptions: tuple[int, ...] = ()
    autos: tuple[int, ...] = ()
    bands: Any = None
    feedback: Any = None


def observed(metrics: Metrics, name: str) -> dict[str, float]:
    return {
        sample.name.removeprefix(f"fastrelay_{name}_"): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith(f"fastrelay_{name}_") and not sample.labels
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        lambda: State(Counters(), EndpointCounters(), 0, 0, {}, {}, False, certificate_expires=0.0)
    )


def test_round_trips_and_jitter(metrics: Metrics) -> None:
    transport = FakeTransport(replace(STILL, smoothed_rtt=0.030, jitter=0.020))
    Sampler(metrics, lambda: ()).sample(transport)  # type: ignore[arg-type]
    assert observed(metrics, "round_trip_seconds")["sum"] == pytest.approx(0.030)
    assert observed(metrics, "round_trip_jitter_seconds")["sum"] == pytest.approx(0.020)


def test_nothing_measured_is_not_zero(metrics: Metrics) -> None:
    Sampler(metrics, lambda: ()).sample(FakeTransport(STILL))  # type: ignore[arg-type]
    assert observed(metrics, "round_trip_seconds")["count"] == 0


def test_losses_are_counted_once(metrics: Metrics) -> None:
    sampler = Sampler(metrics, lambda: ())
    transport, other = FakeTransport(replace(STILL, lost=3)), FakeTransport(STILL)
    for lost in (3, 3, 5):
        transport.found = replace(STILL, lost=lost)
        sampler.sample(transport)  # type: ignore[arg-type]
        sampler.sample(other)  # type: ignore[arg-type]
    assert metrics.packets_lost == 5


async def test_every_connection_is_looked_at(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CONNECTION_INTERVAL", 0.0)
    monkeypatch.setattr(sampling, "SLICE", 2)
    rounds: asyncio.Queue[int] = asyncio.Queue()
    transports = [FakeTransport(replace(STILL, smoothed_rtt=0.1)) for _ in range(5)]

    def connections() -> list[tuple[FakeTransport, FakePeer]]:
        rounds.put_nowait(int(observed(metrics, "round_trip_seconds")["count"]))
        return [(transport, FakePeer()) for transport in transports]

    sampler = Sampler(metrics, connections)  # type: ignore[arg-type]
    sampler.start()
    async with asyncio.timeout(60):
        assert [await rounds.get() for _ in range(3)] == [0, 5, 10]
    sampler.stop()


async def test_the_loop_is_measured(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LAG_INTERVAL", 0.0)
    sampler = Sampler(metrics, lambda: ())
    sampler.start()
    for _ in range(5):
        await asyncio.sleep(0)
    sampler.stop()
    lag = observed(metrics, "event_loop_lag_seconds")
    assert lag["count"] >= 2
    assert 0 <= lag["sum"] < 60


def test_subscribers_are_counted_by_what_arrives(metrics: Metrics) -> None:
    sampler = Sampler(metrics, lambda: ())
    delays = Delays()
    delays.add(10.0, 20.0, 0.04)
    peer = FakePeer(
        subscriptions=(1,),
        bands=SimpleNamespace(rate=4_000),
        feedback=SimpleNamespace(delays=delays),
    )
    transport, publisher = FakeTransport(STILL), FakeTransport(STILL)
    for now, delivered in ((0.0, 0), (5.0, 10_000), (10.0, 10_000)):
        for each in (transport, publisher):
            each.found = replace(STILL, delivered=delivered, loss=0.01)
        sampler.look(transport, peer, now)  # type: ignore[arg-type]
        sampler.look(publisher, FakePeer(), now)  # type: ignore[arg-type]
    rates = observed(metrics, "delivery_rate_bytes")
    assert (rates["count"], rates["sum"]) == (1, 2_000)
    assert observed(metrics, "limit_use_ratio")["sum"] == 0.5
    assert observed(metrics, "loss_ratio")["sum"] == 0.01
    delay = observed(metrics, "one_way_delay_seconds")
    assert (delay["count"], delay["sum"]) == (3, pytest.approx(0.06))
