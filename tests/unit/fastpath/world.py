"""A publisher, subscribers, the kernel and a relay that does what the core does, by chance.

Steps of programs A and B and of the relay take turns at random; clones are lost, late and doubled;
packets are lost upstream and sent again. What the relay sends itself, and what B sends, is noted
per upstream stream and member, so that :meth:`World.check` can say that each byte was sent once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastrelay.fastpath.coverage import Ranges
from fastrelay.fastpath.forwarder import Forwarder
from fastrelay.fastpath.layout import Outcome
from fastrelay.fastpath.ports import LinkTerms, MemberTerms
from fastrelay.quic.ledger import Ledger
from unit.fastpath.kernel import Chunk, Kernel, Word
from unit.fastpath.stand_ins import Clock, Engine, SharedWords

BETWEEN = 0.05
"""How often a program goes on between two looks of the relay at the memory that it shares."""
ARRAYS = ("shared", "connections", "tracks", "members", "streams", "legs", "slots")

ALL = (1 << 64) - 1


@dataclass
class Stream:
    """The relay's side of an upstream stream; implements Borrower."""

    world: World
    loan: Any
    received: Ranges = field(default_factory=Ranges)
    final: int | None = None
    ours: dict[int, Ranges] = field(default_factory=dict)
    """Sent by user space, by position."""
    ends: set[int] = field(default_factory=set)
    """Positions that got FIN from user space."""
    taken: dict[int, tuple[int, Ranges, bool]] = field(default_factory=dict)
    """Position: highest, holes, whether the kernel has sent FIN."""
    closed: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    """Of these, those that the kernel has dropped."""
    given: Ranges = field(default_factory=Ranges)
    """What the kernel has left to user space, for all. The kernel may take it when the publisher
    sends it once more: then it is sent twice, which QUIC does not mind."""
    given_end: bool = False
    short: bool = False
    """Whether the last refusal was for want of credit."""
    retired: bool = False
    is_settled: bool = False

    def missed(self, position: int, start: int, stop: int, fin: bool) -> None:
        assert position not in self.taken
        leg = self.loan.leg(position)
        if leg is None:
            self.take(position)
            return
        if leg.highest < stop:
            assert self.short
            self.take(position)
            return
        assert position not in self.closed
        assert not self.is_settled
        self.send(position, start, stop, fin)

    def refused(self, position: int, outcome: int) -> None:
        assert not self.is_settled
        if outcome == Outcome.DROPPED:
            assert self.loan.dropped(position)
            if position not in self.taken:
                self.drop(position)
            return
        self.short = outcome == Outcome.NO_DATA
        if self.world.chance(0.2):
            self.take(position)

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        assert position not in self.closed
        self.world.repaired.append((self.loan.sequence, position, start, stop, fin))

    def stopped(self, position: int, code: int) -> None: ...

    def settled(self) -> None:
        assert self.retired
        assert not self.is_settled
        self.is_settled = True

    def send(self, position: int, start: int, stop: int, fin: bool) -> None:
        if position in self.closed or self.loan.members[position].link.closed:
            return
        sent = self.ours.setdefault(position, Ranges())
        assert sent.gaps(start, stop) == ([(start, stop)] if start < stop else [])
        sent.add(start, stop)
        if fin:
            assert position not in self.ends
            self.ends.add(position)

    def take(self, position: int) -> None:
        if position in self.taken or position in self.closed:
            return
        holes = Ranges()
        for low, high in self.loan.take_leg(position):
            sent = self.ours.get(position, Ranges())
            assert sent.gaps(low, high) == [(low, high)], "told before"
            holes.add(low, high)
        if self.loan.dropped(position):
            self.drop(position)
            return
        leg = self.loan.leg(position)
        highest, finished = (leg.highest, leg.finished) if leg is not None else (0, False)
        self.taken[position] = (highest, holes, finished)
        self.go_on(position)

    def go_on(self, position: int) -> None:
        """Send a member whose leg was taken what has come and is its to get."""
        highest, holes, finished = self.taken[position]
        for span in self.received.spans:
            parts = [(max(span[0], highest), span[1])] if span[1] > highest else []
            parts += [
                (max(span[0], low), min(span[1], high))
                for low, high in holes.spans
                if max(span[0], low) < min(span[1], high)
            ]
            for part in parts:
                sent = self.ours.setdefault(position, Ranges())
                for low, high in sent.gaps(*part):
                    self.send(position, low, high, False)
        if self.final is not None and not finished and position not in self.ends:
            self.send(position, self.final, self.final, True)

    def drop(self, position: int) -> None:
        """By the kernel's policy."""
        self.dropped.add(position)
        self.close(position)

    def close(self, position: int) -> None:
        if position not in self.closed:
            self.loan.close_leg(position)
            self.closed.add(position)

    def read(self, start: int, stop: int, fin: bool) -> None:
        """Bytes have come."""
        fin = fin and self.final is None
        for low, high in self.received.gaps(start, stop):
            self._read(low, high, fin and high == stop)
        if fin and self.final is None:
            self._read(stop, stop, True)

    def _read(self, start: int, stop: int, fin: bool) -> None:
        self.received.add(start, stop)
        if fin:
            self.final = stop
        if self.loan is None:
            return
        for low, high, end in self.loan.uncovered(start, stop, fin):
            self.given.add(low, high)
            self.given_end |= end
            for position, member in enumerate(self.loan.members):
                if position not in self.taken and member.wants(self.loan.ordinal):
                    if position in self.closed or member.link.closed:
                        continue
                    if self.loan.leg(position) is None or not self.loan.reserve(position, high):
                        self.take(position)
                        continue
                    self.send(position, low, high, end)
        for position in self.taken:
            self.go_on(position)

    def maybe_retire(self) -> None:
        whole = self.final is not None and not self.received.gaps(0, self.final)
        if whole and self.loan is not None and not self.retired:
            self.retired = True
            self.loan.retire()


