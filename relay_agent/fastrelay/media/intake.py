"""Received objects on their way into the report, the log and the files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fastrelay.catalog import Catalog, CatalogTrack, Kind, Packaging
from fastrelay.client import Client, ReceivedObject, SubgroupEnd
from fastrelay.media.digests import DigestLog
from fastrelay.media.formats import FormatChangedError, MediaError, Sample
from fastrelay.media.handover import Source
from fastrelay.media.readers import TrackReader, reader_for
from fastrelay.media.recording import Recording, Sink
from fastrelay.media.report import Playout, Report, TrackReport
from fastrelay.media.sequencer import GroupSequencer
from fastrelay.moqt.codes import MoqtError
from fastrelay.moqt.names import ObjectStatus

AUTOMATIC = b"auto:%d"
"""The relay's own track of an alternate group."""
_PLAUSIBLE_LATENCY = 3600.0
"""Seconds; whoever is further off does not mean Unix time."""


@dataclass(slots=True)
class Channel:
    """One watched track, whatever sessions it comes through."""

    track: CatalogTrack
    """As the catalog has it; a change of the format ends the recording."""
    name: bytes
    """What is subscribed to."""
    reader: TrackReader
    report: TrackReport
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    """The catalog no longer has it."""
    automatic: bool = False
    """The relay chooses: ``track`` is one of the renditions."""
    sequencer: GroupSequencer[list[Sample]] = field(default_factory=GroupSequencer)


class Intake:
    """Reads, counts, measures and writes what a viewer receives."""

    def __init__(self, report: Report, digests: DigestLog | None) -> None:
        self.report = report
        self.channels: list[Channel] = []
        self.joined = asyncio.Event()
        """The first frame is there."""
        self._digests = digests
        self._recordings: list[Recording] = []
        # Objects are timed by the monotonic clock; media times are Unix times.
        self._epoch = time.time() - time.monotonic()
        self._media_epoch = 0.0
        self._started = time.monotonic()
        self._first_frame = 0.0

    def begin(
        self,
        tracks: Iterable[CatalogTrack],
        sinks: Sequence[Sink],
        buffer: float,
        *,
        automatic: bool = False,
    ) -> None:
        """What is watched, and where it goes.

        :param automatic: of video, whichever rendition of its alternate group the relay chooses.
        :raises MediaError: the catalog's init data cannot be used.
        """
        for track in tracks:
            mixed = automatic and track.kind is Kind.VIDEO
            name = AUTOMATIC % track.alt_group if mixed else track.name.encode()
            if mixed and sinks and track.packaging is Packaging.CMAF:
                raise MediaError(
                    "renditions of CMAF have an init segment each, and a file holds only one: "
                    "publish with --packaging loc, or write no file"
                )
            report = TrackReport(track.kind.value, Playout(buffer))
            reader = reader_for(track, mixed=mixed)
            self.channels.append(Channel(track, name, reader, report, automatic=mixed))
            self.report.tracks[name.decode()] = report
        names = tuple(channel.track.name for channel in self.channels)
        self._recordings = [Recording(sink, names) for sink in sinks]

    def object(
        self, client: Client, channel: Channel, source: Source, item: ReceivedObject
    ) -> None:
        """One object of a track through one of its sources, in order of arrival."""
        if not source.takes(item):
            return
        samples = self._read(client, channel, item)
        if samples:
            group, number = item.location
            now = time.monotonic()
            ready = channel.sequencer.push(group, item.subgroup_id, number, samples, now)
            self._deliver(channel, ready)

    def subgroup_end(self, channel: Channel, source: Source, item: SubgroupEnd) -> None:
        """A stream of the track ended, well or not."""
        if source.ends(item):
            channel.report.resets += item.reset is not None
            self._end(channel, item.group_id, item.subgroup_id or 0)

    def lost(self, channel: Channel, source: Source) -> None:
        """The source's session is no more, and with it what its streams had left to say."""
        for group, subgroup in sorted(source.open):
            self._end(channel, group, subgroup)

    def missing(self, catalog: Catalog) -> list[str]:
        """Watched tracks that a catalog does not have.

        :raises FormatChangedError: it has one, but in another format.
        """
        listed = {track.name: track for track in catalog.tracks}
        missing: list[str] = []
        for channel in self.channels:
            track = channel.track
            now = listed.get(track.name)
            if channel.automatic:
                if all(each.alt_group != track.alt_group for each in catalog.tracks):
                    missing.append(track.name)
            elif now is None:
                missing.append(track.name)
            elif (now.packaging, now.codec, now.init) != (track.packaging, track.codec, track.init):
                raise FormatChangedError(track.name)
        return missing

    def catalog(self, catalog: Catalog) -> list[str]:
        """A new catalog; the names of the tracks that it no longer has and the last one had.

        :raises FormatChangedError: as :meth:`missing` does.
        """
        missing = self.missing(catalog)
        dropped: list[str] = []
        for channel in self.channels:
            if channel.track.name in missing and not channel.dropped.is_set():
                channel.dropped.set()
                dropped.append(channel.track.name)
        return dropped

    def over(self) -> None:
        """The broadcast is over: nothing is waited for any more."""
        for channel in self.channels:
            self._deliver(channel, channel.sequencer.flush())

    def finish(self) -> None:
        """Complete the files and the report."""
        if self.joined.is_set():
            self.report.duration = time.monotonic() - self._first_frame
        for recording in self._recordings:
            recording.finish()

    def _end(self, channel: Channel, group: int, subgroup: int) -> None:
        self._deliver(channel, channel.sequencer.end(group, subgroup, time.monotonic()))

    def _read(self, client: Client, channel: Channel, item: ReceivedObject) -> list[Sample]:
        """Samples of an object, counted and measured; none if it has none to use."""
        report = channel.report
        location = item.location
        if item.status is not ObjectStatus.NORMAL:
            return []
        if not report.arrived(location.group, location.object, len(item.payload)):
            return []
        try:
            properties = list(client.decode_properties(item.properties))
            samples = channel.reader.read(item.payload, properties, first=location.object == 0)
        except (MediaError, MoqtError):
            report.malformed += 1
            return []
        track_format = channel.reader.format
        if track_format is None:
            return []  # nothing told yet what this is
        if not self.joined.is_set():
            self._first_frame = item.received_at
            self.report.join = item.received_at - self._started
            self.joined.set()
            self._check_clock(item, samples[0], track_format.timescale)
        received = self._epoch + item.received_at
        for sample in samples:
            media_time = (sample.time + sample.offset) / track_format.timescale
            latency = received - media_time - self._media_epoch
            report.latency(latency)
            if self._digests is not None:
                self._digests.write(
                    channel.name.decode(),
                    location.group,
                    location.object,
                    item.payload,
                    sample.data,
                    media_time,
                    received=received,
                    latency=latency,
                )
        return samples

    def _check_clock(self, item: ReceivedObject, first: Sample, timescale: int) -> None:
        """A publisher whose media time is not Unix time: count from the first frame."""
        apart = self._epoch + item.received_at - (first.time + first.offset) / timescale
        if abs(apart) > _PLAUSIBLE_LATENCY:
            self._media_epoch = apart
            self.report.unix_time = False

    def _deliver(self, channel: Channel, ready: list[list[Sample]]) -> None:
        channel.report.late = channel.sequencer.late
        track_format = channel.reader.format
        if track_format is None:
            return
        for samples in ready:
            for sample in samples:
                channel.report.ordered(sample)
                for recording in self._recordings:
                    recording.write(channel.track.name, track_format, sample)
