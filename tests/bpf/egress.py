"""Program B on a scenario: slots as program A leaves them, clones of them, packets that come out.

What a packet has to look like is made here from RFC 9000, 9001, 768, 791 and 8200, with
``cryptography``; tests compare every byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpf import packets
from bpf.harness import Datapath, Result
from bpf.packets import Path
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import (
    CLONE_MAGIC,
    CLONE_MARK,
    FrameKind,
    LegState,
    Outcome,
    StreamState,
)

KERNEL, USER, CLOSED = LegState.KERNEL, LegState.USER, LegState.CLOSED
DATA = bytes(range(256)) * 6
"""Media, of which tests take what they need."""
HEADER_AND_TAG = 1 + 8 + 2 + 16
"""Of a packet to a peer with 8 bytes of connection id, beside its frames."""


@dataclass(frozen=True)
class Media:
    """A frame of a slot. ``stream``: the upstream stream's sequence; 0: a datagram.

    ``cut``, ``keep_at``, ``keep_length``: of datagrams; those of streams are the stream's.
    """

    data: bytes
    stream: int = 1
    offset: int = 0
    ordinal: int = 0
    fin: bool = False
    cut: int = 0
    keep_at: int = 0
    keep_length: int = 0
    priority: int = 128


def sent_stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    """A STREAM frame as program B writes it: length always, in two bytes."""
    return packets.stream_frame(stream_id, data, offset, fin=fin, sizes=(None, None, 2))


def sent_datagram(data: bytes) -> bytes:
    return packets.datagram_frame(data, size=2)


def checksum_valid(path: Path, datagram: bytes) -> bool:
    """Of UDP; the field must not be 0 either."""
    length = struct.pack("!H", len(datagram))
    ends = packets.ip(path, b"")
    ends = ends[12:20] if path.family == 4 else ends[8:40]
    said = datagram[6:8]
    return said != b"\0\0" and packets.checksum(ends + b"\0\x11" + length + datagram) == 0


def wire(path: Path, payload: bytes) -> bytes:
    """From Ethernet to UDP, towards the peer; ``path``: the peer's, to the relay."""
    back = path.reverse()
    content = packets.udp(back, payload)
    network = bytearray(packets.ip(back, content, ttl=64, fragment=0x4000))
    if back.family == 4:
        network[4:6] = network[10:12] = bytes(2)
        network[10:12] = struct.pack("!H", packets.checksum(bytes(network[:20])))
    plain = packets.ethernet(bytes(network), back.family)
    return packets.HOST_MAC + packets.POD_MAC + plain[12:]


