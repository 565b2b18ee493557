"""Acknowledgements that the kernel took: what it may take, and who is told of it when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastrelay.fastpath import layout
from fastrelay.fastpath.forwarder import HEAR_SECONDS, TELL_SECONDS, Forwarder
from fastrelay.fastpath.ports import LinkTerms
from fastrelay.quic.lease import Heard
from fastrelay.quic.ledger import Ledger
from unit.fastpath.kernel import Kernel
from unit.fastpath.stand_ins import Clock, Engine

SHORTEST, LONGEST = HEAR_SECONDS


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
        row = self.row(link)
        row["acks"] += 1
        row["acked"] = max(int(row["acked"]), largest + 1)

    def heard(self, number: int) -> list[tuple[int, int, int]]:
        """By an engine: the peer's packets, the largest of ours."""
        return [told[:3] for told in self.engines[number].acknowledged]

    def drain(self, later: float = 0.0) -> None:
        self.clock.now += later
        self.forwarder.drain(self.clock.now)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(Clock(monkeypatch), 3)


def test_rows_are_settled_at_once_and_engines_told_in_one_piece(bench: Bench) -> None:
    one, _, three = bench.links
    for link in bench.links:
        for number in range(100, 104):
            bench.sent(link, number)
    at = bench.clock.now
    bench.drain()
    bench.take(one, 8, 100, 101)
    bench.take(three, 9, 100, 100)
    bench.clock.now += 0.01
    bench.take(one, 9, 100, 103)
    bench.drain(later=LONGEST)
    assert [link.account.live for link in bench.links] == [0, 4, 3]
    assert not bench.heard(0)
    bench.take(three, 10, 101, 102)
    bench.drain(later=LONGEST)
    bench.drain(later=TELL_SECONDS)
    assert bench.heard(1) == []
    assert bench.heard(0) == [(8, 9, 103)]
    assert bench.heard(2) == [(9, 10, 102)]
    told = bench.engines[0].acknowledged[0]
    assert (told.size, told.newest, told.delay) == (4000, 103, 7)
    assert told.oldest_sent == told.newest_sent == pytest.approx(at, abs=1e-3)
    assert told.time == pytest.approx(at + 0.01, abs=1e-3)
    bench.drain(later=2 * TELL_SECONDS)
    assert len(bench.heard(0)) == 1


def test_not_for_each_batch(bench: Bench) -> None:
    link = bench.links[0]
    bench.sent(link, 100)
    bench.sent(link, 101)
    bench.sent(link, 102)
    bench.take(link, 8, 100, 100)
    bench.drain()
    assert link.account.live == 2
    bench.take(link, 9, 100, 102)
    bench.drain(later=SHORTEST / 2)
    assert link.account.live == 2
    bench.drain(later=LONGEST)
    assert link.account.live == 0


def test_at_once_when_there_are_many(bench: Bench) -> None:
    link = bench.links[0]
    bench.sent(link, 100)
    bench.drain(later=LONGEST)
    bench.take(link, 8, 100, 100)
    bench.drain()
    assert link.account.live == 0
    many = layout.ACKS_BYTES // 4 // (layout.ACK.dtype.itemsize + 8) + 1
    bench.sent(link, 101)
    for number in range(many):
        bench.take(link, 9 + number, 100, 101)
    bench.drain()
    assert link.account.live == 0


def test_what_the_kernel_may_send_grows_by_what_was_acknowledged(bench: Bench) -> None:
    link = bench.links[0]
    for number in range(100, 104):
        bench.sent(link, number)
    bench.drain()
    link.window_changed(50_000)
    row = bench.row(link)
    words = ("bytes_limit", "ack_bytes", "ack_floor", "packet_number_limit")
    before = [int(row[word]) for word in words]
    bench.take(link, 8, 100, 102)
    bench.drain(later=LONGEST)
    grown = [int(row[word]) - was for word, was in zip(words, before, strict=True)]
    assert grown == [3000, 3000, 3, 3]
    after = [int(row[word]) for word in words]
    link.window_changed(50_000)
    assert [int(row[word]) for word in words] == after


@pytest.mark.parametrize(
    "records",
    [
        [(8, 100, 101), (10, 100, 103)],  # a packet between them was user space's
        [(9, 100, 103), (8, 100, 101)],
        [(8, 102, 103), (10, 100, 103)],  # with a hole
    ],
)
def test_odd_ones_are_told_each_alone(bench: Bench, records: list[tuple[int, int, int]]) -> None:
    one, two, _ = bench.links
    for link in (one, two):
        for number in range(100, 104):
            bench.sent(link, number)
    bench.drain()
    for record in records:
        bench.take(one, *record)
    bench.take(two, 8, 100, 103)
    bench.drain(later=LONGEST)
    assert [link.account.live for link in bench.links] == [0, 0, 0]
    assert bench.heard(0)
    assert bench.heard(1) == []
    bench.drain(later=TELL_SECONDS)
    assert bench.heard(0) == [(number, number, largest) for number, _, largest in records]
    assert sum(told.size for told in bench.engines[0].acknowledged) == 4000


