"""Packets that aioquic made, through both programs, to connections of aioquic's again.

aioquic's own end of the publisher's connection reads every packet too: what program A takes has
to be what it reads, and what a subscriber gets is what the publisher sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived

from bpf import packets
from bpf.harness import TC_ACT_UNSPEC
from bpf.libraries import ADDRESS, Pair
from bpf.packets import object_datagram, subgroup_header
from bpf.scenario import Scenario
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import CLONE_MAGIC, CLONE_MARK, FrameKind, Reason

pytestmark = pytest.mark.parametrize("family", [4, 6])

CHANNEL = 7
SUBSCRIBERS = 2


class Got:
    """What somebody read: streams by id, those that ended, datagrams."""

    def __init__(self) -> None:
        self.streams: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.datagrams: list[bytes] = []

    def take(self, end: QuicConnection) -> None:
        for event in Pair.events(end):
            assert not isinstance(event, ConnectionTerminated), event
            if isinstance(event, StreamDataReceived):
                self.streams[event.stream_id] += event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            elif isinstance(event, DatagramFrameReceived):
                self.datagrams.append(event.data)

    def add(self, stream_id: int, offset: int, data: bytes, *, fin: bool) -> None:
        stream = self.streams[stream_id]
        stream.extend(bytes(max(0, offset + len(data) - len(stream))))
        stream[offset : offset + len(data)] = data
        if fin:
            self.ended.add(stream_id)

    def contents(self) -> tuple[list[bytes], int, list[bytes]]:
        """The same for whoever has other stream ids."""
        streams = [bytes(self.streams[stream_id]) for stream_id in sorted(self.streams)]
        return streams, len(self.ended), self.datagrams


class Broadcast:
    """A publisher and subscribers, each with a connection of aioquic's."""

    def __init__(self, scenario: Scenario) -> None:
        self.datapath = scenario.datapath
        self.scenario = scenario
        self.publisher = Pair()
        self.subscribers = [Pair() for _ in range(SUBSCRIBERS)]
        self.source = self.publisher.lend(scenario, 0)
        self.sinks = [pair.lend(scenario, 1 + at) for at, pair in enumerate(self.subscribers)]
        for sink in self.sinks:
            scenario.member(sink.index, sink, 0)
        scenario.array(0, 0, [sink.index for sink in self.sinks])
        scenario.track(0, 0, self.source, CHANNEL)
        self.read, self.taken = Got(), Got()
        self.received = [Got() for _ in self.sinks]
        self.generation = 0
        self._limit = int(self.datapath.view("shared")[0]["slot_limit"])

    def flush(self, lost: Callable[[], bool] = lambda: False) -> None:
        """All that the publisher has to send, and the relay's answers."""
        while sent := self.publisher.taken(self.publisher.client):
            for datagram in sent:
                if not lost():
                    self._datagram(datagram)
            self.publisher.carry(self.publisher.relay, self.publisher.client)

    def _datagram(self, datagram: bytes) -> None:
        pair = self.publisher
        packet = packets.packet(self.source.path, datagram)
        assert self.datapath.run("server_ingress", packet).action == TC_ACT_UNSPEC
        pair.relay.receive_datagram(datagram, ADDRESS, now=pair.now)
        self.read.take(pair.relay)
        for intent in self.datapath.intents():
            slot = self.datapath.view("slots")[int(intent["sequence"]) % layout.SLOTS]
            for at in range(int(intent["frame_count"])):
                frame, told = slot["frames"][at], intent["frames"][at]
                data = bytes(slot["data"][frame["at"] : frame["at"] + frame["length"]])
                if frame["kind"] == FrameKind.DATAGRAM:
                    self.taken.datagrams.append(data)
                else:
                    where = int(told["stream_id"]), int(frame["offset"])
                    self.taken.add(*where, data, fin=bool(frame["fin"]))
            for position in range(int(intent["members"])):
                self._clone(packet, int(intent["sequence"]), position)
            self._limit += 1
            self.datapath.view("shared")[0]["slot_limit"] = self._limit

    def _clone(self, packet: bytes, sequence: int, position: int) -> None:
        cb = (CLONE_MAGIC, sequence & 0xFFFFFFFF, position)
        made = self.datapath.run("client_egress", packet, mark=CLONE_MARK, cb=cb)
        assert made.action == TC_ACT_UNSPEC
        headers = packets.packet(self.sinks[position].path, b"")
        pair = self.subscribers[position]
        pair.client.receive_datagram(made.data[len(headers) :], ADDRESS, now=pair.now)
        self.received[position].take(pair.client)

    def update_keys(self) -> None:
        """By the publisher; the relay tells the programs when it has seen it."""
        self.publisher.client.request_key_update()
        self.publisher.client.send_ping(0)
        self.flush()
        self.generation += 1
        largest = int(self.datapath.view("connections")[0]["rx_largest"])
        self.scenario.receive_keys(self.source, self.generation, largest)


