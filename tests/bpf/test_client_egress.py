"""Program B: what becomes of a clone, byte by byte, and of everything that it uses."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from bpf.egress import (
    CLOSED,
    HEADER_AND_TAG,
    USER,
    Egress,
    Media,
    checksum_valid,
    clone_packet,
    sealed,
    sent_datagram,
    sent_stream,
    wire,
)
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Datapath
from bpf.packets import Path
from bpf.scenario import AMPLE, Peer, Scenario
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import (
    CLONE_MARK,
    ConnectionState,
    LegState,
    Outcome,
    Reason,
    Switch,
)

DATA = bytes(range(256)) * 6


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load("client_egress.c")


@pytest.fixture
def egress(scenario: Scenario) -> Egress:
    made = Egress(scenario)
    made.stream()
    return made


@pytest.fixture
def peer(egress: Egress) -> Peer:
    """A subscriber, at position 0 of array 0."""
    made = egress.scenario.connect(1)
    egress.members(made)
    return made


def spent(egress: Egress, peer: Peer) -> dict[str, int]:
    """All that a copy uses of its connection, and what must be 0 between copies."""
    entry = egress.connection(peer)
    names = ("packet_number", "stream_number", "data_used", "bytes_sent", "busy")
    return {name: int(entry[name]) for name in names}


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
    assert spent(egress, peer) == {
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
    assert spent(egress, peer)["data_used"] == egress.leg()["highest"] == 1400
    assert egress.member(peer)["streams"] == 1


def test_a_hole_costs_no_data_again(egress: Egress, peer: Peer) -> None:
    egress.lend(3, highest=1000)
    egress.connection(peer)["data_used"] = 1000
    sequence = egress.slot(Media(DATA[300:600], offset=300))
    frame = sent_stream(3, DATA[300:600], 300)
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))
    assert spent(egress, peer)["data_used"] == egress.leg()["highest"] == 1000


def test_a_datagram(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(Media(DATA[:900], stream=0))
    frame = sent_datagram(DATA[:900])
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))
    assert spent(egress, peer)["data_used"] == spent(egress, peer)["stream_number"] == 0


@pytest.mark.parametrize("length", range(40))
def test_short_packets(egress: Egress, peer: Peer, length: int) -> None:
    sequence = egress.slot(Media(DATA[:length], stream=0))
    frame = sent_datagram(DATA[:length])
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, [frame]))


@pytest.mark.parametrize(
    ("upstream", "family", "size"), list(product((4, 6), (4, 6), (60, 1128, 1129, 1400)))
)
@pytest.mark.parametrize("length", [1, 2, 1094, 1095, 1096, 1420])
def test_sizes_and_families(
    egress: Egress, upstream: int, family: int, size: int, length: int
) -> None:
    """``size``: of the clone's UDP payload, whose packet is of the family ``upstream``."""
    peer = egress.scenario.connect(1, family=family)
    egress.members(peer)
    result = egress.clone(egress.slot(Media(DATA[:length])), family=upstream, size=size)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:length])])
    assert result.data == wire(peer.path, payload)
    assert checksum_valid(peer.path.reverse(), result.data[34 if family == 4 else 54 :])


@pytest.mark.parametrize("family", [4, 6])
def test_a_clone_of_a_super_packet(egress: Egress, family: int) -> None:
    peer = egress.scenario.connect(1, family=family)
    egress.members(peer)
    result = egress.clone(egress.slot(Media(DATA[:1100])), size=3000, gso_size=1000)
    assert result.data == wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:1100])]))


@pytest.mark.parametrize("family", [4, 6])
def test_a_checksum_of_zero_is_written_as_all_ones(egress: Egress, family: int) -> None:
    peer = egress.scenario.connect(1, family=family)
    egress.members(peer)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:1100])])
    udp = wire(peer.path, payload)[34 if family == 4 else 54 :]
    port, said = struct.unpack("!2xH2xH", udp[:8])
    port += said
    port = (port & 0xFFFF) + (port >> 16)
    path = Path(peer.path.source, peer.path.destination, port, peer.path.destination_port)
    egress.connection(peer)["remote_port"] = socket.htons(port)
    result = egress.clone(egress.slot(Media(DATA[:1100])))
    assert result.data == wire(path, payload)
    at = 40 if family == 4 else 60
    assert result.data[at : at + 2] == b"\xff\xff"


