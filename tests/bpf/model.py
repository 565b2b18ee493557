"""Program A as docs/dataplane.md says, in plain Python: what a packet leads to.

No map, no BPF; the crypto is that of ``cryptography``. ``model_egress.py`` is program B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from struct import unpack_from

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bpf.model_frames import (
    Head,
    MalformedError,
    Media,
    acknowledgement,
    datagram_head,
    stream_head,
    walk,
)
from bpf.model_state import Clone, Connection, Frame, Slot, State, Stream
from bpf.packets import Opened, decode_number, nonce, packed
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import Reason, StreamState
from streams import next_sequence

HEADER = 1 + layout.CONNECTION_ID_LENGTH
SAMPLE_AT = HEADER + 4
SAMPLE_END = SAMPLE_AT + 16
TAG = 16
INTENT_RECORD = 8 + layout.INTENT.dtype.itemsize


@dataclass(frozen=True)
class Written:
    """An intent, and the clones that follow it."""

    slot: Slot
    clones: list[Clone]


@dataclass(frozen=True)
class Udp:
    family: int
    source: tuple[bytes, int]
    destination: tuple[bytes, int]
    payload: bytes


class NotForUsError(Exception):
    """``reason``: why the packet is left alone."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


def ingress(state: State, packet: bytes, gso_size: int = 0) -> list[Written]:
    """A packet to the pod. Returns what is written, in order."""
    try:
        udp = parse(packet)
        connection = _connection(state, udp)
    except NotForUsError as error:
        state.count(error.reason)
        return []
    if connection is None:
        return []
    written = []
    size = gso_size or len(udp.payload)
    alone = size >= len(udp.payload)
    for start in range(0, len(udp.payload), size):
        try:
            written += _segment(state, connection, udp.payload[start : start + size], alone)
        except NotForUsError as error:
            state.count(error.reason)
    return written


def parse(packet: bytes) -> Udp:
    """:raises NotForUsError: it is no plain UDP packet."""
    kind = unpack_from("!H", packet, 12)[0]
    if kind in (0x8100, 0x88A8):
        raise NotForUsError(Reason.A_VLAN)
    if kind == 0x0800:
        return _parse_ipv4(packet)
    if kind == 0x86DD:
        return _parse_ipv6(packet)
    raise NotForUsError(Reason.A_NOT_UDP)


def _parse_ipv4(packet: bytes) -> Udp:
    if len(packet) < 42 or packet[23] != 17:
        raise NotForUsError(Reason.A_NOT_UDP)
    if packet[14] != 0x45:
        raise NotForUsError(Reason.A_IP_OPTIONS)
    if unpack_from("!H", packet, 20)[0] & 0x3FFF:
        raise NotForUsError(Reason.A_FRAGMENT)
    return _parse_udp(packet, 34, 4, packet[26:30], packet[30:34])


def _parse_ipv6(packet: bytes) -> Udp:
    if len(packet) < 62:
        raise NotForUsError(Reason.A_NOT_UDP)
    if packet[20] == 44:
        raise NotForUsError(Reason.A_FRAGMENT)
    if packet[20] in (0, 43, 60):
        raise NotForUsError(Reason.A_IP_OPTIONS)
    if packet[20] != 17:
        raise NotForUsError(Reason.A_NOT_UDP)
    return _parse_udp(packet, 54, 6, packet[22:38], packet[38:54])


def _parse_udp(packet: bytes, at: int, family: int, source: bytes, destination: bytes) -> Udp:
    source_port, destination_port, length, _ = unpack_from("!4H", packet, at)
    if length < 8 + HEADER or length > len(packet) - at:
        raise NotForUsError(Reason.A_TRUNCATED)
    return Udp(
        family,
        (source, source_port),
        (destination, destination_port),
        packet[at + 8 : at + length],
    )


def _connection(state: State, udp: Udp) -> Connection | None:
    """None: a long header, counted.

    :raises NotForUsError: see there.
    """
    if udp.payload[0] & 0x80:
        state.count(_long_header(udp.payload))
        return None
    index = state.routes.get(udp.payload[1:HEADER])
    if index is None:
        state.count(Reason.C_SHORT_UNKNOWN)
        raise NotForUsError(Reason.A_UNKNOWN_CONNECTION)
    state.count(Reason.C_SHORT_KNOWN)
    connection = state.connections[index]
    if not state.enabled:
        raise NotForUsError(Reason.A_DISABLED)
    if not connection.receive:
        raise NotForUsError(Reason.A_NOT_RECEIVING)
    path = connection.path
    expected = (
        path.family,
        (packed(path.source), path.source_port),
        (packed(path.destination), path.destination_port),
    )
    if (udp.family, udp.source, udp.destination) != expected:
        raise NotForUsError(Reason.A_WRONG_PATH)
    return connection