@pytest.fixture
def broadcast(scenario: Scenario, program_a: None, program_b: None) -> Broadcast:
    return Broadcast(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_streams_and_datagrams_of_all_sizes(broadcast: Broadcast, seed: int) -> None:
    """Several streams at a time, so that packets have frames of several; keys change under way."""
    chance = Random(seed)
    client = broadcast.publisher.client
    sent = Got()
    open_streams: list[int] = []
    for turn in range(60):
        if turn in (20, 40):
            broadcast.update_keys()
        for _ in range(chance.randint(1, 4)):
            if chance.random() < 0.3:
                data = object_datagram(CHANNEL, turn, 1, chance.randbytes(chance.randint(0, 1100)))
                client.send_datagram_frame(data)
                sent.datagrams.append(data)
                continue
            if len(open_streams) < 3 and len(sent.streams) < 100:
                stream_id = client.get_next_available_stream_id(is_unidirectional=True)
                open_streams.append(stream_id)
                data = subgroup_header(CHANNEL, turn)
            else:
                stream_id, data = chance.choice(open_streams), b""
            data += chance.randbytes(chance.choice([1, 30, 400, 1200, 3000]))
            fin = chance.random() < 0.3
            client.send_stream_data(stream_id, data, end_stream=fin)
            sent.streams[stream_id] += data
            if fin:
                sent.ended.add(stream_id)
                open_streams.remove(stream_id)
        broadcast.flush()
    counted = broadcast.datapath.counters()
    assert Reason.A_BAD_TAG not in counted
    assert len(sent.streams) > 20
    assert broadcast.read.contents() == sent.contents()
    assert broadcast.taken.contents() == sent.contents()
    for received in broadcast.received:
        assert received.contents() == sent.contents()


@pytest.mark.parametrize("seed", range(3))
def test_packets_that_are_lost(broadcast: Broadcast, seed: int) -> None:
    """What is taken of the rest, and of what is sent again, is what the publisher sent."""
    chance = Random(seed)
    client = broadcast.publisher.client
    sent: dict[int, bytes] = {}
    for turn in range(30):
        stream_id = client.get_next_available_stream_id(is_unidirectional=True)
        sent[stream_id] = subgroup_header(CHANNEL, turn) + chance.randbytes(4000)
        client.send_stream_data(stream_id, sent[stream_id], end_stream=True)
        broadcast.flush(lambda: chance.random() < 0.1)
        broadcast.publisher.now += 1
        client.handle_timer(now=broadcast.publisher.now)
        broadcast.flush()
    assert broadcast.read.streams == sent
    whole = 0
    for stream_id, data in broadcast.taken.streams.items():
        parts = zip(data, sent[stream_id], strict=False)
        assert all(a in (b, 0) for a, b in parts)
        whole += data == sent[stream_id]
    assert whole >= 10
