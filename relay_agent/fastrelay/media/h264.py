"""The little of H.264 that a container needs (ISO/IEC 14496-10 section 7, 14496-15 section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastrelay.media.formats import MediaError

NAL_IDR = 5
NAL_SPS = 7
NAL_PPS = 8
NAL_DELIMITER = 9

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


@dataclass(frozen=True, slots=True)
class AvcConfig:
    """Parameter sets, as an avcC record holds them."""

    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]

    @property
    def codec(self) -> str:
        """``avc1.PPCCLL``: profile, constraints and level in upper-case hexadecimal."""
        return "avc1." + self.sps[0][1:4].hex().upper()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return _picture_size(self.sps[0])

    @property
    def in_band(self) -> bytes:
        """The parameter sets as length-prefixed units, to go before a key frame."""
        return join_units((*self.sps, *self.pps))

    def record(self) -> bytes:
        """The AVCDecoderConfigurationRecord, with four-byte lengths.

        Profiles from High on may end with chroma and bit depth fields; decoders do without.
        """
        parts = [b"\x01", self.sps[0][1:4], b"\xff", bytes([0xE0 | len(self.sps)])]
        parts += [len(unit).to_bytes(2) + unit for unit in self.sps]
        parts.append(bytes([len(self.pps)]))
        parts += [len(unit).to_bytes(2) + unit for unit in self.pps]
        return b"".join(parts)


def parse_record(record: bytes) -> AvcConfig:
    """Read an avcC record.

    :raises MediaError: it is truncated, not version 1, or without four-byte lengths.
    """
    if len(record) < 7 or record[0] != 1:
        raise MediaError("the H.264 configuration (avcC) is malformed")
    if record[4] & 3 != 3:
        raise MediaError("the H.264 stream has unit lengths of other than four bytes")
    position = 6
    units: list[list[bytes]] = [[], []]
    for index, count in ((0, record[5] & 0x1F), (1, -1)):
        if count < 0:
            count = record[position] if position < len(record) else 0
            position += 1
        for _ in range(count):
            start = position + 2
            end = start + int.from_bytes(record[position:start])
            if end > len(record) or end - start < 4 - 3 * index:
                raise MediaError("the H.264 configuration (avcC) is truncated")
            units[index].append(record[start:end])
            position = end
    if not units[0] or not units[1]:
        raise MediaError("the H.264 configuration (avcC) lacks parameter sets")
    return AvcConfig(tuple(units[0]), tuple(units[1]))


def config_of_units(units: Iterable[bytes]) -> AvcConfig | None:
    """The parameter sets among ``units``; None unless there are both kinds."""
    sps: list[bytes] = []
    pps: list[bytes] = []
    for unit in units:
        kind = unit[0] & 0x1F
        if kind == NAL_SPS and len(unit) >= 4:
            sps.append(unit)
        elif kind == NAL_PPS:
            pps.append(unit)
    return AvcConfig(tuple(sps), tuple(pps)) if sps and pps else None


def join_units(units: Iterable[bytes]) -> bytes:
    """Units with a four-byte length before each (the AVCC form)."""
    return b"".join(len(unit).to_bytes(4) + unit for unit in units)


def split_units(frame: bytes) -> Iterator[bytes]:
    """The non-empty units of a frame, in AVCC form or with four-byte start codes (Annex B).

    :raises MediaError: a length points past the end.
    """
    if frame.startswith(b"\0\0\0\1"):
        yield from _split_annex_b(frame)
        return
    position = 0
    while position < len(frame):
        start = position + 4
        position = start + int.from_bytes(frame[position:start])
        if position > len(frame):
            raise MediaError("an H.264 frame is truncated")
        if position > start:
            yield frame[start:position]


def _split_annex_b(frame: bytes) -> Iterator[bytes]:
    for piece in frame.split(b"\0\0\1"):
        # A zero before the next start code belongs to it; a unit never ends with zeros.
        unit = piece.rstrip(b"\0")
        if unit:
            yield unit


class _Bits:
    """Bits of a unit, emulation prevention removed (section 7.3.1, 9.1)."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise MediaError("the H.264 sequence parameter set is truncated")
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise MediaError("the H.264 sequence parameter set is malformed")
        return (1 << zeros) - 1 + self.take(zeros)

    def se(self) -> int:
        value = self.ue()
        return (value + 1) >> 1 if value & 1 else -(value >> 1)


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for index in range(count):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


def _picture_size(sps: bytes) -> tuple[int, int]:
    """Section 7.3.2.1.1, up to the cropping rectangle."""
    bits = _Bits(sps[1:])
    profile = bits.take(8)
    bits.take(16)
    bits.ue()
    chroma = 1
    separate_planes = 0
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        if chroma == 3:
            separate_planes = bits.take(1)
        bits.ue()
        bits.ue()
        bits.take(1)
        if bits.take(1):
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    bits.ue()
    order_type = bits.ue()
    if order_type == 0:
        bits.ue()
    elif order_type == 1:
        bits.take(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue()
    bits.take(1)
    width = 16 * (bits.ue() + 1)
    map_units = bits.ue() + 1
    frames_only = bits.take(1)
    height = 16 * map_units * (2 - frames_only)
    if not frames_only:
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        crop_x = 2 if chroma in (1, 2) and not separate_planes else 1
        crop_y = (2 if chroma == 1 and not separate_planes else 1) * (2 - frames_only)
        width -= crop_x * (bits.ue() + bits.ue())
        height -= crop_y * (bits.ue() + bits.ue())
    if not 0 < width <= 65535 or not 0 < height <= 65535:
        raise MediaError("the H.264 sequence parameter set has an impossible size")
    return width, height
