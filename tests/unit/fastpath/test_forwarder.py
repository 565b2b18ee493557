"""The forwarder on maps in memory, with programs that follow docs/dataplane.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastrelay.fastpath import loans
from fastrelay.fastpath.coverage import Ranges
from fastrelay.fastpath.forwarder import SWEEP, Forwarder
from fastrelay.fastpath.intents import CLAIM_AFTER, CLAIMED
from fastrelay.fastpath.layout import SLOTS, STREAMS, TRACKS, Outcome, StreamState
from fastrelay.fastpath.ports import Leg, LinkTerms, MemberTerms, Template
from fastrelay.quic.ledger import Ledger
from unit.fastpath.kernel import Chunk, Clone, Kernel, Word, run
from unit.fastpath.stand_ins import Clock, Datagram, Engine, Stream

LATE = 2 * CLAIM_AFTER
ANY = MemberTerms(None, None, 0, (1 << 64) - 1, 128)


class Bench:
    """A publisher with one channel (7), and subscribers."""

    def __init__(self, clock: Clock, subscribers: int) -> None:
        self.clock = clock
        self.kernel = Kernel(clock=lambda: clock.now)
        self.ledger = Ledger()
        self.handled = math.inf
        self.forwarder = Forwarder(
            self.kernel.maps, self.ledger, lambda now: min(now, self.handled)
        )
        self.publisher = self.forwarder.register(Engine(0), LinkTerms())
        track = self.forwarder.open_track(self.publisher, 7)
        assert track is not None
        self.track = track
        self.engines = [Engine(1 + n) for n in range(subscribers)]
        self.links = [self.forwarder.register(engine, LinkTerms()) for engine in self.engines]
        self.members = [self.add(link) for link in self.links]
        track.publish()
        self.number = 10

    def add(self, link: Any, terms: MemberTerms = ANY) -> Any:
        member = self.track.add(link, terms, owner=None)
        assert member is not None
        return member

    def packet(self, *frames: Chunk | Word) -> int:
        """Program A runs; what it clones waits."""
        self.number += 1
        run(self.kernel.receive(self.publisher.index, self.number, list(frames)))
        return self.number

    def chunk(self, start: int, stop: int, fin: bool = False, stream_id: int = 2) -> Chunk:
        return Chunk(stream_id, start, stop, fin, 7, 3)

    def deliver(self, *skip: int) -> None:
        """B runs for all clones, but those for some positions, which are lost."""
        clones, self.kernel.wire = self.kernel.wire, []
        for clone in clones:
            if clone.position not in skip:
                run(self.kernel.send(clone))

    def drain(self, later: float = 0.0) -> None:
        self.clock.now += later
        self.forwarder.drain(self.clock.now)

    def loan(self, stream_id: int = 2) -> Any:
        loan = self.forwarder.loan(self.publisher, stream_id)
        assert loan is not None
        return loan


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench(clock, 3)


def test_what_the_kernel_sent_is_in_the_ledger_and_nothing_is_told(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain()
    borrower = Stream()
    loan = bench.loan()
    bench.forwarder.bind(loan, borrower)
    assert borrower.told == []
    assert loan.uncovered(0, 50, False) == []
    assert loan.uncovered(0, 60, True) == [(50, 60, True)]
    assert [link.account.live for link in bench.links] == [1, 1, 1]
    assert [member.packets for member in bench.members] == [1, 1, 1]
    assert loan.leg(1) == Leg((5 << 2) | 3, 50, False)
    shared = bench.kernel.shared
    assert shared["slot_limit"] == shared["slot_next"] + SLOTS


def test_a_lost_clone_is_claimed_after_a_while(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.deliver(1)
    bench.drain()
    borrower = Stream()
    bench.forwarder.bind(bench.loan(), borrower)
    assert borrower.told == []
    assert bench.forwarder.deadline <= bench.clock.now + CLAIM_AFTER
    bench.drain(later=LATE)
    assert borrower.told == [("missed", 1, 0, 50, False)]
    assert bench.forwarder.refusals == {CLAIMED: 1}


def test_a_claimed_copy_that_comes_late_is_not_sent(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    clones = list(bench.kernel.wire)
    bench.deliver(1)
    bench.drain(later=LATE)
    before = len(bench.kernel.sent)
    run(bench.kernel.send(clones[1]))
    assert len(bench.kernel.sent) == before


def test_a_refused_copy_says_why(bench: Bench) -> None:
    bench.engines[2].window = 0
    bench.links[2].credit_changed()
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain()
    borrower = Stream()
    loan = bench.loan()
    bench.forwarder.bind(loan, borrower)
    assert borrower.told == [("refused", 2, Outcome.NO_WINDOW), ("missed", 2, 0, 50, False)]
    # The leg began: its stream number was taken. What user space is to send there is counted.
    assert loan.leg(2) == Leg((5 << 2) | 3, 50, False)
    assert int(bench.kernel.maps.connections.rows[bench.links[2].index]["data_used"]) == 50


def test_without_credit_a_missed_part_is_refused_first(bench: Bench) -> None:
    bench.engines[1].data_limit = 60
    bench.links[1].credit_changed()
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.packet(bench.chunk(50, 80))
    bench.deliver(1)
    bench.drain(later=LATE)
    borrower = Stream()
    loan = bench.loan()
    bench.forwarder.bind(loan, borrower)
    assert borrower.told == [("refused", 1, Outcome.NO_DATA), ("missed", 1, 50, 80, False)]
    assert loan.leg(1) == Leg((5 << 2) | 3, 50, False)
    assert not loan.reserve(1, 80)
    assert loan.reserve(1, 60)
    assert loan.leg(1) == Leg((5 << 2) | 3, 60, False)


def test_a_window_that_falls_lowers_the_limit(bench: Bench) -> None:
    row = bench.kernel.maps.connections.rows[bench.links[0].index]
    bench.engines[0].window = 5000
    bench.links[0].credit_changed()
    assert int(row["bytes_limit"]) == 5000
    bench.engines[0].window = 2500
    bench.links[0].credit_changed()
    assert int(row["bytes_limit"]) == 2500


def test_a_lost_packet_is_told_with_all_it_had(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50, fin=True), bench.chunk(0, 20, stream_id=6))
    bench.deliver()
    bench.drain()
    one, two = Stream(), Stream()
    bench.forwarder.bind(bench.loan(2), one)
    bench.forwarder.bind(bench.loan(6), two)
    low = bench.kernel.sent[0].slot
    bench.links[1].packets_lost([(low, 1)])
    assert one.told == [("lost", 1, 0, 50, True)]
    assert two.told == [("lost", 1, 0, 20, False)]


def test_of_a_lost_packet_nothing_is_told_that_was_not_in_it(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain()
    one, two = Stream(), Stream()
    bench.forwarder.bind(bench.loan(2), one)
    assert bench.loan(2).take_leg(1) == []
    bench.packet(bench.chunk(50, 60, fin=True), bench.chunk(0, 20, stream_id=6))
    bench.deliver()
    bench.drain()
    bench.forwarder.bind(bench.loan(6), two)
    sent = next(each for each in bench.kernel.sent if each.position == 1 and each.stop == 20)
    bench.links[1].packets_lost([(sent.slot, 1)])
    assert one.told == []
    assert two.told == [("lost", 1, 0, 20, False)]


def retired(bench: Bench, stream_id: int = 2) -> tuple[loans.Loan, Stream]:
    """A stream that came whole, of 50 bytes, all sent to everybody, and is retired."""
    bench.packet(bench.chunk(0, 50, fin=True, stream_id=stream_id))
    bench.deliver()
    bench.drain()
    loan, borrower = bench.loan(stream_id), Stream()
    bench.forwarder.bind(loan, borrower)
    loan.retire()
    bench.drain()
    return loan, borrower


def test_a_retired_stream_is_settled_freed_and_still_known_for_losses(bench: Bench) -> None:
    loan, borrower = retired(bench)
    assert borrower.told == [("settled",)]
    assert bench.forwarder.loan(bench.publisher, 2) is None
    bench.drain(later=SWEEP)
    assert not bench.kernel.maps.stream_index.rows["keys"].any()
    states = bench.kernel.maps.streams.rows["state"]
    assert (states == StreamState.FREE).all()
    assert loan.leg(0) == Leg((5 << 2) | 3, 50, True)
    bench.links[0].packets_lost([(bench.kernel.sent[0].slot, 0)])
    assert borrower.told[1:] == [("lost", 0, 0, 50, True)]
    bench.links[0].stream_stopped((5 << 2) | 3, 9)
    assert borrower.told[2:] == [("stopped", 0, 9)]


def test_rows_of_streams_that_are_over_are_given_back_many_at_once(bench: Bench) -> None:
    keys = bench.kernel.maps.stream_index.rows["keys"]
    for number in range(loans._AT_ONCE):
        assert np.count_nonzero(keys) == number
        _, borrower = retired(bench, 2 + 4 * number)
        assert borrower.told == [("settled",)]
    assert not keys.any()
    assert (bench.kernel.maps.streams.rows["state"] == StreamState.FREE).all()


def test_a_whole_stream_may_get_an_empty_frame_before_its_row_is_given_back(bench: Bench) -> None:
    loan, _ = retired(bench)
    bench.clock.now += SWEEP
    bench.packet(bench.chunk(0, 0))
    bench.drain()
    assert len(bench.kernel.wire) == 3
    assert not loan.freed
    bench.deliver()
    bench.drain()
    bench.drain(later=SWEEP)
    assert loan.freed
    assert not bench.kernel.maps.stream_index.rows["keys"].any()


def test_of_a_stream_that_is_not_whole_the_kernel_takes_no_more_once_it_is_retired(
    bench: Bench,
) -> None:
    for stream_id, begin in ((2, 0), (6, 10)):
        bench.packet(bench.chunk(0, 0, stream_id=stream_id))
        bench.packet(bench.chunk(begin, 50, fin=stream_id == 6, stream_id=stream_id))
        bench.deliver()
        bench.drain()
        bench.loan(stream_id).retire()
        bench.packet(bench.chunk(0, 10, stream_id=stream_id))
        bench.packet(bench.chunk(50, 60, stream_id=stream_id))
        assert not bench.kernel.wire


def test_a_retired_stream_waits_for_its_open_copies(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50, fin=True))
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    loan.retire()
    bench.drain()
    assert borrower.told == []
    bench.drain(later=LATE)
    missed = [("missed", position, 0, 50, True) for position in range(3)]
    assert borrower.told == [*missed, ("settled",)]


def test_dissolve_leaves_the_rest_to_user_space(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain()
    loan = bench.loan()
    loan.dissolve()
    bench.packet(bench.chunk(50, 80))
    assert not bench.kernel.wire
    bench.drain()
    assert loan.uncovered(50, 80, False) == [(50, 80, False)]


def test_take_leg_returns_holes_that_nobody_heard_of(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.packet(bench.chunk(50, 80))
    bench.deliver(1)
    bench.packet(bench.chunk(90, 100))  # 80 to 90 was lost upstream
    bench.deliver()
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    assert loan.take_leg(1) == [(50, 90)]
    assert loan.leg(1) == Leg((5 << 2) | 3, 100, False)
    bench.packet(bench.chunk(80, 90))
    bench.deliver()
    bench.drain(later=LATE)
    assert borrower.told == []
    assert {sent.position for sent in bench.kernel.sent[-2:]} == {0, 2}


@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("moment", ["before", "paused", "resumed"])
@pytest.mark.parametrize("last", [(50, 80, True), (30, 40, False)])
def test_a_copy_under_way_while_its_leg_is_taken(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    last: tuple[int, int, bool],
    moment: str,
    steps: int,
) -> None:
    """So far has program B come, on another CPU, before the connection is paused, while it is, or
    when it just is resumed: what it sent, and what user space is told to send, is all, once."""
    bench.packet(bench.chunk(0, 30))
    bench.packet(bench.chunk(40, 50))
    bench.deliver()
    bench.packet(bench.chunk(*last))
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    program = bench.kernel.send(bench.kernel.wire[1])
    bench.clock.meanwhile = lambda: next(program, None)  # who waits for it, waits long enough

    def go_on() -> None:
        for _ in range(steps):
            next(program, None)

    def then_go_on(wait: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            wait()
            go_on()

        return both

    link = bench.links[1]
    if moment == "before":
        go_on()
    else:
        name = "pause" if moment == "paused" else "unpause"
        monkeypatch.setattr(link, name, then_go_on(getattr(link, name)))
    holes = loan.take_leg(1)
    leg = loan.leg(1)
    run(program)
    bench.drain(later=LATE)
    assert leg is not None
    assert loan.leg(1) == leg
    parts = [(each.start, each.stop) for each in bench.kernel.sent if each.position == 1]
    parts += [*holes, (leg.highest, 80)]
    every = Ranges()
    for start, stop in parts:
        assert every.gaps(start, stop) == ([(start, stop)] if start < stop else []), "twice"
        every.add(start, stop)
    assert every.spans == [[0, 80]]
    assert leg.finished == any(each.fin for each in bench.kernel.sent if each.position == 1)
    assert borrower.told == [("missed", position, *last) for position in (0, 2)]


def test_a_leg_taken_before_it_began_never_begins(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    assert loan.take_leg(0) == []
    bench.deliver()
    bench.drain()
    assert loan.leg(0) is None
    assert borrower.told == []
    assert {sent.position for sent in bench.kernel.sent} == {1, 2}


def test_what_was_given_to_user_space_is_not_missed_when_it_comes_again(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.packet(bench.chunk(80, 90))
    bench.deliver()
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    assert loan.uncovered(50, 70, False) == [(50, 70, False)]
    bench.packet(bench.chunk(50, 80))
    bench.drain(later=LATE)
    assert borrower.told == [("missed", position, 70, 80, False) for position in range(3)]


def test_who_leaves_gets_nothing_more(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.members[1].leave()
    bench.deliver()
    bench.drain()
    assert {sent.position for sent in bench.kernel.sent} == {0, 2}
    bench.packet(bench.chunk(0, 50, stream_id=6))
    assert len(bench.kernel.wire) == 2
    assert bench.members[1].packets == 0


def test_indices_of_those_who_left_are_used_again_when_nothing_names_them(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.drain()
    loan = bench.loan()
    bench.forwarder.bind(loan, Stream())
    member, link = bench.members[1], bench.links[1]
    index, room = member.index, bench.forwarder._connections.room
    member.leave()
    link.close()
    bench.drain()
    bench.drain(later=1.0)
    assert member.index == index  # the stream that is under way names its array
    assert bench.forwarder._connections.room == room
    loan.retire()
    bench.drain(later=1.0)
    bench.drain(later=1.0)
    assert member.index == -1
    assert bench.forwarder._connections.room == room + 1
    assert bench.engines[1].given_back == [(100, 5)]
    assert not bench.kernel.maps.connections.rows[link.index]["tx"]["key"].any()


def test_members_are_served_by_range_and_template(bench: Bench) -> None:
    terms = MemberTerms(Template(b"abc", b"d"), None, 4, 9, 1)
    bench.add(bench.links[0], terms)
    bench.track.publish()
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain(later=LATE)
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    assert loan.members[0].terms is terms  # the most urgent first
    assert borrower.told == []
    assert loan.leg(0) is None
    assert loan.shift(0) == 4
    assert loan.shift(1) == 0


def test_what_a_template_replaces_is_not_counted_for_its_member(bench: Bench) -> None:
    bench.add(bench.links[0], MemberTerms(Template(b"abc", b"d"), None, 0, 9, 1))
    bench.track.publish()
    bench.packet(bench.chunk(0, 50))
    (row,) = bench.kernel.maps.streams.rows[bench.kernel.maps.streams.rows["stream_id"] == 2]
    head = bench.kernel.maps.streams.rows[int(row["sequence"]) % STREAMS]
    head["cut"], head["keep_length"] = 7, 1
    bench.deliver()
    bench.drain()
    assert bench.loan().shift(0) == 3 + 1 + 1 - 7
    assert bench.loan().shift(1) == 0


def test_a_template_that_is_too_long_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        bench.add(bench.links[0], MemberTerms(Template(bytes(17), b""), None, 0, 1, 1))


def test_datagrams_are_told_by_packet_and_place(bench: Bench) -> None:
    number = bench.packet(Word(7, 3), Word(7, 3))
    bench.deliver(2)
    bench.drain(later=LATE)
    borrower = Datagram()
    departures = bench.forwarder.datagram(bench.publisher, number, 1, borrower)
    assert departures is not None
    assert [member.link for member in departures.members] == bench.links
    assert borrower.told == [2]
    assert bench.forwarder.datagram(bench.publisher, number, 1, borrower) is None
    assert bench.forwarder.datagram(bench.publisher, number, 2, borrower) is None


def test_when_a_datagram_left_is_known_while_its_row_is(bench: Bench) -> None:
    """For the members that the kernel served with it."""
    owners = [object() for _ in bench.members]
    for member, owner in zip(bench.members, owners, strict=True):
        member.owner = owner
    bench.members[2].terms = replace(ANY, first_ordinal=4)
    number = bench.packet(Word(7, 3))
    bench.clock.now += 1.0
    bench.deliver(1)
    bench.drain(later=LATE)
    departures = bench.forwarder.datagram(bench.publisher, number, 0, Datagram())
    assert departures is not None
    has = [departures.has(link, each) for link, each in zip(bench.links, owners, strict=True)]
    assert has == [True, True, False]
    assert departures.sent_at(bench.links[0], owners[0]) == pytest.approx(bench.clock.now - LATE)
    assert departures.sent_at(bench.links[1], owners[1]) is None
    assert not departures.has(bench.links[0], owners[1])
    assert departures.sent_at(bench.links[0], owners[1]) is None


def test_a_full_ring_leaves_everything_to_user_space(bench: Bench) -> None:
    bench.kernel.intents._room = 0
    bench.packet(bench.chunk(0, 50))
    bench.drain()
    assert not bench.kernel.wire
    assert bench.forwarder.loan(bench.publisher, 2) is None
    assert not bench.kernel.maps.stream_index.rows["keys"].any()


def test_slots_run_out_and_come_back(bench: Bench) -> None:
    for n in range(SLOTS + 5):
        bench.packet(bench.chunk(10 * n, 10 * n + 10))
        bench.kernel.wire.clear()
    bench.drain()
    loan, borrower = bench.loan(), Stream()
    bench.forwarder.bind(loan, borrower)
    end = 10 * SLOTS
    assert loan.uncovered(0, end + 50, False) == [(end, end + 50, False)]
    bench.drain(later=LATE)
    assert len(borrower.told) == 3 * SLOTS
    bench.packet(bench.chunk(end + 50, end + 60))
    assert len(bench.kernel.wire) == 3


def test_one_long_stream_does_not_stop_the_others(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    bench.drain()
    bench.forwarder.bind(bench.loan(), Stream())
    for n in range(2 * STREAMS):
        bench.packet(bench.chunk(0, 10, fin=True, stream_id=6 + 4 * n))
        bench.deliver()
        bench.drain()
        loan = bench.forwarder.loan(bench.publisher, 6 + 4 * n)
        assert loan is not None
        loan.retire()
        bench.drain()


def test_a_loan_that_nobody_binds_is_retired(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    bench.drain()
    bench.drain(later=loans.UNBOUND + 1.0)
    bench.drain(later=0.1)
    assert bench.forwarder.loan(bench.publisher, 2) is None


def test_a_head_that_comes_again_late_is_of_the_stream_that_the_kernel_took(bench: Bench) -> None:
    """The relay's socket had no room for it, and the publisher is late, too."""
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    for _ in range(30):
        bench.drain(later=1.0)
    borrower = Stream()
    loan = bench.loan()
    bench.forwarder.bind(loan, borrower)
    assert loan.uncovered(0, 20, True) == [(10, 20, True)]
    assert borrower.told == []


