"""Fuzzes both programs against the model: sequences of packets, clones and changes of the maps.

Rounds are independent; each has a seed, begins with empty maps and gives so many packets to the
programs, clones included. ::

    python -m bpf.fuzz --packets 10000000 --seed 1 --processes 2

A difference stops it with the round's seed and the last steps; ``--seed N --packets 10000
--processes 1`` repeats that round alone. Seeds go up, so a run that was stopped goes on with the
next one it names.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any

from bpf import fuzz_packets
from bpf.fuzz_packets import CHANNELS, Publisher
from bpf.fuzz_world import DifferenceError, World, same
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Captured, Datapath
from bpf.model import Written, ingress
from bpf.model_egress import Dropped, Passed, Report, Sent, egress
from bpf.model_state import U64, Clone, Connection, Member, Slot, Track
from bpf.packets import Path, make_keys, webtransport_datagram_prefix, webtransport_stream_prefix
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import Bands, Shares
from fastrelay.fastpath.layout import CLONE_MAGIC, CLONE_MARK, FrameKind, LegState, StreamState

PACKETS_A_ROUND = 10_000
BATCH = 120
"""Steps between two comparisons of everything, or fewer:"""
CLONES = 1500
"""the kernel's notes of these have to fit (harness: ``CAPTURED_BYTES``)."""
GENERATIONS = 16
PLAINTEXT = 0.25
"""Of connections: they have no keys."""
PUBLISHERS = 3
SUBSCRIBERS = 5
TRACKS = 2 * PUBLISHERS
PENDING = 400
"""Clones that have not come to B yet, at most."""


@dataclass(frozen=True)
class Pending:
    """A clone on its way, and the packet it is a clone of."""

    clone: Clone
    packet: bytes