@pytest.mark.parametrize("family", [4, 6])
def test_the_link_to_the_peer(egress: Egress, family: int) -> None:
    """Where it is known, that is where the packet goes, and not back to the publisher."""
    peer = egress.scenario.connect(1, family=family)
    egress.members(peer)
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
    assert spent(egress, peer)["data_used"] == 40 + 60
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
    before = spent(egress, peer)
    sequence = egress.slot(Media(DATA[:40], ordinal=4), Media(DATA[:40], stream=0, ordinal=8))
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_SKIPPED: 1}
    assert len(egress.datapath.reports()) == 0
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    assert spent(egress, peer) == before
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
    assert spent(egress, peer)["data_used"] == 60


@pytest.mark.parametrize("state", [USER, CLOSED])
@pytest.mark.parametrize("offset", [0, 500])
def test_a_leg_that_is_over(egress: Egress, peer: Peer, state: LegState, offset: int) -> None:
    egress.stream(1)
    egress.lend(7, sequence=1, highest=500, state=state)
    before = spent(egress, peer)
    sequence = egress.slot(Media(DATA[:40], offset=offset))
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_SKIPPED: 1}
    assert len(egress.datapath.reports()) == 0
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    assert spent(egress, peer) == before


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
    assert egress.leg()["highest"] == spent(egress, peer)["data_used"] == len(made) + 200


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
    rewritten = egress.scenario.connect(2, family=6, dcid_length=0, stream_number=9)
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


# A copy that is not sent: everything is given back, and told

Prepare = Callable[[Egress, Peer], None]


def _set(**fields: int) -> Prepare:
    def prepare(egress: Egress, peer: Peer) -> None:
        for name, value in fields.items():
            egress.connection(peer)[name] = value

    return prepare


def _leg(**terms: int) -> Prepare:
    return lambda egress, _: egress.lend(3, **terms)  # type: ignore[arg-type]


def _member_off(egress: Egress, peer: Peer) -> None:
    egress.member(peer)["state"] = Switch.OFF


def _cut_beyond_the_frame(egress: Egress, peer: Peer) -> None:
    egress.member(peer)["rewrite"] = 1
    egress.stream(cut=9)


def _another_stream(egress: Egress, _: Peer) -> None:
    egress.stream(1 + layout.STREAMS)


FRAME = 4
"""Bytes of a STREAM frame before its data, at offset 0."""
SIZE = HEADER_AND_TAG + FRAME + 1000
FIRST = Media(DATA[:1000])
LATER = Media(DATA[:1000], offset=500)
DATAGRAM = Media(DATA[:1000], stream=0)


