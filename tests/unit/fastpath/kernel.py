"""Stands for programs A and B on maps in memory, one step at a time.

Follows docs/dataplane.md. What is encrypted and parsed there is given as it is here: packets are
lists of frames. Each program is a generator that yields wherever another CPU, or the relay, may
come in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import group_hash
from fastrelay.fastpath.layout import (
    ARRAY_MEMBERS,
    SLOTS,
    STREAMS,
    ConnectionState,
    FrameKind,
    LegState,
    Outcome,
    StreamState,
)
from fastrelay.fastpath.maps import MemoryRing, in_memory
from fastrelay.fastpath.rings import BUSY, DISCARDED, HEADER
from streams import StreamIndex, next_sequence

LOW = (1 << 32) - 1


class Chunk(NamedTuple):
    """A STREAM frame. What the head says comes with it."""

    stream_id: int
    start: int
    stop: int
    fin: bool
    channel: int
    ordinal: int


class Word(NamedTuple):
    """A DATAGRAM frame."""

    channel: int
    ordinal: int


class Sent(NamedTuple):
    """Of a packet to a member. ``what``: ("stream", sequence), or ("datagram", connection, packet
    number, index) of the upstream one. ``stream_id``: towards the member."""

    connection: int
    packet_number: int
    slot: int
    position: int
    what: tuple[Any, ...]
    stream_id: int
    start: int
    stop: int
    fin: bool


Part = tuple[tuple[Any, ...], int, int, int, bool]


class Clone(NamedTuple):
    low: int
    position: int


class RingWriter:
    """The kernel's end of a ring."""

    def __init__(self, ring: MemoryRing, dtype: np.dtype[Any], room: int) -> None:
        self._ring = ring
        self._dtype = dtype
        self._room = room
        self._stride = dtype.itemsize + HEADER

    def reserve(self) -> int | None:
        """The record's place; None: the ring is full."""
        position = self._ring.producer[0]
        if position + self._stride - self._ring.consumer[0] > self._room:
            return None
        self._put(position, (self._dtype.itemsize | BUSY).to_bytes(8, "little"))
        self._ring.producer[0] = position + self._stride
        return int(position)

    def submit(self, position: int, record: Any) -> None:
        self._put(position + HEADER, record.tobytes())
        self._put(position, self._dtype.itemsize.to_bytes(8, "little"))

    def discard(self, position: int) -> None:
        self._put(position, (self._dtype.itemsize | DISCARDED).to_bytes(8, "little"))

    def _put(self, position: int, data: bytes) -> None:
        """Both mappings show it."""
        at = position % self._room
        whole = self._ring.data
        for place in (at, at + self._room, at - self._room):
            low, high = max(place, 0), min(place + len(data), len(whole))
            if low < high:
                whole[low:high] = data[low - place : high - place]


