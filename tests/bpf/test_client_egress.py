"""Program B: what becomes of a clone, byte by byte, and of everything that it uses."""

from __future__ import annotations

import socket
import struct
import time
from itertools import product

import numpy as np
import pytest

from bpf.egress import (
    CLOSED,
    DATA,
    USER,
    Egress,
    Media,
    checksum_valid,
    sealed,
    sent_datagram,
    sent_stream,
    wire,
)
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC
from bpf.packets import Path
from bpf.scenario import AMPLE, Peer
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import (
    LegState,
    Outcome,
    Reason,
)

UDP_AT = {4: 34, 6: 54}
"""In a packet, by family."""

pytestmark = pytest.mark.parametrize("family", [4, 6])

# A copy that is sent


def test_a_streams_first_packet(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(Media(DATA[:1100]))
    result = egress.clone(sequence)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:1100])])
    assert result.action == TC_ACT_UNSPEC
    assert result.data == wire(peer.path, payload)
    assert (result.mark, result.cb) == (0, (0,) * 5)
    assert egress.report() == (sequence, Outcome.SENT, 0, 1, 0, len(payload))
    assert egress.datapath.counters() == {Reason.B_OUTCOME + Outcome.SENT: 1}
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    assert egress.spent(peer) == {
        "packet_number": 1,
        "stream_number": 1,
        "data_used": 1100,
        "bytes_sent": len(payload),
        "busy": 0,
    }
    leg = egress.leg()
    assert (leg["word"], leg["stream_id"], leg["highest"]) == (1 << 8 | 1, 3, 1100)
    assert leg["limit"] == AMPLE
    member = egress.member(peer)
    assert (member["packets"], member["bytes"], member["streams"]) == (1, len(payload), 1)


def test_report_has_the_time(egress: Egress, peer: Peer) -> None:
    before = time.monotonic_ns()
    egress.clone(egress.slot(Media(DATA[:100])))
    (report,) = egress.datapath.reports()
    assert before <= report["time"] <= time.monotonic_ns()


def test_a_stream_from_begin_to_end(egress: Egress, peer: Peer) -> None:
    parts = [(0, 700, False), (700, 1400, False), (1400, 1400, True)]
    for number, (start, stop, fin) in enumerate(parts):
        sequence = egress.slot(Media(DATA[start:stop], offset=start, fin=fin))
        frame = sent_stream(3, DATA[start:stop], start, fin)
        assert egress.clone(sequence).data == wire(peer.path, sealed(peer, number, [frame]))
    assert egress.spent(peer)["data_used"] == egress.leg()["highest"] == 1400
    assert egress.member(peer)["streams"] == 1


def test_a_hole_costs_no_data_again(egress: Egress, peer: Peer) -> None:
    egress.lend(3, highest=1000)
    egress.connection(peer)["data_used"] = 1000
    sequence = egress.slot(Media(DATA[300:600], offset=300))
    frame = sent_stream(3, DATA[300:600], 300)
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))
    assert egress.spent(peer)["data_used"] == egress.leg()["highest"] == 1000


def test_a_datagram(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(Media(DATA[:900], stream=0))
    frame = sent_datagram(DATA[:900])
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))
    assert egress.spent(peer)["data_used"] == egress.spent(peer)["stream_number"] == 0


@pytest.mark.parametrize("length", range(40))
def test_short_packets(egress: Egress, peer: Peer, length: int) -> None:
    sequence = egress.slot(Media(DATA[:length], stream=0))
    frame = sent_datagram(DATA[:length])
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))


@pytest.mark.parametrize(("upstream", "size"), list(product((4, 6), (60, 1128, 1129, 1400))))
@pytest.mark.parametrize("length", [1, 2, 1094, 1095, 1096, 1420])
def test_sizes_and_families(
    egress: Egress, peer: Peer, upstream: int, size: int, length: int
) -> None:
    """``size``: of the clone's UDP payload, whose packet is of the family ``upstream``."""
    result = egress.clone(egress.slot(Media(DATA[:length])), family=upstream, size=size)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:length])])
    assert result.data == wire(peer.path, payload)
    assert checksum_valid(peer.path.reverse(), result.data[UDP_AT[peer.path.family] :])


