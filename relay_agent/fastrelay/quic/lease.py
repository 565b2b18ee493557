"""What a connection shares with the kernel, as the engine sees it.

The engine stays the owner of the connection; a lease lets somebody else send on it too. Both
take packet numbers, stream numbers and connection-level flow control from the same counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fastrelay.quic.ledger import Account


@dataclass(frozen=True, slots=True)
class PacketKeys:
    """AEAD_CHACHA20_POLY1305 (RFC 9001 section 5.3): 32, 12 bytes."""

    key: bytes
    iv: bytes


@dataclass(frozen=True, slots=True)
class SendState:
    """What a packet to the peer looks like. ``hp``: 32 bytes, the same for all phases."""

    dcid: bytes
    keys: PacketKeys
    hp: bytes
    phase: int
    local: tuple[str, int]
    remote: tuple[str, int]
    packet_size: int
    """UDP payload that the path is known to carry."""
    datagram_limit: int
    """max_datagram_frame_size of the peer."""
    stream_bits: int
    """Low two bits of our unidirectional streams' ids."""
    stream_data_limit: int
    """initial_max_stream_data_uni of the peer."""


@dataclass(frozen=True, slots=True)
class ReceiveState:
    """What a packet of the peer's looks like.

    ``phase_start``: the smallest packet number seen in the current phase.
    """

    cids: tuple[bytes, ...]
    """Ours, 8 bytes each."""
    hp: bytes
    phase: int
    current: PacketKeys
    following: PacketKeys | None
    previous: PacketKeys | None
    phase_start: int
    largest: int


Row = tuple[int, int]
"""A packet of the kernel's, as its rows name it: the intent's sequence, the position in its array."""


class Lease(Protocol):
    """Given to an engine with :meth:`Engine.lend`; the engine calls all of this."""

    account: Account
    """The connection's rows in the ledger."""

    def take_packet_number(self) -> int:
        """The next 1-RTT packet number, of both sides."""

    def take_stream_number(self) -> int:
        """The next unidirectional stream of ours (id >> 2); it may lie beyond MAX_STREAMS."""

    def data_room(self) -> int:
        """What MAX_DATA leaves of both sides' highest offsets, in bytes; 0 or more."""

    def take_data(self, size: int) -> None:
        """A stream's highest offset has grown by so much."""

    def suspend(self) -> None:
        """Keys, connection id or path are about to change: when this returns, nothing that was
        sent with the present ones is unknown, and nothing more is sent. Nests."""

    def resume(self) -> None:
        """They have changed: read :meth:`Engine.send_state` and :meth:`Engine.receive_state` anew."""

    def credit_changed(self) -> None:
        """MAX_DATA, MAX_STREAMS, the congestion window or the bytes in flight have changed."""

    def stream_limit_raised(self, stream_id: int, limit: int) -> None:
        """MAX_STREAM_DATA for a stream that the engine has no object for."""

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """STOP_SENDING for a stream that the engine has no object for."""

    def packets_lost(self, rows: Sequence[Row]) -> None:
        """Packets of the kernel's are lost; streams in them have to be sent again."""

    def packets_acked(self, rows: Sequence[Row]) -> None:
        """Only called while the engine has adopted streams (:meth:`Engine.adopt`)."""


class Source(Protocol):
    """Where bytes of a stream that the kernel began are read from."""

    def read(self, start: int, stop: int) -> bytes | None:
        """Exactly these bytes of the stream, in its own offsets; None: they are gone."""
