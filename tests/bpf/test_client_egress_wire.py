"""Program B's packets through a real network stack: routed to another device, read off the wire.

Clones are made of packets as they come from another pod (checksum left to the device, or to be
cut into segments by it) and from the network (checksum there)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

from bpf.egress import Egress, Media, checksum_valid, clone_packet, sealed, sent_stream, wire
from bpf.harness import DEVICE, Datapath
from bpf.scenario import Scenario
from fastrelay.agent import programs
from fastrelay.agent.programs import AttachType, LinkFlags

DATA = bytes(range(256)) * 6
CLIENT_MAC = "02:00:00:00:00:0c"
ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, GSO_NONE, GSO_UDP_L4 = 1, 0, 5
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
SETUP = f"""
address add 10.80.1.1/24 dev {DEVICE}
address add fd80::1/64 dev {DEVICE} nodad
link add out0 type veth peer name out1
link set out0 up
link set out1 up
address add 10.91.0.1/24 dev out0
address add fd91::1/64 dev out0 nodad
route add 10.90.0.0/16 dev out0
route add fd90::/64 dev out0
neighbour replace 10.90.0.1 lladdr {CLIENT_MAC} dev out0
neighbour replace fd90::2 lladdr {CLIENT_MAC} dev out0
"""


class Wire:
    """A way into the host's end of the pod's device, and what leaves by the client's."""

    MODES: ClassVar = ("whole", "partial", "segments")

    def __init__(self) -> None:
        self._in = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._in.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._in.bind(("pod0", 0))
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._out.bind(("out1", ETH_P_ALL))
        self._out.settimeout(5)

    def close(self) -> None:
        self._in.close()
        self._out.close()

    def send(self, packet: bytes, mode: str) -> None:
        """As it comes with its checksum; with it left to do; with segments left to do."""
        network = 20 if packet[12:14] == b"\x08\x00" else 40
        header = bytes(10)
        if mode != "whole":
            kind, size = (GSO_UDP_L4, 400) if mode == "segments" else (GSO_NONE, 0)
            header = struct.pack(
                "<BBHHHH", NEEDS_CSUM, kind, 14 + network + 8, size, 14 + network, 6
            )
        self._in.send(header + packet)

    def received(self) -> bytes:
        """The next packet to the client, from Ethernet on."""
        while True:
            packet = self._out.recv(65536)
            if packet[:6] == bytes.fromhex(CLIENT_MAC.replace(":", "")):
                return packet


@pytest.fixture(scope="module")
def network(datapath: Datapath) -> Iterator[Wire]:
    """The host's routes; the device to the client leaves no checksum to the hardware."""
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
    for line in SETUP.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True, stdin=subprocess.DEVNULL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        off = ctypes.create_string_buffer(struct.pack("<II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sQ16x", b"out0", ctypes.addressof(off))
        fcntl.ioctl(control, SIOCETHTOOL, request)
    datapath.load("client_egress.c")
    datapath.load(Path(__file__).with_name("cloner.c"))
    made = Wire()
    yield made
    made.close()
    subprocess.run(["ip", "link", "delete", "out0"], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def attached(datapath: Datapath, network: Wire) -> Iterator[Wire]:
    links = [
        programs.create_link(
            datapath.programs[name], datapath.ifindex, AttachType.TCX_INGRESS, LinkFlags.AFTER
        )
        for name in ("cloner", "client_egress")
    ]
    yield network
    for link in links:
        os.close(link)


@pytest.mark.parametrize("length", [1, 400, 1000, 1180, 1420])
@pytest.mark.parametrize(("mode", "upstream", "family"), list(product(Wire.MODES, (4, 6), (4, 6))))
def test_on_the_wire(
    scenario: Scenario, attached: Wire, mode: str, upstream: int, family: int, length: int
) -> None:
    egress = Egress(scenario)
    peer = scenario.connect(1, family=family)
    egress.members(peer)
    egress.stream()
    sequence = egress.slot(Media(DATA[:length]))
    egress.datapath.probe[:4] = struct.pack("<I", sequence)
    attached.send(clone_packet(upstream, 1200), mode)
    packet = attached.received()
    expected = wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:length])]))
    _same_after_a_hop(packet, expected, family)
    at = 34 if family == 4 else 54
    assert checksum_valid(peer.path.reverse(), packet[at:])


def _same_after_a_hop(packet: bytes, sent: bytes, family: int) -> None:
    """All but MACs, hop limit and IPv4's checksum."""
    if family == 4:
        assert packet[12:22] == sent[12:22]
        assert packet[22] == sent[22] - 1
        assert packet[23:24] + packet[26:] == sent[23:24] + sent[26:]
    else:
        assert packet[12:21] == sent[12:21]
        assert packet[21] == sent[21] - 1
        assert packet[22:] == sent[22:]