@pytest.mark.parametrize(
    ("outcome", "prepare", "media"),
    [
        (Outcome.CONNECTION_OFF, _set(state=ConnectionState.OFF), FIRST),
        (Outcome.CONNECTION_OFF, _set(state=ConnectionState.RECEIVE), FIRST),
        (Outcome.MEMBER_OFF, _member_off, FIRST),
        (Outcome.NO_LEG, _set(), LATER),
        (Outcome.NO_LEG, _leg(sequence=1 + layout.STREAMS, highest=500), LATER),
        (Outcome.NO_LEG, _another_stream, FIRST),
        (Outcome.NO_STREAM, _set(stream_number=5, stream_number_limit=5), FIRST),
        (Outcome.NO_STREAM, _set(stream_number=6, stream_number_limit=5), FIRST),
        (Outcome.NO_STREAM_DATA, _set(stream_data_limit=999), FIRST),
        (Outcome.NO_STREAM_DATA, _leg(highest=500, limit=1499), LATER),
        (Outcome.NO_DATA, _set(data_used=100, data_limit=1099), FIRST),
        (Outcome.NO_DATA, _set(data_used=100, data_limit=50), FIRST),
        (Outcome.NO_WINDOW, _set(bytes_sent=10, bytes_limit=10 + SIZE - 1), FIRST),
        (Outcome.NO_WINDOW, _set(bytes_sent=10, bytes_limit=0), FIRST),
        (Outcome.TOO_LARGE, _set(packet_size_limit=SIZE - 1), FIRST),
        (Outcome.TOO_LARGE, _set(datagram_limit=1002), DATAGRAM),
        (Outcome.TOO_LARGE, _set(datagram_limit=0), DATAGRAM),
        (Outcome.TOO_LARGE, _set(packet_size_limit=9999), Media(DATA[:1430], stream=0)),
        (Outcome.NO_NUMBER, _set(packet_number=7, packet_number_limit=7), FIRST),
        (Outcome.NO_NUMBER, _set(packet_number=8, packet_number_limit=7), DATAGRAM),
        (Outcome.FAILED, _cut_beyond_the_frame, Media(DATA[:8])),
        (Outcome.FAILED, _cut_beyond_the_frame, Media(DATA[:8], offset=8)),
    ],
)
def test_outcomes(
    egress: Egress, peer: Peer, outcome: Outcome, prepare: Prepare, media: Media
) -> None:
    prepare(egress, peer)
    before, highest = spent(egress, peer), int(egress.leg()["highest"])
    sequence = egress.slot(media)
    assert egress.clone(sequence).action == TC_ACT_SHOT
    told = egress.report()
    assert told[:5] == (sequence, outcome, 0, 1, 0)
    assert egress.datapath.counters() == {Reason.B_OUTCOME + outcome: 1}
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    begun = int(egress.member(peer)["streams"])
    assert spent(egress, peer) == before | {"stream_number": before["stream_number"] + begun}
    assert int(egress.leg()["highest"]) == (0 if begun else highest)
    assert (egress.member(peer)["packets"], egress.member(peer)["bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("prepare", "media"),
    [
        (_set(stream_number=4, stream_number_limit=5), FIRST),
        (_set(stream_data_limit=1000), FIRST),
        (_set(data_used=100, data_limit=1100), FIRST),
        (_set(bytes_sent=10, bytes_limit=10 + SIZE), FIRST),
        (_set(packet_size_limit=SIZE), FIRST),
        (_set(datagram_limit=1003), DATAGRAM),
        (_set(packet_number=6, packet_number_limit=7), FIRST),
        (_set(packet_size_limit=9999), Media(DATA[: 1452 - HEADER_AND_TAG - 3], stream=0)),
    ],
)
def test_limits_may_be_reached(egress: Egress, peer: Peer, prepare: Prepare, media: Media) -> None:
    prepare(egress, peer)
    assert egress.clone(egress.slot(media)).action == TC_ACT_UNSPEC
    assert egress.report()[1] is Outcome.SENT


def test_a_leg_that_has_begun_stays(egress: Egress, peer: Peer) -> None:
    _set(bytes_limit=0)(egress, peer)
    egress.clone(egress.slot(FIRST))
    leg = egress.leg()
    assert (leg["word"], leg["stream_id"], leg["highest"]) == (1 << 8 | 1, 3, 0)
    _set(bytes_limit=AMPLE)(egress, peer)
    result = egress.clone(egress.slot(Media(DATA[1000:1100], offset=1000)))
    frame = sent_stream(3, DATA[1000:1100], 1000)
    assert result.data == wire(peer.path, sealed(peer, 0, [frame]))
    assert spent(egress, peer)["data_used"] == leg["highest"] == 1100


def test_all_frames_go_or_none(egress: Egress, peer: Peer) -> None:
    """The first two frames' credit is given back when the third finds none."""
    egress.stream(2)
    egress.stream(3)
    egress.lend(3, highest=10)
    egress.lend(7, sequence=2, highest=20)
    _set(data_used=30, data_limit=330)(egress, peer)
    sequence = egress.slot(
        Media(DATA[:100], offset=10),
        Media(DATA[:100], offset=110),
        Media(DATA[:50], offset=20, stream=2),
        Media(DATA[:51], offset=70, stream=2),
    )
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.report()[1] is Outcome.NO_DATA
    assert spent(egress, peer)["data_used"] == 30
    assert (egress.leg(1)["highest"], egress.leg(2)["highest"]) == (10, 20)


def test_a_stage_that_is_missing(egress: Egress, peer: Peer) -> None:
    for stage in (layout.Stage.B_BUILD, layout.Stage.B_SEAL, layout.Stage.B_OUTPUT):
        before = spent(egress, peer)
        key = struct.pack("<I", stage)
        egress.datapath.delete("programs", key)
        sequence = egress.slot(DATAGRAM)
        try:
            assert egress.clone(sequence).action == TC_ACT_SHOT
        finally:
            fd = egress.datapath.programs[stage.name.lower()]
            egress.datapath.update("programs", key, struct.pack("<I", fd))
        assert egress.report()[1] is Outcome.FAILED
        assert egress.done(sequence) == 1
        after = spent(egress, peer)
        after["packet_number"] = before["packet_number"]
        assert after == before
    assert egress.clone(egress.slot(DATAGRAM)).action == TC_ACT_UNSPEC


# Who is nobody's, or somebody else's


@pytest.mark.parametrize("mark", [0, 1, 0x0F570000, CLONE_MARK ^ 0x10000])
def test_packets_without_our_mark_pass(egress: Egress, peer: Peer, mark: int) -> None:
    result = egress.clone(egress.slot(FIRST), mark=mark)
    assert (result.action, result.data) == (TC_ACT_UNSPEC, clone_packet(4, 1200))
    assert result.mark == mark
    assert egress.datapath.counters() == {}


@pytest.mark.parametrize(
    ("sequence", "position", "magic"),
    [
        (1, 0, 0),
        (1, 0, layout.CLONE_MAGIC ^ 1),
        (2, 0, layout.CLONE_MAGIC),
        (3, 0, layout.CLONE_MAGIC),
        (1 << 31, 0, layout.CLONE_MAGIC),
        (1, layout.ARRAY_MEMBERS, layout.CLONE_MAGIC),
        (1, 0xFFFFFFFF, layout.CLONE_MAGIC),
    ],
)
def test_forged_clones_pass(
    egress: Egress, peer: Peer, sequence: int, position: int, magic: int
) -> None:
    assert egress.slot(FIRST) == 1
    result = egress.clone(sequence, position, magic=magic)
    assert (result.action, result.data) == (TC_ACT_UNSPEC, clone_packet(4, 1200))
    assert (result.mark, result.cb[:3]) == (CLONE_MARK, (magic, sequence, position))
    assert egress.datapath.counters() == {Reason.B_FORGED: 1}
    assert (egress.claims(1), egress.done(1)) == (set(), 0)
    assert len(egress.datapath.reports()) == 0


def test_a_clone_of_a_slot_that_is_in_use_again(egress: Egress, peer: Peer) -> None:
    egress.slot(FIRST, sequence=1)
    egress.slot(FIRST, sequence=1 + layout.SLOTS)
    assert egress.clone(1).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_STALE: 1}
    assert (egress.claims(1 + layout.SLOTS), egress.done(1 + layout.SLOTS)) == (set(), 0)