@dataclass
class Kernel:
    """``sent``: everything that left. ``wire``: clones that wait for B."""

    intents_room: int = layout.INTENTS_BYTES
    sent: list[Sent] = field(default_factory=list)
    wire: list[Clone] = field(default_factory=list)
    contents: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.maps, intents, reports, acks = in_memory()
        self.intents = RingWriter(intents, layout.INTENT.dtype, len(intents.data) // 2)
        self.reports = RingWriter(reports, layout.REPORT.dtype, len(reports.data) // 2)
        self.acks = RingWriter(acks, layout.ACK.dtype, len(acks.data) // 2)
        self.shared = self.maps.shared.rows[0]
        seed = self.maps.shared.word("seed")
        self._index = StreamIndex(
            self.maps.stream_index.words, self.maps.shared.words[seed : seed + 2]
        )

    # -- A

    def receive(self, connection: int, number: int, frames: list[Chunk | Word]) -> Iterator[None]:
        """Program A: a packet of a publisher's. Its clones go to ``wire``."""
        row = self.maps.connections.rows[connection]
        if not self.shared["enabled"] or not int(row["state"]) & ConnectionState.RECEIVE:
            return
        yield
        resolved: list[tuple[int, Chunk | Word, int]] = []
        words = 0
        for frame in frames:
            if isinstance(frame, Chunk):
                array = self._resolve_chunk(connection, frame, resolved)
            else:
                array = self._array(connection, frame.channel)
            if array is not None:
                resolved.append((array, frame, words))
            words += isinstance(frame, Word)
            yield
        while resolved:
            array = resolved[0][0]
            group = []
            while resolved and resolved[0][0] == array and len(group) < layout.FRAMES:
                group.append(resolved.pop(0))
            yield from self._forward(connection, number, array, group)

    def _resolve_chunk(
        self, connection: int, frame: Chunk, before: list[tuple[int, Chunk | Word, int]]
    ) -> int | None:
        """The array that it is for, as far as can be said before its stream is held."""
        row = self.maps.connections.rows[connection]
        place = self._index.find(connection, frame.stream_id)
        if place is not None:
            stream = self.maps.streams.rows[place]
            return int(stream["array"]) if int(stream["state"]) == StreamState.LENT else None
        if (
            before
            and isinstance(last := before[-1][1], Chunk)
            and last.stream_id == frame.stream_id
        ):
            return before[-1][0]
        if frame.stream_id >> 2 < int(row["rx_stream_next"]):
            return None
        row["rx_stream_next"] = (frame.stream_id >> 2) + 1
        return None if frame.start else self._array(connection, frame.channel)

    def _array(self, connection: int, channel: int) -> int | None:
        """The members of a channel at present."""
        track = self._track(connection, channel)
        if track is None:
            return None
        array = int(self.maps.tracks.rows[track]["array"])
        return array if int(self.maps.arrays.rows[array]["count"]) else None

    def _admit_chunk(
        self, connection: int, frame: Chunk, array: int, held: list[int]
    ) -> int | None:
        """The sequence of its stream, if the members of the array get it."""
        place = self._index.find(connection, frame.stream_id)
        if place is None:
            if frame.start or self._array(connection, frame.channel) != array:
                return None
            place = self._begin(connection, frame, array)
            if place is None:
                return None
            held.append(place)
        stream = self.maps.streams.rows[place]
        if place not in held:
            if stream["busy"]:
                return None
            stream["busy"] = 1
            held.append(place)
        if int(stream["state"]) != StreamState.LENT or int(stream["array"]) != array:
            return None
        return int(stream["sequence"]) if self._advance(stream, frame) else None

    def _begin(self, connection: int, frame: Chunk, array: int) -> int | None:
        place = self._index.claim(connection, frame.stream_id)
        if place is None:
            return None
        stream = self.maps.streams.rows[place]
        assert not stream["busy"]
        assert int(stream["state"]) == StreamState.FREE
        stream["busy"] = 1
        stream["state"] = StreamState.LENT
        for name in ("next", "gap_start", "gap_end", "final"):
            stream[name] = 0
        stream["stream_id"], stream["array"] = frame.stream_id, array
        stream["ordinal"], stream["connection"] = frame.ordinal, connection
        stream["track"] = self._track(connection, frame.channel)
        stream["sequence"] = next_sequence(int(stream["sequence"]), place)
        return place

    def _advance(self, stream: Any, frame: Chunk) -> bool:
        nxt, gap_start, gap_end = (int(stream[n]) for n in ("next", "gap_start", "gap_end"))
        final = int(stream["final"])
        if frame.start >= nxt and not final:
            if frame.start > nxt:
                if gap_start != gap_end:
                    return False
                stream["gap_start"], stream["gap_end"] = nxt, frame.start
            stream["next"] = frame.stop
        elif gap_start <= frame.start and frame.stop <= gap_end and frame.start == gap_start:
            stream["gap_start"] = frame.stop
        else:
            return False
        if frame.fin:
            stream["final"] = frame.stop + 1
        return True

    def _track(self, connection: int, channel: int) -> int | None:
        found = self.maps.channels.find(channel, 1 + connection)
        if found is None or not self.maps.tracks.rows[found]["state"]:
            return None
        return found

    def _forward(
        self, connection: int, number: int, array: int, group: list[tuple[int, Chunk | Word, int]]
    ) -> Iterator[None]:
        place = self.intents.reserve()
        if place is None:
            return
        yield
        sequence = int(self.shared["slot_next"])
        if sequence >= int(self.shared["slot_limit"]):
            self.intents.discard(place)
            return
        self.shared["slot_next"] = sequence + 1
        yield
        held: list[int] = []
        taken: list[tuple[int, Any]] = []
        row = self.maps.connections.rows[connection]
        if int(row["state"]) & ConnectionState.RECEIVE:
            for _, frame, index in group:
                stream: int | None
                if isinstance(frame, Chunk):
                    stream = self._admit_chunk(connection, frame, array, held)
                    if stream is not None:
                        taken.append((stream, frame))
                elif self._array(connection, frame.channel) == array:
                    taken.append((0, (frame, index)))
                yield
        intent = np.zeros((), layout.INTENT.dtype)
        intent["sequence"], intent["time"] = sequence, int(self.clock() * 1e9)
        slot = self.maps.slots.rows[sequence % SLOTS]
        members = int(self.maps.arrays.rows[array]["count"]) if taken else 0
        slot["sequence"], slot["done"] = sequence, (sequence & LOW) << 32
        slot["claims"] = (sequence & LOW) << 32
        slot["array"], slot["members"], slot["connection"] = array, members, connection
        intent["packet_number"], intent["array"] = number, array
        intent["connection"], intent["members"] = connection, members
        slot["frame_count"] = intent["frame_count"] = len(taken)
        self.contents[sequence & LOW] = what = []
        for at, (stream, frame) in enumerate(taken):
            self._write_frame(slot["frames"][at], intent["frames"][at], stream, frame)
            key = ("datagram", connection, number, None if stream else frame[1])
            what.append(("stream", stream) if stream else key)
        self.intents.submit(place, intent)
        yield
        for held_place in held:
            self.maps.streams.rows[held_place]["busy"] = 0
        for position in range(members):
            self.wire.append(Clone(sequence & LOW, position))

    def _write_frame(self, slot: Any, intent: Any, stream: int, frame: Any) -> None:
        slot["stream"] = intent["stream"] = stream
        if stream:
            slot["ordinal"] = intent["ordinal"] = frame.ordinal
            slot["kind"] = intent["kind"] = FrameKind.STREAM
            slot["offset"] = intent["offset"] = frame.start
            slot["length"] = intent["length"] = frame.stop - frame.start
            slot["fin"] = intent["fin"] = frame.fin
            intent["stream_id"] = frame.stream_id
        else:
            word, index = frame
            slot["ordinal"] = intent["ordinal"] = word.ordinal
            slot["kind"] = intent["kind"] = FrameKind.DATAGRAM
            intent["index"] = index
            slot["offset"] = intent["offset"] = slot["length"] = slot["fin"] = 0

    # -- B

    def send(self, clone: Clone) -> Iterator[None]:
        """Program B: a clone."""
        slot = self.maps.slots.rows[clone.low % SLOTS]
        if int(slot["sequence"]) & LOW != clone.low or clone.position >= int(slot["members"]):
            return
        member_index = int(self.maps.arrays.rows[int(slot["array"])]["members"][clone.position])
        member = self.maps.members.rows[member_index]
        index = int(member["connection"])
        connection = self.maps.connections.rows[index]
        yield
        connection["busy"] += 1
        yield
        word, bit = clone.position // 32, 1 << clone.position % 32
        claims = int(slot["claims"][word])
        if claims >> 32 != clone.low or claims & bit:
            connection["busy"] -= 1
            return
        slot["claims"][word] = claims | bit
        yield
        dropped: list[int] = []
        outcome, frames = self._decide(slot, clone.position, member, connection, dropped)
        if outcome == Outcome.SENT and not frames and dropped:
            outcome = Outcome.DROPPED
        yield
        report = np.zeros((), layout.REPORT.dtype)
        report["time"] = int(self.clock() * 1e9)
        report["sequence"], report["position"] = clone.low, clone.position
        report["connection"], report["outcome"] = index, outcome
        report["dropped"] = sum(1 << at for at in dropped)
        if outcome == Outcome.SENT and frames:
            report["size"] = 100
            report["packet_number"] = number = int(connection["packet_number"])
            connection["packet_number"] += 1
            connection["bytes_sent"] += 100
            member["packets"] += 1
        if outcome != Outcome.SENT or frames:
            place = self.reports.reserve()
            assert place is not None
            yield
            self.reports.submit(place, report)
        yield
        if outcome == Outcome.SENT:
            for frame in frames:
                self.sent.append(Sent(index, number, clone.low, clone.position, *frame))
        slot["done"] += 1
        yield
        connection["busy"] -= 1

    def _decide(
        self, slot: Any, position: int, member: Any, connection: Any, dropped: list[int]
    ) -> tuple[int, list[Part]]:
        if not int(connection["state"]) & ConnectionState.SEND:
            return Outcome.CONNECTION_OFF, []
        if not int(member["state"]):
            return Outcome.MEMBER_OFF, []
        wanted: list[tuple[Any, tuple[Any, ...]]] = []
        contents = self.contents[int(slot["sequence"]) & LOW]
        for index in range(int(slot["frame_count"])):
            frame = slot["frames"][index]
            ordinal = int(frame["ordinal"])
            if not int(member["first_ordinal"]) <= ordinal <= int(member["last_ordinal"]):
                continue
            sequence = int(frame["stream"])
            leg = self.maps.legs.rows[sequence % STREAMS * ARRAY_MEMBERS + position]
            word = int(leg["word"])
            begins = not sequence or (word >> 8 != sequence and not int(frame["offset"]))
            if begins and self._is_beyond(connection, ordinal):
                if sequence:
                    leg["word"] = sequence << 8 | LegState.DROPPED
                dropped.append(index)
                continue
            if not sequence or word >> 8 != sequence or word & 0xFF == LegState.KERNEL:
                wanted.append((frame, contents[index]))
        changed: list[tuple[Any, int, int]] = []
        found: list[Part] = []
        for frame, what in wanted:
            start, length = int(frame["offset"]), int(frame["length"])
            sequence = int(frame["stream"])
            if not sequence:
                found.append((what, -1, 0, 0, False))
                continue
            leg = self.maps.legs.rows[sequence % STREAMS * ARRAY_MEMBERS + position]
            if int(leg["word"]) >> 8 != sequence:
                if start:
                    return self._give_back(changed, connection, Outcome.NO_LEG)
                if int(connection["stream_number"]) >= int(connection["stream_number_limit"]):
                    return self._give_back(changed, connection, Outcome.NO_STREAM)
                leg["stream_id"] = int(connection["stream_number"]) << 2 | 3
                connection["stream_number"] += 1
                leg["highest"], leg["limit"] = 0, int(connection["stream_data_limit"])
                leg["word"] = sequence << 8 | LegState.KERNEL
                member["streams"] += 1
            if start + length > int(leg["limit"]):
                return self._give_back(changed, connection, Outcome.NO_STREAM_DATA)
            before = int(leg["highest"])
            growth = max(0, start + length - before)
            if int(connection["data_used"]) + growth > int(connection["data_limit"]):
                return self._give_back(changed, connection, Outcome.NO_DATA)
            connection["data_used"] += growth
            leg["highest"] = before + growth
            changed.append((leg, before, growth))
            stream_id, fin = int(leg["stream_id"]), bool(frame["fin"])
            found.append((what, stream_id, start, start + length, fin))
        if found and int(connection["bytes_sent"]) + 100 > int(connection["bytes_limit"]):
            return self._give_back(changed, connection, Outcome.NO_WINDOW)
        if found and int(connection["packet_number"]) >= int(connection["packet_number_limit"]):
            return self._give_back(changed, connection, Outcome.NO_NUMBER)
        return Outcome.SENT, found

    def _is_beyond(self, connection: Any, group: int) -> bool:
        """Everything is in the last band here."""
        level = int(connection["bands"]["level"])
        return group_hash(group) + level >= layout.BAND_LEVELS

    def _give_back(
        self, changed: list[tuple[Any, int, int]], connection: Any, outcome: Outcome
    ) -> tuple[int, list[Part]]:
        for leg, before, growth in reversed(changed):
            leg["highest"] = before
            connection["data_used"] -= growth
        return outcome, []


def run(program: Iterator[None]) -> None:
    """To its end."""
    for _ in program:
        pass
