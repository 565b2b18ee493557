"""Every reason for which program A leaves a packet alone, and everything else that it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from struct import pack
from typing import Any

import pytest

from bpf import packets
from bpf.ingress import Ingress
from bpf.packets import (
    datagram_frame,
    ethernet,
    ip,
    object_datagram,
    stream_frame,
    subgroup_header,
    udp,
)
from bpf.scenario import Peer, Scenario, route_key
from bpf.wire import Wire
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import ConnectionState, Reason, Stage, StreamState
from streams import StreamIndex, stream_key

pytestmark = pytest.mark.parametrize("family", [pytest.param(4, marks=pytest.mark.kernels), 6])

CHANNEL = 7
STREAM = 2
HEAD = subgroup_header(CHANNEL, 5)
BEGIN = stream_frame(STREAM, HEAD)
DATAGRAM = datagram_frame(object_datagram(CHANNEL, 1))
CAPTURE = 500
"""Packets whose clones there is room for until they are looked at."""

Provoke = Callable[[Ingress, Peer], None]
PROVOCATIONS: list[tuple[Reason, str, Provoke]] = []


def provokes(reason: Reason) -> Callable[[Provoke], Provoke]:
    """The function does to a scenario with one publisher and two members what is counted so."""

    def register(function: Provoke) -> Provoke:
        PROVOCATIONS.append((reason, function.__name__, function))
        return function

    return register


IPV6_DESTINATION_OPTIONS = b"\x11\0\1\4\0\0\0\0"
IPV6_KINDS = {"hop by hop": 0, "routing": 43, "destination": 60}


def network(publisher: Peer, content: bytes, **how: Any) -> bytes:
    """A packet with the publisher's addresses."""
    return ethernet(ip(publisher.path, content, **how), publisher.path.family)


def media(publisher: Peer, **how: Any) -> bytes:
    """UDP header and a packet with media."""
    return udp(publisher.path, publisher.datagram(DATAGRAM), **how)


@provokes(Reason.A_NOT_UDP)
def icmp(ingress: Ingress, publisher: Peer) -> None:
    protocol = {4: 1, 6: 58}[publisher.path.family]
    ingress.packet(network(publisher, bytes(64), protocol=protocol))


@provokes(Reason.A_NOT_UDP)
def arp(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(bytes(12) + b"\x08\x06" + bytes(46))


@provokes(Reason.A_NOT_UDP)
def udp_header_cut_short(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"")[:-2])


@provokes(Reason.A_VLAN)
def vlan_tag(ingress: Ingress, publisher: Peer) -> None:
    content = ip(publisher.path, media(publisher))
    ingress.packet(ethernet(content, publisher.path.family, tags=(5,)))


@provokes(Reason.A_IP_OPTIONS)
def options(ingress: Ingress, publisher: Peer) -> None:
    if publisher.path.family == 4:
        ingress.packet(network(publisher, media(publisher), options=b"\x01\x01\x01\0"))
        return
    for kind in IPV6_KINDS.values():
        how = {"protocol": kind, "options": IPV6_DESTINATION_OPTIONS}
        ingress.packet(network(publisher, media(publisher), **how))
    assert ingress.datapath.counters()[Reason.A_IP_OPTIONS] == len(IPV6_KINDS)


def fragment(publisher: Peer, offset: int, *, more: bool) -> bytes:
    """``offset``: in units of 8 bytes."""
    if publisher.path.family == 4:
        return network(publisher, media(publisher), fragment=more << 13 | offset)
    header = pack("!BxHI", 17, offset << 3 | more, 1)
    return network(publisher, media(publisher), protocol=44, options=header)