class Round:
    """One seed's sequence."""

    def __init__(self, datapath: Datapath, seed: int) -> None:
        self.chance = Random(seed)
        self.world = World(datapath)
        self.state = self.world.state
        self.datapath = datapath
        self.runs = 0
        """Packets given to either program."""
        self.log: deque[str] = deque(maxlen=60)
        self.pending: list[Pending] = []
        self.clones: list[Pending] = []
        """Made since the last comparison: they have to be in the capture."""
        self.written: list[Written] = []
        self.reports: list[Report] = []
        self.unsettled: deque[Slot] = deque()
        self.publishers = [Publisher(self._publisher(index)) for index in range(PUBLISHERS)]
        self.subscribers = [self._subscriber(PUBLISHERS + index) for index in range(SUBSCRIBERS)]
        self._tracks()

    # Making the world

    def _publisher(self, index: int) -> Connection:
        chance = self.chance
        webtransport = chance.random() < 0.4
        session = chance.choice([0, 4, 400, 1 << 20])
        connection = _connection(
            index,
            chance.choice([4, 6]),
            plaintext=chance.random() < PLAINTEXT,
            variant=chance.choice([0, 1, 1]),
            stream_bits=chance.choice([2, 3]),
            prefix=webtransport_stream_prefix(session) if webtransport else b"",
            datagram_prefix=webtransport_datagram_prefix(session) if webtransport else b"",
        )
        self.world.add_connection(connection)
        self._change_acknowledging(connection)
        return connection

    def _change_acknowledging(self, connection: Connection) -> None:
        """What has become of the packets to a publisher."""
        chance = self.chance
        connection.lets = chance.random() < 0.8
        self.world.set_counter(
            connection, "packet_number", connection.packet_number + chance.choice([0, 1, 500])
        )
        sent = connection.packet_number
        connection.ack_floor = chance.choice([0, sent // 2, sent])
        connection.ack_bytes = chance.choice([1 << 40, 1 << 40, 0])
        self.world.set_counter(connection, "bytes_sent", chance.choice([0, 1]))
        left = chance.choice([1 << 40, 1 << 40, layout.ACK_NUMBERS, layout.ACK_NUMBERS - 1])
        connection.packet_number_limit = sent + left
        self.world.write_connection(connection)

    def _subscriber(self, index: int) -> Connection:
        chance = self.chance
        connection = _connection(
            index,
            chance.choice([4, 6]),
            plaintext=chance.random() < PLAINTEXT,
            stream_bits=chance.choice([2, 3]),
            dcid=chance.randbytes(chance.choice([0, 1, 4, 8, 8, 19, 20])),
            bands=Bands(Shares(ends=(*sorted(chance.sample(range(255), 3)), 255))),
        )
        self.world.add_connection(connection)
        return connection

    def _tracks(self) -> None:
        for index in range(TRACKS):
            self.world.write_array(index, index, self._members(index))
            track = Track(index, index, priority=self.chance.choice([128, 3, 255]))
            self.world.write_track(track)
            publisher = self.publishers[index % PUBLISHERS].connection
            self.world.add_channel(publisher, CHANNELS[index // PUBLISHERS], track)

    def _members(self, track: int) -> list[int]:
        """New members of a track; a connection may have several."""
        indices = []
        for _ in range(self.chance.choice([0, 1, 2, 2, 3, 4, 40])):
            index = len(self.state.members)
            if index >= layout.MEMBERS:
                break
            self.world.write_member(self._member(index))
            indices.append(index)
        return indices

    def _member(self, index: int) -> Member:
        chance = self.chance
        member = Member(index, chance.choice(self.subscribers).index)
        member.priority = chance.choice([128, 128, 0, 100, 255])
        if chance.random() < 0.5:
            member.stream = self._template()
            member.datagram = self._template()
        if chance.random() < 0.3:
            member.first_ordinal = chance.choice([0, 5, 71])
            member.last_ordinal = chance.choice([4, 70, 1000, U64 - 1])
        return member

    def _template(self) -> tuple[bytes, bytes]:
        chance = self.chance
        return chance.randbytes(chance.choice([0, 2, 16])), chance.randbytes(
            chance.choice([0, 1, 9, 16])
        )

    # Steps

    def run(self, packets: int) -> None:
        """:raises DifferenceError: see there; with the last steps."""
        steps = 0
        try:
            while self.runs < packets:
                self._step()
                steps += 1
                if steps % BATCH == 0 or len(self.clones) >= CLONES:
                    self.compare()
            self.compare()
        except DifferenceError as error:
            raise DifferenceError(f"{error}\nlast steps:\n" + "\n".join(self.log)) from error

    def _step(self) -> None:
        roll = self.chance.random()
        if roll < 0.45:
            self._packet()
        elif roll < 0.88:
            for _ in range(self.chance.choice([1, 2, 5, 20])):
                self._clone()
        elif roll < 0.95:
            self._settle()
        else:
            self._change()

    def _packet(self) -> None:
        publisher = self.chance.choice(self.publishers)
        packet, gso_size = fuzz_packets.packet(self.chance, publisher)
        self.runs += 1
        self.log.append(f"packet of {publisher.connection.index}: {packet.hex()[:160]}")
        result = self.datapath.run("server_ingress", packet, gso_size=gso_size)
        same(result.data, packet, "the packet itself")
        before = len(self.state.acks)
        found = ingress(self.state, packet, gso_size)
        taken = len(self.state.acks) > before
        same(result.action, TC_ACT_SHOT if taken else TC_ACT_UNSPEC, "action of A")
        for written in found:
            self.written.append(written)
            self.unsettled.append(written.slot)
            made = [Pending(clone, packet) for clone in written.clones]
            self.clones += made
            self.pending += made
        del self.pending[:-PENDING]

    def _clone(self) -> None:
        """One clone comes to B; late, twice, or changed sometimes."""
        if not self.pending:
            return
        at = 0 if self.chance.random() < 0.9 else self.chance.randrange(len(self.pending))
        pending = self.pending[at]
        if self.chance.random() < 0.95:
            del self.pending[at]
        magic, low, position = (
            CLONE_MAGIC,
            pending.clone.sequence & 0xFFFFFFFF,
            pending.clone.position,
        )
        if self.chance.random() < 0.02:
            magic, low, position = self.chance.choice(
                [
                    (magic ^ 1, low, position),
                    (magic, low + 1 & 0xFFFFFFFF, position),
                    (magic, low - 1 & 0xFFFFFFFF, position),
                    (magic, low, position + 1),
                    (magic, low, position + layout.ARRAY_MEMBERS),
                    (magic, self.chance.getrandbits(32), position),
                ]
            )
        self.runs += 1
        self.log.append(f"clone {low} {position}")
        result = self.datapath.run(
            "client_egress", pending.packet, mark=CLONE_MARK, cb=(magic, low, position)
        )
        verdict = egress(self.state, pending.packet, magic, low, position)
        match verdict:
            case Passed():
                same((result.action, result.data), (TC_ACT_UNSPEC, pending.packet), "what passes B")
            case Dropped(report):
                same(result.action, TC_ACT_SHOT, f"action of B; {verdict}")
                if report is not None:
                    self.reports.append(report)
            case Sent(report, packet):
                same(result.action, TC_ACT_UNSPEC, f"action of B; {verdict}")
                same(result.data.hex(), packet.hex(), "the member's packet")
                same((result.mark, result.cb), (0, (0, 0, 0, 0, 0)), "what B leaves behind")
                self.reports.append(report)

    def _settle(self) -> None:
        """The relay has waited long enough for the oldest slots; streams that are over go."""
        count = min(len(self.unsettled), self.chance.choice([1, 5, 50]))
        for _ in range(count):
            slot = self.unsettled.popleft()
            self.world.claim_rest(slot)
            self.state.slot_limit = slot.sequence + layout.SLOTS
        self.world.write_shared()
        self.log.append(f"settled {count}")
        named = {frame.stream for slot in self.unsettled for frame in slot.frames}
        for stream in list(self.state.streams.values()):
            over = stream.final is not None or stream.state is StreamState.USER
            if stream.sequence not in named and over and self.chance.random() < 0.3:
                self.log.append(f"free {stream.sequence}")
                self.world.set_stream_busy(stream, False)
                self.world.free_stream(stream)

    def _change(self) -> None:
        change = self.chance.choice(
            [
                self._change_credit,
                self._change_credit,
                self._change_member,
                self._change_array,
                self._change_stream,
                self._change_leg,
                self._change_connection,
                self._change_keys,
                self._change_keystreams,
                self._change_keystreams,
                self._change_switch,
            ]
        )
        self.log.append(change.__name__)
        change()

    def _change_credit(self) -> None:
        """Limits close to what is used, or far away."""
        chance, connection = self.chance, self.chance.choice(self.subscribers)
        for counter, name, near in (
            ("packet_number", "packet_number_limit", 3),
            ("stream_number", "stream_number_limit", 2),
            ("data_used", "data_limit", 2000),
            ("bytes_sent", "bytes_limit", 4000),
        ):
            used = getattr(connection, counter)
            ample = chance.random() < 0.7
            setattr(connection, name, 1 << 40 if ample else used + chance.randint(0, near))
        connection.stream_data_limit = chance.choice([1 << 40, 1 << 40, 1000, 0])
        connection.packet_size_limit = chance.choice([1452, 1452, 1200, 300])
        connection.datagram_limit = chance.choice([65535, 65535, 200, 0])
        connection.bands.set_level(chance.choice([0, 0, 200, 256, 384, 900, 1024]))
        self.world.write_connection(connection)
        taken = chance.randint(1, 5)
        self.world.set_counter(connection, "packet_number", connection.packet_number + taken)

    def _change_member(self) -> None:
        if self.state.members:
            member = self.chance.choice(list(self.state.members.values()))
            member.on = self.chance.random() < 0.8
            self.world.write_member(member)

    def _change_array(self) -> None:
        """A new version of a track's members."""
        used = {track.array for track in self.state.tracks.values()}
        used |= {stream.array for stream in self.state.streams.values()}
        used |= {slot.array for slot in self.unsettled}
        free = [index for index in range(layout.ARRAYS) if index not in used]
        track = self.chance.choice(list(self.state.tracks.values()))
        track.array = free[self.chance.randrange(min(len(free), 10))]
        # Slots that are settled may still name it: their clones find every bit set.
        self._forget_slots(track.array)
        members = [
            member
            for member in self.state.arrays.get(track.array, [])
            if self.chance.random() < 0.5
        ]
        self.world.write_array(track.array, track.index, members + self._members(track.index))
        self.world.write_track(track)

    def _forget_slots(self, array: int) -> None:
        """No clone may come any more of slots of an array that is used anew."""
        self.pending = [
            each
            for each in self.pending
            if self.state.slots[each.clone.sequence % layout.SLOTS].array != array
        ]

    def _change_stream(self) -> None:
        if self.state.streams:
            stream = self.chance.choice(list(self.state.streams.values()))
            if self.chance.random() < 0.5:
                self.world.set_stream_busy(stream, not stream.busy)
            else:
                self.world.set_stream_state(stream, StreamState.USER)

    def _change_leg(self) -> None:
        legs = [
            (stream, position)
            for stream in self.state.streams.values()
            for position, leg in stream.legs.items()
            if leg.state is not LegState.DROPPED
        ]
        if legs:
            stream, position = self.chance.choice(legs)
            leg = stream.legs[position]
            leg.state = self.chance.choice([LegState.KERNEL, LegState.USER, LegState.CLOSED])
            leg.limit = self.chance.choice([1 << 40, leg.highest, leg.highest + 1000])
            self.world.write_leg(stream, position)

    def _change_connection(self) -> None:
        connection = self.chance.choice(list(self.state.connections.values()))
        connection.send = self.chance.random() < 0.8
        connection.receive = self.chance.random() < 0.9
        self.world.write_connection(connection)

    def _change_keys(self) -> None:
        """The next phase, on either side; the relay follows later or never."""
        publisher = self.chance.choice(self.publishers)
        connection = publisher.connection
        last = _last_generation(connection)
        if publisher.generation < last - 3 and self.chance.random() < 0.5:
            publisher.generation += 1
        if connection.rx_current < publisher.generation:
            connection.rx_current += 1
            connection.rx_previous = self.chance.choice([connection.rx_current - 1, None])
            connection.rx_following = self.chance.choice([connection.rx_current + 1, None])
            connection.rx_phase_start = connection.rx_largest
            self.world.write_connection(connection)
        subscriber = self.chance.choice(self.subscribers)
        if subscriber.tx_generation < _last_generation(subscriber):
            subscriber.tx_generation += 1
            self.world.write_connection(subscriber)

    def _change_keystreams(self) -> None:
        """Some are made ahead, a few of them for packets that were sent, or come much later."""
        connection = self.chance.choice(self.subscribers)
        if connection.plaintext:
            return
        first = connection.packet_number + self.chance.choice([0, 0, 0, 1, 20, -3])
        for number in range(max(0, first), first + self.chance.randrange(20)):
            self.world.write_keystream(connection, number)

    def _change_switch(self) -> None:
        chance = self.chance
        self.state.enabled = chance.random() < 0.9
        self.world.write_shared()
        track = chance.choice(list(self.state.tracks.values()))
        track.on = chance.random() < 0.9
        self.world.write_track(track)
        publisher = chance.choice(self.publishers).connection
        publisher.rx_set = chance.random() < 0.95
        self._change_acknowledging(publisher)

    # Comparing

    def compare(self) -> None:
        """Rings, clones and maps are what the model has made of the steps."""
        intents = self.datapath.intents()
        same(len(intents), len(self.written), "number of intents")
        for intent, written in zip(intents, self.written, strict=True):
            self._compare_intent(intent, written)
        reports = [_report(each) for each in self.datapath.reports()]
        expected = [
            _without_size(report, made) for report, made in zip(self.reports, reports, strict=False)
        ]
        same(reports, expected, "reports")
        names = ("packet_number", "first", "largest", "delay", "connection")
        acks = [tuple(int(each[name]) for name in names) for each in self.datapath.acks()]
        same(acks, self.state.acks, "acks")
        self.state.acks.clear()
        self._compare_clones(self.datapath.captured())
        self.world.compare()
        self.written.clear()
        self.reports.clear()
        self.clones.clear()
        self.state.intents_room = layout.INTENTS_BYTES

    def _compare_intent(self, intent: Any, written: Written) -> None:
        slot = written.slot
        count = int(intent["frame_count"])
        found = (
            int(intent["sequence"]),
            int(intent["packet_number"]),
            int(intent["array"]),
            int(intent["connection"]),
            int(intent["members"]),
            count,
        )
        expected = (
            slot.sequence,
            slot.packet_number,
            slot.array,
            slot.connection,
            len(written.clones),
            len(slot.frames),
        )
        same(found, expected, "intent")
        for told, frame in zip(intent["frames"][:count], slot.frames, strict=True):
            kind = FrameKind.STREAM if frame.stream else FrameKind.DATAGRAM
            names = ("stream", "stream_id", "offset", "ordinal", "length", "kind", "fin")
            same(
                [int(told[name]) for name in names],
                [
                    frame.stream,
                    frame.stream_id,
                    frame.offset,
                    frame.ordinal,
                    len(frame.data),
                    kind,
                    frame.fin,
                ],
                "frame of an intent",
            )
            if kind is FrameKind.DATAGRAM:
                same(int(told["index"]), frame.index, "place of a datagram")

    def _compare_clones(self, captured: list[Captured]) -> None:
        found = [(each.cb[:3], each.hash, each.data, each.mark) for each in captured]
        expected = [
            (
                (CLONE_MAGIC, each.clone.sequence & 0xFFFFFFFF, each.clone.position),
                each.clone.hash,
                each.packet,
                CLONE_MARK,
            )
            for each in self.clones
        ]
        same(found, expected, "clones")


def _connection(index: int, family: int, *, plaintext: bool, **more: Any) -> Connection:
    if family == 4:
        path = Path(f"10.90.0.{index + 1}", "10.80.1.2", 20000 + index, 4443)
    else:
        path = Path(f"fd90::{index + 1:x}", "fd80::2", 20000 + index, 4443)
    more.setdefault("dcid", b"")
    return Connection(
        index=index,
        path=path,
        to_relay=make_keys(2 * index + 1, GENERATIONS, plaintext=plaintext),
        from_relay=make_keys(2 * index + 2, GENERATIONS, plaintext=plaintext),
        cid=(0xC1D0_0000_0000_0000 + index).to_bytes(8, "big"),
        hash=0x1000 + index,
        **more,
    )


def _last_generation(connection: Connection) -> int:
    return 0 if connection.plaintext else GENERATIONS - 1


def _report(record: Any) -> Report:
    return Report(
        int(record["sequence"]),
        int(record["position"]),
        int(record["connection"]),
        layout.Outcome(int(record["outcome"])),
        int(record["packet_number"]),
        int(record["size"]),
        int(record["dropped"]),
    )


def _without_size(expected: Report, found: Report) -> Report:
    """The size in a report of a copy that was not sent may be anything."""
    if expected.size is not None:
        return expected
    return Report(
        expected.sequence,
        expected.position,
        expected.connection,
        expected.outcome,
        expected.packet_number,
        found.size,
        expected.dropped,
    )


def load(datapath: Datapath) -> None:
    datapath.load("server_ingress.c")
    datapath.load("client_egress.c")


def run_round(datapath: Datapath, seed: int, packets: int = PACKETS_A_ROUND) -> dict[int, int]:
    """Returns what was counted, by reason.

    :raises DifferenceError: programs and model disagree.
    """
    made = Round(datapath, seed)
    made.run(packets)
    return dict(made.state.counted)


def _work(arguments: argparse.Namespace, first: int, cpu: int) -> None:
    """Every so many-th seed, on one CPU, until enough packets were made."""
    os.sched_setaffinity(0, {cpu})
    step = arguments.processes
    rounds = -(-arguments.packets // (PACKETS_A_ROUND * step))
    start = time.monotonic()
    with Datapath() as datapath:
        load(datapath)
        with datapath.attached():
            for done in range(1, rounds + 1):
                seed = first + (done - 1) * step
                try:
                    run_round(datapath, seed)
                except DifferenceError as error:
                    print(f"seed {seed}: {error}", flush=True)
                    sys.exit(1)
                packets = done * PACKETS_A_ROUND
                rate = packets / (time.monotonic() - start)
                if done % 10 == 0 or done == rounds:
                    print(
                        f"cpu {cpu}: {packets} packets, {rate:.0f} a second, "
                        f"next seed {seed + step}",
                        flush=True,
                    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packets", type=int, default=10_000_000, help="in all, clones included")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    workers = [
        multiprocessing.Process(
            target=_work, args=(arguments, arguments.seed + at, cpus[at % len(cpus)])
        )
        for at in range(arguments.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = any(worker.exitcode for worker in workers)
    print("fuzz: DIFFERENCES" if failed else "fuzz: no difference")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
