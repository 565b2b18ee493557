"""Every reason for which program A leaves a packet alone, and everything else that it counts."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import pytest

from bpf import packets
from bpf.harness import Datapath
from bpf.ingress import Ingress
from bpf.packets import (
    Path,
    datagram_frame,
    ethernet,
    ip,
    object_datagram,
    stream_frame,
    subgroup_header,
    udp,
)
from bpf.scenario import RELAY_IPV6, Peer, Scenario
from bpf.wire import Wire
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import ConnectionState, Reason, Stage, StreamState

pytestmark = pytest.mark.kernels

CHANNEL = 7
STREAM = 2
HEAD = subgroup_header(CHANNEL, 5)
BEGIN = stream_frame(STREAM, HEAD)
DATAGRAM = datagram_frame(object_datagram(CHANNEL, 1))

Provoke = Callable[[Ingress, Peer], None]
PROVOCATIONS: list[tuple[Reason, str, Provoke]] = []


def provokes(reason: Reason) -> Callable[[Provoke], Provoke]:
    """The function does to a scenario with one publisher and two members what is counted so."""

    def register(function: Provoke) -> Provoke:
        PROVOCATIONS.append((reason, function.__name__, function))
        return function

    return register


IPV6_PATH = Path("fd90::1", RELAY_IPV6, 20000, 4443)


@provokes(Reason.A_NOT_UDP)
def icmp(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(ethernet(ip(publisher.path, bytes(64), protocol=1)))


@provokes(Reason.A_NOT_UDP)
def icmpv6(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(ethernet(ip(IPV6_PATH, bytes(64), protocol=58), 6))


@provokes(Reason.A_NOT_UDP)
def arp(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(bytes(12) + b"\x08\x06" + bytes(46))


@provokes(Reason.A_NOT_UDP)
def udp_header_cut_short(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"")[:40])


@provokes(Reason.A_VLAN)
def vlan_tag(ingress: Ingress, publisher: Peer) -> None:
    content = ip(publisher.path, udp(publisher.path, publisher.datagram(DATAGRAM)))
    ingress.packet(ethernet(content, tags=(5,)))


@provokes(Reason.A_IP_OPTIONS)
def ipv4_options(ingress: Ingress, publisher: Peer) -> None:
    content = udp(publisher.path, publisher.datagram(DATAGRAM))
    ingress.packet(ethernet(ip(publisher.path, content, options=b"\x01\x01\x01\0")))


@provokes(Reason.A_IP_OPTIONS)
def ipv6_destination_options(ingress: Ingress, publisher: Peer) -> None:
    content = udp(IPV6_PATH, publisher.datagram(DATAGRAM))
    options = b"\x11\0\1\4\0\0\0\0"
    ingress.packet(ethernet(ip(IPV6_PATH, content, protocol=60, options=options), 6))


@provokes(Reason.A_FRAGMENT)
def first_fragment(ingress: Ingress, publisher: Peer) -> None:
    content = udp(publisher.path, publisher.datagram(DATAGRAM))
    ingress.packet(ethernet(ip(publisher.path, content, fragment=0x2000)))


@provokes(Reason.A_FRAGMENT)
def later_fragment(ingress: Ingress, publisher: Peer) -> None:
    content = udp(publisher.path, publisher.datagram(DATAGRAM))
    ingress.packet(ethernet(ip(publisher.path, content, fragment=185)))


@provokes(Reason.A_FRAGMENT)
def ipv6_fragment(ingress: Ingress, publisher: Peer) -> None:
    content = udp(IPV6_PATH, publisher.datagram(DATAGRAM))
    ingress.packet(ethernet(ip(IPV6_PATH, content, protocol=44, options=b"\x11\0\0\1\0\0\0\1"), 6))


@provokes(Reason.A_TRUNCATED)
def short_udp(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\x40" + bytes(7)))


@provokes(Reason.A_TRUNCATED)
def udp_length_beyond_the_packet(ingress: Ingress, publisher: Peer) -> None:
    datagram = publisher.datagram(DATAGRAM)
    content = udp(publisher.path, datagram, length=8 + len(datagram) + 1)
    ingress.packet(ethernet(ip(publisher.path, content)))


@provokes(Reason.A_TRUNCATED)
def udp_length_below_its_header(ingress: Ingress, publisher: Peer) -> None:
    content = udp(publisher.path, publisher.datagram(DATAGRAM), length=7)
    ingress.packet(ethernet(ip(publisher.path, content)))


@provokes(Reason.A_TRUNCATED)
def no_room_for_a_sample(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(publisher.path, b"\x40" + publisher.cid + bytes(19)))


@provokes(Reason.A_UNKNOWN_CONNECTION)
def unknown_connection(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.delete("routes", publisher.cid)
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_DISABLED)
def disabled(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("shared")[0]["enabled"] = 0
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_NOT_RECEIVING)
def not_receiving(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("connections")[0]["state"] = ConnectionState.SEND
    ingress.frames(publisher, DATAGRAM)


@provokes(Reason.A_WRONG_PATH)
def another_source_port(ingress: Ingress, publisher: Peer) -> None:
    path = Path(publisher.path.source, publisher.path.destination, 9, 4443)
    ingress.packet(packets.packet(path, publisher.datagram(DATAGRAM)))


@provokes(Reason.A_WRONG_PATH)
def another_source(ingress: Ingress, publisher: Peer) -> None:
    path = Path("10.90.9.9", publisher.path.destination, publisher.path.source_port, 4443)
    ingress.packet(packets.packet(path, publisher.datagram(DATAGRAM)))


@provokes(Reason.A_WRONG_PATH)
def another_destination(ingress: Ingress, publisher: Peer) -> None:
    path = Path(publisher.path.source, "10.80.1.9", publisher.path.source_port, 4443)
    ingress.packet(packets.packet(path, publisher.datagram(DATAGRAM)))


@provokes(Reason.A_WRONG_PATH)
def another_family(ingress: Ingress, publisher: Peer) -> None:
    ingress.packet(packets.packet(IPV6_PATH, publisher.datagram(DATAGRAM)))


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


@provokes(Reason.A_NO_SLOT)
def slots_exhausted(ingress: Ingress, publisher: Peer) -> None:
    shared = ingress.datapath.view("shared")[0]
    shared["slot_limit"] = shared["slot_next"]
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_NO_STREAM_SLOT)
def stream_slots_exhausted(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("streams")["state"] = StreamState.USER
    ingress.frames(publisher, BEGIN)


@provokes(Reason.A_RING_FULL)
def ring_full(ingress: Ingress, publisher: Peer) -> None:
    records = layout.INTENTS_BYTES // (8 + layout.INTENT.dtype.itemsize)
    ingress.datapath.view("shared")[0]["slot_limit"] = 1 << 40
    for _ in range(records):
        ingress.datapath.run("server_ingress", publisher.packet(DATAGRAM))
    assert ingress.datapath.counters()[Reason.A_FORWARDED] == records
    ingress.datapath.run("server_ingress", publisher.packet(DATAGRAM))
    assert ingress.datapath.counters()[Reason.A_FORWARDED] == records


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
    Reason.A_RING_FULL,
    Reason.A_TOO_MANY_FRAMES,
    Reason.C_SHORT_KNOWN,
}
"""Where something of the packet was forwarded, or may have been."""


@pytest.mark.parametrize(
    ("reason", "provoke"),
    [pytest.param(reason, run, id=f"{reason.name}-{name}") for reason, name, run in PROVOCATIONS],
)
def test_reason(
    scenario: Scenario, server_ingress: Datapath, reason: Reason, provoke: Provoke
) -> None:
    ingress = Ingress(scenario)
    publisher, _ = scenario.simple(2)
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


def test_too_many_segments(scenario: Scenario, server_ingress: Datapath) -> None:
    """Where no clone can be made of a super-packet, the rest of it is user space's."""
    ingress = Ingress(scenario)
    publisher, _ = scenario.simple(1)
    sent = [publisher.datagram(DATAGRAM) for _ in range(40)]
    packet = packets.packet(publisher.path, b"".join(sent))
    seen = ingress.packet(packet, gso_size=len(sent[0]))
    assert seen.counted[Reason.A_TOO_MANY_SEGMENTS] == 1
    assert 8 <= len(seen.intents) < 40
    assert list(seen.intents["packet_number"]) == list(range(len(seen.intents)))


def test_every_reason_has_a_test() -> None:
    tested = {reason for reason, _, _ in PROVOCATIONS} | {Reason.A_TOO_MANY_SEGMENTS}
    ours = {reason for reason in Reason if not reason.name.startswith("B_")}
    assert tested == ours