@provokes(Reason.A_FRAGMENT)
def first_fragment(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(fragment(publisher, 0, more=True))


@provokes(Reason.A_FRAGMENT)
def later_fragment(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(fragment(publisher, 185, more=False))


@provokes(Reason.A_TRUNCATED)
def short_udp(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\x40" + bytes(7)))


@provokes(Reason.A_TRUNCATED)
def udp_length_beyond_the_packet(ingress: Ingress, publisher: Peer) -> None:
    longer = len(media(publisher)) + 1
    ingress.packet(network(publisher, media(publisher, length=longer)))


@provokes(Reason.A_TRUNCATED)
def udp_length_below_its_header(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(network(publisher, media(publisher, length=7)))


@provokes(Reason.A_TRUNCATED)
def no_room_for_a_sample(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\x40" + publisher.cid + bytes(19)))


@provokes(Reason.A_UNKNOWN_CONNECTION)
def unknown_connection(ingress: Ingress, publisher: Peer) -> None:
    assert ingress.datapath.table("routes").remove(route_key(publisher.cid), 1)
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_DISABLED)
def disabled(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("shared")[0]["enabled"] = 0
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_NOT_RECEIVING)
def not_receiving(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("connections")[0]["state"] = ConnectionState.SEND
    ingress.frames(publisher, DATAGRAM)


def come_by(ingress: Ingress, publisher: Peer, **other: Any) -> None:
    path = replace(publisher.path, **other)
    ingress.packet(packets.packet(path, publisher.datagram(DATAGRAM)))


def neighbour(address: str) -> str:
    return str(ip_address(address) + 1)


@provokes(Reason.A_WRONG_PATH)
def another_source_port(ingress: Ingress, publisher: Peer) -> None:
    come_by(ingress, publisher, source_port=9)


@provokes(Reason.A_WRONG_PATH)
def another_destination_port(ingress: Ingress, publisher: Peer) -> None:
    come_by(ingress, publisher, destination_port=9)


@provokes(Reason.A_WRONG_PATH)
def another_source(ingress: Ingress, publisher: Peer) -> None:
    come_by(ingress, publisher, source=neighbour(publisher.path.source))


@provokes(Reason.A_WRONG_PATH)
def another_destination(ingress: Ingress, publisher: Peer) -> None:
    come_by(ingress, publisher, destination=neighbour(publisher.path.destination))


@provokes(Reason.A_WRONG_PATH)
def another_family(ingress: Ingress, publisher: Peer) -> None:
    """Its addresses begin with the bytes of the connection's."""
    connection = ingress.datapath.view("connections")[0]
    connection["family"] = 10 - connection["family"]
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_TOO_LARGE)
def larger_than_any(ingress: Ingress, publisher: Peer) -> None:
    datagram = publisher.datagram(DATAGRAM + bytes(layout.MAX_DATAGRAM))
    ingress.packet(packets.packet(publisher.path, datagram[: layout.MAX_DATAGRAM + 1]))


@provokes(Reason.A_NO_KEY)
def no_keys(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("connections")[0]["rx_keys"] = 0
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_NO_KEY)
def next_phase_without_its_keys(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("connections")[0]["rx_keys"] = layout.rx_word(0, 0, None, None)
    ingress.frames(publisher, DATAGRAM, generation=1)


@provokes(Reason.A_NO_KEY)
def previous_phase_without_its_keys(ingress: Ingress, publisher: Peer) -> None:
    connection = ingress.datapath.view("connections")[0]
    connection["rx_keys"] = layout.rx_word(1, 1, 2, None)
    connection["rx_phase_start"] = 50
    ingress.frames(publisher, DATAGRAM, generation=0, packet_number=20)


@provokes(Reason.A_BAD_TAG)
def one_bit_flipped(ingress: Ingress, publisher: Peer) -> None:
    packet = bytearray(publisher.packet(DATAGRAM))
    packet[-20] ^= 1
    ingress.packet(bytes(packet))


@provokes(Reason.A_RESERVED_BITS)
def reserved_bit(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, DATAGRAM, first_bits=0x48)


@provokes(Reason.A_REPLAY)
def replay(ingress: Ingress, publisher: Peer) -> None:
    packet = publisher.packet(b"\x01" + bytes(20))
    ingress.packet(packet)
    ingress.packet(packet)


@provokes(Reason.A_OLD_NUMBER)
def older_than_the_window(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, b"\x01" + bytes(20), packet_number=1024, number_length=4)
    ingress.frames(publisher, DATAGRAM, packet_number=0, number_length=4)


@provokes(Reason.A_BAD_FRAME)
def frame_cut_short(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, DATAGRAM, b"\x1a\0\0")


@provokes(Reason.A_BAD_FRAME)
def stream_beyond_the_largest_offset(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, b"xy", (1 << 62) - 2))


@provokes(Reason.A_BAD_FRAME)
def connection_id_too_long(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, DATAGRAM, b"\x18\x05\x02\x15" + bytes(21 + 16))


@provokes(Reason.A_NO_MEDIA)
def acknowledgement_alone(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, packets.OTHER_FRAMES["ACK"], bytes(8))


@provokes(Reason.A_UNKNOWN_STREAM)
def middle_of_an_unknown_stream(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, b"middle", 500))


@provokes(Reason.A_UNKNOWN_TRACK)
def unknown_channel(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, subgroup_header(CHANNEL + 1, 5)))


@provokes(Reason.A_UNKNOWN_TRACK)
def track_switched_off(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("tracks")[0]["state"] = 0
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_BAD_HEAD)
def stream_of_another_kind(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, b"\x05\x00fetch"))


@provokes(Reason.A_BAD_HEAD)
def head_not_complete(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, HEAD[:-1]), bytes(8))


