"""The maps: sizes, structures, constants. The one source for C (``bpf/layout.h``) and Python.

``python -m fastrelay.fastpath.layout`` prints the header; ``make check`` compares it with the
one in the tree. All integers are in the machine's order except where it says "network order".
Every structure's size is a multiple of 8 and every field lies on a multiple of its own size,
so C and numpy agree without padding of the compiler's.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONNECTIONS = 1024
"""Connections registered at a time, publishers' and subscribers'."""
TRACKS = 1024
MEMBERS = 4096
"""Subscriptions at a time; a member belongs to one connection and one track."""
ARRAYS = 2048
"""Versions of member arrays alive at a time: one of each track, and those on their way out."""
ARRAY_MEMBERS = 1024
"""Members of one track: its packets' clones."""
SLOTS = 1024
"""Packets decrypted and not yet settled by the relay."""
STREAMS = 512
"""Upstream streams under way in the kernel."""
FRAMES = 8
"""Media frames taken of one packet; the rest of it is left to user space."""
CLAIM_WORDS = ARRAY_MEMBERS // 32
CONNECTION_ID_LENGTH = 8
"""Of the ids the relay issues."""
MAX_PEER_CONNECTION_ID = 20
DATA_SIZE = 1536
"""Room for the plaintext of a packet."""
MAX_DATAGRAM = 1452
"""UDP payload that is looked at: 1500 less an IPv6 and a UDP header."""
TEMPLATE_SIZE = 16
"""Room for each part of the bytes that replace a stream's first ones."""
PREFIXED = 8
"""Streams of a connection whose prefix came in a packet of its own, before the rest."""
REPLAY_WORDS = 32
"""32 packet numbers each."""
BUCKET_PAIRS = 4
"""Of a table: a cache line. What is looked up is in one of two buckets, or it is not there."""
ROUTES_BUCKETS = 8192
"""A quarter full with 8 connection ids of each connection."""
CHANNELS_BUCKETS = 1024
"""A quarter full with a channel for each track."""
STREAM_BUCKET_KEYS = 8
STREAM_INDEX_BUCKETS = STREAMS // STREAM_BUCKET_KEYS
STREAM_ID_BITS = 48
"""Of upstream stream ids; one beyond is user space's."""
STREAM_KEY_SET = 1 << 63
CPUS = 256
"""That have counters of their own; others share these."""
TABLE_ERASED = (1 << 64) - 1
"""Key of a pair that was used once; nothing is put under it."""
TABLE_NONE = (1 << 32) - 1
"""No value of a table's."""
TABLE_MULTIPLIER = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio."""
KEYSTREAM_TEXT = 1472
"""Bytes, of the longest packet: whole blocks of ChaCha20."""
KEYSTREAMS_AHEAD = 16
"""Of each connection, for the packet numbers that come next: a picture has some ten packets."""
KEYSTREAMS = CONNECTIONS * KEYSTREAMS_AHEAD
KEYSTREAM_TEXT = 1472
"""Bytes: the longest text, in whole blocks of ChaCha20."""
QUOTA_REFUSED_BUCKETS = 2048
"""Addresses and prefixes that may open no more connections; who finds no room there is refused by
user space."""
QUOTA_ROWS = 8192
"""Of them at a time."""
QUOTA_KNOWN_BUCKETS = 8192
"""Connection ids that first packets of known connections have: two of each."""
QUOTA_EXEMPT_BLOCKS = 256
QUOTA_HOOK_METERS = 16386
"""One for all first packets, one for answers, the others for first packets by prefix."""
QUOTA_METERS = 2 * QUOTA_HOOK_METERS
"""For each :class:`QuotaHook` its own: what passed one is counted at the next."""
BANDS = 4
"""In which a member's streams and datagrams are, by priority: see fastpath/bands.py."""
BAND_LEVELS = 256
"""Parts of a band's groups that can be dropped one by one."""
JUDGED = 8
"""Groups of datagrams of which a band remembers what was decided."""
JUDGED_TICK_SHIFT = 20
"""Of nanoseconds, to the ticks in which it is remembered when."""
JUDGED_TICK_BITS = 30
JUDGED_TICKS = 6 << 10
"""For so long: 6.4 s. A group may have no end."""
PRICE_SHIFT = 10
"""Prices are nanoseconds a byte times 2**this."""
NEUTRAL_PRIORITY = 128
"""Of a subscriber: the publisher's priority counts as it is."""
INTENTS_BYTES = 1 << 20
REPORTS_BYTES = 1 << 22
ACKS_BYTES = 1 << 18
"""From half of it on, acknowledgements go to user space, which then empties it."""
ACK_NUMBERS = 512
"""So few packet numbers left to the kernel are user space's business."""
CLONE_MARK = 0xFA570000
CLONE_MARK_MASK = 0xFFFF0000
CLONE_MAGIC = 0x66617374
"""In cb[0] of a clone; cb[1]: the slot's sequence, low half; cb[2]: the member's position."""