def test_a_clone_of_a_super_packet(egress: Egress, peer: Peer) -> None:
    result = egress.clone(egress.slot(Media(DATA[:1100])), size=3000, gso_size=1000)
    assert result.data == wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:1100])]))


def test_a_checksum_of_zero_is_written_as_all_ones(egress: Egress, peer: Peer) -> None:
    payload = sealed(peer, 0, [sent_stream(3, DATA[:1100])])
    at = UDP_AT[peer.path.family]
    udp = wire(peer.path, payload)[at:]
    port, said = struct.unpack("!2xH2xH", udp[:8])
    port += said
    port = (port & 0xFFFF) + (port >> 16)
    path = Path(peer.path.source, peer.path.destination, port, peer.path.destination_port)
    egress.connection(peer)["remote_port"] = socket.htons(port)
    result = egress.clone(egress.slot(Media(DATA[:1100])))
    assert result.data == wire(path, payload)
    assert result.data[at + 6 : at + 8] == b"\xff\xff"


def test_the_link_to_the_peer(egress: Egress, peer: Peer) -> None:
    """Where it is known, that is where the packet goes, and not back to the publisher."""
    link = bytes.fromhex("02aabbccddee021122334455")
    egress.connection(peer)["link"] = np.frombuffer(link, "u1")
    plain = wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:1100])]))
    assert egress.clone(egress.slot(Media(DATA[:1100]))).data == link + plain[12:]


@pytest.mark.parametrize("length", range(layout.MAX_PEER_CONNECTION_ID + 1))
def test_lengths_of_connection_ids(egress: Egress, length: int) -> None:
    peer = egress.scenario.connect(1, dcid_length=length)
    egress.connection(peer)["dcid"][length:] = 0xEE
    egress.members(peer)
    result = egress.clone(egress.slot(Media(DATA[:1001])))
    assert result.data == wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:1001])]))


@pytest.mark.parametrize("number", [0, 1, 63, 64, (1 << 14) - 1, 1 << 14, 1 << 30, 1 << 59])
@pytest.mark.parametrize("bits", [2, 3])
def test_stream_ids(egress: Egress, number: int, bits: int) -> None:
    peer = egress.scenario.connect(1, stream_number=number, stream_bits=bits)
    egress.connection(peer)["stream_number_limit"] = 1 << 60
    egress.members(peer)
    result = egress.clone(egress.slot(Media(DATA[:500])))
    frame = sent_stream(number << 2 | bits, DATA[:500])
    assert result.data == wire(peer.path, sealed(peer, 0, [frame]))
    assert egress.leg()["stream_id"] == number << 2 | bits


@pytest.mark.parametrize(
    "offset", [1, 63, 64, (1 << 14) - 1, 1 << 14, (1 << 30) - 1, 1 << 30, (1 << 40) - 500]
)
@pytest.mark.parametrize("stream_id", [3, 67, 1 << 20 | 3, 1 << 40 | 3])
def test_offsets(egress: Egress, peer: Peer, offset: int, stream_id: int) -> None:
    egress.lend(stream_id, highest=offset)
    result = egress.clone(egress.slot(Media(DATA[:500], offset=offset, fin=True)))
    frame = sent_stream(stream_id, DATA[:500], offset, fin=True)
    assert result.data == wire(peer.path, sealed(peer, 0, [frame]))
    assert egress.leg()["highest"] == offset + 500


@pytest.mark.parametrize("number", [0, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, 1 << 39])
def test_packet_numbers(egress: Egress, number: int) -> None:
    peer = egress.scenario.connect(1, packet_number=number)
    egress.members(peer)
    for each in (number, number + 1):
        sequence = egress.slot(Media(DATA[:100], stream=0))
        payload = sealed(peer, each, [sent_datagram(DATA[:100])])
        assert egress.clone(sequence).data == wire(peer.path, payload)
        assert egress.report() == (sequence, Outcome.SENT, 0, 1, each, len(payload))
        assert peer.opened(payload, each).packet_number == each


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_key_phases(egress: Egress, peer: Peer, generation: int) -> None:
    egress.scenario.send_keys(peer, generation)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:1000])], generation)
    assert egress.clone(egress.slot(Media(DATA[:1000]))).data == wire(peer.path, payload)
    assert peer.opened(payload, 0, generation).first == 0x41 | (generation & 1) << 2