@provokes(Reason.A_STREAM_USER)
def stream_of_user_space(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    stream["state"] = StreamState.USER
    ingress.frames(publisher, stream_frame(STREAM, b"more", len(HEAD)))


@provokes(Reason.A_OUT_OF_ORDER)
def second_hole(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)
    ingress.frames(publisher, stream_frame(STREAM, b"x", 100))
    ingress.frames(publisher, stream_frame(STREAM, b"x", 200))


@provokes(Reason.A_OUT_OF_ORDER)
def sent_again(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_OUT_OF_ORDER)
def beyond_the_end(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, stream_frame(STREAM, HEAD, fin=True))
    ingress.frames(publisher, stream_frame(STREAM, b"x", len(HEAD)))


@provokes(Reason.A_BUSY)
def another_cpu_is_at_work(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    stream["busy"] = 1
    ingress.frames(publisher, stream_frame(STREAM, b"more", len(HEAD)))
    assert stream["next"] == len(HEAD)


@provokes(Reason.A_NO_MEMBERS)
def nobody(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("arrays")[0]["count"] = 0
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_NO_MEMBERS)
def more_members_than_an_array_has(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("arrays")[0]["count"] = layout.ARRAY_MEMBERS + 1
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_NO_MEMBERS)
def array_beyond_the_last(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("tracks")[0]["array"] = layout.ARRAYS
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_UNKNOWN_TRACK)
def track_beyond_the_last(ingress: Ingress, publisher: Peer) -> None:
    ingress.scenario.channel(publisher, CHANNEL, layout.TRACKS)
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_UNKNOWN_CONNECTION)
def connection_beyond_the_last(ingress: Ingress, publisher: Peer) -> None:
    routes = ingress.datapath.table("routes")
    routes.remove(route_key(publisher.cid), 1)
    routes.put(route_key(publisher.cid), 1, layout.CONNECTIONS)
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_NO_SLOT)
def slots_exhausted(ingress: Ingress, publisher: Peer) -> None:
    shared = ingress.datapath.view("shared")[0]
    shared["slot_limit"] = shared["slot_next"]
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_NO_SLOT)
def slab_full(ingress: Ingress, publisher: Peer) -> None:
    """The relay settles nothing: as many packets as there are slots, and one when it does."""
    room = layout.SLOTS - int(ingress.datapath.view("shared")[0]["slot_next"])
    for at in range(room):
        ingress.datapath.run("server_ingress", publisher.packet(DATAGRAM))
        if at % CAPTURE == 0:
            ingress.datapath.captured()
    ingress.datapath.captured()
    assert len(ingress.datapath.intents()) == room
    assert Reason.A_NO_SLOT not in ingress.datapath.counters()
    assert ingress.frames(publisher, DATAGRAM).counted[Reason.A_NO_SLOT] == 1
    ingress.datapath.view("shared")[0]["slot_limit"] += 1
    assert len(ingress.frames(publisher, DATAGRAM).intents) == 1
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_NO_STREAM_SLOT)
def streams_exhausted(ingress: Ingress, publisher: Peer) -> None:
    """More streams than there are rows are under way, and none of them has ended."""
    keys = ingress.datapath.view("stream_index")["keys"].reshape(-1)
    index = StreamIndex([0] * layout.STREAMS)
    begun = 0
    for at in range(2 * layout.STREAMS):
        ingress.datapath.run("server_ingress", publisher.packet(stream_frame(4 * at + 2, HEAD)))
        ingress.datapath.view("shared")[0]["slot_limit"] += 1
        begun += index.claim(publisher.index, 4 * at + 2) is not None
    ingress.datapath.captured()
    assert keys.tolist() == index.words
    assert ingress.datapath.intents()["frame_count"].sum() == begun > 0.9 * layout.STREAMS
    counted = ingress.datapath.counters()
    assert counted[Reason.A_NO_STREAM_SLOT] == 2 * layout.STREAMS - begun