class Switch(IntEnum):
    """``connection.state`` (bits) and ``member.state``, ``track.state``, ``shared.enabled``."""

    OFF = 0
    ON = 1


class DeviceMode(IntEnum):
    """``shared.device``: how the quota's program is attached at a device of the node."""

    NONE = 0
    NATIVE = 1
    GENERIC = 2


class ConnectionState(IntEnum):
    """Bits of ``connection.state``."""

    OFF = 0
    SEND = 1
    RECEIVE = 2


class StreamState(IntEnum):
    """``stream.state``: who deals with the packets of an upstream stream that come from now on."""

    FREE = 0
    LENT = 1
    USER = 2


class LegState(IntEnum):
    """Low byte of ``leg.word``: who sends an upstream stream's bytes to one member.

    A leg counts only if the rest of the word is its stream's sequence; else it is ``NONE``.
    """

    NONE = 0
    KERNEL = 1
    USER = 2
    CLOSED = 3
    """Stopped by the peer: nobody sends, and nobody needs to hear of it."""
    DROPPED = 4
    """By policy, before it began: nobody sends, and a report says so."""


class FrameKind(IntEnum):
    STREAM = 1
    DATAGRAM = 2


class Outcome(IntEnum):
    """``report.outcome``: what became of one member's copy. All but SENT: user space sends it."""

    SENT = 0
    CONNECTION_OFF = 1
    MEMBER_OFF = 2
    NO_LEG = 3
    """The stream's first packet did not go by the kernel."""
    NO_NUMBER = 4
    NO_STREAM = 5
    NO_STREAM_DATA = 6
    NO_DATA = 7
    NO_WINDOW = 8
    TOO_LARGE = 9
    BUSY = 10
    """An atomic operation lost too often."""
    FAILED = 11
    """The kernel refused to resize or to write the packet."""
    DROPPED = 12
    """By policy: never to be sent by anybody."""


class Reason(IntEnum):
    """Columns of ``counters``: why a packet went on as it was, or what was done.

    A: packets to the pod. B: from the pod, clones included. C: from clients, by kind. 0 is none,
    so that a function can return a reason or that there is none.
    """

    A_NOT_UDP = 34
    A_VLAN = 1
    A_IP_OPTIONS = 2
    A_FRAGMENT = 3
    A_TRUNCATED = 4
    A_UNKNOWN_CONNECTION = 5
    A_DISABLED = 6
    A_NOT_RECEIVING = 7
    A_WRONG_PATH = 8
    A_TOO_LARGE = 9
    A_NO_KEY = 10
    A_BAD_TAG = 11
    A_RESERVED_BITS = 12
    A_REPLAY = 13
    A_OLD_NUMBER = 14
    A_BAD_FRAME = 15
    A_NO_MEDIA = 16
    A_UNKNOWN_STREAM = 17
    """Its beginning did not pass here."""
    A_STREAM_ID = 35
    """Too large for the index of streams."""
    A_UNKNOWN_TRACK = 18
    A_BAD_HEAD = 19
    """A stream's or datagram's first bytes are not understood, or not all there."""
    A_STREAM_USER = 20
    A_OUT_OF_ORDER = 21
    A_BUSY = 22
    A_NO_MEMBERS = 23
    A_NO_SLOT = 24
    A_NO_STREAM_SLOT = 25
    A_RING_FULL = 26
    A_TOO_MANY_FRAMES = 27
    A_TOO_MANY_SEGMENTS = 28
    A_FAILED = 29
    A_FORWARDED = 30
    """Packets for which an intent was written."""
    A_FRAMES = 31
    A_CLONES = 32
    A_CLONE_FAILED = 33
    A_ACK = 36
    """Acknowledgements alone, which end here: their records are in ``acks``."""
    A_ACK_UNUSUAL = 37
    """Acknowledgements that user space has to look at: with holes, of another key phase."""
    A_ACK_CREDIT = 38
    """The kernel has used a part of what user space granted, which should hear of it at once."""
    A_ACK_RING_FULL = 39
    """Half full, that is."""
    B_FORGED = 40
    """Our mark on something that is no clone of ours."""
    B_STALE = 41
    """The slot is in use for another packet."""
    B_CLAIMED = 42
    """Somebody else sends it."""
    B_RING_FULL = 43
    B_SKIPPED = 44
    """Nothing in it for the member: outside of what it asked for, or user space's already."""
    B_DROPPED_LEVEL = 45
    """Streams and datagrams beyond the member's level."""
    B_DROPPED_SHARE = 46
    """Those for which their band had nothing left."""
    B_AHEAD = 47
    """Copies whose keystream was there already."""
    B_OUTCOME = 48
    """Plus the outcome: packets per outcome."""
    C_LONG_INITIAL = 64
    C_LONG_OTHER = 65
    C_SHORT_KNOWN = 66
    C_SHORT_UNKNOWN = 67
    C_QUOTA_PASSED = 68
    """First packets that may open a connection."""
    C_QUOTA_KNOWN = 69
    """First packets of connections that there are."""
    C_QUOTA_EXEMPT = 70
    C_QUOTA_MIXED = 71
    """Segments together that are not all first packets."""
    C_QUOTA_ANSWERED = 72
    """Refused ones that passed so that user space can say so; counted beside their reason."""
    C_QUOTA_ADDRESS = 73
    C_QUOTA_PREFIX = 74
    C_QUOTA_TOTAL = 75
    C_QUOTA_PREFIX_ATTEMPTS = 76
    C_QUOTA_ATTEMPTS = 77
    C_QUOTA_AT_DEVICE = 78
    """Of those refused, counted beside their reason: by XDP at a device of the node."""


