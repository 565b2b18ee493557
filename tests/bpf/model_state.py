"""What programs A and B work on, in plain Python: connections, tracks, members, streams, slots."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bpf.packets import Keys, Path
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import Bands, Shares
from fastrelay.fastpath.layout import LegState, StreamState
from streams import StreamIndex

U64 = 1 << 64


class Window:
    """Packet numbers that came: the newest 32 of each of :data:`layout.REPLAY_WORDS` places."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, set[int]]] = {}

    def look(self, number: int) -> str:
        """``"new"`` (which is remembered), ``"seen"`` or ``"old"``."""
        block = number // 32
        place = block % layout.REPLAY_WORDS
        held, seen = self._places.get(place, (0, set()))
        if block < held:
            return "old"
        if block > held:
            seen = set()
        if number in seen:
            return "seen"
        self._places[place] = (block, seen | {number})
        return "new"


@dataclass
class Connection:
    """``rx_current`` and so on: generations of the peer's keys; None: that one is not there."""

    index: int
    path: Path
    to_relay: Keys
    from_relay: Keys
    cid: bytes
    dcid: bytes
    send: bool = True
    receive: bool = True
    variant: int = 1
    stream_bits: int = 3
    prefix: bytes = b""
    datagram_prefix: bytes = b""
    hash: int = 0
    # receiving
    rx_set: bool = True
    rx_current: int = 0
    rx_following: int | None = 1
    rx_previous: int | None = None
    rx_phase_start: int = 0
    rx_largest: int = 0
    rx_stream_next: int = 0
    rx_prefixed: dict[int, int] = field(default_factory=dict)
    """Streams that showed their prefix alone, one for each number modulo ``PREFIXED``."""
    window: Window = field(default_factory=Window)
    # sending
    tx_generation: int = 0
    ahead: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Keystreams that were made ahead: packet number and generation of the keys, by place."""
    packet_number: int = 0
    packet_number_limit: int = 1 << 40
    stream_number: int = 0
    stream_number_limit: int = 1 << 40
    data_used: int = 0
    data_limit: int = 1 << 40
    stream_data_limit: int = 1 << 40
    bytes_sent: int = 0
    bytes_limit: int = 1 << 40
    packet_size_limit: int = layout.MAX_DATAGRAM
    datagram_limit: int = 65535
    bands: Bands = field(default_factory=lambda: Bands(Shares()))
    # acknowledgements
    lets: bool = False
    """Whether those to its id may end in the kernel."""
    ack_floor: int = 0
    ack_bytes: int = 1 << 40
    acks: int = 0
    acked: int = 0

    @property
    def plaintext(self) -> bool:
        """Packets either way have no protection."""
        return self.to_relay.plaintext


Template = tuple[bytes, bytes]
"""What comes before and after the bytes that are kept."""


@dataclass
class Member:
    index: int
    connection: int
    on: bool = True
    first_ordinal: int = 0
    last_ordinal: int = U64 - 1
    stream: Template | None = None
    datagram: Template | None = None
    priority: int = 128
    packets: int = 0
    bytes: int = 0
    streams: int = 0


@dataclass
class Track:
    index: int
    array: int
    on: bool = True
    priority: int = 128
    """Of what says none."""
    packets: int = 0
    bytes: int = 0


@dataclass
class Leg:
    state: LegState
    stream_id: int
    highest: int
    limit: int


@dataclass
class Stream:
    sequence: int
    connection: int
    stream_id: int
    track: int
    array: int
    ordinal: int
    cut: int
    keep_at: int
    keep_length: int
    priority: int
    state: StreamState = StreamState.LENT
    busy: bool = False
    next: int = 0
    gap: tuple[int, int] = (0, 0)
    final: int | None = None
    legs: dict[int, Leg] = field(default_factory=dict)
    """By position in the array."""


@dataclass(frozen=True)
class Frame:
    """A media frame of a slot. ``stream``: its sequence; 0: a datagram, whose place among the
    packet's datagrams is ``index``, and of which ``cut`` and so on are its own."""

    stream: int
    stream_id: int
    offset: int
    ordinal: int
    data: bytes
    fin: bool
    index: int = 0
    cut: int = 0
    keep_at: int = 0
    keep_length: int = 0
    priority: int = 128


@dataclass
class Slot:
    sequence: int
    connection: int
    packet_number: int
    array: int
    frames: list[Frame]
    claimed: set[int] = field(default_factory=set)
    done: int = 0


@dataclass(frozen=True)
class Clone:
    """What A makes for one member."""

    sequence: int
    position: int
    hash: int


@dataclass
class State:
    """Everything. ``counted`` is by the numbers of :class:`layout.Reason`."""

    enabled: bool = True
    connections: dict[int, Connection] = field(default_factory=dict)
    routes: dict[bytes, int] = field(default_factory=dict)
    channels: dict[tuple[int, int], int] = field(default_factory=dict)
    """(connection, channel) to track."""
    tracks: dict[int, Track] = field(default_factory=dict)
    arrays: dict[int, list[int]] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    """By place in the map; FREE ones are not here."""
    stream_index: dict[tuple[int, int], int] = field(default_factory=dict)
    """(connection, stream id) to sequence."""
    slots: dict[int, Slot] = field(default_factory=dict)
    """By place in the map."""
    slot_next: int = 1
    slot_limit: int = layout.SLOTS
    index: StreamIndex = field(default_factory=lambda: StreamIndex([0] * layout.STREAMS))
    sequences: Counter[int] = field(default_factory=Counter)
    """The last of each row of streams."""
    intents_room: int = layout.INTENTS_BYTES
    acks: list[tuple[int, ...]] = field(default_factory=list)
    """That were taken: packet number, first, largest, delay, connection."""
    counted: Counter[int] = field(default_factory=Counter)

    def count(self, reason: int, number: int = 1) -> None:
        if number:
            self.counted[int(reason)] += number