def _long_header(payload: bytes) -> Reason:
    version = int.from_bytes(payload[1:5], "big")
    kind = payload[0] >> 4 & 3
    is_first = {0: False, 1: kind == 0, 0x6B3343CF: kind == 1}.get(version, True)
    return Reason.C_LONG_INITIAL if is_first else Reason.C_LONG_OTHER


def _segment(state: State, connection: Connection, datagram: bytes, alone: bool) -> list[Written]:
    opened = unprotect(connection, datagram)
    if opened.first & 0x18:
        raise NotForUsError(Reason.A_RESERVED_BITS)
    match connection.window.look(opened.packet_number):
        case "seen":
            raise NotForUsError(Reason.A_REPLAY)
        case "old":
            raise NotForUsError(Reason.A_OLD_NUMBER)
    connection.rx_largest = max(connection.rx_largest, opened.packet_number)
    found = acknowledgement(opened.payload) if alone and connection.lets else None
    if found is not None:
        _acknowledge(state, connection, opened, *found)
        return []
    try:
        media, more = walk(opened.payload, connection.stream_bits)
    except MalformedError as error:
        raise NotForUsError(Reason.A_BAD_FRAME) from error
    if more:
        state.count(Reason.A_TOO_MANY_FRAMES)
    if not media:
        raise NotForUsError(Reason.A_NO_MEDIA)
    return _forward(state, connection, opened.packet_number, media)


def _acknowledge(
    state: State, connection: Connection, opened: Opened, first: int, largest: int, delay: int
) -> None:
    """:raises NotForUsError: user space has to see it."""
    number = opened.packet_number
    in_phase = opened.first >> 2 & 1 == connection.rx_current & 1
    if (
        not (in_phase and number >= connection.rx_phase_start)
        or largest >= connection.packet_number
        or first > connection.ack_floor
    ):
        raise NotForUsError(Reason.A_ACK_UNUSUAL)
    left = connection.packet_number_limit - connection.packet_number
    if connection.bytes_sent > connection.ack_bytes or left < layout.ACK_NUMBERS:
        raise NotForUsError(Reason.A_ACK_CREDIT)
    state.acks.append((number, first, largest, delay, connection.index))
    state.count(Reason.A_ACK)
    connection.acks += 1
    connection.acked = max(connection.acked, largest + 1)


def unprotect(connection: Connection, datagram: bytes) -> Opened:
    """:raises NotForUsError: see there."""
    if len(datagram) > layout.MAX_DATAGRAM:
        raise NotForUsError(Reason.A_TOO_LARGE)
    plaintext = connection.plaintext
    if len(datagram) < (SAMPLE_AT if plaintext else SAMPLE_END):
        raise NotForUsError(Reason.A_TRUNCATED)
    mask = bytes(5) if plaintext else connection.to_relay.mask(datagram[SAMPLE_AT:SAMPLE_END])
    first = datagram[0] ^ (mask[0] & 0x1F)
    length = (first & 3) + 1
    end = HEADER + length
    if len(datagram) - end <= (0 if plaintext else TAG):
        raise NotForUsError(Reason.A_TRUNCATED)
    number_bytes = bytes(a ^ b for a, b in zip(datagram[HEADER:end], mask[1:], strict=False))
    number = decode_number(int.from_bytes(number_bytes, "big"), length, connection.rx_largest + 1)
    generation = _generation(connection, first >> 2 & 1, number)
    if generation is None or (plaintext and first & 4):
        raise NotForUsError(Reason.A_NO_KEY)
    if plaintext:
        return Opened(first, number, length, datagram[end:])
    key, iv = connection.to_relay.ring[generation]
    header = bytes([first]) + datagram[1:HEADER] + number_bytes
    try:
        payload = ChaCha20Poly1305(key).decrypt(nonce(iv, number), datagram[end:], header)
    except InvalidTag as error:
        raise NotForUsError(Reason.A_BAD_TAG) from error
    return Opened(first, number, length, payload)