COUNTERS = 80
"""A row of ``counters``: whole cache lines."""


class Stage(IntEnum):
    """Indices of ``programs``. A stage is the function of that name, in lower case.

    A file's first program has the file's name and is none of these: it is attached.
    """

    A_OPEN = 0
    A_MEDIA = 1
    A_ACK = 2
    C_QUOTA = 4
    B_BUILD = 8
    B_SEAL = 9
    B_OUTPUT = 10


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    count: int
    doc: str
    offset: int


@dataclass(frozen=True)
class Struct:
    name: str
    doc: str
    fields: tuple[Field, ...]
    size: int

    def word(self, name: str) -> int:
        """Where a field lies, in words; it begins on one."""
        offset = self.offset(name)
        assert offset % 8 == 0, name
        return offset // 8

    def offset(self, name: str) -> int:
        """Where a field lies, in bytes."""
        return next(each.offset for each in self.fields if each.name == name)

    @property
    def packing(self) -> str:
        """For the standard library's ``struct``, behind "=": its fields but for reserved ones."""
        return "".join(map(_packed, self.fields))

    @property
    def dtype(self) -> np.dtype[np.void]:
        # Who never sees a map, a client or a relay without the kernel, needs no numpy.
        import numpy as np

        return np.dtype([_numpy_field(field) for field in self.fields])


_STRUCTS: dict[str, Struct] = {}
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
_LINE = re.compile(r"(u8|u16|u32|u64|struct \w+) (\w+)(?:\[(\d+)\])?(?:: (.*))?$")


def _numpy_field(field: Field) -> tuple[str, object] | tuple[str, object, tuple[int, ...]]:
    base: object = field.type
    if field.type.startswith("struct "):
        base = _STRUCTS[field.type.removeprefix("struct ")].dtype
    else:
        base = {"u8": "u1", "u16": "u2", "u32": "u4", "u64": "u8"}[field.type]
    return (field.name, base, (field.count,)) if field.count else (field.name, base)


def _packed(field: Field) -> str:
    count = field.count or 1
    if field.name == "reserved":
        return f"{_SIZES[field.type] * count}x"
    if field.type.startswith("struct "):
        return _STRUCTS[field.type.removeprefix("struct ")].packing * count
    return f"{count}{_CODES[field.type]}"


def _size(field: Field) -> tuple[int, int]:
    """Size of one element, and what it has to be aligned to."""
    if field.type.startswith("struct "):
        return _STRUCTS[field.type.removeprefix("struct ")].size, 8
    return _SIZES[field.type], _SIZES[field.type]


