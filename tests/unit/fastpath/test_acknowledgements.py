"""Acknowledgements that the kernel took: what it may take, and who is told of it when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastrelay.fastpath import layout
from fastrelay.fastpath.forwarder import HEAR_SECONDS, Forwarder
from fastrelay.fastpath.ports import LinkTerms
from fastrelay.quic.ledger import Ledger
from unit.fastpath.kernel import Kernel
from unit.fastpath.stand_ins import Clock, Engine


class Bench:
    """Connections that the kernel knows."""

    def __init__(self, clock: Clock, count: int) -> None:
        self.clock = clock
        self.kernel = Kernel(clock=lambda: clock.now)
        self.ledger = Ledger()
        self.forwarder = Forwarder(self.kernel.maps, self.ledger)
        self.engines = [Engine(n) for n in range(count)]
        self.links = [self.forwarder.register(engine, LinkTerms()) for engine in self.engines]

    def row(self, link: Any) -> Any:
        return self.kernel.maps.connections.rows[link.index]

    def sent(self, link: Any, number: int, size: int = 1000) -> None:
        """By the kernel, and reported."""
        record = np.zeros((), layout.REPORT.dtype)
        record["packet_number"], record["connection"] = number, link.index
        record["time"], record["size"] = int(self.clock.now * 1e9), size
        place = self.kernel.reports.reserve()
        assert place is not None
        self.kernel.reports.submit(place, record)

    def take(self, link: Any, number: int, first: int, largest: int, generation: int = -1) -> None:
        """As program A does."""
        record = np.zeros((), layout.ACK.dtype)
        record["time"], record["packet_number"] = int(self.clock.now * 1e9), number
        record["first"], record["largest"], record["delay"] = first, largest, 7
        record["connection"] = link.index
        record["generation"] = link.generation if generation < 0 else generation
        place = self.kernel.acks.reserve()
        assert place is not None
        self.kernel.acks.submit(place, record)
        self.row(link)["acks"] += 1

    def heard(self, number: int) -> list[tuple[int, int, int]]:
        """By an engine: the peer's packet, first, largest."""
        return [told[:3] for told in self.engines[number].acknowledged]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(Clock(monkeypatch), 3)


def test_all_are_told_in_their_order(bench: Bench) -> None:
    bench.take(bench.links[0], 8, 100, 101)
    bench.take(bench.links[2], 9, 100, 100)
    bench.take(bench.links[0], 9, 100, 103)
    at = bench.clock.now
    bench.forwarder.drain(at)
    assert bench.heard(0) == [(8, 100, 101), (9, 100, 103)]
    assert bench.heard(1) == []
    number, _, _, delay, time = bench.engines[2].acknowledged[0]
    assert (number, delay) == (9, 7)
    assert time == pytest.approx(at, abs=1e-3)


def test_not_for_each_batch(bench: Bench) -> None:
    now = bench.clock.now
    bench.take(bench.links[0], 8, 100, 101)
    bench.forwarder.drain(now)
    bench.take(bench.links[0], 9, 100, 102)
    bench.forwarder.drain(now + HEAR_SECONDS / 2)
    assert len(bench.heard(0)) == 1
    bench.forwarder.drain(now + HEAR_SECONDS)
    assert len(bench.heard(0)) == 2


def test_at_once_when_there_are_many(bench: Bench) -> None:
    now = bench.clock.now
    bench.take(bench.links[0], 8, 100, 101)
    bench.forwarder.drain(now)
    many = layout.ACKS_BYTES // 4 // (layout.ACK.dtype.itemsize + 8) + 1
    for number in range(many):
        bench.take(bench.links[0], 9 + number, 100, 102 + number)
    bench.forwarder.drain(now)
    assert len(bench.heard(0)) == 1 + many


def test_the_reports_of_what_they_acknowledge_are_read_before(bench: Bench) -> None:
    link = bench.links[1]
    live: list[int] = []
    bench.engines[1].on_acknowledgement = (  # type: ignore[method-assign]
        lambda *_: live.append(link.account.live)
    )
    bench.sent(link, 100)
    bench.sent(link, 101)
    bench.take(link, 8, 100, 101)
    link.catch_up()
    assert live == [2]


