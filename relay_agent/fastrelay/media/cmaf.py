"""CMAF tracks: init segments, and one ``moof`` + ``mdat`` per frame (ISO/IEC 23000-19).

:func:`chunk` writes what our publisher sends, a fragment with a header of 104 bytes.
:func:`parse_init` and :class:`ChunkReader` read what anybody's publisher sends.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fastrelay.catalog import Kind
from fastrelay.media.boxes import box, find, full_box, iterate
from fastrelay.media.formats import Format, MediaError, Sample
from fastrelay.media.h264 import parse_record

_KEY = 0x0200_0000
_DELTA = 0x0101_0000
_NOT_SYNC = 0x0001_0000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

# moof(mfhd, traf(tfhd, tfdt, trun)) of one sample: tfhd names description, duration, size and
# flags and counts offsets from the moof; without an offset of the presentation time, and with.
_FRAGMENT = struct.Struct(">I4sI4sIII4sI4sIIIIIII4sIQI4sIII")
_FRAGMENT_SIZE = 104
_OFFSET_SIZE = 4


def chunk(sample: Sample, sequence: int, track_id: int = 1) -> bytes:
    """One sample as ``moof`` + ``mdat``; ``sequence`` counts fragments from 1."""
    extra = _OFFSET_SIZE if sample.offset else 0
    size = _FRAGMENT_SIZE + extra
    header = _FRAGMENT.pack(
        *(size, b"moof", 16, b"mfhd", 0, sequence & 0xFFFF_FFFF),
        *(size - 24, b"traf"),
        *(32, b"tfhd", 0x0002_003A, track_id, 1),
        *(sample.duration, len(sample.data), _KEY if sample.key else _DELTA),
        *(20, b"tfdt", 0x0100_0000, sample.time),
        *(20 + extra, b"trun", 0x0100_0801 if extra else 1, 1, size + 8),
    )
    tail = sample.offset.to_bytes(_OFFSET_SIZE, signed=True) if extra else b""
    return b"".join((header, tail, (8 + len(sample.data)).to_bytes(4), b"mdat", sample.data))


def _expandable(tag: int, *parts: bytes) -> bytes:
    """A descriptor of ISO/IEC 14496-1 shorter than 128 bytes."""
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


def _sample_entry(track: Format) -> bytes:
    if track.sample_entry:
        return track.sample_entry
    codec = track.codec.split(".")[0]
    if codec in ("avc1", "avc3"):
        return box(
            b"avc1",
            struct.pack(">6xH16xHHIIIH", 1, track.width, track.height, 72 << 16, 72 << 16, 0, 1),
            bytes(32) + b"\0\x18\xff\xff",
            box(b"avcC", track.description),
        )
    audio = struct.pack(">6xH8xHHIHH", 1, track.channels, 16, 0, track.sample_rate & 0xFFFF, 0)
    if codec == "mp4a":
        specific = _expandable(5, track.description)
        config = _expandable(4, b"\x40\x15", bytes(11), specific)
        descriptor = _expandable(3, bytes(3), config, b"\x06\x01\x02")
        return box(b"mp4a", audio, full_box(b"esds", 0, 0, descriptor))
    if codec == "opus":
        # What OpusHead says little-endian, dOps says big-endian; 312 is libopus's own pre-skip.
        head = track.description
        skip, gain = struct.unpack_from("<H4xh", head, 10) if len(head) >= 18 else (312, 0)
        body = struct.pack(">BBHIhB", 0, track.channels, skip, track.sample_rate, gain, 0)
        return box(b"Opus", audio, box(b"dOps", body))
    raise MediaError(f"a track of codec {track.codec} cannot be put into an MP4 file")


def _track(track: Format, track_id: int) -> bytes:
    video = track.kind is Kind.VIDEO
    header = (
        struct.pack(">IIIIIQHHHH", 0, 0, track_id, 0, 0, 0, 0, 0, 0 if video else 0x0100, 0)
        + _MATRIX
    )
    tables = [full_box(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")]
    samples = box(
        b"stbl",
        full_box(b"stsd", 0, 0, (1).to_bytes(4), _sample_entry(track)),
        *tables,
        full_box(b"stsz", 0, 0, bytes(8)),
    )
    reference = full_box(b"dref", 0, 0, (1).to_bytes(4), full_box(b"url ", 0, 1))
    return box(
        b"trak",
        full_box(b"tkhd", 0, 7, header, struct.pack(">II", track.width << 16, track.height << 16)),
        box(
            b"mdia",
            full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, track.timescale, 0, 0x55C4, 0)),
            full_box(b"hdlr", 0, 0, bytes(4), b"vide" if video else b"soun", bytes(13)),
            box(
                b"minf",
                full_box(b"vmhd", 0, 1, bytes(8)) if video else full_box(b"smhd", 0, 0, bytes(4)),
                box(b"dinf", reference),
                samples,
            ),
        ),
    )


def init_segment(tracks: Sequence[Format]) -> bytes:
    """``ftyp`` + ``moov`` for tracks with ids 1, 2, ... and no samples of their own.

    :raises MediaError: a codec without a sample entry that this package can write.
    """
    movie = struct.pack(">IIIIIH10x", 0, 0, 1000, 0, 0x10000, 0x0100) + _MATRIX + bytes(24)
    extends = [
        full_box(b"trex", 0, 0, struct.pack(">IIIII", index, 1, 0, 0, 0))
        for index in range(1, len(tracks) + 1)
    ]
    return box(b"ftyp", b"iso6", bytes(4), b"iso6cmfcmp41") + box(
        b"moov",
        full_box(b"mvhd", 0, 0, movie, (len(tracks) + 1).to_bytes(4)),
        *(_track(track, index) for index, track in enumerate(tracks, 1)),
        box(b"mvex", *extends),
    )


@dataclass(frozen=True, slots=True)
class Defaults:
    """What ``trex`` says for samples about which their fragment says nothing."""

    track_id: int
    duration: int = 0
    size: int = 0
    flags: int = 0


def parse_init(data: bytes) -> tuple[Format, Defaults]:
    """The first track of an init segment.

    :raises MediaError: truncated, malformed, or neither video nor audio.
    """
    try:
        return _parse_init(data)
    except struct.error:
        raise MediaError("the init segment is truncated") from None


def _parse_init(data: bytes) -> tuple[Format, Defaults]:
    movie, movie_end = find(data, "moov")
    start, end = find(data, "trak", movie, movie_end)
    head, _ = find(data, "tkhd", start, end)
    long = data[head] == 1
    (track_id,) = struct.unpack_from(">I", data, head + (20 if long else 12))
    width, height = struct.unpack_from(">II", data, head + (88 if long else 76))
    media, _ = find(data, "mdia/mdhd", start, end)
    (timescale,) = struct.unpack_from(">I", data, media + (20 if data[media] == 1 else 12))
    handler, _ = find(data, "mdia/hdlr", start, end)
    kind = {b"vide": Kind.VIDEO, b"soun": Kind.AUDIO}.get(data[handler + 8 : handler + 12])
    if kind is None or not timescale:
        raise MediaError("the init segment has neither a video nor an audio track")
    entries, entries_end = find(data, "mdia/minf/stbl/stsd", start, end)
    entry_type, entry, entry_end = next(iterate(data, entries + 8, entries_end), (b"", 0, 0))
    if not entry_type:
        raise MediaError("the init segment describes no sample format")
    raw = data[entry - 8 : entry_end]
    codec = entry_type.decode("latin-1").strip().lower()
    defaults = Defaults(track_id)
    for box_type, inner, after in iterate(data, *find(data, "mvex", movie, movie_end)):
        if box_type == b"trex" and after - inner >= 24:
            owner, _, *values = struct.unpack_from(">IIIII", data, inner + 4)
            if owner == track_id:
                defaults = Defaults(track_id, *values)
    if kind is Kind.AUDIO:
        channels, _, _, rate = struct.unpack_from(">HHII", data, entry + 16)
        return Format(
            kind, codec, timescale, sample_rate=rate >> 16, channels=channels, sample_entry=raw
        ), defaults
    description = b""
    if entry_type in (b"avc1", b"avc3"):
        inner, after = find(data, "avcC", entry + 78, entry_end)
        description = data[inner:after]
        codec = parse_record(description).codec
    return Format(
        kind, codec, timescale, description, width >> 16, height >> 16, sample_entry=raw
    ), defaults


class ChunkReader:
    """Reads objects of one CMAF track into samples."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults

    def read(self, data: bytes) -> list[Sample]:
        """All samples of one object, which may hold several fragments.

        :raises MediaError: truncated or malformed.
        """
        samples: list[Sample] = []
        try:
            for kind, start, end in iterate(data):
                if kind == b"moof":
                    samples += self._fragment(data, start, end)
        except struct.error:
            raise MediaError("a media fragment is truncated") from None
        if not samples:
            raise MediaError("an object of a CMAF track holds no sample")
        return samples

    def _fragment(self, data: bytes, start: int, end: int) -> list[Sample]:
        traf, traf_end = find(data, "traf", start, end)
        time_box, _ = find(data, "tfdt", traf, traf_end)
        long = data[time_box] == 1
        (time,) = struct.unpack_from(">Q" if long else ">I", data, time_box + 4)
        head, _ = find(data, "tfhd", traf, traf_end)
        (flags,) = struct.unpack_from(">I", data, head)
        position = head + 8
        base = start - 8
        if flags & 0x01:
            # An absolute file position has no meaning in an object; count from the fragment.
            position += 8
        if flags & 0x02:
            position += 4
        values = [self._defaults.duration, self._defaults.size, self._defaults.flags]
        for index, flag in enumerate((0x08, 0x10, 0x20)):
            if flags & flag:
                (values[index],) = struct.unpack_from(">I", data, position)
                position += 4
        samples: list[Sample] = []
        place = end + 8
        for kind, inner, after in iterate(data, traf, traf_end):
            if kind != b"trun":
                continue
            if struct.unpack_from(">I", data, inner)[0] & 1:
                place = base + struct.unpack_from(">i", data, inner + 8)[0]
            run = _run(data, inner, after, time, place, values)
            samples += run
            place += sum(len(sample.data) for sample in run)
            time = run[-1].time + run[-1].duration if run else time
        return samples


