"""Connections, tracks and members as the relay would write them into the maps, with the peers'
side of each connection: what it needs to make packets for the relay and to read those it gets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack
from typing import Any

import numpy as np

from bpf import packets
from bpf.harness import Datapath
from bpf.packets import Keys, Opened, Path
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import Shares
from fastrelay.fastpath.layout import ConnectionState, Switch, rx_word

RELAY_IPV4 = "10.80.1.2"
RELAY_IPV6 = "fd80::2"
RELAY_PORT = 4443
AMPLE = 1 << 40
"""Credit that no test uses up by accident."""
TRACK_PRIORITY = 77
"""Of what does not say its own."""


@dataclass(kw_only=True)
class Ends:
    """What both ends of a connection know.

    ``to_relay``, ``from_relay``: keys by direction; ``cid`` is what the peer writes into
    packets to the relay, ``dcid`` what the relay writes into packets to it.
    """

    to_relay: Keys
    from_relay: Keys
    cid: bytes
    dcid: bytes


@dataclass(kw_only=True)
class Peer(Ends):
    """The other end of a registered connection."""

    index: int
    path: Path
    next_number: int = 0
    generation: int = 0

    def packet(
        self,
        payload: bytes,
        packet_number: int | None = None,
        *,
        generation: int | None = None,
        number_length: int = 2,
        first_bits: int = 0x40,
    ) -> bytes:
        """To the relay, from Ethernet on; ``packet_number`` None: the next."""
        return packets.packet(
            self.path,
            self.datagram(
                payload,
                packet_number,
                generation=generation,
                number_length=number_length,
                first_bits=first_bits,
            ),
        )

    def datagram(
        self,
        payload: bytes,
        packet_number: int | None = None,
        *,
        generation: int | None = None,
        number_length: int = 2,
        first_bits: int = 0x40,
    ) -> bytes:
        """The same, the UDP payload alone."""
        number = self.next_number if packet_number is None else packet_number
        self.next_number = max(self.next_number, number + 1)
        padded = payload + bytes(max(0, 4 - len(payload) - number_length))
        return packets.protect(
            self.to_relay,
            self.cid,
            number,
            padded,
            generation=self.generation if generation is None else generation,
            number_length=number_length,
            first_bits=first_bits,
        )

    def opened(self, payload: bytes, expected: int, generation: int = 0) -> Opened:
        """A UDP payload that the relay sent to it.

        :raises cryptography.exceptions.InvalidTag: it is none.
        """
        assert payload[1 : 1 + len(self.dcid)] == self.dcid
        return packets.unprotect(
            self.from_relay, payload, len(self.dcid), expected, generation=generation
        )


def words(data: bytes) -> tuple[int, ...]:
    """As in a field of u32s."""
    return unpack(f"<{len(data) // 4}I", data)


def address_bytes(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """As in a field of 16 bytes."""
    return np.frombuffer(ipaddress.ip_address(text).packed.ljust(16, b"\0"), "u1")


def route_key(cid: bytes) -> int:
    """As in the table of routes."""
    return int.from_bytes(cid, "little")


def padded(data: bytes, room: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """As in a field of so many bytes."""
    return np.frombuffer(data.ljust(room, b"\0"), "u1")


Template = tuple[bytes, bytes]
"""What comes before and after the kept bytes of a head."""


def write_templates(entry: Any, stream: Template | None, datagram: Template | None) -> None:
    """Into a member's entry. None: heads stay as they are."""
    for template, name in ((stream, ""), (datagram, "datagram_")):
        before, after = template or (b"", b"")
        entry[f"{name}before"] = padded(before, layout.TEMPLATE_SIZE)
        entry[f"{name}after"] = padded(after, layout.TEMPLATE_SIZE)
        entry[f"{name}before_length"] = len(before)
        entry[f"{name}after_length"] = len(after)
        entry[f"{name}rewrite"] = template is not None


