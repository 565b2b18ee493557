"""Connections without packet protection: both programs, and all mixtures with protected ones."""

from __future__ import annotations

from itertools import product

import pytest

from bpf import packets
from bpf.egress import Egress, Media, sealed, sent_datagram, sent_stream, wire
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Datapath
from bpf.ingress import Ingress
from bpf.packets import datagram_frame, object_datagram, stream_frame, subgroup_header
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath.layout import CLONE_MAGIC, CLONE_MARK, Outcome, Reason

CHANNEL = 7
HEAD = subgroup_header(CHANNEL, 5)
STREAM = 2
DATA = bytes(range(256)) * 6
HEADER = 1 + 8 + 2


@pytest.fixture
def programs(server_ingress: Datapath, program_b: None) -> Datapath:
    return server_ingress


@pytest.fixture
def publisher(ingress: Ingress) -> Peer:
    return ingress.scenario.simple(1, plaintext=True)[0]


# The whole way


@pytest.mark.kernels
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("from_plain", "to_plain"), list(product([False, True], repeat=2)))
def test_mixtures(
    scenario: Scenario, programs: Datapath, *, from_plain: bool, to_plain: bool
) -> None:
    """What A makes of a packet of either kind, B gives to members of both kinds."""
    publisher = scenario.connect(0, plaintext=from_plain)
    kinds = [to_plain, not to_plain]
    sinks = [scenario.connect(1 + at, plaintext=kind) for at, kind in enumerate(kinds)]
    for sink in sinks:
        scenario.member(sink.index, sink, 0)
    scenario.array(0, 0, [sink.index for sink in sinks])
    scenario.track(0, 0, publisher, CHANNEL)
    data = HEAD + DATA[:1000]
    packet = publisher.packet(stream_frame(STREAM, data))
    assert (DATA[:1000] in packet) == from_plain
    programs.run("server_ingress", packet)
    (intent,) = programs.intents()
    for position, (sink, kind) in enumerate(zip(sinks, kinds, strict=True)):
        low = int(intent["sequence"]) & 0xFFFFFFFF
        clone = programs.run(
            "client_egress", packet, mark=CLONE_MARK, cb=(CLONE_MAGIC, low, position)
        )
        assert clone.action == TC_ACT_UNSPEC
        assert clone.data == wire(sink.path, sealed(sink, 0, [sent_stream(3, data)]))
        assert (DATA[:1000] in clone.data) == kind


# A


@pytest.mark.parametrize("number_length", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 3, 40, 1000])
def test_sizes(ingress: Ingress, publisher: Peer, length: int, number_length: int) -> None:
    """Also those that would be too small to be protected."""
    data = HEAD + DATA[:length]
    seen = ingress.frames(publisher, stream_frame(STREAM, data), number_length=number_length)
    assert ingress.data(seen.intents[0], 0) == data
    assert seen.counted[Reason.A_FORWARDED] == 1


def test_smallest_packets(ingress: Ingress, publisher: Peer) -> None:
    """Number and frames of 4 bytes together."""
    assert ingress.frames(publisher, b"\x01").counted == {Reason.A_NO_MEDIA: 1}
    datagram = publisher.datagram(b"\x01\x01")
    for size in range(len(datagram)):
        short = ingress.packet(packets.packet(publisher.path, datagram[:size]))
        assert short.counted == {Reason.A_TRUNCATED: 1}
    assert not ingress.datapath.intents().size


def test_datagrams(ingress: Ingress, publisher: Peer) -> None:
    data = object_datagram(CHANNEL, 3, 1, DATA[:500])
    seen = ingress.frames(publisher, datagram_frame(data))
    assert ingress.data(seen.intents[0], 0) == data


def test_numbers_near_the_largest(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1, plaintext=True, largest=0x12345)
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD), packet_number=0x19000)
    assert seen.intents[0]["packet_number"] == 0x19000
    again = ingress.frames(publisher, stream_frame(STREAM, HEAD), packet_number=0x19000)
    assert again.counted == {Reason.A_REPLAY: 1}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"generation": 1}, Reason.A_NO_KEY),
        ({"first_bits": 0x48}, Reason.A_RESERVED_BITS),
        ({"first_bits": 0x50}, Reason.A_RESERVED_BITS),
    ],
)
def test_odd_headers(
    ingress: Ingress, publisher: Peer, how: dict[str, int], reason: Reason
) -> None:
    """There is one key phase only; and user space ends a connection for reserved bits."""
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD), **how)
    assert seen.counted == {reason: 1}


def test_not_while_the_relay_changes_it(ingress: Ingress, publisher: Peer) -> None:
    ingress.datapath.view("connections")[publisher.index]["rx_keys"] = 0
    assert ingress.frames(publisher, stream_frame(STREAM, HEAD)).counted == {Reason.A_NO_KEY: 1}


def test_plaintext_is_not_taken_from_others(ingress: Ingress) -> None:
    """Who has not agreed to it cannot have it, nor somebody in his name."""
    publisher, _ = ingress.scenario.simple(1)
    forged = packets.protect(
        packets.make_keys(0, plaintext=True),
        publisher.cid,
        0,
        stream_frame(STREAM, HEAD + DATA[:99]),
    )
    seen = ingress.packet(packets.packet(publisher.path, forged))
    assert not seen.intents.size
    assert not seen.clones


def test_protected_packets_are_not_taken_as_media(ingress: Ingress, publisher: Peer) -> None:
    ingress.scenario.receive_keys(publisher, 0)
    protected = packets.protect(
        packets.make_keys(1), publisher.cid, 0, stream_frame(STREAM, HEAD + DATA[:99])
    )
    seen = ingress.packet(packets.packet(publisher.path, protected))
    assert not seen.intents.size


# B


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("dcid_length", [0, 1, 8, 20])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 511, 512, 1000, 1300])
def test_every_byte(egress: Egress, dcid_length: int, length: int) -> None:
    """Checksums of odd and even headers, of all kinds of text: no tag is behind it."""
    peer = egress.scenario.connect(1, dcid_length=dcid_length, plaintext=True)
    egress.members(peer)
    sequence = egress.slot(Media(DATA[:length], stream=0))
    result = egress.clone(sequence)
    payload = sealed(peer, 0, [sent_datagram(DATA[:length])])
    assert result.action == TC_ACT_UNSPEC
    assert result.data == wire(peer.path, payload)
    assert egress.report() == (sequence, Outcome.SENT, 0, 1, 0, len(payload))
    assert egress.connection(peer)["bytes_sent"] == len(payload)


def test_credit_is_without_tag(egress: Egress) -> None:
    """The largest packet has 16 bytes more room; one byte more is too much."""
    for index, beyond in enumerate((0, 1), 1):
        peer = egress.scenario.connect(index, plaintext=True, packet_size_limit=1200)
        egress.members(peer)
        length = 1200 - HEADER - 3 + beyond
        result = egress.clone(egress.slot(Media(DATA[:length], stream=0)))
        assert result.action == (TC_ACT_SHOT if beyond else TC_ACT_UNSPEC)
        assert egress.connection(peer)["bytes_sent"] == (0 if beyond else 1200)


def test_flag_is_the_only_difference(egress: Egress) -> None:
    """The same connection: nothing is plain unless the relay says so."""
    peer = egress.scenario.connect(1)
    egress.members(peer)
    assert egress.connection(peer)["plaintext"] == 0
    result = egress.clone(egress.slot(Media(DATA[:200], stream=0)))
    assert DATA[:200] not in result.data
    assert peer.opened(result.data[42:], 0).payload == sent_datagram(DATA[:200])
