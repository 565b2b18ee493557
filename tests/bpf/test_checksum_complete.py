"""Clones of packets whose sum the stack keeps (CHECKSUM_COMPLETE), as network cards give them, and
tunnels: whatever program B writes, no sum is kept of it, or the right one.

A wrong sum would cost the stack a second look at every packet, and a line in the kernel's log.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path as File

import numpy as np
import pytest

from bpf.egress import DATA, HEADER_AND_TAG, Egress, Media, clone_packet, sealed, sent_stream, wire
from bpf.harness import DEVICE, Datapath
from bpf.packets import Path, checksum, udp
from bpf.scenario import Peer
from fastrelay.agent.hooks import Direction

HERE = File(__file__).parent
NEAR, FAR = "10.99.0.1", "10.99.0.2"
TUNNEL = "tunnel0"
SETUP = f"""
link set lo up
address add {NEAR}/32 dev lo
address add {FAR}/32 dev lo
link add {TUNNEL} type vxlan id 5 local {NEAR} dstport 4789 dev lo
link set {TUNNEL} addrgenmode none up
"""
VXLAN = struct.pack("!II", 1 << 27, 5 << 8)
ETHERNET = 14
SIZE = 1000
"""UDP payload of the packet."""
SAME_SIZE = SIZE - HEADER_AND_TAG - 4
"""Data of a STREAM frame whose packet is as large."""
NOT_KEPT = -524 & 0xFFFFFFFF
"""ENOTSUPP, of bpf_csum_update."""


class Tunnel:
    """Packets that come out of it go to the pod, with their sums."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._far = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        self._far.bind((FAR, 0))

    def close(self) -> None:
        self._far.close()

    def send(self, packet: bytes, sequence: int) -> tuple[bytes, int, int]:
        """What program B made of its clone, for this slot; the sum that was kept of the packet
        before, and of the clone's packet."""
        self._datapath.probe[:16] = struct.pack(
            "<4I", sequence, NOT_KEPT, NOT_KEPT, socket.if_nametoindex(DEVICE)
        )
        # With its checksum, which is looked at where the tunnel ends: that is when a sum is kept.
        self._far.sendto(udp(Path(FAR, NEAR, 4789, 4789), VXLAN + packet), (NEAR, 0))
        (made,) = self._datapath.captured()
        came, left = struct.unpack("<II", self._datapath.probe[4:12])
        return made.data, came, left


@pytest.fixture(scope="module")
def tunnel(datapath: Datapath, program_b: None) -> Iterator[Tunnel]:
    for line in SETUP.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True, stdin=subprocess.DEVNULL)
    for name in ("cloner.c", "complete.c"):
        datapath.load(HERE / name)
    made = Tunnel(datapath)
    with (
        datapath.attached("redirecting", device=TUNNEL, capture=False),
        datapath.attached("cloner", direction=Direction.EGRESS, capture=False),
        datapath.attached("client_egress", "left"),
    ):
        yield made
    made.close()
    subprocess.run(["ip", "link", "delete", TUNNEL], check=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("link", [bytes(12), bytes.fromhex("02aabbccddee021122334455")])
@pytest.mark.parametrize(("upstream", "family"), list(product((4, 6), repeat=2)))
@pytest.mark.parametrize("length", [1, SAME_SIZE - 1, SAME_SIZE, SAME_SIZE + 1, 1400])
def test_sum_stays_right(
    egress: Egress, peer: Peer, tunnel: Tunnel, upstream: int, length: int, link: bytes
) -> None:
    egress.connection(peer)["link"] = np.frombuffer(link, "u1")
    sequence = egress.slot(Media(DATA[:length]))
    packet, came, left = tunnel.send(clone_packet(upstream, SIZE), sequence)
    expected = wire(peer.path, sealed(peer, 0, [sent_stream(3, DATA[:length])]))
    assert packet == (link + expected[12:] if any(link) else expected)
    assert came != NOT_KEPT
    assert left == NOT_KEPT or folded(left) == folded_of(packet[ETHERNET:])


def folded(total: int) -> int:
    """A kept sum, as the checksum that it stands for; 0 and its negative are the same."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total % 0xFFFF


def folded_of(data: bytes) -> int:
    """The kernel sums words as they lie in memory."""
    ours = checksum(data) ^ 0xFFFF
    return ((ours & 0xFF) << 8 | ours >> 8) % 0xFFFF
