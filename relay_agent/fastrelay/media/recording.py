"""Writes received samples of several tracks as one fragmented MP4 file."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from fastrelay.catalog import Kind
from fastrelay.media.cmaf import chunk, init_segment
from fastrelay.media.formats import Format, FormatChangedError, MediaError, Sample

_HOLD = Fraction(2)
"""Seconds of media to hold at most until every track has begun."""


class Sink(Protocol):
    """Where the file's bytes go."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


@dataclass(slots=True)
class _Track:
    format: Format | None = None
    begun: bool = False
    track_id: int = 0


@dataclass(slots=True)
class Recording:
    """The file begins when each of its tracks has begun (video with a key frame), with time 0
    at the earliest sample; a track that does not begin in time is left out.

    ``sink`` gets whole fragments, one per frame, so that it is playable up to its last byte
    at any moment.
    """

    sink: Sink
    names: tuple[str, ...]
    frames: int = 0
    _tracks: dict[str, _Track] = field(default_factory=dict)
    _waiting: list[tuple[str, Sample]] = field(default_factory=list)
    _origin: Fraction | None = None

    def __post_init__(self) -> None:
        self._tracks = {name: _Track() for name in self.names}

    def write(self, name: str, track_format: Format, sample: Sample) -> None:
        """One sample, in order within its track.

        :raises FormatChangedError: it is not what the file was begun with.
        :raises MediaError: a codec that cannot be put into a file.
        :raises OSError: the sink does not take it.
        """
        track = self._tracks[name]
        if not track.begun:
            if track_format.kind is Kind.VIDEO and not sample.key:
                return
            track.format, track.begun = track_format, True
        elif track_format is not track.format and track_format != track.format:
            raise FormatChangedError(name)
        if self._origin is not None:
            self._put(track, sample)
            return
        self._waiting.append((name, sample))
        if all(t.begun for t in self._tracks.values()) or self._span() > _HOLD:
            self._begin()

    def finish(self) -> None:
        """Write what was still held back. The sink stays open."""
        if self._origin is None and self._waiting:
            self._begin()
        self.sink.flush()

    def _time(self, name: str, sample: Sample) -> Fraction:
        track_format = self._tracks[name].format
        if track_format is None:
            raise MediaError(f"track {name!r} has no format")
        return Fraction(sample.time, track_format.timescale)

    def _span(self) -> Fraction:
        times = [self._time(name, sample) for name, sample in (self._waiting[0], self._waiting[-1])]
        return abs(times[1] - times[0])

    def _begin(self) -> None:
        begun = [track for track in self._tracks.values() if track.begun]
        formats: list[Format] = []
        for index, track in enumerate(begun, 1):
            track.track_id = index
            if track.format is not None:
                formats.append(track.format)
        self.sink.write(init_segment(formats))
        self._origin = min(self._time(name, sample) for name, sample in self._waiting)
        for name, sample in self._waiting:
            self._put(self._tracks[name], sample)
        self._waiting.clear()

    def _put(self, track: _Track, sample: Sample) -> None:
        if not track.track_id or track.format is None or self._origin is None:
            return
        time = sample.time - round(self._origin * track.format.timescale)
        if time < 0:
            return
        self.frames += 1
        placed = Sample(time, sample.duration, sample.key, sample.data, sample.offset)
        self.sink.write(chunk(placed, self.frames, track.track_id))
