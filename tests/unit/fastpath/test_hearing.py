"""What acknowledgements do to ledger, map and engines, against a few dicts: whatever comes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.fastpath.hearing import Hearing
from fastrelay.fastpath.layout import ACK, CONNECTIONS
from fastrelay.fastpath.maps import in_memory
from fastrelay.quic.lease import Heard
from fastrelay.quic.ledger import ROWS, Ledger
from unit.fastpath.kernel import RingWriter

COUNT = 2
"""Connections that come and go; so many more there are in the ledger, which nobody has."""
NO_VARINT = 1 << 62
GIVEN = ("ack_bytes", "bytes_limit", "ack_floor", "packet_number_limit")
Acknowledgement = dict[str, int]


@dataclass
class Connection:
    """What is said of one that is open."""

    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    """In flight, by packet number: when it was sent, in nanoseconds; bytes."""
    high: int = 0
    gone: int = 0
    words: dict[str, int] = field(default_factory=dict)

    @property
    def low(self) -> int:
        return min(self.rows, default=self.high)

    def sent(self, number: int, time: int, size: int) -> None:
        if self.high - number <= ROWS:
            self.lost(0, number - ROWS + 1)
            self.rows[number] = time, size
            self.high = max(self.high, number + 1)

    def lost(self, start: int, stop: int) -> None:
        for number in [each for each in self.rows if start <= each < stop]:
            self.gone += self.rows.pop(number)[1]


class Model:
    """One after the other."""

    def __init__(self) -> None:
        self.open: dict[int, Connection] = {}
        self.generations = [0] * COUNT
        self.untold: dict[int, Heard] = {}
        self.told: list[tuple[int, Heard]] = []
        self.leaving: set[int] = set()
        """Those that close when they are told something."""
        self.used = 0.0

    def is_ours(self, ack: Acknowledgement) -> bool:
        varints = ("packet_number", "first", "largest", "delay")
        return (
            ack["connection"] in self.open
            and ack["generation"] == self.generations[ack["connection"]]
            and all(ack[name] < NO_VARINT for name in varints)
        )

    def take(self, acks: list[Acknowledgement]) -> None:
        parts: Counter[int] = Counter()
        self.used = 0.0
        for ack in filter(self.is_ours, acks):
            index, number = ack["connection"], ack["packet_number"]
            before = self.untold.get(index)
            follows = before is None or number == before.last_number + 1
            is_usual = follows and self.open[index].low >= min(ack["first"], self.open[index].high)
            if not is_usual:
                self.tell(index)
            if index not in self.open:
                continue
            connection = self.open[index]
            size = self.settle(connection, ack, self.untold.get(index))
            parts[index] += size
            room = connection.words["ack_bytes"] - connection.gone
            self.used = max(self.used, parts[index] / max(room, 1))
            if not is_usual:
                self.tell(index)

    def settle(self, connection: Connection, ack: Acknowledgement, known: Heard | None) -> int:
        hit = [each for each in sorted(connection.rows) if ack["first"] <= each <= ack["largest"]]
        rows = [connection.rows.pop(each) for each in hit]
        size = sum(each for _, each in rows)
        connection.gone += size
        words = connection.words
        words["ack_bytes"] += size
        words["bytes_limit"] += size
        words["ack_floor"] = connection.low
        words["packet_number_limit"] = max(words["packet_number_limit"], connection.low + ROWS)
        heard = Heard(
            first_number=ack["packet_number"],
            last_number=ack["packet_number"],
            largest=ack["largest"],
            delay=ack["delay"],
            time=ack["time"] * 1e-9,
            size=size,
            oldest_sent=rows[0][0] / 1e9 if rows else math.inf,
            newest=hit[-1] if hit else -1,
            newest_sent=rows[-1][0] / 1e9 if rows else 0.0,
        )
        if known is not None:
            latest = heard if rows else known
            heard = Heard(
                first_number=known.first_number,
                last_number=ack["packet_number"],
                largest=max(known.largest, ack["largest"]),
                delay=latest.delay,
                time=latest.time,
                size=known.size + size,
                oldest_sent=min(known.oldest_sent, heard.oldest_sent),
                newest=latest.newest,
                newest_sent=latest.newest_sent,
            )
        self.untold[ack["connection"]] = heard
        return size

    def tell(self, index: int) -> None:
        if index in self.untold:
            self.told.append((index, self.untold.pop(index)))
            if index in self.leaving and index in self.open:
                del self.open[index]


class Link:
    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index

    def heard(self, heard: Heard) -> None:
        self.world.told.append((self.index, heard))
        if self.index in self.world.model.leaving and self.world.ledger.account(self.index):
            self.world.ledger.close(self.index)


class World:
    """The relay's, and the model of it."""

    def __init__(self) -> None:
        self.maps, _, _, ring = in_memory()
        self.ring = RingWriter(ring, ACK.dtype, len(ring.data) // 2)
        self.rows = self.maps.connections.rows
        self.ledger = Ledger(2 * COUNT)
        self.told: list[tuple[int, Heard]] = []
        self.hearing = Hearing(
            self.maps, self.ledger, {index: Link(self, index) for index in range(COUNT)}
        )
        self.model = Model()
        self.acks: list[Acknowledgement] = []
        self.now = 1_000_000_007
        self.numbers = [0] * COUNT
        for index in range(COUNT):
            self.reopen(index)

    def reopen(self, index: int) -> None:
        self.tell(index)
        if self.ledger.account(index):
            self.ledger.close(index)
        self.ledger.open(index)
        model = self.model
        model.leaving.discard(index)
        model.generations[index] += 1
        words = dict(zip(GIVEN, (3_000, 6_000, 0, ROWS + 3), strict=True))
        model.open[index] = Connection(words=words)
        row = self.rows[index]
        row["generation"] = 7 << 32 | model.generations[index]
        for name, value in words.items():
            row[name] = value

    def sent(self, index: int, ahead: int, count: int, size: int = 1000) -> None:
        connection = self.model.open.get(index, Connection())
        first = max(connection.high + ahead, 0)
        numbers = [each for each in range(first, first + count) if each not in connection.rows]
        for number in numbers:
            self.now += 1_000_003
            connection.sent(number, self.now, size)
            self.ledger.record_one(index, number, self.now, 0, 0, size)

    def lost(self, index: int, start: int, count: int) -> None:
        account, connection = self.ledger.account(index), self.model.open.get(index)
        if account is not None and connection is not None:
            start += connection.low
            account.give_up(start, start + count)
            connection.lost(start, start + count)

    def ack(
        self, index: int, skipped: int, first: int, count: int, odd: Acknowledgement | None = None
    ) -> None:
        self.now += 1_000_003
        connection = self.model.open.get(index, Connection())
        number = max(self.numbers[index] + skipped, 0)
        first = max(connection.low + first, 0)
        self.numbers[index] = number + 1
        ack = {
            "time": self.now,
            "packet_number": number,
            "first": first,
            "largest": max(first + count - 1, 0),
            "delay": self.now % 1000,
            "connection": index,
            "generation": self.model.generations[index],
        }
        self.acks.append(ack | (odd or {}))

    def hear(self) -> None:
        for ack in self.acks:
            record = np.zeros((), ACK.dtype)
            for name, value in ack.items():
                record[name] = value
            place = self.ring.reserve()
            assert place is not None
            self.ring.submit(place, record)
        self.hearing.take(self.maps.acks.read())
        self.model.take(self.acks)
        self.acks.clear()
        assert self.hearing.used == self.model.used

    def tell(self, index: int) -> None:
        self.hearing.tell(index)
        self.model.tell(index)

    def leave(self, index: int) -> None:
        self.model.leaving.add(index)

    def compare(self) -> None:
        assert self.told == self.model.told
        for index in range(COUNT):
            account, connection = self.ledger.account(index), self.model.open.get(index)
            assert (account is None) == (connection is None)
            if account is None or connection is None:
                continue
            assert {name: int(self.rows[index][name]) for name in GIVEN} == connection.words
            assert account.live == len(connection.rows)
            assert account.bytes_gone == connection.gone
            assert account.bytes_in_flight == sum(size for _, size in connection.rows.values())
            assert (account.low, account.high) == (connection.low, connection.high)
        assert not any(self.ledger.account(index) for index in range(COUNT, 2 * COUNT))


indices = st.integers(0, COUNT - 1)
counts = st.integers(0, 6)
mostly_none = st.sampled_from([0, 0, 0, 1, 2, -1])
odd = st.one_of(
    st.fixed_dictionaries(
        {"connection": st.sampled_from([COUNT, CONNECTIONS - 1, CONNECTIONS, (1 << 32) - 1])}
    ),
    st.fixed_dictionaries({"generation": st.integers(0, 2)}),
    st.fixed_dictionaries({"first": st.just(0), "largest": st.just(NO_VARINT - 1)}),
    st.dictionaries(
        st.sampled_from(["packet_number", "first", "largest", "delay"]),
        st.sampled_from([NO_VARINT, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
        min_size=1,
        max_size=1,
    ),
)
steps = st.one_of(
    st.tuples(st.just("sent"), indices, mostly_none, counts, st.integers(1, 1500)),
    st.tuples(st.just("sent"), indices, st.sampled_from([500, 1023, 1025, -1023]), counts),
    st.tuples(st.just("ack"), indices, mostly_none, mostly_none, counts),
    st.tuples(st.just("ack"), indices, st.just(0), st.just(0), counts),
    st.tuples(st.just("ack"), indices, st.just(0), st.just(0), counts, odd),
    st.tuples(st.just("lost"), indices, mostly_none, counts),
    st.tuples(st.sampled_from(["tell", "leave", "reopen"]), indices),
    st.just(("hear",)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, min_size=15, max_size=100))
def test_as_dicts_would_do_it(taken: list[tuple[Any, ...]]) -> None:
    world = World()
    for name, *arguments in taken:
        getattr(world, name)(*arguments)
        world.compare()
    world.hear()
    for index in range(COUNT):
        world.tell(index)
    world.compare()
    assert not world.rows[COUNT:].view(np.uint8).any(), "rows that are nobody's"


def test_many_at_once() -> None:
    world = World()
    for index in range(COUNT):
        world.sent(index, 0, 900)
    for _ in range(400):
        for index in range(COUNT):
            world.ack(index, 0, 0, 500)
    world.hear()
    world.compare()
    assert world.hearing.used == 500 * 1000 / 3_000


def test_a_connection_beyond_the_ledger() -> None:
    world = World()
    world.sent(1, 0, 3)
    world.ledger.columns.connections = 1
    del world.model.open[1]
    world.ack(1, 0, 0, 3)
    world.hear()
    assert world.ledger.account(1).live == 3
    world.tell(1)
    assert not world.told