def test_a_hole_is_told_at_once_and_what_fills_it_later(bench: Bench) -> None:
    link = bench.links[0]
    for number in range(100, 104):
        bench.sent(link, number)
    bench.drain()
    for record in ((8, 100, 100), (9, 102, 103), (10, 100, 103), (11, 100, 103)):
        bench.take(link, *record)
    bench.drain(later=LONGEST)
    assert bench.heard(0) == [(8, 8, 100), (9, 9, 103)]
    assert link.account.live == 0
    bench.drain(later=TELL_SECONDS)
    assert bench.heard(0) == [(8, 8, 100), (9, 9, 103), (10, 11, 103)]


def test_sooner_where_much_is_sent(bench: Bench) -> None:
    """Half of what may be sent without being heard is left."""
    link = bench.links[0]
    pauses = []
    for window in (1_000_000, 20_000, 5_000):
        link.window_changed(window)
        for _ in range(2):
            bench.clock.now += 0.05
            number = link.account.high + 100
            bench.sent(link, number, 5_000)
            bench.take(link, number, 0, number)
            bench.forwarder.hear()
        pauses.append(bench.forwarder._next_hearing - bench.clock.now)
    assert pauses == pytest.approx([LONGEST, 0.05, SHORTEST], rel=0.05)


def test_what_does_not_follow_what_is_untold(bench: Bench) -> None:
    link = bench.links[0]
    bench.drain()
    bench.take(link, 8, 100, 100)
    bench.drain(later=LONGEST)
    bench.take(link, 12, 100, 100)
    bench.drain(later=LONGEST)
    assert bench.heard(0) == [(8, 8, 100), (12, 12, 100)]


def test_the_reports_of_what_they_acknowledge_are_read_before(bench: Bench) -> None:
    link = bench.links[1]
    bench.sent(link, 100)
    bench.sent(link, 101)
    bench.take(link, 8, 100, 101)
    link.catch_up()
    assert [told.size for told in bench.engines[1].acknowledged] == [2000]


def test_who_asks_hears_at_once(bench: Bench) -> None:
    bench.forwarder.drain(bench.clock.now)
    bench.take(bench.links[1], 8, 100, 101)
    bench.links[0].catch_up()  # nothing of its own
    assert not bench.heard(1)
    bench.links[1].catch_up()
    assert bench.heard(1) == [(8, 8, 101)]


def test_before_probes_are_sent(bench: Bench) -> None:
    one, two, _ = bench.links
    for link in (one, two):
        bench.sent(link, 100)
        link.account.expect(1.0, 0.0)
    bench.drain(later=LONGEST)
    bench.take(two, 8, 100, 100)
    assert bench.ledger.overdue(bench.clock.now) == []
    assert two.account.live == 1
    assert bench.ledger.overdue(bench.clock.now + 2.0) == [one.account]
    assert two.account.live == 0


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

    def hear(heard: Heard) -> None:
        told.append(heard.first_number)
        link.catch_up()
        bench.forwarder.hear()

    engine.on_acknowledgements = hear  # type: ignore[method-assign]
    for number in range(0, 10, 2):
        bench.take(link, number, 100, 101)
    bench.drain()
    bench.drain(later=TELL_SECONDS)
    assert told == list(range(0, 10, 2))


def test_an_engine_that_goes_while_it_is_told(bench: Bench) -> None:
    link, engine = bench.links[0], bench.engines[0]
    told: list[int] = []

    def hear(heard: Heard) -> None:
        told.append(heard.first_number)
        link.close()

    engine.on_acknowledgements = hear  # type: ignore[method-assign]
    for number in range(0, 10, 2):
        bench.take(link, number, 100, 101)
    bench.drain()
    bench.drain(later=TELL_SECONDS)
    assert told == [0]


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
    assert int(row["ack_bytes"]) == 4000 + 25_000
    assert int(row["bytes_limit"]) == 4000 + 50_000
    link.account.acknowledge(104, 110)
    link.window_changed(50_000)
    assert int(row["ack_floor"]) == 110


def test_what_was_taken_before_it_may_not_be_is_told(bench: Bench) -> None:
    link = bench.links[0]
    link.let_acknowledgements(True)
    bench.take(link, 8, 100, 101)
    link.let_acknowledgements(False)
    assert bench.heard(0) == [(8, 8, 101)]


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