# Several frames


def test_frames_of_several_streams_and_datagrams(egress: Egress, peer: Peer) -> None:
    egress.stream(2)
    egress.lend(7, highest=50)
    egress.connection(peer)["stream_number"] = 2
    sequence = egress.slot(
        Media(DATA[50:90], offset=50, fin=True),
        Media(DATA[:33], stream=2),
        Media(DATA[5:25], stream=0),
        Media(DATA[33:60], stream=2, offset=33),
        Media(b"", stream=0),
    )
    frames = [
        sent_stream(7, DATA[50:90], 50, fin=True),
        sent_stream(11, DATA[:33]),
        sent_datagram(DATA[5:25]),
        sent_stream(11, DATA[33:60], 33),
        sent_datagram(b""),
    ]
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, frames))
    assert egress.spent(peer)["data_used"] == 40 + 60
    assert len(egress.datapath.reports()) == 1


def test_as_many_frames_as_there_can_be(egress: Egress, peer: Peer) -> None:
    parts = [DATA[at * 150 : at * 150 + 150 - at] for at in range(layout.FRAMES)]
    for at in range(layout.FRAMES):
        egress.stream(1 + at)
    sequence = egress.slot(*(Media(part, stream=1 + at) for at, part in enumerate(parts)))
    frames = [sent_stream(at << 2 | 3, part) for at, part in enumerate(parts)]
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, frames))


def test_frames_that_are_not_for_the_member_are_left_out(egress: Egress) -> None:
    peer = egress.scenario.connect(1)
    egress.members(peer, ordinals=(5, 7))
    sequence = egress.slot(
        *(Media(DATA[at : at + 40], stream=0, ordinal=at) for at in (4, 5, 7, 8, 6, 1 << 63))
    )
    frames = [sent_datagram(DATA[at : at + 40]) for at in (5, 7, 6)]
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, frames))


def test_nothing_for_the_member(egress: Egress) -> None:
    peer = egress.scenario.connect(1)
    egress.members(peer, ordinals=(5, 7))
    before = egress.spent(peer)
    sequence = egress.slot(Media(DATA[:40], ordinal=4), Media(DATA[:40], stream=0, ordinal=8))
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_SKIPPED: 1}
    assert len(egress.datapath.reports()) == 0
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    assert egress.spent(peer) == before
    assert egress.leg()["word"] == 0


@pytest.mark.parametrize("state", [USER, CLOSED])
def test_a_leg_that_is_over_does_not_hold_up_the_next_stream(
    egress: Egress, peer: Peer, state: LegState
) -> None:
    """The end of one stream and the start of the next, in one packet."""
    egress.stream(1)
    egress.stream(2)
    egress.lend(7, sequence=1, highest=500, state=state)
    sequence = egress.slot(
        Media(DATA[:40], stream=1, offset=500, fin=True), Media(DATA[40:100], stream=2)
    )
    begun = sent_stream(3, DATA[40:100])
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [begun]))
    assert int(egress.leg(1)["highest"]) == 500
    assert egress.spent(peer)["data_used"] == 60


@pytest.mark.parametrize("state", [USER, CLOSED])
@pytest.mark.parametrize("offset", [0, 500])
def test_a_leg_that_is_over(egress: Egress, peer: Peer, state: LegState, offset: int) -> None:
    egress.stream(1)
    egress.lend(7, sequence=1, highest=500, state=state)
    before = egress.spent(peer)
    sequence = egress.slot(Media(DATA[:40], offset=offset))
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_SKIPPED: 1}
    assert len(egress.datapath.reports()) == 0
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    assert egress.spent(peer) == before


# Templates