def test_intents_are_forgotten_when_no_packet_in_flight_names_them(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    bench.drain()
    kept = bench.forwarder._intents.kept
    bench.drain(later=5.0)
    assert len(kept) == 1
    for link in bench.links:
        link.account.acknowledge(0, 1000)
    bench.drain(later=1.0)
    assert not kept


def test_an_intent_waits_for_its_packet_in_the_socket(bench: Bench) -> None:
    """However late the relay is: what it has not read yet it will ask for."""
    bench.handled = bench.clock.now
    number = bench.packet(Word(7, 3))
    bench.deliver()
    bench.drain(later=60.0)  # it stood still
    for link in bench.links:
        link.account.acknowledge(0, 1000)
    bench.drain(later=60.0)
    borrower = Datagram()
    departures = bench.forwarder.datagram(bench.publisher, number, 0, borrower)
    assert departures is not None
    assert [*departures.members] == bench.members
    assert borrower.told == []
    bench.handled = bench.clock.now
    bench.drain(later=1.0)
    assert not bench.forwarder._intents.kept


def test_a_loan_waits_for_its_stream_in_the_socket(bench: Bench) -> None:
    bench.handled = bench.clock.now
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    bench.drain(later=60.0)
    bench.drain(later=60.0)
    assert not bench.loan().retiring


def test_a_publisher_that_goes_takes_its_channel_and_streams_along(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    bench.deliver()
    bench.drain()
    borrower = Stream()
    bench.forwarder.bind(bench.loan(), borrower)
    bench.publisher.close()
    bench.drain()
    assert borrower.told == [("settled",)]
    assert not bench.kernel.maps.channels.pairs()
    assert len(bench.kernel.maps.routes.pairs()) == 3
    assert bench.track.add(bench.links[0], ANY, None) is None


def test_a_connection_that_is_not_fast_says_why_and_is_tried_again(bench: Bench) -> None:
    engine = Engine(9, fast_reason="the handshake is not confirmed")
    link = bench.forwarder.register(engine, LinkTerms())
    assert (link.index, link.reason) == (-1, "the handshake is not confirmed")
    assert bench.track.add(link, ANY, None) is None
    engine.fast_reason = ""
    bench.drain(later=2.0)
    assert link.reason == ""
    assert link.index >= 0
    assert engine.lease is link


def test_close_gives_everything_back(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    bench.deliver(0)
    bench.drain()
    borrower = Stream()
    bench.forwarder.bind(bench.loan(), borrower)
    bench.forwarder.close()
    assert borrower.told == [("missed", 0, 0, 10, False)]
    assert bench.engines[0].given_back == [(100, 5)]
    assert bench.engines[1].given_back == [(101, 6)]
    rows = bench.kernel.maps.connections.rows
    assert not any(rows[field].any() for field in ("tx", "rx") for field in ("tx_hp", "rx_hp"))
    assert not bench.kernel.maps.slots.rows["data"].any()
    assert not bench.kernel.shared["enabled"]


def test_a_new_relay_begins_beyond_what_an_old_one_has_left(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 10))
    clones = list(bench.kernel.wire)
    maps = bench.kernel.maps
    before = int(bench.kernel.shared["slot_next"]), maps.streams.rows["sequence"].copy()
    seed = bench.kernel.shared["seed"].copy()
    Forwarder(maps, Ledger())
    assert int(bench.kernel.shared["slot_next"]) >= before[0]
    assert (maps.streams.rows["sequence"] >= before[1]).all()
    assert not maps.stream_index.rows["keys"].any()
    assert (bench.kernel.shared["seed"] != seed).any()
    assert not bench.kernel.maps.routes.pairs()
    assert not bench.kernel.maps.connections.rows["state"].any()
    run(bench.kernel.send(Clone(clones[0].low, 0)))
    assert not bench.kernel.sent


def test_nothing_is_settled_before_its_reports_could_be_read(bench: Bench) -> None:
    bench.engines[1].window = 0
    bench.links[1].credit_changed()
    stuck = bench.kernel.reports.reserve()  # by a program on another CPU
    assert stuck is not None
    _, borrower = retired(bench)
    assert borrower.told == []
    assert bench.forwarder.deadline == 0
    bench.kernel.reports.discard(stuck)
    bench.drain()
    refused = ("refused", 1, Outcome.NO_WINDOW)
    assert borrower.told == [refused, ("missed", 1, 0, 50, True), ("settled",)]


def test_an_exception_whose_intent_cannot_be_read_yet_is_kept(bench: Bench) -> None:
    bench.engines[1].window = 0
    bench.links[1].credit_changed()
    stuck = bench.kernel.intents.reserve()
    assert stuck is not None
    bench.packet(bench.chunk(0, 50))
    bench.deliver()
    bench.drain()
    bench.drain()
    bench.kernel.intents.discard(stuck)
    bench.drain()
    borrower = Stream()
    bench.forwarder.bind(bench.loan(), borrower)
    assert borrower.told == [("refused", 1, Outcome.NO_WINDOW), ("missed", 1, 0, 50, False)]


def test_a_place_is_not_used_again_while_a_program_is_at_work_on_it(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50, fin=True))
    bench.deliver()
    bench.drain()
    loan = bench.loan()
    bench.forwarder.bind(loan, Stream())
    row = bench.kernel.maps.streams.rows[loan.sequence % STREAMS]
    row["busy"] = 1
    loan.retire()
    bench.drain(later=1)
    assert int(row["state"]) == StreamState.USER
    keys = bench.kernel.maps.stream_index.words
    assert keys[loan.sequence % STREAMS]
    row["busy"] = 0
    bench.drain(later=1)
    assert int(row["state"]) == StreamState.FREE
    assert not keys[loan.sequence % STREAMS]


def test_as_many_tracks_as_there_are_places_for(clock: Clock) -> None:
    bench = Bench(clock, 1)
    opened = [bench.track]
    while (track := bench.forwarder.open_track(bench.publisher, 100 + len(opened))) is not None:
        opened.append(track)
        assert track.add(bench.links[0], ANY, owner=None) is not None
    assert len(opened) == TRACKS
    for _ in range(3):  # what is not used any more is freed from time to time
        bench.drain(later=1.0)
    arrays = bench.kernel.maps.arrays.rows
    now = bench.kernel.maps.tracks.rows["array"]
    assert (arrays["count"][now] == 1).all(), "each track's members are published"
    opened.pop().close()
    bench.drain(later=1.0)
    bench.drain(later=1.0)
    assert bench.forwarder.open_track(bench.publisher, 5) is not None


def test_when_the_kernel_sent_what_is_known_while_its_row_is(bench: Bench) -> None:
    """By the end of a range; the newest packet that has it, for this member alone."""
    owners = [object() for _ in bench.members]
    for member, owner in zip(bench.members, owners, strict=True):
        member.owner = owner
    for start in (0, 50, 100):
        bench.packet(bench.chunk(start, start + 50, fin=start == 100))
        bench.clock.now += 1.0
        bench.deliver()
        bench.drain()
    loan = bench.loan()
    began = bench.clock.now - 2.0
    for link, owner in zip(bench.links, owners, strict=True):
        times = [loan.sent_at(link, owner, stop) for stop in (1, 50, 51, 100, 150)]
        assert times == pytest.approx([began, began, began + 1, began + 1, began + 2])
        assert loan.sent_at(link, owner, 151) is None
        assert loan.sent_at(link, object(), 50) is None
    account = bench.links[0].account
    assert account.acknowledge(account.low, account.high) is not None
    assert loan.sent_at(bench.links[0], owners[0], 50) == pytest.approx(began)


def test_of_a_long_stream_only_the_latest_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loans, "_CARRIED", 4)
    for number in range(20):
        bench.packet(bench.chunk(10 * number, 10 * number + 10))
        bench.deliver()
        bench.drain()
    loan = bench.loan()
    assert 4 <= len(loan._carried) <= 8
    assert loan.sent_at(bench.links[0], bench.members[0].owner, 200) is not None


