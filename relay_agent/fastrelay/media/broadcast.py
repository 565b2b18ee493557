"""From encoded frames to the groups and objects of a broadcast's tracks, sans-I/O.

One stream per group, frame by frame; group ids and start times are the same on all tracks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from fastrelay.catalog import Catalog, CatalogTrack, Kind, Packaging
from fastrelay.media import loc
from fastrelay.media.aac import parse_config
from fastrelay.media.cmaf import chunk, init_segment
from fastrelay.media.ffmpeg import AUDIO_DELAY, Encoding
from fastrelay.media.flv import FlvConfig, FlvFrame
from fastrelay.media.formats import Format, MediaError, Sample
from fastrelay.media.h264 import parse_record
from fastrelay.media.ladder import AUDIO_PRIORITY, priorities
from fastrelay.media.timeline import VIDEO_TIMESCALE, AudioClock, Placed, Timeline


@dataclass(frozen=True, slots=True)
class MediaObject:
    """One object to publish. ``begins`` and ``ends`` its group; ``sample`` is what is in it,
    ``time`` its media time as Unix time in seconds."""

    track: str
    group: int
    begins: bool
    ends: bool
    payload: bytes
    properties: bytes
    sample: Sample
    time: float


@dataclass(slots=True)
class _Track:
    priority: int
    format: Format | None = None
    group: int | None = None
    sequence: count[int] = field(default_factory=lambda: count(1))


class Broadcast:
    """Feed it what the encoder puts out. Once all formats are known it calls ``on_ready``, and
    from then on ``on_object``, which misses nothing of the first group."""

    def __init__(
        self,
        encoding: Encoding,
        packaging: Packaging,
        loc_properties: loc.Properties,
        on_ready: Callable[[], None],
        on_object: Callable[[MediaObject], None],
    ) -> None:
        self.packaging = packaging
        self.ready = False
        """Whether the formats of all tracks are known, and with them the catalog."""
        self._encoding = encoding
        self._loc_properties = loc_properties
        self._on_ready = on_ready
        self._on_object = on_object
        self._timeline: Timeline | None = None
        self._audio_clock: AudioClock | None = None
        self._early: list[tuple[str, FlvFrame]] = []
        order = priorities(encoding.renditions)
        self._tracks = {name: _Track(order.get(name, AUDIO_PRIORITY)) for name in encoding.outputs}

    @property
    def track_priorities(self) -> dict[str, int]:
        """Publisher priority of each track, by name."""
        return {name: track.priority for name, track in self._tracks.items()}

    @property
    def bitrate(self) -> int:
        """Bits per second of all tracks together, containers not counted."""
        video = sum(rendition.bitrate for rendition in self._encoding.renditions)
        return video + self._encoding.audio_bitrate

    def begin(self, origin: int) -> None:
        """The encoder's time 0 is ``origin``, Unix time in milliseconds."""
        encoding = self._encoding
        self._timeline = Timeline(origin, encoding.framerate, encoding.gop)

    def item(self, name: str, item: FlvConfig | FlvFrame) -> None:
        """A configuration or frame of one output, in order.

        :raises MediaError: the encoder did not do what it was told.
        """
        if isinstance(item, FlvConfig):
            self._configure(name, item)
        elif not self.ready:
            self._early.append((name, item))
        else:
            self._frame(name, item)

    def _configure(self, name: str, config: FlvConfig) -> None:
        track = self._tracks[name]
        if track.format is not None:
            if track.format.description != config.record:
                raise MediaError(f"the encoder changed the format of {name}")
            return
        if config.kind is Kind.VIDEO:
            video = parse_record(config.record)
            width, height = video.size
            track.format = Format(
                Kind.VIDEO, video.codec, VIDEO_TIMESCALE, config.record, width, height
            )
        else:
            audio = parse_config(config.record)
            track.format = Format(
                Kind.AUDIO,
                audio.codec,
                audio.sample_rate,
                config.record,
                sample_rate=audio.sample_rate,
                channels=audio.channels,
            )
        if all(known.format for known in self._tracks.values()):
            self.ready = True
            self._on_ready()
            early, self._early = self._early, []
            # Video first: it says when the first group starts.
            for early_name, frame in sorted(early, key=lambda pair: pair[1].kind is Kind.AUDIO):
                self._frame(early_name, frame)

    def _frame(self, name: str, frame: FlvFrame) -> None:
        track = self._tracks[name]
        timeline = self._timeline
        if timeline is None or track.format is None:
            raise MediaError("the encoder put out a frame before it began")
        if frame.kind is Kind.VIDEO:
            placed = timeline.video(frame)
        else:
            if self._audio_clock is None:
                self._audio_clock = AudioClock(timeline, track.format.sample_rate, AUDIO_DELAY)
            placed = self._audio_clock.place(frame)
        if placed is not None:
            self._put(name, track, track.format, placed)

    def _put(self, name: str, track: _Track, track_format: Format, placed: Placed) -> None:
        sample = placed.sample
        begins = placed.group != track.group
        if begins and not sample.key:
            raise MediaError(f"the encoder began a group of {name} without a key frame")
        track.group = placed.group
        if self.packaging is Packaging.CMAF:
            payload, properties = chunk(sample, next(track.sequence)), b""
        else:
            payload, properties = loc.pack(sample, track_format, self._loc_properties)
        self._on_object(
            MediaObject(
                name,
                placed.group,
                begins,
                placed.last,
                payload,
                properties,
                sample,
                sample.time / track_format.timescale,
            )
        )

    def catalog(self, generated_at: int, target_latency: int) -> Catalog:
        """What is on offer; times in milliseconds.

        :raises MediaError: not ready yet.
        """
        bitrates = {r.name: r.bitrate for r in self._encoding.renditions}
        bitrates[self._encoding.audio_name] = self._encoding.audio_bitrate
        tracks: list[CatalogTrack] = []
        for name, track in self._tracks.items():
            told = track.format
            if told is None:
                raise MediaError(f"the format of {name} is not known yet")
            cmaf = self.packaging is Packaging.CMAF
            video = told.kind is Kind.VIDEO
            # LOC has the parameter sets before each key frame: avc3.
            codec = told.codec if cmaf else told.codec.replace("avc1.", "avc3.")
            tracks.append(
                CatalogTrack(
                    name=name,
                    kind=told.kind,
                    packaging=self.packaging,
                    codec=codec,
                    init=init_segment([told]) if cmaf else b"",
                    bitrate=bitrates[name],
                    width=told.width,
                    height=told.height,
                    framerate=float(self._encoding.framerate) if video else 0.0,
                    sample_rate=told.sample_rate,
                    channels=told.channels,
                    target_latency=target_latency,
                    group_duration=round(1000 * self._encoding.gop / self._encoding.framerate),
                    alt_group=1 if video else 2,
                )
            )
        return Catalog(tuple(tracks), generated_at)