def _struct(name: str, doc: str, text: str) -> Struct:
    fields = []
    offset = 0
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.match(line)
        assert match is not None, line
        kind, field_name, count, field_doc = match.groups()
        field = Field(field_name, kind, int(count or 0), field_doc or "", offset)
        size, alignment = _size(field)
        assert offset % alignment == 0, f"{name}.{field_name} at {offset}"
        offset += size * (field.count or 1)
        fields.append(field)
    assert offset % 8 == 0, f"{name}: {offset} bytes"
    _STRUCTS[name] = made = Struct(name, doc, tuple(fields), offset)
    return made


SHARED = _struct(
    "shared",
    "One of these. The kernel takes no slot at or beyond the limit, which only grows.",
    """
    u64 layout: DIGEST of the layout that the maps were made for; the first word of all versions
    u64 enabled: 0: A forwards nothing
    u64 owner: random, of the relay process that uses the maps; 0: none
    u64 heartbeat: CLOCK_MONOTONIC ns, written by the relay about once a second
    u64 attached: Switch, the agent's: whether the programs see the pod's packets
    u64 seed[2]: random, of the tables' hash; the relay's
    u64 device: DeviceMode, the agent's; what every packet reads is above, what A writes is below
    u64 slot_next: sequence of the next slot use (A, atomic)
    u64 slot_limit: the relay has settled all that is SLOTS below
    """,
)

KEYSET = _struct(
    "keyset",
    "ChaCha20-Poly1305 for packets (RFC 9001 section 5.3); the bytes' words, little endian.",
    """
    u32 key[8]
    u32 iv[3]
    u32 reserved
    """,
)

BAND = _struct(
    "band",
    "Of one connection's bands. What both sides write is atomic.",
    """
    u64 price: of its share; 0: it has none
    u64 due: ns, when what was sent in it is paid for at its share of the rate (both sides)
    u64 patience: ns that bands.due may be ahead for it to take what others leave
    u64 bytes: sent in it (both sides)
    u64 dropped: streams and datagrams (both sides)
    u64 reserve: bytes of the congestion window that its packets leave free
    u64 judged[8]: group << 32 | tick << 2 | 1: sent, 2: dropped; 0: none (both sides)
    """,
)

CONNECTION_BANDS = _struct(
    "bands",
    "Which of a member's streams and datagrams are sent: see fastpath/bands.py.",
    """
    u64 price: of a byte at the member's rate; 0: there is no rate
    u64 due: ns, when what was sent is paid for at the rate (both sides)
    u64 burst: ns that a band may be ahead and still be within its share
    u64 overflow: ns beyond burst that a band pays back at most
    u64 level: what is dropped, BAND_LEVELS for each band from the last one up
    u64 remembers: ns, until when groups of datagrams that were judged stay so; 0: they do not
    u8 ends[8]: the largest priority of each band but the last
    struct band each[4]
    """,
)

CONNECTION = _struct(
    "connection",
    "A QUIC connection: what B needs to send on it, and what A needs to read from it.",
    """
    u64 state: ConnectionState bits; cleared before anything below is changed
    u64 busy: B's at work for it (atomic); 0 after state was cleared: the relay may change it
    u64 generation: of this use of the index
    u64 packet_number: next 1-RTT number; taken atomically by both sides
    u64 packet_number_limit
    u64 stream_number: next unidirectional stream of ours, id >> 2; taken atomically by both sides
    u64 stream_number_limit: MAX_STREAMS
    u64 data_used: sum of highest offsets of all our streams; both sides, atomic
    u64 data_limit: MAX_DATA
    u64 stream_data_limit: initial_max_stream_data_uni of the peer
    u64 bytes_sent: by the kernel, whole UDP payloads (atomic)
    u64 bytes_limit: congestion: what bytes_sent may reach
    u32 packet_size_limit: UDP payload that the path is known to carry
    u32 datagram_limit: max_datagram_frame_size of the peer; 0: none
    u8 dcid[20]: what the peer wants in the header
    u8 dcid_length
    u8 stream_bits: low two bits of our unidirectional stream ids: 2 client, 3 server
    u8 family: 4 or 6
    u8 tx_phase: key phase bit
    u8 local_address[16]: of the relay, as the pod sees it; IPv4: first 4 bytes
    u8 remote_address[16]: of the peer, as the pod sees it
    u16 local_port: network order
    u16 remote_port: network order
    u32 hash: spreads members over CPUs (RPS)
    u32 tx_hp[8]: header protection
    struct keyset tx
    u64 rx_keys: see rx_word: which of rx is current, next, previous
    u64 rx_phase_start: first packet number of the current phase
    u64 rx_largest: largest number that was authentic (A)
    u64 rx_stream_next: the peer's unidirectional streams (id >> 2) from here on may begin (A, CAS)
    u64 rx_prefixed[8]: 1 + (id >> 2) of streams that showed their prefix alone so far (A, CAS)
    u64 rx_window[32]: replay window: number >> 5 in the high half, a bit each in the low half (A)
    u32 rx_hp[8]
    struct keyset rx[4]
    u8 prefix[16]: what each of the peer's media streams begins with (WebTransport)
    u8 datagram_prefix[16]
    u8 prefix_length
    u8 datagram_prefix_length
    u8 variant: of the protocol, for its header file; MoQT: 0 QUIC varints, 1 MoQT varints
    u8 plaintext: packets either way have neither tag nor header protection (laboratory)
    u8 reserved[4]
    u8 link[12]: Ethernet addresses towards the peer: next hop's, then the pod's (A); 0: unknown
    u32 reserved_link
    u64 tx_version: random, of tx; 0: there are no keys
    struct bands bands
    u64 ack_cid: acknowledgements to this id of ours, alone in a packet, A may take; 0: none
    u64 ack_floor: of packets of ours below this number nobody waits to hear
    u64 ack_bytes: when bytes_sent is beyond, user space wants to see them
    u64 acks: that A took (atomic)
    u64 acked: 1 + the largest packet of ours that they named: all below is acknowledged (A)
    """,
)