def test_a_claim_of_another_generation(egress: Egress, peer: Peer) -> None:
    """The slot is taken for another packet between two looks at it."""
    sequence = egress.slot(FIRST)
    slot = egress.datapath.view("slots")[sequence]
    slot["claims"][0] = (sequence + layout.SLOTS) << 32
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_STALE: 1}
    assert (slot["claims"][0], egress.done(sequence)) == ((sequence + layout.SLOTS) << 32, 0)


def test_a_position_that_the_slot_has_not(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    assert egress.clone(sequence, 1).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_STALE: 1}
    assert egress.claims(sequence) == set()


def test_a_copy_is_sent_once(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    assert egress.clone(sequence).action == TC_ACT_UNSPEC
    before = spent(egress, peer)
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters()[Reason.B_CLAIMED] == 1
    assert spent(egress, peer) == before
    assert (egress.done(sequence), len(egress.datapath.reports())) == (1, 1)


def test_the_relay_has_claimed_it(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    egress.datapath.view("slots")[sequence]["claims"] |= np.uint64(0xFFFFFFFF)
    before = spent(egress, peer)
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_CLAIMED: 1}
    assert spent(egress, peer) == before
    assert (egress.done(sequence), len(egress.datapath.reports())) == (0, 0)


def test_no_room_for_a_report(egress: Egress, peer: Peer) -> None:
    """Then nothing is claimed: who finds the claim free sends."""
    sequence = egress.slot(FIRST)
    before = spent(egress, peer)
    with egress.datapath.full("reports"):
        assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.datapath.counters() == {Reason.B_RING_FULL: 1}
    assert (egress.claims(sequence), egress.done(sequence)) == (set(), 0)
    assert spent(egress, peer) == before
    assert len(egress.datapath.reports()) == 0
    assert egress.clone(sequence).action == TC_ACT_UNSPEC
