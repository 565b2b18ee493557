"""Program B's packets on a real network device, read off the wire behind it.

Clones are made of packets as they come from another pod (checksum left to the device, or to be
cut into segments by it) and from the network (checksum there). At the host's end of the pod's
device they are routed on to a client's; at the pod's end they leave by the device itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

from bpf.egress import Egress, Media, checksum_valid, clone_packet, sealed, sent_stream, wire
from bpf.harness import DEVICE, Datapath
from bpf.packets import HOST_MAC
from bpf.scenario import Peer, Scenario
from fastrelay.agent.hooks import Direction, End

DATA = bytes(range(256)) * 6
CLONER = Path(__file__).with_name("cloner.c")
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
    """A way into a device, and what leaves by the same or by another one."""

    MODES: ClassVar = ("whole", "partial", "segments")

    def __init__(self, leaves: str, mac: bytes) -> None:
        """``leaves``: the device to listen at, for packets to ``mac``."""
        self._mac = mac
        self._in = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._in.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._in.bind(("pod0", 0))
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._out.bind((leaves, ETH_P_ALL))
        self._out.settimeout(60)

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
        """The next packet, from Ethernet on."""
        while True:
            packet = self._out.recv(65536)
            if packet[:6] == self._mac:
                return packet


@contextmanager
def _no_checksums_by(device: str) -> Iterator[None]:
    _checksums(device, 0)
    try:
        yield
    finally:
        _checksums(device, 1)


def _checksums(device: str, value: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        content = ctypes.create_string_buffer(struct.pack("<II", ETHTOOL_STXCSUM, value))
        request = struct.pack("16sQ16x", device.encode(), ctypes.addressof(content))
        fcntl.ioctl(control, SIOCETHTOOL, request)


@pytest.fixture(scope="class")
def host_end(datapath: Datapath) -> Iterator[Wire]:
    """The host's routes to a client; its device leaves no checksum to the hardware."""
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
    for line in SETUP.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True, stdin=subprocess.DEVNULL)
    datapath.load("client_egress.c")
    datapath.load(CLONER)
    made = Wire("out1", bytes.fromhex(CLIENT_MAC.replace(":", "")))
    with (
        _no_checksums_by("out0"),
        datapath.attached("cloner", "client_egress", capture=False),
    ):
        yield made
    made.close()
    subprocess.run(["ip", "link", "delete", "out0"], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="class")
def pod_end(datapath: Datapath) -> Iterator[Wire]:
    datapath.load("client_egress.c", end=End.POD)
    datapath.load(CLONER, end=End.POD)
    made = Wire("pod0", HOST_MAC)
    with (
        _no_checksums_by(DEVICE),
        datapath.attached("cloner", capture=False),
        datapath.attached("client_egress", direction=Direction.EGRESS, capture=False),
    ):
        yield made
    made.close()


def ways(*sizes: int) -> pytest.MarkDecorator:
    """All of them, with copies of these sizes. Packet sockets before Linux 6.2 take no packets
    with segments left to do, so those are not for other kernels."""
    return pytest.mark.parametrize(
        ("size", "mode", "upstream", "family"),
        [
            pytest.param(*way, marks=pytest.mark.kernels if way[:2] in ON_OTHER_KERNELS else ())
            for way in product(sizes, Wire.MODES, (4, 6), (4, 6))
        ],
    )


ON_OTHER_KERNELS = ((1000, "whole"), (1000, "partial"))


def copy(scenario: Scenario, wire: Wire, mode: str, upstream: int, peer: Peer, size: int) -> bytes:
    """The packet that a clone of a packet of 1200 bytes has become."""
    egress = Egress(scenario)
    egress.members(peer)
    egress.stream()
    sequence = egress.slot(Media(DATA[:size]))
    egress.datapath.probe[:4] = struct.pack("<I", sequence)
    wire.send(clone_packet(upstream, 1200), mode)
    return wire.received()


def expected(peer: Peer, size: int) -> bytes:
    return wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:size])]))


class TestHostEnd:
    @ways(1, 400, 1000, 1180, 1420)
    def test_routed(
        self, scenario: Scenario, host_end: Wire, mode: str, upstream: int, family: int, size: int
    ) -> None:
        peer = scenario.connect(1, family=family)
        packet = copy(scenario, host_end, mode, upstream, peer, size)
        _same_after_a_hop(packet, expected(peer, size), family)
        assert checksum_valid(peer.path.reverse(), packet[34 if family == 4 else 54 :])


class TestPodEnd:
    @ways(1, 1000, 1420)
    def test_sent(
        self, scenario: Scenario, pod_end: Wire, mode: str, upstream: int, family: int, size: int
    ) -> None:
        peer = scenario.connect(1, family=family)
        assert copy(scenario, pod_end, mode, upstream, peer, size) == expected(peer, size)


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