def rx_word(phase: int, current: int, following: int | None, previous: int | None) -> int:
    """``connection.rx_keys``: bit 0 phase, bits 1-2 index of the current keys; bits 3-5 next,
    6-8 previous, each an index and, as the lowest bit, whether there is one; bit 9: set."""
    word = 1 << 9 | phase | current << 1
    if following is not None:
        word |= 1 << 3 | following << 4
    if previous is not None:
        word |= 1 << 6 | previous << 7
    return word


KEYSTREAM = _struct(
    "keystream",
    "What a packet of a connection is encrypted with: index connection * KEYSTREAMS_AHEAD + number "
    "% KEYSTREAMS_AHEAD (RFC 8439 sections 2.4 and 2.6). The relay alone writes it, ahead.",
    """
    u64 number: 1 + packet number; 0: none; cleared before all else is changed, set when all is
    u64 version: connection.tx_version of the keys
    u64 reserved[2]
    u32 mac[8]: the key of Poly1305
    u32 text[368]: what the text is combined with
    """,
)

PAIR = _struct(
    "pair",
    "Of a table: routes (key: connection id, owner: 1, value: connection) or channels (key: "
    "MoQT's track alias, owner: 1 + connection, value: track). The relay alone writes it.",
    """
    u64 key
    u64 value: owner << 32 | value; 0: none
    """,
)

BUCKET = _struct("bucket", "See bpf/table.h.", "struct pair pairs[4]")

TRACK = _struct(
    "track",
    "",
    """
    u64 state: Switch
    u64 array: index of the current version of its members, swapped atomically
    u64 packets: forwarded (A, atomic)
    u64 bytes: of their frames
    u64 priority: of streams and datagrams that do not say theirs
    """,
)

ARRAY = _struct(
    "array",
    "A version of a track's members; never changed while a track, stream or slot names it.",
    """
    u32 count
    u32 track
    u32 members[1024]
    """,
)

MEMBER = _struct(
    "member",
    "A subscription. A stream's first bytes become before, what is kept of them, after.",
    """
    u64 state: Switch
    u32 connection
    u32 track
    u64 first_ordinal: streams and datagrams below are not for it (MoQT: groups)
    u64 last_ordinal: nor those above
    u64 packets: sent by the kernel (atomic)
    u64 bytes: UDP payload of these
    u64 streams: begun by the kernel
    u8 before[16]
    u8 after[16]
    u8 datagram_before[16]
    u8 datagram_after[16]
    u8 before_length
    u8 after_length
    u8 datagram_before_length
    u8 datagram_after_length
    u8 rewrite: 0: first bytes pass as they are
    u8 datagram_rewrite
    u8 priority: of the subscriber; less is more urgent
    u8 reserved
    """,
)