def test_who_asks_hears_at_once(bench: Bench) -> None:
    bench.forwarder.drain(bench.clock.now)
    bench.take(bench.links[1], 8, 100, 101)
    bench.links[0].catch_up()  # nothing of its own
    assert not bench.heard(1)
    bench.links[1].catch_up()
    assert bench.heard(1) == [(8, 100, 101)]


def test_before_probes_are_sent(bench: Bench) -> None:
    bench.take(bench.links[1], 8, 100, 101)
    bench.ledger.overdue(bench.clock.now)
    assert bench.heard(1) == [(8, 100, 101)]


def test_of_another_use_of_the_index(bench: Bench) -> None:
    link = bench.links[1]
    bench.take(link, 8, 100, 101, generation=link.generation + 1)
    bench.take(bench.links[2], 8, 100, 101)
    bench.links[2].close()
    bench.forwarder.drain(bench.clock.now)
    assert not bench.heard(1)


def test_an_engine_that_asks_while_it_is_told(bench: Bench) -> None:
    """Each is told once."""
    link, engine = bench.links[0], bench.engines[0]
    told: list[int] = []

    def hear(number: int, *_: Any) -> None:
        told.append(number)
        link.catch_up()
        bench.forwarder.hear()

    engine.on_acknowledgement = hear  # type: ignore[method-assign]
    for number in range(5):
        bench.take(link, number, 100, 101)
    bench.forwarder.drain(bench.clock.now)
    assert told == list(range(5))


def test_none_is_taken_before_the_engine_lets_it_and_the_kernel_has_sent(bench: Bench) -> None:
    link = bench.links[0]
    row = bench.row(link)
    link.window_changed(50_000)
    assert not row["ack_cid"]
    link.let_acknowledgements(True)
    assert not row["ack_cid"]
    bench.sent(link, 100)
    bench.forwarder.drain(bench.clock.now)
    link.window_changed(50_000)
    receive = bench.engines[0].receive
    assert receive is not None
    assert int(row["ack_cid"]) == int.from_bytes(receive.cid, "little")
    link.let_acknowledgements(False)
    assert not row["ack_cid"]


def test_the_kernel_is_told_what_nobody_waits_for_and_when_credit_runs_short(bench: Bench) -> None:
    link = bench.links[0]
    row = bench.row(link)
    for number in range(100, 110):
        bench.sent(link, number)
    bench.forwarder.drain(bench.clock.now)
    link.account.acknowledge(100, 104)
    link.window_changed(50_000)
    assert int(row["ack_floor"]) == 104
    assert int(row["ack_bytes"]) == 4000 + 12_500
    assert int(row["bytes_limit"]) == 4000 + 50_000
    link.account.acknowledge(104, 110)
    link.window_changed(50_000)
    assert int(row["ack_floor"]) == 110


def test_what_was_taken_before_it_may_not_be_is_told(bench: Bench) -> None:
    link = bench.links[0]
    link.let_acknowledgements(True)
    bench.take(link, 8, 100, 101)
    link.let_acknowledgements(False)
    assert bench.heard(0) == [(8, 100, 101)]


def test_a_peer_that_goes_over_to_another_id_of_ours(bench: Bench) -> None:
    link, engine = bench.links[0], bench.engines[0]
    row = bench.row(link)
    bench.sent(link, 100)
    bench.forwarder.drain(bench.clock.now)
    link.let_acknowledgements(True)
    assert engine.receive is not None
    engine.receive = replace(engine.receive, cid=b"another!")
    link.suspend()
    link.resume()
    assert int(row["ack_cid"]) == int.from_bytes(b"another!", "little")


def test_a_ring_of_another_layout_ends_it(bench: Bench) -> None:
    place = bench.kernel.acks.reserve()
    assert place is not None
    bench.kernel.acks._put(place, (24).to_bytes(8, "little"))
    bench.forwarder.drain(bench.clock.now)
    assert "ring" in bench.forwarder.reason


def test_a_second_forwarder_does_not_hear_what_was_for_the_first(bench: Bench) -> None:
    bench.take(bench.links[0], 8, 100, 101)
    again = Forwarder(bench.kernel.maps, Ledger())
    assert not again.maps.acks.backlog
