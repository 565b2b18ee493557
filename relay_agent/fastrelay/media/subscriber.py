"""``fastrelay subscribe``: a broadcast's tracks into files and a report, from relay to relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import cycle

from fastrelay.catalog import Catalog, CatalogTrack, Kind
from fastrelay.client import (
    Client,
    ClientError,
    FeedbackTrack,
    ReceivedObject,
    RequestFailedError,
    SessionLostError,
    Subscription,
)
from fastrelay.media.digests import DigestLog
from fastrelay.media.discovery import FoundCatalog, find_catalog, follow_catalog
from fastrelay.media.formats import FormatChangedError, MediaError, namespace_text
from fastrelay.media.handover import Source
from fastrelay.media.intake import Channel, Intake
from fastrelay.media.recording import Sink
from fastrelay.media.report import Report
from fastrelay.media.tasks import all_of, first_of
from fastrelay.moqt.codes import PublishDoneStatus, SessionError
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location, Namespace

Dial = Callable[[str | None], AbstractAsyncContextManager[Client]]
"""Opens a session; the argument is the URI of a GOAWAY, or None."""

_FIRST_RETRY, _LONGEST_RETRY = 0.25, 4.0
"""Seconds between attempts to reach a relay; they double."""
_HANDOVER = 10.0
"""Seconds that the old session has to complete its last groups, if GOAWAY gives no more."""
_LAST_OBJECTS = 3.0
"""Seconds for what is under way when the catalog says that a track is no more."""


class Start(Enum):
    """Where to join a live broadcast."""

    NEXT = "next"
    """With the next group: nothing old, so that every latency counts."""
    CURRENT = "current"
    """With the beginning of the group that is under way: a picture at once."""


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """``tracks``: exact names, instead of a choice. ``rendition``: name or height of a video
    track. ``bandwidth`` in bit/s. ``automatic``: the relay chooses the rendition. Times are
    seconds: ``duration`` counts from the first frame, ``patience`` is for the broadcast to appear
    and then for its first frame, ``buffer`` is what the player that is counted stalls for would
    buffer, ``retry`` how long to try to reach a relay again after the session was lost."""

    namespace: Namespace
    tracks: tuple[str, ...] = ()
    rendition: str | None = None
    bandwidth: int | None = None
    automatic: bool = False
    audio: bool = True
    start: Start = Start.NEXT
    duration: float | None = None
    patience: float = 10.0
    buffer: float = 0.2
    retry: float = 30.0
    feedback: bool = False
    """Tell the relay when objects arrive."""


def choose_video(
    catalog: Catalog, *, name: str | None = None, bandwidth: int | None = None
) -> CatalogTrack:
    """The named rendition, else the best one of at most ``bandwidth`` bit/s, else the best;
    when none is small enough, the smallest.

    :raises MediaError: no video, or no rendition of that name.
    """
    videos = [track for track in catalog.tracks if track.kind is Kind.VIDEO]
    if name is not None:
        for track in videos:
            if track.name == name or name in (str(track.height), f"{track.height}p"):
                return track
        names = ", ".join(track.name for track in videos) or "no video"
        raise MediaError(f"there is no rendition {name!r}; the catalog has {names}")
    if not videos:
        raise MediaError("the catalog has no video track")
    ordered = sorted(videos, key=lambda track: (track.bitrate, track.height))
    fitting = [track for track in ordered if bandwidth is None or track.bitrate <= bandwidth]
    return fitting[-1] if fitting else ordered[0]


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


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class _Leg:
    """One session, with subscriptions to all watched tracks."""

    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self.client = client
        self.sources: list[Source] = []
        self.feedback: FeedbackTrack | None = None
        self.receiving: asyncio.Task[None]
        """Done when all tracks are over, or the session is lost."""
        self.leaving = asyncio.create_task(first_of(client.wait_closed(), client.wait_goaway()))
        """Done when the session is lost or the peer asks to move."""
        stack.push_async_callback(_end, self.leaving)
        self._stack = stack

    @property
    def is_over(self) -> bool:
        """Whether the broadcast is, and not only the session.

        :raises MediaError: what came cannot be used.
        """
        if not self.receiving.done():
            return False
        error = self.receiving.exception()
        if error is None:
            return True
        if isinstance(error, ClientError):
            return False
        raise error

    async def close(self) -> None:
        await self._stack.aclose()


class Subscriber:
    """Receives one broadcast. ``report`` is up to date at every moment.

    :param notify: told in a sentence when the session changes.
    """

    def __init__(
        self,
        options: SubscribeOptions,
        digests: DigestLog | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.options = options
        self.report = Report(namespace_text(options.namespace))
        self._digests = digests
        self._notify = notify

    async def run(self, dial: Dial, stop: asyncio.Event, sinks: Sequence[Sink] = ()) -> None:
        """Receive until the broadcast is over, the time is up or ``stop`` is set.

        :param sinks: each gets all chosen tracks as one fragmented MP4 file.

        :raises MediaError: no broadcast, no such rendition, nothing came, or a track came
            back in another format.
        :raises ClientError: no session, or it was lost and did not come back.
        :raises OSError: an output cannot be written.
        """
        intake = Intake(self.report, self._digests)
        watching = _Watching(self.options, intake, dial, sinks, self._notify)
        try:
            await first_of(watching.run(), stop.wait())
        finally:
            await watching.close()
            intake.finish()


class _Watching:
    """The sessions of one run, one after the other."""

    def __init__(
        self,
        options: SubscribeOptions,
        intake: Intake,
        dial: Dial,
        sinks: Sequence[Sink],
        notify: Callable[[str], None],
    ) -> None:
        self._options = options
        self._report = intake.report
        self._notify = notify
        self._intake = intake
        self._dial = dial
        self._sinks = sinks
        self._legs: list[_Leg] = []

    async def run(self) -> None:
        leg = await self._open(None, self._options.patience, None)
        await first_of(self._follow(leg), self._time_is_up())
        if not self._intake.joined.is_set():
            raise MediaError("the broadcast ended before a frame came")

    async def close(self) -> None:
        for leg in list(self._legs):
            await self._close(leg)

    async def _close(self, leg: _Leg) -> None:
        self._legs.remove(leg)
        await leg.close()

    async def _time_is_up(self) -> None:
        options = self._options
        try:
            async with asyncio.timeout(options.patience):
                await self._intake.joined.wait()
        except TimeoutError:
            raise MediaError(
                f"the broadcast is there, but no frame came in {options.patience:g} s"
            ) from None
        if options.duration is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(options.duration)

    async def _follow(self, leg: _Leg) -> None:
        """Receive, on one relay after the other, until the broadcast is over."""
        while True:
            await asyncio.wait((leg.receiving, leg.leaving), return_when=asyncio.FIRST_COMPLETED)
            if leg.client.closed:
                await asyncio.wait((leg.receiving,))  # what has arrived is still read
            if leg.is_over:
                self._intake.over()
                return
            leg = await self._replace(leg) or leg

    async def _replace(self, old: _Leg) -> _Leg | None:
        """A new session instead of one that was lost or is going away; None: not needed, the
        broadcast is over.

        One that is going away is left when all that it began is complete (draft-18 3.6).

        :raises ClientError: no session for ``retry`` seconds.
        """
        retry = self._options.retry
        goaway = old.client.going_away
        named = goaway.new_session_uri if goaway is not None else ""
        if old.receiving.done():
            self._notify(f"{old.receiving.exception()}; trying again for {retry:g} s")
        else:
            self._notify(f"the relay asks to move{f' to {named}' if named else ''}")
        deadline = time.monotonic() + retry
        pause = _FIRST_RETRY
        for uri in cycle([named, None] if named else [None]):
            try:
                new = await self._open(uri, 0.0, old)
                break
            except FormatChangedError:
                raise
            except (ClientError, MediaError) as error:
                if old.is_over:
                    return None
                if not old.receiving.done():
                    deadline = time.monotonic() + retry  # still served
                elif time.monotonic() >= deadline:
                    raise
                self._notify(f"not there yet: {error}; again in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY)
        self._report.sessions += 1
        self._notify("there again")
        await self._complete(old, new)
        return new

    async def _complete(self, old: _Leg, new: _Leg) -> None:
        """Leave the old session once nothing that it began is missing."""
        goaway = old.client.going_away
        grace = goaway.timeout / 1000 if goaway is not None and goaway.timeout else 0.0
        deadline = time.monotonic() + max(grace, _HANDOVER)
        while (
            not old.receiving.done()
            and not new.receiving.done()
            and not all(source.finished for source in old.sources)
            and time.monotonic() < deadline
        ):
            await asyncio.wait((old.receiving, new.receiving), timeout=0.05)
        await self._close(old)
        for channel, source in zip(self._intake.channels, old.sources, strict=True):
            self._intake.lost(channel, source)

    async def _open(self, uri: str | None, patience: float, old: _Leg | None) -> _Leg:
        """A session that receives.

        :param old: the one before; None: this is the first.
        """
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(self._dial(uri))
            leg = _Leg(client, stack)
            leg.feedback = await self._tell(client, stack)
            found = await find_catalog(client, self._options.namespace, patience)
            if old is None:
                self._begin(client, found.catalog)
                leg.sources = [Source() for _ in self._intake.channels]
            else:
                self._compare(found.catalog)
                leg.sources = [Source(source) for source in old.sources]
            subscriptions = [
                await self._subscribe(client, channel, old) for channel in self._intake.channels
            ]
        except BaseException:
            await stack.aclose()
            raise
        receiving = [
            self._track(leg, channel, source, subscription, old is None)
            for channel, source, subscription in zip(
                self._intake.channels, leg.sources, subscriptions, strict=True
            )
        ]
        leg.receiving = asyncio.create_task(
            first_of(all_of(*receiving), self._watch_catalog(client, found))
        )
        stack.push_async_callback(_end, leg.receiving)
        self._legs.append(leg)
        return leg

    async def _tell(self, client: Client, stack: AsyncExitStack) -> FeedbackTrack | None:
        if not self._options.feedback:
            return None
        try:
            track = await FeedbackTrack.begin(client)
        except RequestFailedError as error:
            self._notify(f"the relay does not take feedback: {error}")
            return None
        stack.callback(track.close)
        return track

    def _begin(self, client: Client, catalog: Catalog) -> None:
        report = self._report
        report.draft = str(client.draft)
        report.transport = "WebTransport" if client.transport.is_webtransport else "QUIC"
        chosen = choose_tracks(catalog, self._options)
        automatic = self._options.automatic
        if automatic and not any(t.alt_group for t in chosen if t.kind is Kind.VIDEO):
            raise MediaError("the catalog tells of no renditions that the relay could choose from")
        self._intake.begin(chosen, self._sinks, self._options.buffer, automatic=automatic)

    async def _subscribe(self, client: Client, channel: Channel, old: _Leg | None) -> Subscription:
        kind = FilterKind.NEXT_GROUP
        if old is None and self._options.start is Start.CURRENT:
            kind = FilterKind.NEXT_OBJECT
        namespace = None if channel.automatic else channel.track.namespace
        name = FullTrackName(namespace or self._options.namespace, channel.name)
        return await client.subscribe(name, Parameters(filter=LocationFilter(kind)))

    # What is received

    async def _track(
        self, leg: _Leg, channel: Channel, source: Source, given: Subscription, first: bool
    ) -> None:
        async with given:
            caught_up = None
            if first and self._options.start is Start.CURRENT:
                caught_up = await self._catch_up(leg.client, channel, source, given)
            await first_of(self._items(leg, channel, source, given, caught_up), _dropped(channel))
            if given.done is not None and given.done.status == PublishDoneStatus.GOING_AWAY:
                raise SessionLostError(SessionError.NO_ERROR, "the relay goes away")

    async def _items(
        self,
        leg: _Leg,
        channel: Channel,
        source: Source,
        given: Subscription,
        caught_up: Location | None,
    ) -> None:
        alias = given.established.track_alias
        async for item in given:
            if not isinstance(item, ReceivedObject):
                self._intake.subgroup_end(channel, source, item)
                continue
            if leg.feedback is not None:
                leg.feedback.arrived(alias, item)
            # Relays give a late subscriber of a quiet track its current group unasked.
            if caught_up is None or item.location > caught_up:
                self._intake.object(leg.client, channel, source, item)

    async def _catch_up(
        self, client: Client, channel: Channel, source: Source, given: Subscription
    ) -> Location | None:
        """What the current group had before the subscription began; live objects wait for it.

        Returns the last location that it covered, None if it could not be had.
        """
        try:
            async with asyncio.timeout(self._options.patience):
                fetch = await given.joining_fetch(0)
                async for item in fetch:
                    if isinstance(item, ReceivedObject):
                        self._intake.object(client, channel, source, item)
        except (RequestFailedError, TimeoutError):
            return None  # there is nothing, or not from here: what is live has to do
        return given.largest

    async def _watch_catalog(self, client: Client, found: FoundCatalog) -> None:
        """Take note of every new catalog, for as long as the session lasts."""
        with suppress(ClientError):
            async with aclosing(follow_catalog(client, found)) as catalogs:
                async for catalog in catalogs:
                    dropped = self._intake.catalog(catalog)
                    if dropped and catalog.tracks:
                        self._notify(f"the catalog no longer has {', '.join(dropped)}")
        await asyncio.Event().wait()

    def _compare(self, catalog: Catalog) -> None:
        """
        :raises MediaError: the relay does not have all tracks, perhaps not yet.
        """
        if missing := self._intake.missing(catalog):
            raise MediaError(f"the catalog has no track {missing[0]!r}")


async def _dropped(channel: Channel) -> None:
    """Until the catalog no longer has the track, and a little for what is under way."""
    await channel.dropped.wait()
    await asyncio.sleep(_LAST_OBJECTS)