STREAM_BUCKET = _struct(
    "stream_bucket",
    "Of stream_index: whose rows 8 neighbours in streams are. A stream's is in one of two buckets. "
    "A takes a row by compare-and-swap of its key from 0, the relay gives it back.",
    "u64 keys[8]: STREAM_KEY_SET | connection << STREAM_ID_BITS | upstream stream id; 0: nobody's",
)

STREAM = _struct(
    "stream",
    "An upstream stream under way. A alone writes it, but for state: A makes it LENT, when the "
    "row's key is its own (stream_index); the relay makes it USER, and FREE again.",
    """
    u64 sequence: of this use of the row, sequence % STREAMS; only grows; written when all else is
    u64 state: StreamState
    u64 busy: A is at work on it (0 or 1, atomic)
    u64 stream_id
    u64 array: its members: those of the track when the stream began
    u64 ordinal: MoQT: the group id
    u64 next: end of what was forwarded
    u64 gap_start: a hole below next, filled when its bytes come
    u64 gap_end: gap_start == gap_end: none
    u64 final: 1 + the final size; 0: unknown
    u32 connection
    u32 track
    u8 cut: bytes at the beginning that a member's template replaces
    u8 keep_at: of these bytes, those that are kept
    u8 keep_length
    u8 priority: of the publisher
    u32 reserved
    """,
)

LEG = _struct(
    "leg",
    "An upstream stream towards one member: index slot * ARRAY_MEMBERS + position.",
    """
    u64 word: the stream's sequence << 8 | LegState
    u64 stream_id: towards the member
    u64 highest: end of what was sent, in the member's offsets
    u64 limit: MAX_STREAM_DATA
    """,
)

FRAME = _struct(
    "frame",
    "A media frame of a slot.",
    """
    u64 stream: sequence; 0 for a datagram
    u64 offset: in the upstream stream
    u64 ordinal
    u16 at: of its data in the slot's
    u16 length
    u8 kind: FrameKind
    u8 fin
    u8 cut: datagrams: as in stream
    u8 keep: datagrams: keep_at << 4 | keep_length
    u8 priority: of the publisher
    u8 reserved[7]
    """,
)

SLOT = _struct(
    "slot",
    "A decrypted packet's media for one member array.",
    """
    u64 sequence: of this use of the slot
    u64 done: low half of sequence << 32 | members settled by B
    u64 claims[32]: low half of sequence << 32 | a bit for each of 32 members: who sets it, sends
    u64 array
    u64 packet_number: upstream
    u32 connection: upstream
    u32 members
    u32 frame_count
    u32 data_length
    struct frame frames[8]
    u8 data[1536]: plaintext
    u8 beyond[1536]: not used: room for the largest at plus the largest length, for the verifier
    """,
)

INTENT_FRAME = _struct(
    "intent_frame",
    "",
    """
    u64 stream: sequence; 0 for a datagram
    u64 stream_id: upstream
    u64 offset
    u64 ordinal
    u32 length
    u8 kind: FrameKind
    u8 fin
    u8 index: of a datagram among the packet's datagrams
    u8 reserved
    """,
)

INTENT = _struct(
    "intent",
    "Record of the ring intents: written before the first clone.",
    """
    u64 sequence: of the slot
    u64 packet_number: upstream
    u64 time: CLOCK_MONOTONIC ns
    u64 array
    u32 connection: upstream
    u32 members
    u32 frame_count
    u32 reserved
    struct intent_frame frames[8]
    """,
)

REPORT = _struct(
    "report",
    "Record of the ring reports: written before the packet leaves.",
    """
    u64 packet_number: of the member's connection; 0 if it was not sent
    u64 time: CLOCK_MONOTONIC ns
    u32 sequence: of the slot, low half
    u16 position: in the slot's array
    u16 size: UDP payload
    u32 connection: the member's
    u8 outcome: Outcome
    u8 dropped: a bit for each frame of the slot that was dropped, of which this is the beginning
    u8 reserved[2]
    """,
)

ACK = _struct(
    "ack",
    "Record of the ring acks: a packet of a peer's with an acknowledgement alone. All that is "
    "missing between first and largest, and all that anybody waits for below, is acknowledged.",
    """
    u64 time: when it came, CLOCK_MONOTONIC ns
    u64 packet_number: the peer's
    u64 first
    u64 largest
    u64 delay: as in the frame
    u32 connection
    u32 generation: of the connection, low half
    """,
)


class QuotaKind(IntEnum):
    """What a keyed hash of the quota's is about: the top byte of its third word."""

    ADDRESS = 1
    PREFIX = 2
    CONNECTION_ID = 3


