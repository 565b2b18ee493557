"""Packets of a publisher as the fuzzer wants them: valid mostly, odd often, broken sometimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from bpf import packets
from bpf.model_state import Connection
from bpf.packets import datagram_frame, object_datagram, stream_frame, subgroup_header

CHANNELS = (7, 300)
"""Of every publisher."""
NO_CHANNELS = (8, 1 << 40)
ROOM = 1380
"""Bytes of frames in a packet, about."""
OTHERS = tuple(packets.OTHER_FRAMES.values())


@dataclass
class Sending:
    """A stream of a publisher's: how far it is, and whether its end was sent."""

    stream_id: int
    offset: int = 0
    over: bool = False
    sent: list[tuple[int, bytes, bool]] = field(default_factory=list)


@dataclass
class Publisher:
    """What a publisher knows of its own connection."""

    connection: Connection
    next_number: int = 0
    next_stream: int = 0
    generation: int = 0
    streams: list[Sending] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    """Packet numbers that were left out, and may still come."""
    recent: list[bytes] = field(default_factory=list)


def packet(chance: Random, publisher: Publisher) -> tuple[bytes, int]:
    """A packet, and its GSO size, 0 mostly."""
    roll = chance.random()
    if roll < 0.02 and publisher.recent:
        return chance.choice(publisher.recent), 0
    made = packets.packet(publisher.connection.path, _datagram(chance, publisher))
    if roll > 0.95:
        made = _broken(chance, publisher, made)
    publisher.recent = [*publisher.recent[-20:], made]
    return made, 0


def _datagram(chance: Random, publisher: Publisher) -> bytes:
    payload = _payload(chance, publisher)
    if chance.random() < 0.02:
        payload = _mutated(chance, payload)
    number = _number(chance, publisher)
    length = chance.choice([1, 2, 2, 2, 3, 4])
    payload += bytes(max(0, 4 - length - len(payload)))
    bits = 0x40
    if chance.random() < 0.02:
        bits = chance.choice([0x00, 0x20, 0x60, 0x48, 0x50, 0x58])
    generation = publisher.generation
    if chance.random() < 0.02:
        generation = max(0, generation + chance.choice([-1, 1, 2]))
    connection = publisher.connection
    return packets.protect(
        connection.to_relay,
        connection.cid,
        number,
        payload,
        generation=generation,
        number_length=length,
        first_bits=bits,
    )


def _number(chance: Random, publisher: Publisher) -> int:
    roll = chance.random()
    if roll < 0.04 and publisher.late:
        return publisher.late.pop(chance.randrange(len(publisher.late)))
    if roll < 0.05:
        return max(0, publisher.next_number - chance.choice([1, 30, 1000, 1100]))
    if roll < 0.12:
        skipped = range(publisher.next_number, publisher.next_number + chance.randint(1, 3))
        publisher.late = [*publisher.late[-30:], *skipped]
        publisher.next_number += len(skipped)
    elif roll < 0.122:
        publisher.next_number += chance.choice([100, 1500])
    publisher.next_number += 1
    return publisher.next_number - 1


