"""From received objects to samples, one reader per packaging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fastrelay.catalog import CatalogTrack, Kind, Packaging
from fastrelay.media import loc
from fastrelay.media.aac import SAMPLES_PER_FRAME, AudioConfig, parse_config, strip_adts
from fastrelay.media.cmaf import ChunkReader, parse_init
from fastrelay.media.formats import Format, MediaError, Sample
from fastrelay.media.h264 import (
    NAL_DELIMITER,
    NAL_IDR,
    NAL_PPS,
    NAL_SPS,
    config_of_units,
    join_units,
    parse_record,
    split_units,
)
from fastrelay.moqt.codes import MoqtError
from fastrelay.moqt.keyvalue import KeyValue, decode
from fastrelay.moqt.varint import LEADING_ONES, QUIC, IncompleteError, Varints

_NO_PRIVATE_PROPERTIES = b"\x0a\x00"
"""An empty block of private properties, which some write before each LOC frame. Nothing that
is read here begins so: as a length it would be 160 MB."""
_IN_BAND = frozenset({NAL_SPS, NAL_PPS, NAL_DELIMITER})


class TrackReader(Protocol):
    """Makes samples of a track's objects. Errors are :class:`MediaError` and concern one
    object only: the next may be read."""

    @property
    def format(self) -> Format | None:
        """None until an object told it."""

    def read(self, payload: bytes, properties: Sequence[KeyValue], *, first: bool) -> list[Sample]:
        """Samples of one object; ``first``: it begins a group."""


def reader_for(track: CatalogTrack, *, mixed: bool = False) -> TrackReader:
    """
    :param mixed: other renditions of ``track`` follow each other on it.
    :raises MediaError: the catalog's init data cannot be used.
    """
    if track.packaging is Packaging.CMAF:
        return _CmafReader(track)
    return _RawReader(track, mixed=mixed)


class _CmafReader:
    def __init__(self, track: CatalogTrack) -> None:
        self.format: Format | None
        self.format, defaults = parse_init(track.init)
        if self.format.kind is not track.kind:
            raise MediaError(f"track {track.name!r} is not the {track.kind.value} it claims to be")
        self._chunks = ChunkReader(defaults)

    def read(self, payload: bytes, properties: Sequence[KeyValue], *, first: bool) -> list[Sample]:
        return self._chunks.read(payload)


class _RawReader:
    """LOC and moq-dev's containers: a timestamp and one coded frame. ``mixed``: parameter sets
    stay in the frames, where decoders find those of each rendition, and the format is the first
    one's."""

    def __init__(self, track: CatalogTrack, *, mixed: bool) -> None:
        self._track = track
        self._mixed = mixed
        self._h264 = track.codec.startswith(("avc1", "avc3"))
        self._aac = track.codec.startswith("mp4a")
        self._separator = _legacy if track.packaging is Packaging.LEGACY else _loc
        self._duration = 0
        if track.kind is Kind.VIDEO and track.framerate:
            self._duration = round(loc.MICROSECONDS / track.framerate)
        self.format: Format | None = None
        if track.init or not (self._h264 or self._aac):
            self._configure(track.init)
        elif self._aac and track.sample_rate and track.channels:
            self._configure(AudioConfig(2, track.sample_rate, track.channels).record())

    def _configure(self, record: bytes) -> None:
        track = self._track
        width, height = track.width, track.height
        sample_rate, channels = track.sample_rate, track.channels
        if self._h264:
            width, height = parse_record(record).size
        elif self._aac:
            config = parse_config(record)
            sample_rate, channels = config.sample_rate, config.channels
            self._duration = SAMPLES_PER_FRAME * loc.MICROSECONDS // sample_rate
        self.format = Format(
            track.kind,
            track.codec,
            loc.MICROSECONDS,
            record,
            width,
            height,
            sample_rate,
            channels,
        )

    def read(self, payload: bytes, properties: Sequence[KeyValue], *, first: bool) -> list[Sample]:
        time, record, frame = self._separator(payload, properties, self._track.kind)
        if record and self._is_new(record):
            self._configure(record)
        key = first or self._track.kind is Kind.AUDIO
        if self._h264:
            key, frame = self._read_h264(frame)
        elif self._aac:
            frame, config = strip_adts(frame)
            if config is not None and self.format is None:
                self._configure(config.record())
        # moq-dev's tools end a group with a time and nothing else.
        return [Sample(time, self._duration, key, frame)] if frame else []

    def _read_h264(self, frame: bytes) -> tuple[bool, bytes]:
        units = list(split_units(frame))
        kinds = [unit[0] & 0x1F for unit in units]
        if NAL_SPS in kinds and (config := config_of_units(units)) is not None:
            record = config.record()
            if self._is_new(record):
                self._configure(record)
        if self._mixed:
            return NAL_IDR in kinds, frame
        kept = (unit for unit, kind in zip(units, kinds, strict=True) if kind not in _IN_BAND)
        return NAL_IDR in kinds, join_units(kept)

    def _is_new(self, record: bytes) -> bool:
        """Whether a decoder has to be told of this configuration."""
        known = self.format
        return known is None or (not self._mixed and record != known.description)


def _loc(payload: bytes, properties: Sequence[KeyValue], kind: Kind) -> tuple[int, bytes, bytes]:
    """Time, configuration (or nothing) and frame of a LOC object.

    moq-dev's tools put the properties into the payload, after their length; they may use
    either family of integers.
    """
    if properties:
        frame = payload.removeprefix(_NO_PRIVATE_PROPERTIES)
        return loc.timestamp(properties), loc.configuration(properties, kind), frame
    for varints in (LEADING_ONES, QUIC):
        try:
            pairs, frame = _inline_properties(payload, varints)
            return loc.timestamp(pairs), loc.configuration(pairs, kind), frame
        except (IncompleteError, MoqtError, MediaError):
            continue
    raise MediaError("a LOC object has no timestamp")


def _inline_properties(payload: bytes, varints: Varints) -> tuple[list[KeyValue], bytes]:
    size, start = varints.decode(payload, 0)
    end = start + size
    if end > len(payload):
        raise IncompleteError
    return list(decode(payload[start:end], varints)), payload[end:]


def _legacy(payload: bytes, properties: Sequence[KeyValue], kind: Kind) -> tuple[int, bytes, bytes]:
    """moq-dev's first container: a QUIC varint of microseconds before the frame."""
    try:
        time, start = QUIC.decode(payload, 0)
    except IncompleteError:
        raise MediaError("an object of a legacy track has no timestamp") from None
    return time, b"", payload[start:]