class QuotaHook(IntEnum):
    """Where first packets are refused."""

    VETH = 0
    DEVICE = 1


class QuotaMeter(IntEnum):
    """Rows of ``quota_meters``, of each hook."""

    ATTEMPTS = 0
    ANSWERS = 1
    CELLS = 2
    """From here on: of first packets, by prefix."""


RATE = _struct(
    "rate",
    "For a meter (bpf/rate.h).",
    """
    u64 interval: ns from one to the next
    u64 tolerance: how far the next may be ahead of its time
    """,
)

QUOTA = _struct(
    "quota",
    "The quota on connections; one of these. The relay alone writes it. Times: CLOCK_MONOTONIC ns.",
    """
    u64 enabled: Switch; off: nothing is refused
    u64 key[2]: of the hash (SipHash-1-3) of addresses and connection ids
    u64 total_until: until when nobody comes in
    struct rate attempts
    struct rate prefix_attempts
    struct rate answers
    u16 port: the relay's, network order
    u8 ipv4_prefix_length
    u8 ipv6_prefix_length
    u8 answer: Switch: some who are refused are passed to user space, which tells them
    u8 reserved
    u16 exempt: blocks
    """,
)

QUOTA_BLOCK = _struct(
    "quota_block",
    "Addresses that are never refused, from the first to the last. Two numbers each, the high one "
    "first; IPv4 is mapped (RFC 4291 2.5.5.2). Blocks are disjoint and rise.",
    """
    u64 first[2]
    u64 last[2]
    """,
)

QUOTA_ROW = _struct(
    "quota_row",
    "An address or prefix that may open no more connections.",
    """
    u64 until
    u64 refused: first packets (programs, atomic)
    """,
)

QUOTA_SITE = _struct(
    "quota_site",
    "Which packets at a device of the node are for the relay; the agent's, as the relay is not to "
    "refuse what is for others. In network order; 0: none.",
    """
    u64 ipv4
    u64 ipv6[2]
    """,
)

METER = _struct("meter", "See bpf/rate.h.", "u64 empty_at: (programs, compare-and-swap)")


class MapKind(IntEnum):
    """``enum bpf_map_type`` of the kernel's."""

    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_ARRAY = 6
    RINGBUF = 27


@dataclass(frozen=True)
class Map:
    """``secret``: holds keys or plaintext. ``relay``: the relay maps it."""

    name: str
    kind: MapKind
    key: int
    value: int
    entries: int
    mmap: bool = False
    relay: bool = True
    secret: bool = False


ELEMENTS = {
    "shared": SHARED,
    "connections": CONNECTION,
    "keystreams": KEYSTREAM,
    "routes": BUCKET,
    "channels": BUCKET,
    "tracks": TRACK,
    "arrays": ARRAY,
    "members": MEMBER,
    "stream_index": STREAM_BUCKET,
    "streams": STREAM,
    "legs": LEG,
    "slots": SLOT,
    "quota": QUOTA,
    "quota_exempt": QUOTA_BLOCK,
    "quota_refused": BUCKET,
    "quota_rows": QUOTA_ROW,
    "quota_known": BUCKET,
    "quota_meters": METER,
    "quota_site": QUOTA_SITE,
}


SCRATCH_SIZE = 8192
"""Per CPU and program; its structure is the programs' own business."""