def _run(
    data: bytes, start: int, end: int, time: int, place: int, defaults: list[int]
) -> list[Sample]:
    flags, count = struct.unpack_from(">II", data, start)
    version = flags >> 24
    position = start + 8 + (4 if flags & 0x01 else 0)
    first_flags = None
    if flags & 0x04:
        (first_flags,) = struct.unpack_from(">I", data, position)
        position += 4
    samples: list[Sample] = []
    width = 4 * (flags >> 8 & 15).bit_count()
    if position + count * width > end or (not width and count > len(data)):
        raise MediaError("a media fragment counts more samples than it has")
    for index in range(count):
        duration, size, sample_flags = defaults
        offset = 0
        if index == 0 and first_flags is not None:
            sample_flags = first_flags
        if flags & 0x100:
            (duration,) = struct.unpack_from(">I", data, position)
            position += 4
        if flags & 0x200:
            (size,) = struct.unpack_from(">I", data, position)
            position += 4
        if flags & 0x400:
            (sample_flags,) = struct.unpack_from(">I", data, position)
            position += 4
        if flags & 0x800:
            (offset,) = struct.unpack_from(">i" if version else ">I", data, position)
            position += 4
        if place < 0 or place + size > len(data):
            raise MediaError("a media fragment names samples outside the object")
        payload = data[place : place + size]
        samples.append(Sample(time, duration, not sample_flags & _NOT_SYNC, payload, offset))
        place += size
        time += duration
    return samples