class Egress:
    """Slots in place of program A's, and clones for program B."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.datapath: Datapath = scenario.datapath
        self._sequence = int(self.datapath.view("shared")[0]["slot_next"])

    def members(self, *peers: Peer, **terms: Any) -> None:
        """Array 0 of track 0: a member for each, of the peer's index."""
        for peer in peers:
            self.scenario.member(peer.index, peer, 0, **terms)
        self.scenario.array(0, 0, [peer.index for peer in peers])

    def stream(
        self, sequence: int = 1, *, cut: int = 0, keep_at: int = 0, keep_length: int = 0
    ) -> None:
        entry = self.datapath.view("streams")[sequence % layout.STREAMS]
        entry["sequence"] = sequence
        entry["state"] = StreamState.LENT
        entry["cut"], entry["keep_at"], entry["keep_length"] = cut, keep_at, keep_length

    def slot(self, *frames: Media, members: int | None = None, sequence: int | None = None) -> int:
        """A packet's media for array 0; returns its sequence."""
        if sequence is None:
            sequence = self._sequence
        self._sequence = sequence + 1
        self.datapath.view("shared")[0]["slot_next"] = self._sequence
        entry = self.datapath.view("slots")[sequence % layout.SLOTS]
        generation = (sequence & 0xFFFFFFFF) << 32
        entry["done"] = generation
        entry["claims"][:] = generation
        entry["array"] = 0
        entry["members"] = self.datapath.view("arrays")[0]["count"] if members is None else members
        entry["frame_count"] = len(frames)
        at = 0
        for row, media in zip(entry["frames"], frames, strict=False):
            row["stream"], row["offset"], row["ordinal"] = media.stream, media.offset, media.ordinal
            row["at"], row["length"] = at, len(media.data)
            row["kind"] = FrameKind.STREAM if media.stream else FrameKind.DATAGRAM
            row["fin"], row["cut"] = media.fin, media.cut
            row["keep"] = media.keep_at << 4 | media.keep_length
            row["priority"] = media.priority
            entry["data"][at : at + len(media.data)] = np.frombuffer(media.data, "u1")
            at += len(media.data)
        entry["data_length"] = at
        entry["sequence"] = sequence
        return sequence

    def clone(
        self,
        sequence: int,
        position: int = 0,
        *,
        family: int | None = None,
        size: int = 1200,
        gso_size: int = 0,
        mark: int = CLONE_MARK,
        magic: int = CLONE_MAGIC,
    ) -> Result:
        """A clone of a publisher's packet with ``size`` bytes of UDP payload; ``family`` None:
        the scenario's."""
        packet = clone_packet(family or self.scenario.family, size)
        cb = (magic, sequence & 0xFFFFFFFF, position, 0x44444444, 0x55555555)
        return self.datapath.run("client_egress", packet, mark=mark, cb=cb, gso_size=gso_size)

    def leg(self, sequence: int = 1, position: int = 0) -> np.void:
        at = sequence % layout.STREAMS * layout.ARRAY_MEMBERS + position
        found: np.void = self.datapath.view("legs")[at]
        return found

    def lend(
        self,
        stream_id: int,
        *,
        sequence: int = 1,
        position: int = 0,
        highest: int = 0,
        limit: int = 1 << 60,
        state: LegState = KERNEL,
    ) -> None:
        """A leg that has begun."""
        leg = self.leg(sequence, position)
        leg["stream_id"], leg["highest"], leg["limit"] = stream_id, highest, limit
        leg["word"] = sequence << 8 | state

    def claims(self, sequence: int) -> set[int]:
        """Positions whose bit is set; all words have to be of the slot's generation."""
        words = self.datapath.view("slots")[sequence % layout.SLOTS]["claims"]
        assert {int(word) >> 32 for word in words} == {sequence & 0xFFFFFFFF}
        return {
            32 * index + bit
            for index, word in enumerate(words)
            for bit in range(32)
            if int(word) >> bit & 1
        }

    def done(self, sequence: int) -> int:
        word = int(self.datapath.view("slots")[sequence % layout.SLOTS]["done"])
        assert word >> 32 == sequence & 0xFFFFFFFF
        return word & 0xFFFFFFFF

    def report(self) -> tuple[int, Outcome, int, int, int, int]:
        """The one that came: sequence, outcome, position, connection, packet number, size."""
        (row,) = self.datapath.reports()
        return (
            int(row["sequence"]),
            Outcome(row["outcome"]),
            int(row["position"]),
            int(row["connection"]),
            int(row["packet_number"]),
            int(row["size"]),
        )

    def spent(self, peer: Peer) -> dict[str, int]:
        """All that a copy uses of its connection, and what must be 0 between copies."""
        entry = self.connection(peer)
        names = ("packet_number", "stream_number", "data_used", "bytes_sent", "busy")
        return {name: int(entry[name]) for name in names}

    def connection(self, peer: Peer) -> np.void:
        found: np.void = self.datapath.view("connections")[peer.index]
        return found

    def member(self, peer: Peer) -> np.void:
        found: np.void = self.datapath.view("members")[peer.index]
        return found


def clone_packet(family: int, size: int = 1200) -> bytes:
    if family == 4:
        path = Path("10.70.0.9", "10.80.1.2", 7777, 4443)
    else:
        path = Path("fd70::9", "fd80::2", 7777, 4443)
    return packets.packet(path, bytes(each * 7 & 0xFF for each in range(size)))


def sealed(peer: Peer, number: int, frames: Sequence[bytes], generation: int = 0) -> bytes:
    """The UDP payload that a peer has to get."""
    payload = b"".join(frames)
    return packets.protect(
        peer.from_relay, peer.dcid, number, payload.ljust(4, b"\0"), generation=generation
    )