def _generation(connection: Connection, phase: int, number: int) -> int | None:
    if not connection.rx_set:
        return None
    if phase == connection.rx_current & 1:
        return connection.rx_current
    if number >= connection.rx_phase_start:
        return connection.rx_following
    return connection.rx_previous


@dataclass
class Resolved:
    """A media frame that somebody may get. ``head``: of a stream that begins, of a datagram."""

    media: Media
    array: int
    head: Head | None = None


def _forward(
    state: State, connection: Connection, number: int, media: list[Media]
) -> list[Written]:
    groups: list[list[Resolved]] = []
    before: Resolved | None = None
    for each in media:
        resolved = _resolve(state, connection, each, before)
        before = resolved or Resolved(each, layout.ARRAYS)
        if resolved is None or resolved.array == layout.ARRAYS:
            continue
        if groups and groups[-1][0].array == resolved.array:
            groups[-1].append(resolved)
        else:
            groups.append([resolved])
    written: list[Written] = []
    frames = 0
    for group in groups:
        if (made := _write(state, connection, number, group)) is not None:
            written.append(made)
            if not frames and made.slot.frames:
                state.count(Reason.A_FORWARDED)
            frames += len(made.slot.frames)
    state.count(Reason.A_FRAMES, frames)
    return written


def _resolve(
    state: State, connection: Connection, media: Media, before: Resolved | None
) -> Resolved | None:
    """What is known of a frame before it is anybody's turn to write. None: it is nobody's."""
    if media.stream_id is None:
        head = datagram_head(media.data, connection.datagram_prefix, connection.variant)
        if head is None:
            state.count(Reason.A_BAD_HEAD)
            return None
        return _of_channel(state, connection, media, head)
    if media.stream_id >> layout.STREAM_ID_BITS:
        state.count(Reason.A_STREAM_ID)
        return None
    sequence = state.stream_index.get((connection.index, media.stream_id))
    if sequence is not None:
        stream = state.streams[sequence % layout.STREAMS]
        if stream.state is not StreamState.LENT:
            state.count(Reason.A_STREAM_USER)
            return None
        if not fits(stream, media):
            state.count(Reason.A_OUT_OF_ORDER)
            return None
        return Resolved(media, stream.array)
    follows = before is not None and before.array != layout.ARRAYS
    if before is not None and follows and before.media.stream_id == media.stream_id:
        if not media.offset:
            state.count(Reason.A_OUT_OF_ORDER)
            return None
        return Resolved(media, before.array)
    begun = _begins(connection, media)
    if begun is None:
        state.count(Reason.A_UNKNOWN_STREAM)
        return None
    media = begun
    head = stream_head(media.data, connection.prefix, connection.variant)
    if head is None:
        state.count(Reason.A_BAD_HEAD)
        return None
    return _of_channel(state, connection, media, head)


def _begins(connection: Connection, media: Media) -> Media | None:
    """The frame, with the prefix if that came alone before it; None: no stream begins."""
    assert media.stream_id is not None
    number = media.stream_id >> 2
    place = number % layout.PREFIXED
    prefix = connection.prefix
    if number >= connection.rx_stream_next:
        connection.rx_stream_next = number + 1
        if media.offset:
            return None
        if prefix and media.data == prefix and not media.fin:
            connection.rx_prefixed[place] = number
            return None
        return media
    if media.offset != len(prefix) or media.header < len(prefix):
        return None
    if connection.rx_prefixed.get(place) != number:
        return None
    del connection.rx_prefixed[place]
    return replace(media, offset=0, data=prefix + media.data)


def _of_channel(state: State, connection: Connection, media: Media, head: Head) -> Resolved | None:
    index = state.channels.get((connection.index, head.channel))
    if index is None or not state.tracks[index].on:
        state.count(Reason.A_UNKNOWN_TRACK)
        return None
    array = state.tracks[index].array
    if not state.arrays[array]:
        state.count(Reason.A_NO_MEMBERS)
        return None
    return Resolved(media, array, head=head)