@provokes(Reason.A_NO_STREAM_SLOT)
def buckets_full(ingress: Ingress, publisher: Peer) -> None:
    """Those of two streams; a third finds a row when one of theirs is given back."""
    keys = ingress.datapath.view("stream_index")["keys"].reshape(-1)
    index = StreamIndex(keys.tolist())
    _, second = index.buckets(stream_key(publisher.index, STREAM))
    keys[:] = stream_key(99, 1)
    assert ingress.frames(publisher, BEGIN).counted[Reason.A_NO_STREAM_SLOT] == 1
    keys[second[3]] = 0
    other = next(
        number
        for number in range(STREAM + 4, 1 << 20, 4)
        if second in index.buckets(stream_key(publisher.index, number))
    )
    (intent,) = ingress.frames(publisher, stream_frame(other, HEAD)).intents
    assert intent["frames"][0]["stream"] % layout.STREAMS == second[3]
    ingress.frames(publisher, stream_frame(other + 4, HEAD))


@provokes(Reason.A_BUSY)
def another_cpu_has_not_left_the_row_yet(ingress: Ingress, publisher: Peer) -> None:
    """It looks for the stream that had the row before. Nothing stays claimed."""
    ingress.datapath.view("streams")["busy"] = 1
    assert ingress.frames(publisher, BEGIN).counted == {Reason.A_BUSY: 1}
    assert not ingress.datapath.view("stream_index")["keys"].any()


@provokes(Reason.A_STREAM_USER)
def the_row_is_another_streams_meanwhile(ingress: Ingress, publisher: Peer) -> None:
    """As for a program that has found the key before the relay gave the row back."""
    ingress.frames(publisher, BEGIN)
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    stream["stream_id"] += 4
    more = stream_frame(STREAM, b"more", len(HEAD))
    assert ingress.frames(publisher, more).counted[Reason.A_STREAM_USER] == 1
    stream["stream_id"] -= 4
    stream["connection"] += 1
    assert ingress.frames(publisher, more).counted[Reason.A_STREAM_USER] == 1
    stream["connection"] -= 1
    assert ingress.frames(publisher, more).intents["frame_count"].tolist() == [1]
    stream["state"] = StreamState.USER
    ingress.frames(publisher, more)


@provokes(Reason.A_STREAM_ID)
def stream_id_beyond_the_index(ingress: Ingress, publisher: Peer) -> None:
    """It does not begin, and takes nothing from those below."""
    ingress.frames(publisher, stream_frame(1 << layout.STREAM_ID_BITS | STREAM, HEAD))
    last = (1 << layout.STREAM_ID_BITS) - 2
    assert ingress.datapath.view("connections")[0]["rx_stream_next"] == 0
    (intent,) = ingress.frames(publisher, stream_frame(last, HEAD)).intents
    assert intent["frames"][0]["stream_id"] == last
    ingress.frames(publisher, stream_frame(1 << 61 | STREAM, HEAD))


@provokes(Reason.A_RING_FULL)
def ring_full(ingress: Ingress, publisher: Peer) -> None:
    shared = ingress.datapath.view("shared")[0]
    before = int(shared["slot_next"])
    with ingress.datapath.full("intents"):
        ingress.datapath.run("server_ingress", publisher.packet(DATAGRAM))
    assert shared["slot_next"] == before
    assert not ingress.datapath.captured()


@provokes(Reason.A_TOO_MANY_FRAMES)
def more_media_than_is_taken(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, *[DATAGRAM] * (layout.FRAMES + 1))


