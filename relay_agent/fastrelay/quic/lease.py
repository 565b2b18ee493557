"""What a connection shares with the kernel, as the engine sees it.

The engine stays the owner of the connection; a lease lets somebody else send on it too. Both
take packet numbers, stream numbers and connection-level flow control from the same counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from fastrelay.quic.ledger import Account


@dataclass(frozen=True, slots=True)
class PacketKeys:
    """AEAD_CHACHA20_POLY1305 (RFC 9001 section 5.3): 32, 12 bytes."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendState:
    """What a packet to the peer looks like. ``hp``: 32 bytes, the same for all phases."""

    dcid: bytes
    keys: PacketKeys
    hp: bytes = field(repr=False)
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

    ``phase_start``: the smallest packet number seen in the current phase; 2^62 - 1: none yet.
    """

    cids: tuple[bytes, ...]
    """Ours, 8 bytes each."""
    cid: bytes
    """The one that the peer uses."""
    hp: bytes = field(repr=False)
    phase: int
    current: PacketKeys
    following: PacketKeys | None
    previous: PacketKeys | None
    phase_start: int
    largest: int
    stream_next: int
    """1 + the largest number (id >> 2) of the peer's unidirectional streams that came."""


class Credit(NamedTuple):
    """What a connection may send, with :meth:`Engine.credit`. The first three are what a lease's
    counters start with; later ones count both sides."""

    next_packet_number: int
    next_stream_number: int
    data_used: int
    data_limit: int
    """MAX_DATA."""
    stream_number_limit: int
    """MAX_STREAMS for unidirectional streams."""
    congestion_window: int
    own_in_flight: int
    """Bytes in flight that are not the account's."""
    packet_size: int
    """As in :class:`SendState`."""


class Heard(NamedTuple):
    """Packets of the peer's that somebody else has read, with nothing but acknowledgements in them,
    which have settled rows of the account. Their numbers follow one another."""

    first_number: int
    last_number: int
    largest: int
    """Of ours, that was acknowledged."""
    delay: int
    """As it was encoded, in the packet that came first of those that acknowledged ``newest``."""
    time: float
    """When that one came."""
    size: int
    """Bytes of the rows."""
    oldest_sent: float
    newest: int
    """Of the rows; -1: there were none."""
    newest_sent: float


Row = tuple[int, int]
"""A packet of the kernel's, as its report names it: the low half of the slot's sequence, the
member's position in its array."""


class Lease(Protocol):
    """Given to an engine with :meth:`Engine.lend`; the engine calls all of this."""

    account: Account
    """The connection's rows in the ledger."""

    def take_packet_number(self) -> int:
        """The next 1-RTT packet number, of both sides."""

    def next_packet_number(self) -> int:
        """The one that would be taken now: neither side has sent it yet."""

    def take_stream_number(self) -> int:
        """The next unidirectional stream of ours (id >> 2); it may lie beyond MAX_STREAMS."""

    def next_stream_number(self) -> int:
        """The one that would be taken now: neither side has opened it yet."""

    def take_data(self, size: int) -> int:
        """Atomically takes at most so much of what MAX_DATA leaves of both sides' highest offsets,
        in bytes; returns what it got."""

    def give_data(self, size: int) -> None:
        """What was taken and not used; atomic."""

    def stream_limit(self, stream_id: int) -> int:
        """MAX_STREAM_DATA of a stream that the kernel began."""

    def drain(self) -> None:
        """Read what the kernel has reported: a packet was acknowledged that is not known."""

    def suspend(self) -> None:
        """Keys, connection id or path are about to change: when this returns, nothing that was
        sent with the present ones is unknown, and nothing more is sent. Nests. Not followed by
        :meth:`resume` when the connection is closed."""

    def resume(self) -> None:
        """They have changed: read :meth:`Engine.send_state` and :meth:`Engine.receive_state` anew.
        Either may be None now: the kernel may not send, or not read, until the next resume."""

    def credit_changed(self) -> None:
        """Read :meth:`Engine.credit` anew: MAX_DATA, MAX_STREAMS or the size that the path carries
        have changed."""

    def window_changed(self, room: int) -> None:
        """Rows were settled, or the congestion window changed: read ``account.bytes_gone`` and
        ``account.packet_number_limit`` anew. After every ACK.

        :param room: what the window leaves to the account's packets in flight, in bytes.
        """

    def let_acknowledgements(self, taken: bool) -> None:
        """Whether the kernel may take packets of the peer's in which there is nothing but an
        acknowledgement: it tells them later, with :meth:`Engine.take_acknowledgements`."""

    def catch_up(self) -> None:
        """Tell what was taken and not yet told, if there is such a thing."""

    def stream_limit_raised(self, stream_id: int, limit: int) -> None:
        """MAX_STREAM_DATA for a stream that the kernel began."""

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """A stream that the kernel began, and may still be sending on, has to end: STOP_SENDING,
        or bytes that were lost are gone from their source. Who adopted it resets it."""

    def packets_lost(self, rows: Sequence[Row]) -> None:
        """Packets of the kernel's are lost; streams in them have to be sent again."""


class Source(Protocol):
    """Where bytes of a stream that the kernel began are read from."""

    def read(self, start: int, stop: int) -> bytes | None:
        """Exactly these bytes of the stream, in its own offsets; None: they are gone, and the
        stream is reset (see :meth:`Lease.stream_stopped`)."""
