"""``fastrelay subscribe``: a broadcast's tracks into a file or a player, and a report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum

from fastrelay.client import Client, ReceivedObject, RequestFailedError, Subscription
from fastrelay.media.catalog import Catalog, CatalogTrack, choose_video
from fastrelay.media.digests import DigestLog
from fastrelay.media.discovery import find_catalog
from fastrelay.media.formats import Kind, MediaError, Sample, namespace_text
from fastrelay.media.readers import TrackReader, reader_for
from fastrelay.media.recording import Recording, Sink
from fastrelay.media.report import Playout, Report, TrackReport
from fastrelay.media.sequencer import GroupSequencer
from fastrelay.media.tasks import all_of, first_of
from fastrelay.moqt.codes import MoqtError
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location, Namespace, ObjectStatus

_PLAUSIBLE_LATENCY = 3600.0
"""Seconds; whoever is further off does not mean Unix time."""


class Start(Enum):
    """Where to join a live broadcast."""

    NEXT = "next"
    """With the next group: nothing old, so that every latency counts."""
    CURRENT = "current"
    """With the beginning of the group that is under way: a picture at once."""


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """``tracks``: exact names, instead of a choice. ``rendition``: name or height of a video
    track. ``bandwidth`` in bit/s. Times are seconds: ``duration`` counts from the first frame,
    ``patience`` is for the broadcast to appear and then for its first frame, ``buffer`` is
    what the player that is counted stalls for would buffer."""

    namespace: Namespace
    tracks: tuple[str, ...] = ()
    rendition: str | None = None
    bandwidth: int | None = None
    audio: bool = True
    start: Start = Start.NEXT
    duration: float | None = None
    patience: float = 10.0
    buffer: float = 0.2


def choose_tracks(catalog: Catalog, options: SubscribeOptions) -> list[CatalogTrack]:
    """One video rendition and the first audio track, or exactly the tracks that are named.

    :raises MediaError: there is no such track.
    """
    if options.tracks:
        by_name = {track.name: track for track in catalog.tracks}
        missing = [name for name in options.tracks if name not in by_name]
        if missing:
            raise MediaError(
                f"there is no track {missing[0]!r}; the catalog has {', '.join(by_name)}"
            )
        return [by_name[name] for name in options.tracks]
    chosen = [choose_video(catalog, name=options.rendition, bandwidth=options.bandwidth)]
    if options.audio:
        chosen += [track for track in catalog.tracks if track.kind is Kind.AUDIO][:1]
    return chosen


@dataclass(slots=True)
class _Channel:
    """One subscribed track on its way to the outputs."""

    name: str
    reader: TrackReader
    report: TrackReport
    sequencer: GroupSequencer[list[Sample]] = field(default_factory=GroupSequencer)


class Subscriber:
    """Receives one broadcast. ``report`` is up to date at every moment."""

    def __init__(self, options: SubscribeOptions, digests: DigestLog | None = None) -> None:
        self.options = options
        self.report = Report(namespace_text(options.namespace))
        self._digests = digests
        self._recordings: list[Recording] = []
        # Objects are timed by the monotonic clock; media times are Unix times.
        self._epoch = time.time() - time.monotonic()
        self._media_epoch = 0.0
        self._started = 0.0
        self._first_frame = 0.0
        self._joined = asyncio.Event()

    async def run(
        self,
        dial: AbstractAsyncContextManager[Client],
        stop: asyncio.Event,
        sinks: Sequence[Sink] = (),
    ) -> None:
        """Receive until the broadcast is over, the time is up or ``stop`` is set.

        :param sinks: each gets all chosen tracks as one fragmented MP4 file.

        :raises MediaError: no broadcast, no such rendition, or nothing came.
        :raises ClientError: no session, or it was lost.
        :raises OSError: an output cannot be written.
        """
        self._started = time.monotonic()
        try:
            async with dial as client:
                self.report.draft = str(client.draft)
                webtransport = client.transport.is_webtransport
                self.report.transport = "WebTransport" if webtransport else "QUIC"
                await first_of(self._receive(client, sinks), stop.wait())
        finally:
            if self._joined.is_set():
                self.report.duration = time.monotonic() - self._first_frame
            for recording in self._recordings:
                recording.finish()

    async def _receive(self, client: Client, sinks: Sequence[Sink]) -> None:
        options = self.options
        catalog = await find_catalog(client, options.namespace, options.patience)
        chosen = choose_tracks(catalog, options)
        channels: list[tuple[_Channel, Subscription]] = []
        for track in chosen:
            report = TrackReport(track.kind.value, Playout(options.buffer))
            channel = _Channel(track.name, reader_for(track), report)
            self.report.tracks[track.name] = report
            namespace = track.namespace or options.namespace
            name = FullTrackName(namespace, track.name.encode())
            channels.append((channel, await self._subscribe(client, name)))
        names = tuple(track.name for track in chosen)
        self._recordings = [Recording(sink, names) for sink in sinks]
        receiving = (self._track(client, channel, given) for channel, given in channels)
        await first_of(all_of(*receiving), self._time_is_up())
        if not self._joined.is_set():
            raise MediaError("the broadcast ended before a frame came")

    async def _subscribe(self, client: Client, name: FullTrackName) -> Subscription:
        kind = FilterKind.NEXT_GROUP
        if self.options.start is Start.CURRENT:
            kind = FilterKind.NEXT_OBJECT
        return await client.subscribe(name, Parameters(filter=LocationFilter(kind)))

    async def _time_is_up(self) -> None:
        try:
            async with asyncio.timeout(self.options.patience):
                await self._joined.wait()
        except TimeoutError:
            raise MediaError(
                f"the broadcast is there, but no frame came in {self.options.patience:g} s"
            ) from None
        if self.options.duration is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.options.duration)

    async def _track(self, client: Client, channel: _Channel, subscription: Subscription) -> None:
        sequencer = channel.sequencer
        async with subscription:
            caught_up = None
            if self.options.start is Start.CURRENT:
                caught_up = await self._catch_up(client, channel, subscription)
            async for item in subscription:
                if isinstance(item, ReceivedObject):
                    # Relays give a late subscriber of a quiet track its current group unasked.
                    if caught_up is None or item.location > caught_up:
                        self._object(client, channel, item)
                else:
                    channel.report.resets += item.reset is not None
                    subgroup = item.subgroup_id or 0
                    self._deliver(channel, sequencer.end(item.group_id, subgroup, time.monotonic()))
        self._deliver(channel, sequencer.flush())

    async def _catch_up(
        self, client: Client, channel: _Channel, subscription: Subscription
    ) -> Location | None:
        """What the current group had before the subscription began; live objects wait for it.

        Returns the last location that it covered, None if it could not be had.
        """
        try:
            async with asyncio.timeout(self.options.patience):
                fetch = await subscription.joining_fetch(0)
                async for item in fetch:
                    if isinstance(item, ReceivedObject):
                        self._object(client, channel, item)
        except (RequestFailedError, TimeoutError):
            return None  # there is nothing, or not from here: what is live has to do
        return subscription.largest

    def _object(self, client: Client, channel: _Channel, item: ReceivedObject) -> None:
        samples = self._read(client, channel, item)
        if samples:
            group, number = item.location
            now = time.monotonic()
            ready = channel.sequencer.push(group, item.subgroup_id, number, samples, now)
            self._deliver(channel, ready)

    def _read(self, client: Client, channel: _Channel, item: ReceivedObject) -> list[Sample]:
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
        if not self._joined.is_set():
            self._first_frame = item.received_at
            self.report.join = item.received_at - self._started
            self._joined.set()
            self._check_clock(item, samples[0], track_format.timescale)
        received = self._epoch + item.received_at
        for sample in samples:
            media_time = (sample.time + sample.offset) / track_format.timescale
            latency = received - media_time - self._media_epoch
            report.latency(latency)
            if self._digests is not None:
                self._digests.write(
                    channel.name,
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

    def _deliver(self, channel: _Channel, ready: list[list[Sample]]) -> None:
        channel.report.late = channel.sequencer.late
        track_format = channel.reader.format
        if track_format is None:
            return
        for samples in ready:
            for sample in samples:
                channel.report.ordered(sample)
                for recording in self._recordings:
                    recording.write(channel.name, track_format, sample)