MAPS = (
    Map("shared", MapKind.ARRAY, 4, SHARED.size, 1, mmap=True),
    Map("connections", MapKind.ARRAY, 4, CONNECTION.size, CONNECTIONS, True, secret=True),
    Map("keystreams", MapKind.ARRAY, 4, KEYSTREAM.size, KEYSTREAMS, mmap=True, secret=True),
    Map("routes", MapKind.ARRAY, 4, BUCKET.size, ROUTES_BUCKETS, mmap=True),
    Map("channels", MapKind.ARRAY, 4, BUCKET.size, CHANNELS_BUCKETS, mmap=True),
    Map("tracks", MapKind.ARRAY, 4, TRACK.size, TRACKS, mmap=True),
    Map("arrays", MapKind.ARRAY, 4, ARRAY.size, ARRAYS, mmap=True),
    Map("members", MapKind.ARRAY, 4, MEMBER.size, MEMBERS, mmap=True),
    Map(
        "stream_index",
        MapKind.ARRAY,
        4,
        STREAM_BUCKET.size,
        STREAM_INDEX_BUCKETS,
        mmap=True,
    ),
    Map("streams", MapKind.ARRAY, 4, STREAM.size, STREAMS, mmap=True),
    Map("legs", MapKind.ARRAY, 4, LEG.size, STREAMS * ARRAY_MEMBERS, mmap=True),
    Map("slots", MapKind.ARRAY, 4, SLOT.size, SLOTS, mmap=True, secret=True),
    Map("quota", MapKind.ARRAY, 4, QUOTA.size, 1, mmap=True, secret=True),
    Map(
        "quota_exempt",
        MapKind.ARRAY,
        4,
        QUOTA_BLOCK.size,
        QUOTA_EXEMPT_BLOCKS,
        mmap=True,
    ),
    Map("quota_refused", MapKind.ARRAY, 4, BUCKET.size, QUOTA_REFUSED_BUCKETS, mmap=True),
    Map("quota_rows", MapKind.ARRAY, 4, QUOTA_ROW.size, QUOTA_ROWS, mmap=True),
    Map("quota_known", MapKind.ARRAY, 4, BUCKET.size, QUOTA_KNOWN_BUCKETS, mmap=True),
    Map("quota_meters", MapKind.ARRAY, 4, METER.size, QUOTA_METERS, mmap=True),
    Map("quota_site", MapKind.ARRAY, 4, QUOTA_SITE.size, 1, mmap=True, relay=False),
    Map("intents", MapKind.RINGBUF, 0, 0, INTENTS_BYTES),
    Map("reports", MapKind.RINGBUF, 0, 0, REPORTS_BYTES),
    Map("acks", MapKind.RINGBUF, 0, 0, ACKS_BYTES),
    Map("counters", MapKind.ARRAY, 4, 8, CPUS * COUNTERS, mmap=True),
    Map("scratch_a", MapKind.PERCPU_ARRAY, 4, SCRATCH_SIZE, 1, relay=False, secret=True),
    Map("scratch_b", MapKind.PERCPU_ARRAY, 4, SCRATCH_SIZE, 1, relay=False, secret=True),
    Map("programs", MapKind.PROG_ARRAY, 4, 4, 16, relay=False),
)
"""C sees the file descriptor of each as ``MAP_<NAME>`` (see ``bpf/maps.h``)."""


_ENUMS = (
    Switch,
    DeviceMode,
    ConnectionState,
    StreamState,
    LegState,
    FrameKind,
    Outcome,
    QuotaKind,
)
"""What values mean that both sides write and read."""
_NAMES = (Reason, Stage, QuotaHook, QuotaMeter)
"""Of what only one side writes."""


_CONSTANTS = [
    (name, value)
    for name, value in sorted(globals().items())
    if name.isupper() and type(value) is int and not name.startswith("_")
]


def _digest() -> int:
    parts = (
        _CONSTANTS,
        [(enum.__name__, *((each.name, each.value) for each in enum)) for enum in _ENUMS],
        [
            (struct.name, *((each.name, each.type, each.count) for each in struct.fields))
            for struct in _STRUCTS.values()
        ],
        [(each.name, *map(int, (each.kind, each.key, each.value, each.entries))) for each in MAPS],
    )
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


DIGEST = _digest()
"""Of all that relay and programs have to agree upon: two layouts have two of them."""


def c_header() -> str:
    """``bpf/layout.h``."""
    return "\n".join(_c_lines()) + "\n"


def _c_lines() -> Iterator[str]:
    yield "/* Generated from fastrelay/fastpath/layout.py by `make layout`; do not edit. */"
    yield "/* clang-format off */"
    yield "#pragma once"
    yield ""
    for name, value in _CONSTANTS:
        yield f"#define {name} {value:#x}" if value > 0xFFFFFF else f"#define {name} {value}"
    for enum in (*_ENUMS, *_NAMES):
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.__name__).upper()
        yield ""
        for member in enum:
            yield f"#define {prefix}_{member.name} {member.value}"
    for struct in _STRUCTS.values():
        yield ""
        if struct.doc:
            yield f"/* {struct.doc} */"
        yield f"struct {struct.name} {{"
        for field in struct.fields:
            size = f"[{field.count}]" if field.count else ""
            comment = f" /* {field.doc} */" if field.doc else ""
            yield f"\t{field.type} {field.name}{size};{comment}"
        yield "};"


if __name__ == "__main__":
    sys.stdout.write(c_header())
