"""The frames of a packet and the heads of MoQT's streams and datagrams, as the model reads them.

RFC 9000 section 19, RFC 9221, draft-ietf-quic-ack-frequency, draft-ietf-moq-transport-18 sections
11.3.1 and 11.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.fastpath import layout
from fastrelay.moqt.varint import LEADING_ONES, QUIC, IncompleteError


class MalformedError(Exception):
    """Nothing of the packet may be used."""


@dataclass(frozen=True)
class Media:
    """``stream_id`` None: a datagram, ``index``-th of the packet's."""

    stream_id: int | None
    offset: int
    data: bytes
    fin: bool
    index: int = 0
    header: int = 0
    """Bytes of the frame before its data."""


@dataclass(frozen=True)
class Head:
    channel: int
    ordinal: int
    cut: int
    keep_at: int
    priority: int | None
    """None: the track's."""


class Reader:
    """Reads on, or raises :class:`MalformedError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        try:
            value, self.at = QUIC.decode(self.data, self.at)
        except IncompleteError as error:
            raise MalformedError from error
        return value

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise MalformedError
        self.at += length
        return self.data[self.at - length : self.at]


_INTEGERS = {
    0x04: 3,
    0x05: 2,
    0x10: 1,
    0x11: 2,
    0x12: 1,
    0x13: 1,
    0x14: 1,
    0x15: 2,
    0x16: 1,
    0x17: 1,
    0x19: 1,
    0xAF: 4,
}
"""Frames that are nothing but so many integers."""


def walk(payload: bytes, ours: int) -> tuple[list[Media], bool]:
    """Media frames up to one of a kind that is not known, at most :data:`layout.FRAMES`; and
    whether there is one more. ``ours``: low two bits of our own unidirectional streams' ids.

    :raises MalformedError: see there.
    """
    reader = Reader(payload)
    media: list[Media] = []
    datagrams = 0
    while reader.at < len(payload):
        kind = reader.take(1)[0]
        if kind & ~0x07 == 0x08:
            found = _stream(reader, kind)
            assert found.stream_id is not None
            if found.stream_id & 3 != ours ^ 1 or not (found.data or found.fin):
                continue
        elif kind in (0x30, 0x31):
            length = reader.varint() if kind & 1 else len(payload) - reader.at
            found = Media(None, 0, reader.take(length), False, datagrams)
            datagrams += 1
        elif _other(reader, kind):
            continue
        else:
            break
        if len(media) == layout.FRAMES:
            return media, True
        media.append(found)
    return media, False


MOST_RANGES = 32
MOST_PADDING = 16


def acknowledgement(payload: bytes) -> tuple[int, int, int] | None:
    """Of a payload of one ACK frame, and a little PADDING perhaps: first and largest number of its
    first range, and the delay as it was encoded. None: it is something else."""
    reader = Reader(payload)
    try:
        if reader.take(1) != b"\x02":
            return None
        largest, delay, count = reader.varint(), reader.varint(), reader.varint()
        first = smallest = largest - reader.varint()
        if count > MOST_RANGES:
            return None
        for _ in range(count):
            if smallest < 0:
                return None
            smallest -= reader.varint() + 2
            smallest -= reader.varint()
    except MalformedError:
        return None
    rest = payload[reader.at :]
    if smallest < 0 or len(rest) > MOST_PADDING or any(rest):
        return None
    return first, largest, delay


def _stream(reader: Reader, kind: int) -> Media:
    begin = reader.at - 1
    stream_id = reader.varint()
    offset = reader.varint() if kind & 4 else 0
    length = reader.varint() if kind & 2 else len(reader.data) - reader.at
    header = reader.at - begin
    data = reader.take(length)
    if offset + length > (1 << 62) - 1:
        raise MalformedError
    return Media(stream_id, offset, data, bool(kind & 1), header=header)


def _other(reader: Reader, kind: int) -> bool:
    """Whether the frame is known, and was stepped over. ``kind``: the first byte of its type."""
    if kind == 0x40:
        kind = reader.take(1)[0]
        if kind not in (0xAC, 0xAF):
            return False
    elif kind > 0x40:  # the first byte of a longer type
        return False
    if kind in (0x00, 0x01, 0x1E, 0x1F, 0xAC):
        pass
    elif kind in (0x02, 0x03):
        reader.varint()
        reader.varint()
        ranges = reader.varint()
        for _ in range(1 + 2 * ranges + (3 if kind == 3 else 0)):
            reader.varint()
    elif kind in (0x06, 0x07):
        if kind == 0x06:
            reader.varint()
        reader.take(reader.varint())
    elif kind == 0x18:
        reader.varint()
        reader.varint()
        length = reader.take(1)[0]
        if not 1 <= length <= 20:
            raise MalformedError
        reader.take(length + 16)
    elif kind in (0x1A, 0x1B):
        reader.take(8)
    elif kind in _INTEGERS:
        for _ in range(_INTEGERS[kind]):
            reader.varint()
    else:
        return False
    return True


def stream_head(data: bytes, prefix: bytes, variant: int) -> Head | None:
    """None: no media, not understood, or not complete."""
    kinds = {0x10 | bits for bits in range(16) if bits & 6 != 6}
    kinds |= {kind | 0x20 for kind in kinds}
    if variant == 1:
        kinds |= {kind | 0x40 for kind in kinds}
    if not data.startswith(prefix) or len(data) == len(prefix) or data[len(prefix)] not in kinds:
        return None
    kind = data[len(prefix)]
    decode = (QUIC, LEADING_ONES)[variant].decode
    try:
        channel, cut = decode(data, len(prefix) + 1)
        ordinal, at = decode(data, cut)
        if kind & 6 == 4:
            _, at = decode(data, at)
    except IncompleteError:
        return None
    if kind & 0x20:
        return Head(channel, ordinal, cut, len(prefix), None)
    if at >= len(data):
        return None
    return Head(channel, ordinal, cut, len(prefix), data[at])


def datagram_head(data: bytes, prefix: bytes, variant: int) -> Head | None:
    """The same. Datagrams with a status are left to user space."""
    if not data.startswith(prefix) or len(data) == len(prefix) or data[len(prefix)] > 15:
        return None
    kind = data[len(prefix)]
    decode = (QUIC, LEADING_ONES)[variant].decode
    priority = None
    try:
        channel, cut = decode(data, len(prefix) + 1)
        ordinal, at = decode(data, cut)
        if not kind & 4:
            _, at = decode(data, at)
        if not kind & 8:
            if at >= len(data):
                return None
            priority = data[at]
            at += 1
        if kind & 1:
            properties, at = decode(data, at)
            if not 0 < properties <= len(data) - at:
                return None
    except IncompleteError:
        return None
    return Head(channel, ordinal, cut, len(prefix), priority)