@pytest.mark.parametrize("before", [b"", b"B", bytes(range(100, 116))])
@pytest.mark.parametrize("after", [b"", b"A", bytes(range(200, 216))])
@pytest.mark.parametrize(
    ("cut", "keep_at", "keep_length"), [(0, 0, 0), (5, 0, 0), (5, 2, 3), (24, 1, 16)]
)
def test_templates_of_streams(
    egress: Egress, before: bytes, after: bytes, cut: int, keep_at: int, keep_length: int
) -> None:
    peer = egress.scenario.connect(1)
    egress.members(peer, stream=(before, after))
    egress.stream(cut=cut, keep_at=keep_at, keep_length=keep_length)
    made = before + DATA[keep_at : keep_at + keep_length] + after + DATA[cut:300]
    first = egress.clone(egress.slot(Media(DATA[:300])))
    assert first.data == wire(peer.path, sealed(peer, 0, [sent_stream(3, made)]))
    later = egress.clone(egress.slot(Media(DATA[300:500], offset=300, fin=True)))
    frame = sent_stream(3, DATA[300:500], len(made), fin=True)
    assert later.data == wire(peer.path, sealed(peer, 1, [frame]))
    assert egress.leg()["highest"] == egress.spent(peer)["data_used"] == len(made) + 200


@pytest.mark.parametrize("before", [b"", b"B", bytes(range(100, 116))])
@pytest.mark.parametrize("after", [b"", bytes(range(200, 216))])
@pytest.mark.parametrize(
    ("cut", "keep_at", "keep_length"), [(0, 0, 0), (5, 2, 3), (17, 1, 15), (40, 0, 0)]
)
def test_templates_of_datagrams(
    egress: Egress, before: bytes, after: bytes, cut: int, keep_at: int, keep_length: int
) -> None:
    peer = egress.scenario.connect(1)
    egress.members(peer, datagram=(before, after))
    media = Media(DATA[:40], stream=0, cut=cut, keep_at=keep_at, keep_length=keep_length)
    made = before + DATA[keep_at : keep_at + keep_length] + after + DATA[cut:40]
    result = egress.clone(egress.slot(Media(DATA[:9], stream=0), media))
    plain = before + after + DATA[:9]
    frames = [sent_datagram(plain), sent_datagram(made)]
    assert result.data == wire(peer.path, sealed(peer, 0, frames))


def test_members_of_one_slot_differ(egress: Egress) -> None:
    plain = egress.scenario.connect(1)
    rewritten = egress.scenario.connect(
        2, family=10 - plain.path.family, dcid_length=0, stream_number=9
    )
    egress.members(plain, rewritten)
    egress.scenario.member(2, rewritten, 0, stream=(b"@T\x08", b"\x0c"))
    egress.stream(cut=4, keep_at=1, keep_length=2)
    sequence = egress.slot(Media(DATA[:1000]))
    made = b"@T\x08" + DATA[1:3] + b"\x0c" + DATA[4:1000]
    assert egress.clone(sequence, 1).data == wire(
        rewritten.path, sealed(rewritten, 0, [sent_stream(39, made)])
    )
    assert egress.clone(sequence, 0).data == wire(
        plain.path, sealed(plain, 0, [sent_stream(3, DATA[:1000])])
    )
    assert (egress.claims(sequence), egress.done(sequence)) == ({0, 1}, 2)
    assert egress.leg(1, 0)["highest"] == 1000
    assert egress.leg(1, 1)["highest"] == 1002


@pytest.mark.parametrize("position", [0, 31, 32, 63, 500, 1023])
def test_positions(egress: Egress, position: int) -> None:
    peer = egress.scenario.connect(900)
    egress.scenario.member(4000, peer, 0)
    egress.scenario.array(0, 0, [0] * position + [4000])
    sequence = egress.slot(Media(DATA[:100]))
    result = egress.clone(sequence, position)
    assert result.data == wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:100])]))
    assert (egress.claims(sequence), egress.done(sequence)) == ({position}, 1)
    assert egress.leg(1, position)["highest"] == 100
    assert egress.report()[1:4] == (Outcome.SENT, position, 900)


def test_sequences_are_used_beyond_32_bits(egress: Egress, peer: Peer) -> None:
    for sequence in ((1 << 32) - 1, 1 << 32, (7 << 32) + 5):
        egress.slot(Media(DATA[:50], stream=0), sequence=sequence)
        assert egress.clone(sequence).action == TC_ACT_UNSPEC
        assert egress.done(sequence) == 1
        assert egress.report()[0] == sequence & 0xFFFFFFFF