@dataclass
class Datagram:
    missed_by: set[int] = field(default_factory=set)

    def missed(self, position: int) -> None:
        assert position not in self.missed_by
        self.missed_by.add(position)


class World:
    def __init__(self, seed: int, clock: Clock) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        clock.tick = 1e-4
        self.kernel = Kernel(clock=lambda: clock.now)
        for name in ARRAYS:
            array = getattr(self.kernel.maps, name)
            array.words = SharedWords(array.words, self.meanwhile)
        self.ledger = Ledger()
        self._a: list[tuple[Iterator[None], int, list[Chunk | Word], list[bool]]] = []
        """Program, packet number, frames, whether it has ended."""
        self._b: list[Iterator[None]] = []
        self.forwarder = Forwarder(self.kernel.maps, self.ledger)
        self.publisher = self.forwarder.register(Engine(0), LinkTerms())
        self.tracks = [self.forwarder.open_track(self.publisher, channel) for channel in (1, 2)]
        self.engines: list[Engine] = []
        self.links: list[Any] = []
        self.members: list[Any] = []
        self.gone: dict[Any, int] = {}
        """Members that left, and how much the kernel had sent then."""
        self.suspended: dict[Any, int] = {}
        """How much the kernel had sent then."""
        self.dissolved: dict[int, int] = {}
        """Sequences of streams, and the next slot's then."""
        self.streams: dict[int, Stream] = {}
        self.datagrams: list[tuple[int, int, Datagram]] = []
        self.drops = 0
        self.repaired: list[tuple[int, int, int, int, bool]] = []
        self._number = 10
        self._open: dict[int, Chunk] = {}
        self._stream_id = 2
        self._unsent: list[Chunk | Word] = []
        self._again: list[Chunk] = []
        self._late: list[Any] = []
        self._passed: list[tuple[int, list[Chunk | Word]]] = []
        self._limits: tuple[int, ...] = ()
        self._lost_rows: set[tuple[int, int]] = set()
        clock.meanwhile = self.step_programs
        for _ in range(3):
            self.join()
        for track in self.tracks:
            track.publish()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # -- the kernel's steps

    def meanwhile(self) -> None:
        """The relay looks at what it shares: on another CPU things go on."""
        if self.chance(BETWEEN):
            for _ in range(self.random.randrange(1, 8)):
                if self.chance(0.3):
                    self.start_b()
                self.step_programs()

    def step_programs(self) -> None:
        """Also whenever the relay asks what time it is: it may be waiting for a program."""
        programs = [*range(len(self._a) + len(self._b))]
        if not programs:
            return
        chosen = self.random.choice(programs)
        if chosen < len(self._a):
            entry = self._a[chosen]
            if not _step(entry[0]):
                entry[3].append(True)
            # One flow's packets reach the socket in their order.
            while self._a and self._a[0][3]:
                self._passed.append(self._a.pop(0)[1:3])
        else:
            program = self._b[chosen - len(self._a)]
            if not _step(program):
                self._b.remove(program)

    def start_b(self) -> None:
        wire = self.kernel.wire
        if not wire:
            return
        clone = wire.pop(0 if self.chance(0.7) else self.random.randrange(len(wire)))
        luck = self.random.random()
        if luck < 0.1:
            return
        if luck < 0.2:
            self._late.append(clone)
        if luck < 0.25:
            return
        self._b.append(self.kernel.send(clone))

    def finish_programs(self) -> None:
        while self._a or self._b:
            self.step_programs()

    # -- the publisher's steps

    def write(self) -> None:
        """More of a stream that is open, or a new one, or a datagram."""
        channel, ordinal = self.random.choice((1, 2)), self.random.randrange(4)
        if self.chance(0.15):
            self._unsent.append(Word(channel, ordinal))
            return
        going = [chunk for chunk in self._open.values() if not chunk.fin]
        if going and self.chance(0.7):
            last = self.random.choice(going)
        else:
            last = Chunk(self._stream_id, 0, 0, False, channel, ordinal)
            self._stream_id += 4
        size = self.random.randrange(1, 40)
        chunk = last._replace(start=last.stop, stop=last.stop + size, fin=self.chance(0.3))
        self._open[chunk.stream_id] = chunk
        self._unsent.append(chunk)

    def send_packet(self) -> None:
        frames: list[Chunk | Word] = []
        while self._unsent and (not frames or self.chance(0.4)):
            frames.append(self._unsent.pop(0))
        if self._again and self.chance(0.5):
            frames.append(self._again.pop(self.random.randrange(len(self._again))))
        if not frames:
            return
        self._number += 1
        chunks = [frame for frame in frames if isinstance(frame, Chunk)]
        if self.chance(0.15):
            self._again += chunks
            return
        if self.chance(0.1):
            self._again += chunks
        program = self.kernel.receive(self.publisher.index, self._number, frames)
        self._a.append((program, self._number, frames, []))

    # -- the relay's steps

    def drain(self) -> None:
        self.forwarder.drain(self.clock.now)
        self._check_limits()

    def read(self) -> None:
        """What has passed A, after a drain."""
        batch, self._passed = self._passed, []
        self.drain()
        for number, frames in batch:
            words = 0
            for frame in frames:
                if isinstance(frame, Word):
                    self._read_word(number, words)
                    words += 1
                else:
                    self._read_chunk(frame)

    def _read_chunk(self, chunk: Chunk) -> None:
        stream = self.streams.get(chunk.stream_id)
        if stream is None:
            loan = self.forwarder.loan(self.publisher, chunk.stream_id)
            stream = self.streams[chunk.stream_id] = Stream(self, loan)
            if loan is not None:
                self.forwarder.bind(loan, stream)
        if not stream.retired:
            stream.read(chunk.start, chunk.stop, chunk.fin)
            stream.maybe_retire()

    def _read_word(self, number: int, index: int) -> None:
        borrower = Datagram()
        departures = self.forwarder.datagram(self.publisher, number, index, borrower)
        if departures is not None:
            self.datagrams.append((number, index, borrower))

    def join(self) -> None:
        if len(self.members) > 40:
            return
        if not self.links or self.chance(0.5):
            engine = Engine(1 + len(self.links))
            self.engines.append(engine)
            self.links.append(self.forwarder.register(engine, LinkTerms()))
        link = self.random.choice(self.links)
        first = self.random.randrange(3)
        terms = MemberTerms(None, None, first, ALL, self.random.randrange(3))
        member = self.random.choice(self.tracks).add(link, terms, None)
        if member is not None:
            self.members.append(member)

    def leave(self) -> None:
        if self.members:
            member = self.members.pop(self.random.randrange(len(self.members)))
            member.leave()
            self.gone[member] = len(self.kernel.sent)

    def close_link(self) -> None:
        if not self.links:
            return
        link = self.links.pop(self.random.randrange(len(self.links)))
        if link in self.suspended:
            self.links.append(link)
            return
        link.close()
        for member in [member for member in self.members if member.link is link]:
            self.members.remove(member)
            self.gone[member] = len(self.kernel.sent)

    def suspend(self) -> None:
        if self.links:
            link = self.random.choice(self.links)
            if link in self.suspended:
                self.resume(link)
            else:
                link.suspend()
                self.suspended[link] = len(self.kernel.sent)

    def resume(self, link: Any) -> None:
        since = self.suspended.pop(link)
        assert link.index not in {sent.connection for sent in self.kernel.sent[since:]}
        link.resume()

    def squeeze(self) -> None:
        """A window closes, or opens."""
        if self.links:
            link = self.random.choice(self.links)
            link.engine.window = self.random.choice((0, 300, 1 << 40))
            link.engine.data_limit = max(
                link.engine.data_limit if link.engine.data_limit < 1 << 40 else 0,
                self.random.choice((100, 1000, 1 << 40)),
            )
            link.credit_changed()
            link.bands.set_level(self.random.choice((0, 0, 128, 256)))

    def meddle(self) -> None:
        """Take or close a leg, or dissolve a stream."""
        lent = [stream for stream in self.streams.values() if stream.loan is not None]
        if not lent:
            return
        stream = self.random.choice(lent)
        if self.chance(0.2):
            self.dissolve(stream)
        if not stream.loan.members or stream.is_settled:
            return
        position = self.random.randrange(len(stream.loan.members))
        if not stream.loan.members[position].wants(stream.loan.ordinal):
            return
        if self.chance(0.3):
            stream.close(position)
        else:
            stream.take(position)

    def dissolve(self, stream: Stream) -> None:
        stream.loan.dissolve()
        # Slots that A took and gave up for want of time are void.
        self.dissolved.setdefault(stream.loan.sequence, int(self.kernel.shared["slot_next"]))

    def lose(self) -> None:
        """Packets of the kernel's to a member were lost on their way."""
        for link in self.links:
            self.drain()
            self.finish_programs()  # a report is written before its packet has left
            rows = link.account.give_up(link.account.low, link.account.high)
            if rows is None:
                continue
            self._lost_rows.update(rows.rows)
            told = len(self.repaired)
            link.packets_lost(rows.rows)
            self._check_repairs(link, rows.rows, self.repaired[told:])

    def _check_repairs(self, link: Any, rows: Any, repaired: Any) -> None:
        expected = []
        for low, position in rows:
            for sent in self.kernel.sent:
                if (sent.slot, sent.position) == (low, position) and sent.what[0] == "stream":
                    stream = self._by_sequence().get(sent.what[1])
                    if stream is not None and position not in stream.closed:
                        expected.append((sent.what[1], position, sent.start, sent.stop, sent.fin))
        assert sorted(repaired) == sorted(expected)

    def pass_time(self) -> None:
        # A program is never away for as long as the grace that is given to it.
        if not self._a and not self._b:
            self.clock.now += self.random.choice((0.001, 0.02, 0.3))
            for clone in self._late:
                self._b.append(self.kernel.send(clone))
            self._late.clear()

    def _check_limits(self) -> None:
        shared = self.kernel.shared
        limits = tuple(int(shared[name]) for name in ("slot_limit", "slot_next"))
        assert all(new >= old for new, old in zip(limits, self._limits, strict=False))
        self._limits = limits

    # -- the end

    def settle(self) -> None:
        """Everything comes to its end."""
        for link in list(self.suspended):
            self.resume(link)
        while self._unsent or self._again or self._a or self._b or self.kernel.wire:
            self.send_packet()
            self.start_b()
            self.finish_programs()
            self.read()
        for _ in range(8):
            self.clock.now += 0.4
            self.finish_programs()
            self.read()
        self.lose()

    def _by_sequence(self) -> dict[int, Stream]:
        return {
            stream.loan.sequence: stream
            for stream in self.streams.values()
            if stream.loan is not None
        }

    def check(self) -> None:
        """Each byte went once to each member that was to have it, by the kernel or by the relay."""
        by_sequence = self._by_sequence()
        kernel: dict[tuple[int, int], Ranges] = {}
        ends: dict[tuple[int, int], int] = {}
        datagrams: dict[tuple[Any, ...], list[int]] = {}
        for at, sent in enumerate(self.kernel.sent):
            if sent.what[0] == "datagram":
                datagrams.setdefault(sent.what, []).append(sent.position)
                continue
            stream = by_sequence[sent.what[1]]
            member = stream.loan.members[sent.position]
            assert at < self.gone.get(member, at + 1), "sent to somebody who had left"
            assert member.wants(stream.loan.ordinal)
            key = (sent.what[1], sent.position)
            ranges = kernel.setdefault(key, Ranges())
            assert ranges.gaps(sent.start, sent.stop) == [(sent.start, sent.stop)], "twice by B"
            ranges.add(sent.start, sent.stop)
            ends[key] = ends.get(key, 0) + sent.fin
        for low, contents in self.kernel.contents.items():
            for what in contents:
                if what[0] == "stream":
                    assert low < self.dissolved.get(what[1], low + 1), "taken after dissolve"
        for sequence, stream in by_sequence.items():
            for position, member in enumerate(stream.loan.members):
                if not member.wants(stream.loan.ordinal):
                    assert position not in stream.ours
                    continue
                by_kernel = kernel.get((sequence, position), Ranges())
                by_relay = stream.ours.get(position, Ranges())
                if position in stream.dropped:
                    self.drops += 1
                    assert not by_kernel.spans
                    assert not by_relay.spans
                for span in by_relay.spans:
                    for part in stream.given.gaps(*span):
                        assert by_kernel.gaps(*part) == [part], "sent by both"
                fins = ends.get((sequence, position), 0) + (position in stream.ends)
                assert fins <= 1 + stream.given_end
                if member in self.gone or position in stream.closed or stream.final is None:
                    continue
                if stream.received.gaps(0, stream.final):
                    continue
                both = Ranges()
                for span in (*by_kernel.spans, *by_relay.spans):
                    both.add(*span)
                assert both.gaps(0, stream.final) == [], "not sent"
                assert fins, "no end"
        for number, index, borrower in self.datagrams:
            by_b = datagrams.get(("datagram", self.publisher.index, number, index), [])
            assert len(by_b) == len(set(by_b))
            assert not borrower.missed_by & set(by_b)

    def check_credit(self) -> None:
        """What was counted for MAX_DATA is the sum of the streams' highest offsets."""
        counted = dict.fromkeys(self.links, 0)
        for stream in self._by_sequence().values():
            for position, member in enumerate(stream.loan.members):
                leg = stream.loan.leg(position)
                if leg is not None and member.link in counted:
                    counted[member.link] += leg.highest
        used = self.kernel.maps.connections.rows["data_used"]
        assert {link: int(used[link.index]) for link in self.links} == counted

    def check_nothing_left(self) -> None:
        """After everybody has gone, the maps are as at the beginning."""
        for stream in self.streams.values():
            if stream.loan is not None and not stream.retired:
                stream.retired = True
                stream.loan.retire()
        for link in list(self.links):
            link.close()
        self.publisher.close()
        for _ in range(12):
            self.clock.now += 0.5
            self.drain()
        maps = self.kernel.maps
        assert not maps.stream_index.rows["keys"].any()
        assert not maps.routes.pairs()
        assert not maps.channels.pairs()
        assert not maps.streams.rows["state"].any()
        assert not maps.streams.rows["busy"].any()
        assert not maps.connections.rows["tx"]["key"].any()
        shared = self.kernel.shared
        assert int(shared["slot_limit"]) == int(shared["slot_next"]) + 1024
        assert self.forwarder._connections.room == 1024
        assert self.forwarder._tracks.room == (1024, 4096, 2047)
        assert not self.forwarder._intents.kept
        assert not self.forwarder._datagrams.waiting


def _step(program: Iterator[None]) -> bool:
    try:
        next(program)
    except StopIteration:
        return False
    return True
