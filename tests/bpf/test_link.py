"""Program A learns on which way a peer's packets come; program B sends copies back on it."""

from __future__ import annotations

import numpy as np
import pytest

from bpf.egress import Egress, Media, sealed, sent_stream, wire
from bpf.harness import TC_ACT_UNSPEC
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath.layout import ConnectionState

POD, BRIDGE, PEER = (bytes.fromhex(f"0211000000{last:02x}") for last in (1, 2, 3))
NOTHING = bytes(12)


pytestmark = [
    pytest.mark.usefixtures("program_a"),
    pytest.mark.parametrize("family", [4, 6]),
]


def come(scenario: Scenario, peer: Peer, source: bytes, **how: int) -> None:
    """A packet of the peer's to the relay."""
    packet = POD + source + peer.packet(b"\x01", **how)[12:]
    result = scenario.datapath.run("server_ingress", packet)
    assert (result.action, result.data) == (TC_ACT_UNSPEC, packet)


def link(scenario: Scenario, peer: Peer) -> bytes:
    return bytes(scenario.datapath.view("connections")[peer.index]["link"])


@pytest.mark.parametrize("state", [ConnectionState.SEND, 3])
def test_copies_go_where_packets_come_from(egress: Egress, state: int) -> None:
    scenario = egress.scenario
    peer = scenario.connect(1, state=state)
    egress.members(peer)
    for number, source in enumerate((BRIDGE, PEER)):
        come(scenario, peer, source)
        assert link(scenario, peer) == source + POD
        data = bytes(100)
        copy = egress.clone(egress.slot(Media(data, offset=100 * number))).data
        frame = sent_stream(3, data, 100 * number)
        assert copy == source + POD + wire(peer.path, sealed(peer, number, [frame]))[12:]


def test_packets_of_others_teach_nothing(scenario: Scenario) -> None:
    peer = scenario.connect(1, state=ConnectionState.SEND)
    entry = scenario.datapath.view("connections")[1]
    port = int(entry["remote_port"])
    entry["remote_port"] = port ^ 1
    come(scenario, peer, PEER)
    entry["remote_port"] = port
    entry["remote_address"] ^= np.uint8(1)
    come(scenario, peer, PEER)
    assert link(scenario, peer) == NOTHING


@pytest.mark.parametrize("state", [ConnectionState.OFF, ConnectionState.RECEIVE])
def test_a_connection_that_nothing_is_sent_to(scenario: Scenario, state: int) -> None:
    peer = scenario.connect(1, state=state)
    come(scenario, peer, PEER)
    assert link(scenario, peer) == NOTHING
