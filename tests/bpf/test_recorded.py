"""Packets of picoquic's and quinn's (tests/bpf/record.py), as they came to a relay: programs do
with each of them what the model does, and take all media there is."""

from __future__ import annotations

import base64
import json
from pathlib import Path as File
from typing import Any

import pytest

from bpf import packets
from bpf.fuzz_world import World
from bpf.harness import TC_ACT_UNSPEC, Datapath
from bpf.model import ingress
from bpf.model_egress import Sent, egress
from bpf.model_frames import stream_head, walk
from bpf.model_state import Connection, Member, Track
from bpf.packets import Keys, Path, make_keys
from fastrelay.fastpath.layout import CLONE_MAGIC, CLONE_MARK, Reason
from integration.third_party import content
from integration.third_party.content import OBJECTS_PER_GROUP

RELAY = ("10.80.1.2", 4443)
TRACK = "video"
LEAST_OBJECTS = 3
"""That were recorded as a whole."""
WRONG = {Reason.A_BAD_TAG, Reason.A_BAD_FRAME, Reason.A_NO_KEY, Reason.A_OUT_OF_ORDER}


class Recorded:
    """A publisher that was recorded, registered with the programs and with the model."""

    def __init__(self, world: World, library: str) -> None:
        text = File(__file__).with_name("recorded").joinpath(f"{library}.json").read_text()
        found: dict[str, Any] = json.loads(text)
        ring = tuple((bytes.fromhex(key), bytes.fromhex(iv)) for key, iv in found["keys"])
        self.datagrams = [base64.b64decode(each) for each in found["packets"]]
        self.connection = Connection(
            index=0,
            path=Path("10.90.0.1", RELAY[0], 20000, RELAY[1]),
            to_relay=Keys(bytes.fromhex(found["hp"]), ring),
            from_relay=make_keys(1),
            cid=bytes.fromhex(found["cid"]),
            dcid=b"",
            rx_largest=found["largest"],
        )
        self._world = world
        world.add_connection(self.connection)
        world.set_counter(self.connection, "rx_largest", found["largest"])
        # Some begin to use another of the relay's connection ids at once.
        for cid in {each[1:9] for each in self.datagrams}:
            self.connection.cid = cid
            world.route(self.connection)

    def opened(self, datagram: bytes) -> bytes:
        """Its frames."""
        connection = self.connection
        generation = connection.rx_current
        for tried in (generation, generation + 1):
            try:
                return packets.unprotect(
                    connection.to_relay,
                    datagram,
                    len(connection.cid),
                    connection.rx_largest + 1,
                    generation=tried,
                ).payload
            except packets.InvalidTag:
                continue
        raise AssertionError("a packet that the recorded keys do not open")


@pytest.mark.parametrize("library", ["picoquic", "quinn"])
def test_packets_of_other_stacks(server_ingress: Datapath, program_b: None, library: str) -> None:
    world = World(server_ingress)
    recorded = Recorded(world, library)
    subscriber = Connection(
        index=1,
        path=Path("10.90.0.2", RELAY[0], 20001, RELAY[1]),
        to_relay=make_keys(2),
        from_relay=make_keys(3),
        cid=bytes(8),
        dcid=b"peer's",
    )
    world.add_connection(subscriber)
    world.write_array(0, 0, [0])
    world.write_member(Member(0, subscriber.index))
    track = Track(0, 0)
    world.write_track(track)
    groups: dict[int, int] = {}
    taken: dict[int, bytes] = {}
    for datagram in recorded.datagrams:
        frames, more = walk(recorded.opened(datagram), recorded.connection.stream_bits)
        assert not more
        for frame in frames:
            head = stream_head(frame.data, b"", recorded.connection.variant)
            if frame.offset or head is None:
                continue
            groups[frame.stream_id or 0] = head.ordinal
            if (0, head.channel) not in world.state.channels:
                world.add_channel(recorded.connection, head.channel, track)
        packet = packets.packet(recorded.connection.path, datagram)
        assert server_ingress.run("server_ingress", packet).action == TC_ACT_UNSPEC
        slots = [written.slot for written in ingress(world.state, packet)]
        taken_now = [frame for slot in slots for frame in slot.frames]
        assert len(taken_now) == sum(frame.stream_id in groups for frame in frames)
        for frame in taken_now:
            got = taken.setdefault(frame.stream_id, b"")
            assert frame.offset == len(got)
            taken[frame.stream_id] = got + frame.data
        for slot in slots:
            cb = CLONE_MAGIC, slot.sequence & 0xFFFFFFFF, 0
            made = server_ingress.run("client_egress", packet, mark=CLONE_MARK, cb=cb)
            verdict = egress(world.state, packet, *cb)
            assert isinstance(verdict, Sent)
            assert made.data == verdict.packet
    world.compare()
    assert not WRONG & set(world.state.counted)
    whole = [
        payload
        for stream_id, group in groups.items()
        for payload in (content.payload(TRACK, group, obj) for obj in range(OBJECTS_PER_GROUP))
        if len(payload) > 100 and payload in taken[stream_id]
    ]
    assert len(whole) >= LEAST_OBJECTS
