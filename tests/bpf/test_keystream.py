"""Program B with keystreams that were made ahead: the same bytes, and none for another packet."""

from __future__ import annotations

import pytest

from bpf import keystreams
from bpf.egress import DATA, Egress, Media, sealed, sent_datagram, sent_stream, wire
from bpf.scenario import Peer
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD, Outcome, Reason

SENT = Reason.B_OUTCOME + Outcome.SENT


def ahead(egress: Egress, peer: Peer, number: int, generation: int = 0) -> None:
    """For this packet, with the keys of a generation."""
    keys = peer.from_relay.ring[generation]
    keystreams.write(egress.datapath, peer.index, number, keys, generation + 1)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 63, 340, 368, 369, 720, 1100, 1104, 1105, 1420])
def test_a_packet_is_the_same(egress: Egress, peer: Peer, length: int) -> None:
    ahead(egress, peer, 0)
    payload = sealed(peer, 0, [sent_datagram(DATA[:length])])
    assert egress.clone(egress.slot(Media(DATA[:length], stream=0))).data == wire(
        peer.path, payload
    )
    assert egress.datapath.counters() == {SENT: 1, Reason.B_AHEAD: 1}


@pytest.mark.parametrize("first", [0, 5, (1 << 16) - 3, (1 << 32) - 3, (1 << 39) + 1])
def test_each_number_has_its_own(egress: Egress, first: int) -> None:
    peer = egress.scenario.connect(2, packet_number=first)
    egress.members(peer)
    for number in range(first, first + KEYSTREAMS_AHEAD):
        ahead(egress, peer, number)
    for number in range(first, first + KEYSTREAMS_AHEAD + 2):
        frame = sent_datagram(DATA[:1000])
        sequence = egress.slot(Media(DATA[:1000], stream=0))
        assert egress.clone(sequence).data == wire(peer.path, sealed(peer, number, [frame]))
    counted = {SENT: KEYSTREAMS_AHEAD + 2, Reason.B_AHEAD: KEYSTREAMS_AHEAD}
    assert egress.datapath.counters() == counted


def test_connections_have_their_own(egress: Egress) -> None:
    peers = [egress.scenario.connect(index) for index in (1, 2)]
    egress.members(*peers)
    for peer in peers:
        ahead(egress, peer, 0)
    sequence = egress.slot(Media(DATA[:1000]))
    for position, peer in enumerate(peers):
        payload = sealed(peer, 0, [sent_stream(3, DATA[:1000])])
        assert egress.clone(sequence, position).data == wire(peer.path, payload)
    assert egress.datapath.counters()[Reason.B_AHEAD] == 2


@pytest.mark.parametrize(
    "number", [-1, 1, KEYSTREAMS_AHEAD, -KEYSTREAMS_AHEAD, 1 << 32, (1 << 64) - 101]
)
def test_another_packets_is_not_used(egress: Egress, number: int) -> None:
    """Wherever it lies: here at the place of the packet's own."""
    peer = egress.scenario.connect(1, packet_number=100)
    egress.members(peer)
    ahead(egress, peer, 100)
    row = keystreams.row_of(egress.datapath, peer.index, 100)
    row["number"] = (100 + number + 1) % (1 << 64)
    payload = sealed(peer, 100, [sent_stream(3, DATA[:1000])])
    assert egress.clone(egress.slot(Media(DATA[:1000]))).data == wire(peer.path, payload)
    assert egress.datapath.counters() == {SENT: 1}


def test_that_of_former_keys_is_not_used(egress: Egress, peer: Peer) -> None:
    ahead(egress, peer, 0)
    ahead(egress, peer, 1)
    egress.scenario.send_keys(peer, 1)
    ahead(egress, peer, 1, generation=1)
    for number in range(2):
        sequence = egress.slot(Media(DATA[:1000], stream=0))
        payload = sealed(peer, number, [sent_datagram(DATA[:1000])], generation=1)
        assert egress.clone(sequence).data == wire(peer.path, payload)
    assert egress.datapath.counters() == {SENT: 2, Reason.B_AHEAD: 1}


def test_none_is_used_without_encryption(egress: Egress) -> None:
    peer = egress.scenario.connect(1, plaintext=True)
    egress.members(peer)
    keystreams.write(egress.datapath, 1, 0, (bytes(32), bytes(12)), 1)
    payload = sealed(peer, 0, [sent_stream(3, DATA[:1000])])
    assert egress.clone(egress.slot(Media(DATA[:1000]))).data == wire(peer.path, payload)
    assert egress.datapath.counters() == {SENT: 1}