def _acknowledgement(chance: Random, publisher: Publisher) -> bytes:
    """Alone in its packet."""
    sent = publisher.connection.packet_number
    largest = max(0, sent + chance.choice([-1, -1, -1, -2, -300, 0, 1 << 30]))
    first = chance.choice([0, 0, 1, largest // 2, largest, largest, largest + 1])
    ranges = tuple(
        (chance.choice([0, 0, 1, 70]), chance.choice([0, 0, 3, 90]))
        for _ in range(chance.choice([0, 0, 0, 1, 3, 31, 32, 33]))
    )
    delay = chance.choice([0, 5, 300, 1 << 20])
    padding = chance.choice([0, 0, 0, 1, 15, 16, 17, 40])
    return packets.ack_frame(largest, delay, ranges, first) + bytes(padding)


def _payload(chance: Random, publisher: Publisher) -> bytes:
    if chance.random() < 0.1:
        return _acknowledgement(chance, publisher)
    payload = b""
    for _ in range(chance.choice([1, 1, 1, 2, 2, 3, 4, 12])):
        frame = _frame(chance, publisher, ROOM - len(payload))
        if len(payload) + len(frame) > ROOM:
            break
        payload += frame
    if chance.random() < 0.1:
        payload += bytes(chance.choice([1, 7, 40, 200]))
    return payload


_KINDS: tuple[tuple[float, str], ...] = (
    (0.30, "begin"),
    (0.70, "go on"),
    (0.80, "datagram"),
    (0.97, "other"),
    (0.985, "again"),
    (1.0, "odd"),
)


def _frame(chance: Random, publisher: Publisher, room: int) -> bytes:
    roll = chance.random()
    kind = next(name for limit, name in _KINDS if roll <= limit)
    if kind == "begin":
        return _begin(chance, publisher, room)
    if kind == "go on":
        return _go_on(chance, publisher, room)
    if kind == "again":
        return _again(chance, publisher)
    if kind == "datagram":
        prefix = publisher.connection.datagram_prefix
        data = prefix + _object_datagram(chance, publisher.connection.variant)
        return datagram_frame(data, size=chance.choice([None, None, 2, 4, 8]))
    if kind == "other":
        return chance.choice(OTHERS)
    return chance.choice(
        [
            b"\x21",
            b"\x40\x08",
            b"\x40",
            b"\x18\1\1\0" + bytes(16),
            stream_frame(0, b"bidirectional"),
            stream_frame(publisher.connection.stream_bits, b"ours"),
            chance.randbytes(chance.randint(1, 20)),
        ]
    )


def _data(chance: Random, room: int) -> bytes:
    size = chance.choice([0, 1, 2, 20, 100, 500, 1200])
    return chance.randbytes(min(size, max(0, room - 40)))


def _begin(chance: Random, publisher: Publisher, room: int) -> bytes:
    if chance.random() < 0.03:
        publisher.next_stream += chance.randint(1, 3)
    stream_id = publisher.next_stream << 2 | publisher.connection.stream_bits ^ 1
    publisher.next_stream += 1
    head = publisher.connection.prefix + _head(chance, publisher.connection.variant)
    data = head + _data(chance, room - len(head))
    if chance.random() < 0.03:
        data = data[: chance.randint(0, len(head))]
    sending = Sending(stream_id)
    publisher.streams = [*publisher.streams[-6:], sending]
    return _send(chance, sending, data)


def _go_on(chance: Random, publisher: Publisher, room: int) -> bytes:
    open_ = [each for each in publisher.streams if not each.over]
    if not open_:
        return _begin(chance, publisher, room)
    sending = chance.choice(open_)
    if chance.random() < 0.05:  # lost on the way
        sending.sent.append((sending.offset, _data(chance, room), False))
        sending.offset += len(sending.sent[-1][1])
    return _send(chance, sending, _data(chance, room))


def _send(chance: Random, sending: Sending, data: bytes) -> bytes:
    fin = chance.random() < 0.25
    offset = sending.offset
    sending.sent = [*sending.sent[-4:], (offset, data, fin)]
    sending.offset += len(data)
    sending.over = fin
    return _stream(chance, sending.stream_id, data, offset, fin)


def _again(chance: Random, publisher: Publisher) -> bytes:
    """What was sent before, or what was left out; cut otherwise sometimes."""
    sent = [(each, *part) for each in publisher.streams for part in each.sent]
    if not sent:
        return b"\x01"
    sending, offset, data, fin = chance.choice(sent)
    if chance.random() < 0.3 and data:
        start = chance.randrange(len(data))
        end = chance.randint(start, len(data))
        offset, data, fin = offset + start, data[start:end], fin and end == len(data)
    return _stream(chance, sending.stream_id, data, offset, fin)


def _stream(chance: Random, stream_id: int, data: bytes, offset: int, fin: bool) -> bytes:
    sizes = (8, 8, 8) if chance.random() < 0.05 else (None, None, None)
    return stream_frame(
        stream_id,
        data,
        offset,
        fin=fin,
        with_offset=True if chance.random() < 0.2 else None,
        sizes=sizes,
    )


def _sizes(chance: Random, variant: int) -> tuple[int | None, int | None, int | None]:
    if chance.random() < 0.8:
        return None, None, None
    choices = (8,) if variant == 0 else (6, 7, 8, 9)
    return chance.choice(choices), chance.choice(choices), chance.choice(choices)


def _channel(chance: Random) -> int:
    return chance.choice(CHANNELS if chance.random() < 0.95 else NO_CHANNELS)


def _head(chance: Random, variant: int) -> bytes:
    bits = chance.choice([0, 0, 0, 1, 2, 8, 9] + [0x40] * (variant == 1))
    head = subgroup_header(
        _channel(chance),
        chance.choice([0, 5, 70, 1000, 1 << 30]),
        None if bits & 2 else chance.choice([None, 0, 3, 100]),
        chance.choice([None, 0, 128, 255]),
        variant=variant,
        type_bits=bits,
        sizes=_sizes(chance, variant),
    )
    return head if chance.random() < 0.98 else _mutated(chance, head)


def _object_datagram(chance: Random, variant: int) -> bytes:
    bits = chance.choice([0, 0, 2, 1, 3])
    properties = b"\x02\x3c\x05" if bits & 1 else b""
    made = object_datagram(
        _channel(chance),
        chance.choice([0, 5, 70, 1000, 1 << 30]),
        chance.choice([None, 0, 9, 1000]),
        properties + chance.randbytes(chance.choice([0, 1, 30, 400])),
        chance.choice([None, 7]),
        variant=variant,
        type_bits=bits,
        sizes=_sizes(chance, variant),
    )
    return made if chance.random() < 0.98 else _mutated(chance, made)


def _mutated(chance: Random, data: bytes) -> bytes:
    if not data:
        return data
    how: Callable[[], bytes] = chance.choice(
        [
            lambda: data[: chance.randrange(len(data))],
            lambda: _flipped(chance, data),
            lambda: data + chance.randbytes(chance.randint(1, 8)),
        ]
    )
    return how()


def _flipped(chance: Random, data: bytes, below: int | None = None) -> bytes:
    made = bytearray(data)
    bit = chance.randrange(8 * min(len(data), below or len(data)))
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _broken(chance: Random, publisher: Publisher, packet: bytes) -> bytes:
    """What is not right about the packet itself."""
    path = publisher.connection.path
    headers = 42 if path.family == 4 else 62
    match chance.randrange(6):
        case 0:
            return _flipped(chance, packet, headers + 9)
        case 1:
            return _flipped(chance, packet)
        case 2:
            # PROG_TEST_RUN refuses what is shorter than its IP header.
            return packet[: chance.randint(headers - 8, len(packet))]
        case 3:
            return packet + chance.randbytes(chance.randint(1, 20))
        case 4:
            return packets.packet(
                path, bytes([0xC0 | chance.getrandbits(6)]) + chance.randbytes(60)
            )
    return packets.packet(path.reverse(), packet[headers:])