class Scenario:
    """Writes the maps. Starts with empty ones, enabled, with room for every slot."""

    def __init__(self, datapath: Datapath, family: int = 4) -> None:
        """``family``: of peers' addresses, where nothing else is said."""
        self.datapath = datapath
        self.family = family
        datapath.clear()
        shared = datapath.view("shared")[0]
        shared["enabled"] = Switch.ON
        shared["slot_next"] = 1
        shared["slot_limit"] = layout.SLOTS

    def connect(
        self,
        index: int,
        *,
        family: int | None = None,
        state: int = ConnectionState.SEND | ConnectionState.RECEIVE,
        dcid_length: int = 8,
        stream_bits: int = 3,
        variant: int = 1,
        prefix: bytes = b"",
        datagram_prefix: bytes = b"",
        packet_number: int = 0,
        stream_number: int = 0,
        largest: int = 0,
        packet_size_limit: int = 1452,
        datagram_limit: int = 65535,
        plaintext: bool = False,
        ends: Ends | None = None,
    ) -> Peer:
        """Register a connection with ample credit; tests lower what they are about. ``ends``:
        of a connection that was made elsewhere."""
        made = ends or Ends(
            to_relay=packets.make_keys(2 * index + 1, plaintext=plaintext),
            from_relay=packets.make_keys(2 * index + 2, plaintext=plaintext),
            cid=pack(">Q", 0xC1D0_0000_0000_0000 + index),
            dcid=bytes((0xD0 + index + at) & 0xFF for at in range(dcid_length)),
        )
        peer = Peer(index=index, path=_path(index, family or self.family), **vars(made))
        entry = self.datapath.view("connections")[index]
        entry["generation"] = 1
        entry["packet_number"] = packet_number
        entry["packet_number_limit"] = AMPLE
        entry["stream_number"] = stream_number
        entry["stream_number_limit"] = AMPLE
        entry["data_limit"] = AMPLE
        entry["stream_data_limit"] = AMPLE
        entry["bytes_limit"] = AMPLE
        entry["bands"]["ends"][: layout.BANDS] = Shares().ends
        entry["packet_size_limit"] = packet_size_limit
        entry["datagram_limit"] = datagram_limit
        entry["dcid"] = padded(peer.dcid, layout.MAX_PEER_CONNECTION_ID)
        entry["dcid_length"] = len(peer.dcid)
        entry["stream_bits"] = stream_bits
        entry["family"] = peer.path.family
        entry["local_address"] = address_bytes(peer.path.destination)
        entry["remote_address"] = address_bytes(peer.path.source)
        entry["local_port"] = socket.htons(peer.path.destination_port)
        entry["remote_port"] = socket.htons(peer.path.source_port)
        entry["hash"] = 0x1000 + index
        entry["tx_hp"] = words(peer.from_relay.hp)
        entry["rx_hp"] = words(peer.to_relay.hp)
        for at, (key, iv) in enumerate(peer.to_relay.ring[: len(entry["rx"])]):
            entry["rx"][at]["key"] = words(key)
            entry["rx"][at]["iv"] = words(iv)
        entry["rx_largest"] = largest
        self.receive_keys(peer, 0)
        self.send_keys(peer, 0)
        entry["variant"] = variant
        entry["plaintext"] = plaintext
        entry["prefix"] = padded(prefix, 16)
        entry["prefix_length"] = len(prefix)
        entry["datagram_prefix"] = padded(datagram_prefix, 16)
        entry["datagram_prefix_length"] = len(datagram_prefix)
        peer.next_number = largest + 1 if largest else 0
        assert self.datapath.table("routes").put(route_key(peer.cid), 1, index)
        entry["state"] = state
        return peer

    def receive_keys(self, peer: Peer, generation: int, phase_start: int = 0) -> None:
        """The key phase that the relay believes to be current: also the previous and the next."""
        entry = self.datapath.view("connections")[peer.index]
        previous = generation - 1 if generation else None
        entry["rx_phase_start"] = phase_start
        entry["rx_keys"] = rx_word(generation & 1, generation, generation + 1, previous)

    def send_keys(self, peer: Peer, generation: int) -> None:
        entry = self.datapath.view("connections")[peer.index]
        key, iv = peer.from_relay.ring[generation]
        entry["tx"]["key"] = words(key)
        entry["tx"]["iv"] = words(iv)
        entry["tx_version"] = generation + 1
        entry["tx_phase"] = generation & 1

    def track(
        self, index: int, array: int, publisher: Peer, channel: int, priority: int = TRACK_PRIORITY
    ) -> None:
        """A track, and the channel of its publisher's that leads to it."""
        entry = self.datapath.view("tracks")[index]
        entry["array"] = array
        entry["priority"] = priority
        entry["state"] = Switch.ON
        self.channel(publisher, channel, index)

    def channel(self, publisher: Peer, channel: int, track: int) -> None:
        table = self.datapath.table("channels")
        table.remove(channel, 1 + publisher.index)
        assert table.put(channel, 1 + publisher.index, track)

    def array(self, index: int, track: int, members: Sequence[int]) -> None:
        entry = self.datapath.view("arrays")[index]
        entry["count"] = len(members)
        entry["track"] = track
        entry["members"][: len(members)] = members

    def member(
        self,
        index: int,
        peer: Peer,
        track: int,
        *,
        ordinals: tuple[int, int] = (0, (1 << 64) - 1),
        stream: Template | None = None,
        datagram: Template | None = None,
        state: int = Switch.ON,
        priority: int = 128,
    ) -> None:
        """``stream``, ``datagram``: what comes before and after the bytes that are kept."""
        entry = self.datapath.view("members")[index]
        entry["connection"] = peer.index
        entry["track"] = track
        entry["first_ordinal"], entry["last_ordinal"] = ordinals
        write_templates(entry, stream, datagram)
        entry["priority"] = priority
        entry["state"] = state

    def simple(
        self, subscribers: int, channel: int = 7, **publisher: object
    ) -> tuple[Peer, list[Peer]]:
        """A publisher (connection 0) with one track (0, array 0) and so many subscribers
        (connections and members 1 and up, at positions 0 and up)."""
        source = self.connect(0, **publisher)  # type: ignore[arg-type]
        sinks = [self.connect(1 + at) for at in range(subscribers)]
        for sink in sinks:
            self.member(sink.index, sink, 0)
        self.array(0, 0, [sink.index for sink in sinks])
        self.track(0, 0, source, channel)
        return source, sinks


def _path(index: int, family: int) -> Path:
    if family == 4:
        return Path(f"10.90.{index >> 8}.{index & 255}", RELAY_IPV4, 20000 + index, RELAY_PORT)
    return Path(f"fd90::{index + 1:x}", RELAY_IPV6, 20000 + index, RELAY_PORT)