def _write(
    state: State, connection: Connection, number: int, group: list[Resolved]
) -> Written | None:
    """A slot for frames of one array."""
    if state.intents_room < INTENT_RECORD:
        state.count(Reason.A_RING_FULL)
        return None
    if state.slot_next >= state.slot_limit:
        state.count(Reason.A_NO_SLOT)
        return None
    sequence = state.slot_next
    state.slot_next += 1
    state.intents_room -= INTENT_RECORD
    frames: list[Frame] = []
    for resolved in group:
        taken = _take(state, connection, resolved)
        if taken is None:
            continue
        frame, track = taken
        frames.append(frame)
        state.tracks[track].bytes += len(frame.data)
        if len(frames) == 1:
            state.tracks[track].packets += 1
    array = group[0].array
    slot = Slot(sequence, connection.index, number, array, frames)
    state.slots[sequence % layout.SLOTS] = slot
    members = state.arrays[array] if frames else []
    clones = [
        Clone(sequence, position, _hash(state, member)) for position, member in enumerate(members)
    ]
    state.count(Reason.A_CLONES, len(clones))
    return Written(slot, clones)


def _hash(state: State, member: int) -> int:
    return state.connections[state.members[member].connection].hash


def _take(state: State, connection: Connection, resolved: Resolved) -> tuple[Frame, int] | None:
    """The frame for the slot, and its track; None: it is left to user space."""
    media, head = resolved.media, resolved.head
    if media.stream_id is None:
        assert head is not None
        track = state.channels[(connection.index, head.channel)]
        frame = Frame(
            stream=0,
            stream_id=0,
            offset=0,
            ordinal=head.ordinal,
            data=media.data,
            fin=False,
            index=media.index,
            cut=head.cut,
            keep_at=head.keep_at,
            keep_length=1,
            priority=_priority(state, connection, head),
        )
        return frame, track
    if head is not None:
        stream = _begin(state, connection, media, head, resolved.array)
        if stream is None:
            return None
    else:
        sequence = state.stream_index.get((connection.index, media.stream_id))
        if sequence is None:
            state.count(Reason.A_UNKNOWN_STREAM)
            return None
        stream = state.streams[sequence % layout.STREAMS]
        if stream.busy:
            state.count(Reason.A_BUSY)
            return None
        if stream.state is not StreamState.LENT:
            state.count(Reason.A_STREAM_USER)
            return None
    if not fits(stream, media):
        state.count(Reason.A_OUT_OF_ORDER)
        return None
    _advance(stream, media)
    frame = Frame(
        stream.sequence,
        media.stream_id,
        media.offset,
        stream.ordinal,
        media.data,
        media.fin,
        priority=stream.priority,
    )
    return frame, stream.track


def _begin(
    state: State, connection: Connection, media: Media, head: Head, array: int
) -> Stream | None:
    assert media.stream_id is not None
    place = state.index.claim(connection.index, media.stream_id)
    if place is None:
        state.count(Reason.A_NO_STREAM_SLOT)
        return None
    state.sequences[place] = sequence = next_sequence(state.sequences[place], place)
    stream = Stream(
        sequence=sequence,
        connection=connection.index,
        stream_id=media.stream_id,
        track=state.channels[(connection.index, head.channel)],
        array=array,
        ordinal=head.ordinal,
        cut=head.cut,
        keep_at=head.keep_at,
        keep_length=1,
        priority=_priority(state, connection, head),
    )
    state.streams[place] = stream
    state.stream_index[(connection.index, media.stream_id)] = sequence
    return stream


def _priority(state: State, connection: Connection, head: Head) -> int:
    if head.priority is not None:
        return head.priority
    return state.tracks[state.channels[(connection.index, head.channel)]].priority


def fits(stream: Stream, media: Media) -> bool:
    """Whether the frame is new, and the stream can go on with it: at its end, beyond it if that
    leaves its only hole, or within the hole and at one of its ends."""
    start, end = media.offset, media.offset + len(media.data)
    hole_start, hole_end = stream.gap
    if stream.final is not None and (
        start >= stream.next or end > stream.final or (media.fin and end != stream.final)
    ):
        return False
    if start == stream.next:
        return True
    if start > stream.next:
        return hole_start == hole_end
    if media.fin or start < hole_start or end > hole_end:
        return False
    return start == hole_start or end == hole_end


def _advance(stream: Stream, media: Media) -> None:
    start, end = media.offset, media.offset + len(media.data)
    if start >= stream.next:
        if start > stream.next:
            stream.gap = (stream.next, start)
        stream.next = end
    elif start == stream.gap[0]:
        stream.gap = (end, stream.gap[1])
    else:
        stream.gap = (stream.gap[0], start)
    if media.fin:
        stream.final = end