@provokes(Reason.A_FAILED)
def stage_missing(ingress: Ingress, publisher: Peer) -> None:
    number = pack("<I", Stage.A_OPEN)
    ingress.datapath.delete("programs", number)
    try:
        ingress.frames(publisher, DATAGRAM)
    finally:
        stage = pack("<I", ingress.datapath.programs["a_open"])
        ingress.datapath.update("programs", number, stage)


@provokes(Reason.A_FORWARDED)
def forwarded(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_FRAMES)
def frames(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_CLONES)
def clones(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_CLONE_FAILED)
def device_down(ingress: Ingress, publisher: Peer) -> None:
    with ingress.datapath.device_down():
        ingress.datapath.run("server_ingress", publisher.packet(BEGIN))


@provokes(Reason.C_LONG_INITIAL)
def initial(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\xc3\0\0\0\1" + bytes(1200)))


@provokes(Reason.C_LONG_INITIAL)
def initial_of_version_2(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\xd3\x6b\x33\x43\xcf" + bytes(1200)))


@provokes(Reason.C_LONG_INITIAL)
def any_packet_of_another_version(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\xf3\x0a\x0a\x0a\x0a" + bytes(1200)))


@provokes(Reason.C_LONG_OTHER)
def version_negotiation(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\xc3\0\0\0\0" + bytes(1200)))


@provokes(Reason.C_LONG_OTHER)
def handshake(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\xe3\0\0\0\1" + bytes(1200)))


@provokes(Reason.C_SHORT_KNOWN)
def short_header(ingress: Ingress, publisher: Peer) -> None:
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.C_SHORT_UNKNOWN)
def short_header_of_nobody(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\x40" + bytes(100)))


SILENT = {
    Reason.A_FORWARDED,
    Reason.A_FRAMES,
    Reason.A_CLONES,
    Reason.A_CLONE_FAILED,
    Reason.A_TOO_MANY_FRAMES,
    Reason.C_SHORT_KNOWN,
}
"""Where something of the packet was forwarded, or may have been."""


@pytest.mark.parametrize(
    ("reason", "provoke"),
    [pytest.param(reason, run, id=f"{reason.name}-{name}") for reason, name, run in PROVOCATIONS],
)
def test_reason(ingress: Ingress, reason: Reason, provoke: Provoke) -> None:
    publisher, _ = ingress.scenario.simple(2)
    provoke(ingress, publisher)
    counted = ingress.datapath.counters()
    assert counted.get(reason, 0) >= 1, counted
    seen = ingress.seen_last
    assert seen is None or reason in SILENT or not any(seen.intents["frame_count"])
    assert not ingress.datapath.view("streams")["busy"].any() or reason is Reason.A_BUSY


def test_any_number_of_segments(scenario: Scenario, wire: Wire) -> None:
    """More than tail calls reach: clones of the super-packet go on, and do not get to the pod."""
    publisher, _ = scenario.simple(1)
    sender = wire.socket(publisher.path)
    sent = [publisher.datagram(DATAGRAM) for _ in range(100)]
    captured = wire.send(sender, sent)
    intents = scenario.datapath.intents()
    assert list(intents["packet_number"]) == list(range(100))
    counted = scenario.datapath.counters()
    assert counted[Reason.A_FORWARDED] == 100
    assert Reason.A_TOO_MANY_SEGMENTS not in counted
    assert sum(not each.mark for each in captured) == 1


def test_too_many_segments(ingress: Ingress) -> None:
    """Where no clone can be made of a super-packet, the rest of it is user space's."""
    publisher, _ = ingress.scenario.simple(1)
    sent = [publisher.datagram(DATAGRAM) for _ in range(40)]
    packet = packets.packet(publisher.path, b"".join(sent))
    seen = ingress.packet(packet, gso_size=len(sent[0]))
    assert seen.counted[Reason.A_TOO_MANY_SEGMENTS] == 1
    assert 8 <= len(seen.intents) < 40
    assert list(seen.intents["packet_number"]) == list(range(len(seen.intents)))


def test_every_reason_has_a_test(family: int) -> None:
    tested = {reason for reason, _, _ in PROVOCATIONS} | {Reason.A_TOO_MANY_SEGMENTS}
    others = ("B_", "C_QUOTA_", "A_ACK")
    ours = {reason for reason in Reason if not reason.name.startswith(others)}
    assert tested == ours