def test_what_is_under_way_to_a_member(bench: Bench) -> None:
    """Until its copy is acknowledged, lost or claimed; also when the stream's place is given up."""
    bench.packet(bench.chunk(0, 50))
    bench.drain()
    loan = bench.loan()
    bench.forwarder.bind(loan, Stream())
    assert all(loan.is_under_way(position) for position in range(3)), "nothing has left yet"
    bench.deliver(2)
    assert loan.is_under_way(0), "its report was not read yet"
    account = bench.links[0].account
    account.acknowledge(account.low, account.high)
    assert not loan.is_under_way(0)
    assert loan.is_under_way(1)
    bench.drain(later=LATE)
    assert not loan.is_under_way(2), "user space has claimed it"
    bench.packet(bench.chunk(50, 60, fin=True))
    bench.deliver()
    bench.drain()
    loan.retire()
    bench.drain()
    bench.drain(later=SWEEP)
    assert loan.freed
    assert loan.is_under_way(1)
    lost = bench.links[1].account
    lost.give_up(lost.low, lost.high)
    assert not loan.is_under_way(1)
    assert loan.is_under_way(0)
    bench.links[0].close()
    assert not loan.is_under_way(0)


def test_a_packet_of_another_stream_is_not_under_way_for_this_one(bench: Bench) -> None:
    for stream_id in (2, 6):
        bench.packet(bench.chunk(0, 50, fin=True, stream_id=stream_id))
        bench.deliver()
        bench.drain()
    account = bench.links[0].account
    account.acknowledge(account.low, account.low + 1)
    assert not bench.loan(2).is_under_way(0)
    assert bench.loan(6).is_under_way(0)
    assert bench.loan(2).is_under_way(1)


def test_a_leg_that_was_closed_before_it_began_is_not_under_way(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    bench.drain()
    loan = bench.loan()
    loan.close_leg(0)
    assert not loan.is_under_way(0)
    assert loan.is_under_way(1)


def test_what_was_acknowledged_is_heard_before_it_counts_as_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.packet(bench.chunk(0, 50, fin=True))
    bench.deliver()
    bench.drain()
    account = bench.links[0].account
    monkeypatch.setattr(
        bench.forwarder, "hear", lambda: account.acknowledge(account.low, account.high)
    )
    assert not bench.loan().is_under_way(0)
