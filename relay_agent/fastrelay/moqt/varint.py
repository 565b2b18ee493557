"""The two families of variable-length integers that drafts of MoQT use.

:data:`QUIC` is RFC 9000 section 16 (draft 16): two length bits, values below 2**62.
:data:`LEADING_ONES` is draft-18 section 1.4.1 (draft 17 on): as many leading one bits as
bytes follow, values below 2**64. Encoders write the shortest form; decoders take any.

::

    encode(value) -> bytes                  # ValueError if it does not fit
    decode(data, position) -> (value, end)  # IncompleteError if data ends too early
    family.length[first_byte]               # bytes of the whole integer, for parsers that wait

Data may be bytes, bytearray or memoryview. Values below ``family.one_byte`` are their own
encoding, so hot loops test ``data[position] < family.one_byte`` before they call ``decode``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Buffer = bytes | bytearray | memoryview


class IncompleteError(Exception):
    """The data ends within an integer: wait for more, or report a truncated message."""


@dataclass(frozen=True, slots=True)
class Varints:
    """One family; the callables are plain functions, so that a call costs no binding."""

    name: str
    one_byte: int
    """Values below this take one byte, which equals the value."""
    maximum: int
    length: bytes
    """Indexed by an integer's first byte: how many bytes it takes, that one included."""
    encode: Callable[[int], bytes]
    decode: Callable[[Buffer, int], tuple[int, int]]

    def size(self, value: int) -> int:
        """Bytes that ``value`` takes."""
        return len(self.encode(value))


_BYTES = tuple(bytes([value]) for value in range(128))


def encode_quic(value: int) -> bytes:
    """RFC 9000 section 16.

    :raises ValueError: negative, or 2**62 or more.
    """
    if 0 <= value < 0x40:
        return _BYTES[value]
    if 0 <= value < 0x4000:
        return (value | 0x4000).to_bytes(2)
    if 0 <= value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4)
    if 0 <= value < 0x4000_0000_0000_0000:
        return (value | 0xC000_0000_0000_0000).to_bytes(8)
    raise ValueError(f"{value} does not fit in a QUIC varint")


def decode_quic(data: Buffer, position: int) -> tuple[int, int]:
    """The value at ``position`` and the position after it.

    :raises IncompleteError: ``data`` ends before the value does.
    """
    try:
        first = data[position]
    except IndexError:
        raise IncompleteError from None
    if first < 0x40:
        return first, position + 1
    size = 1 << (first >> 6)
    end = position + size
    if end > len(data):
        raise IncompleteError
    return int.from_bytes(data[position:end]) & ((1 << (8 * size - 2)) - 1), end


# Indexed by length in bytes. The ninth byte adds eight bits: 0xFF has no terminating zero.
_ONES_PREFIX = (0, 0, *(((1 << (n - 1)) - 1) << (7 * n + 1) for n in range(2, 9)), 0xFF << 64)
_ONES_MASK = (0, *((1 << (7 * n)) - 1 for n in range(1, 9)), (1 << 64) - 1)
_ONES_LENGTH = bytes(
    next((n for n in range(8) if not first & 0x80 >> n), 8) + 1 for first in range(256)
)


def encode_leading_ones(value: int) -> bytes:
    """Draft-18 section 1.4.1.

    :raises ValueError: negative, or 2**64 or more.
    """
    if 0 <= value < 0x80:
        return _BYTES[value]
    bits = value.bit_length()
    if value < 0 or bits > 64:
        raise ValueError(f"{value} does not fit in a MoQT varint")
    size = (bits + 6) // 7 if bits <= 56 else 9
    return (value | _ONES_PREFIX[size]).to_bytes(size)


def decode_leading_ones(data: Buffer, position: int) -> tuple[int, int]:
    """The value at ``position`` and the position after it.

    :raises IncompleteError: ``data`` ends before the value does.
    """
    try:
        first = data[position]
    except IndexError:
        raise IncompleteError from None
    if first < 0x80:
        return first, position + 1
    size = _ONES_LENGTH[first]
    end = position + size
    if end > len(data):
        raise IncompleteError
    return int.from_bytes(data[position:end]) & _ONES_MASK[size], end


QUIC = Varints(
    name="quic",
    one_byte=0x40,
    maximum=(1 << 62) - 1,
    length=bytes(1 << (first >> 6) for first in range(256)),
    encode=encode_quic,
    decode=decode_quic,
)

LEADING_ONES = Varints(
    name="leading-ones",
    one_byte=0x80,
    maximum=(1 << 64) - 1,
    length=_ONES_LENGTH,
    encode=encode_leading_ones,
    decode=decode_leading_ones,
)
