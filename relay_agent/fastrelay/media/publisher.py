"""``fastrelay publish``: an encoder's frames onto the tracks of one or more MoQT sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from fastrelay.catalog import (
    HANG_TRACK,
    MSF_TRACK,
    Catalog,
    Packaging,
    build_hang,
    build_msf,
)
from fastrelay.client import Client, ClientError, PublishedTrack, Subgroup
from fastrelay.media.broadcast import Broadcast, MediaObject
from fastrelay.media.digests import DigestLog
from fastrelay.media.ffmpeg import Encoder, Encoding
from fastrelay.media.formats import MediaError
from fastrelay.media.ladder import CATALOG_PRIORITY
from fastrelay.media.loc import Properties
from fastrelay.media.tasks import first_of
from fastrelay.moqt.names import FullTrackName, Namespace

Dial = Callable[[str | None], AbstractAsyncContextManager[Client]]
"""Opens a session; the argument is the URI of a GOAWAY, or None."""

_KEPT_GROUPS = 2
_HANDOVER = 2.0
"""Seconds for which both sessions are served after a GOAWAY at least, whoever watches there."""
_HANDOVER_INTERVAL = 0.1
_RETRY_INTERVAL = 1.0
_READY_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """Times are seconds, but ``target_latency`` (milliseconds, for the catalog). ``retry``:
    how long to try to reach the relay again after the session was lost."""

    namespace: Namespace
    packaging: Packaging = Packaging.CMAF
    loc_properties: Properties = Properties.MINIMAL
    catalog_interval: float = 5.0
    target_latency: int = 500
    retry: float = 30.0


@dataclass(slots=True)
class PublishStatus:
    """What has happened so far; ``started`` in ``time.monotonic()``, ``sessions``: how many
    have carried the broadcast, one after the other."""

    started: float
    frames: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    group: int = 0
    sessions: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "duration_s": round(time.monotonic() - self.started, 3),
            "sessions": self.sessions,
            "frames": sum(self.frames.values()),
            "bytes": sum(self.bytes.values()),
            "tracks": {
                name: {"frames": self.frames[name], "bytes": self.bytes[name]}
                for name in self.frames
            },
        }


class _Outlet:
    """The broadcast's tracks in one session."""

    def __init__(self, client: Client, namespace: Namespace, broadcast: Broadcast) -> None:
        self.client = client
        self._tracks: dict[str, PublishedTrack] = {}
        # A connection that cannot carry everything loses the largest picture first: it is
        # given no new group while more than a second of media waits, the next one while more
        # than two seconds wait, and so on.
        ranked = sorted(broadcast.track_priorities.items(), key=lambda pair: -pair[1])
        for seconds, (name, priority) in enumerate(ranked, 1):
            self._tracks[name] = client.add_track(
                FullTrackName(namespace, name.encode()),
                priority=priority,
                keep_groups=_KEPT_GROUPS,
                max_backlog=seconds * broadcast.bitrate // 8,
            )
        self._catalogs = {
            name: client.add_track(
                FullTrackName(namespace, name), priority=CATALOG_PRIORITY, keep_groups=1
            )
            for name in (
                MSF_TRACK,
                *([HANG_TRACK] if broadcast.packaging is Packaging.CMAF else []),
            )
        }
        self._properties = broadcast.packaging is Packaging.LOC
        self._open: dict[str, Subgroup] = {}

    @property
    def subscribers(self) -> int:
        return sum(track.subscribers for track in self._tracks.values())

    def object(self, item: MediaObject) -> None:
        subgroup = self._open.get(item.track)
        if item.begins:
            if subgroup is not None:
                subgroup.close()
            subgroup = self._open[item.track] = self._tracks[item.track].open_subgroup(
                item.group, properties=self._properties, end_of_group=True
            )
        if subgroup is None:
            return  # the session began in the middle of the group
        subgroup.write(item.payload, properties=item.properties)
        if item.ends:
            del self._open[item.track]
            subgroup.close()

    def catalog(self, group: int, catalog: Catalog) -> None:
        for name, track in self._catalogs.items():
            subgroup = track.open_subgroup(group, end_of_group=True)
            subgroup.write(build_msf(catalog) if name == MSF_TRACK else build_hang(catalog))
            subgroup.close()

    def end(self, group: int) -> None:
        """All media tracks, then a catalog that says so, then the catalogs."""
        for subgroup in self._open.values():
            subgroup.close()
        for track in self._tracks.values():
            track.end()
        self.catalog(group, Catalog((), time.time_ns() // 1_000_000, complete=True))
        for track in self._catalogs.values():
            track.end()


class _Session:
    """One open session; ``outlet`` once it carries the broadcast."""

    def __init__(self, stack: AsyncExitStack, client: Client) -> None:
        self.client = client
        self.outlet: _Outlet | None = None
        self.ended = asyncio.create_task(first_of(client.wait_closed(), client.wait_goaway()))
        """Done when the session is lost or the peer asks to move."""
        self._stack = stack

    async def close(self) -> None:
        self.ended.cancel()
        await self._stack.aclose()


class Publisher:
    """Publishes one encoding until its input ends or it is told to stop."""

    def __init__(
        self,
        encoding: Encoding,
        options: PublishOptions,
        dial: Dial,
        digests: DigestLog | None = None,
    ) -> None:
        self.encoding = encoding
        self.options = options
        self.status = PublishStatus(
            time.monotonic(), dict.fromkeys(encoding.outputs, 0), dict.fromkeys(encoding.outputs, 0)
        )
        self._dial = dial
        self._digests = digests
        self._broadcast = Broadcast(
            encoding,
            options.packaging,
            options.loc_properties,
            self._on_ready,
            self._on_object,
        )
        self._sessions: list[_Session] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._object_ids: dict[str, int] = {}
        self._catalog = Catalog(())
        self._catalog_group = int(time.time())
        self._ready = asyncio.Event()

    @property
    def _outlets(self) -> list[_Outlet]:
        return [s.outlet for s in self._sessions if s.outlet is not None and not s.client.closed]

    @property
    def subscribers(self) -> int:
        """Subscriptions to media tracks that want objects now."""
        return sum(outlet.subscribers for outlet in self._outlets)

    @property
    def backlog(self) -> int:
        """Bytes that wait for the network."""
        return max((outlet.client.backlog for outlet in self._outlets), default=0)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until the input ends or ``stop`` is set.

        :raises MediaError: the encoder failed.
        :raises ClientError: there is no session, or it was lost and did not come back.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_sessions)
            session = await self._open(None)
            encoder = Encoder(self.encoding, self._broadcast.begin, self._broadcast.item)
            await stack.enter_async_context(encoder)
            over = asyncio.create_task(first_of(encoder.wait(), stop.wait()))
            stack.callback(over.cancel)
            await self._wait_ready(over)
            if self._broadcast.ready:
                await self._announce(session)
            await self._serve(session, over)
            await encoder.stop()
            for outlet in self._outlets:
                outlet.end(self._catalog_group)

    async def _open(self, uri: str | None) -> _Session:
        stack = AsyncExitStack()
        session = _Session(stack, await stack.enter_async_context(self._dial(uri)))
        self._sessions.append(session)
        return session

    async def _close(self, session: _Session) -> None:
        self._sessions.remove(session)
        await session.close()

    async def _leave(self, session: _Session) -> None:
        """Serve a relay that goes away until nobody watches there, or it ends the session."""
        lost = asyncio.create_task(session.client.wait_closed())
        try:
            await asyncio.wait((lost,), timeout=_HANDOVER)
            while not lost.done() and session.outlet is not None and session.outlet.subscribers:
                await asyncio.wait((lost,), timeout=_HANDOVER_INTERVAL)
        finally:
            lost.cancel()
        await self._close(session)

    async def _close_sessions(self) -> None:
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for session in list(self._sessions):
            await self._close(session)

    async def _wait_ready(self, over: asyncio.Task[None]) -> None:
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                (ready, over), timeout=_READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if over.done():
            over.result()
        elif not self._ready.is_set():
            raise MediaError("the encoder put out nothing")

    def _attach(self, session: _Session) -> None:
        """The session has the broadcast from now on."""
        outlet = _Outlet(session.client, self.options.namespace, self._broadcast)
        outlet.catalog(self._catalog_group, self._catalog)
        self._catalog_group += 1
        session.outlet = outlet

    async def _announce(self, session: _Session) -> None:
        """Tell the peer what is to be had."""
        await session.client.publish_namespace(self.options.namespace)
        self.status.sessions += 1

    async def _serve(self, session: _Session, over: asyncio.Task[None]) -> None:
        """Repeat the catalog, and follow the relay, until the broadcast is over."""
        interval = self.options.catalog_interval
        repeat_at = time.monotonic() + interval
        while not over.done():
            await asyncio.wait(
                (over, session.ended),
                timeout=max(0.0, repeat_at - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not over.done() and session.ended.done():
                session = await self._replace(session, over)
            if time.monotonic() >= repeat_at:
                repeat_at += interval
                for outlet in self._outlets:
                    outlet.catalog(self._catalog_group, self._catalog)
                self._catalog_group += 1
        over.result()

    async def _replace(self, session: _Session, over: asyncio.Task[None]) -> _Session:
        """A new session instead of one that was lost or is going away.

        Until the new one has the broadcast, one that is going away keeps it; then both have
        it until the subscribers have moved.
        """
        old = session.client
        goaway = old.going_away
        uri = (goaway.new_session_uri or None) if goaway is not None else None
        if old.closed:
            await self._close(session)
        deadline = time.monotonic() + self.options.retry
        while not over.done():
            replacement: _Session | None = None
            try:
                replacement = await self._open(uri)
                self._attach(replacement)
                await self._announce(replacement)
            except ClientError:
                if replacement is not None:
                    await self._close(replacement)
                if not old.closed:
                    deadline = time.monotonic() + self.options.retry  # still served
                elif time.monotonic() >= deadline:
                    raise
                await asyncio.wait((over,), timeout=_RETRY_INTERVAL)
                continue
            if session in self._sessions:
                leaving = asyncio.create_task(self._leave(session))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            return replacement
        return session

    # -- from the encoder

    def _on_ready(self) -> None:
        now = time.time_ns() // 1_000_000
        self._catalog = self._broadcast.catalog(now, self.options.target_latency)
        for session in self._sessions:
            self._attach(session)
        self._ready.set()

    def _on_object(self, item: MediaObject) -> None:
        name = item.track
        object_id = 0 if item.begins else self._object_ids[name] + 1
        self._object_ids[name] = object_id
        for outlet in self._outlets:
            outlet.object(item)
        status = self.status
        status.frames[name] += 1
        status.bytes[name] += len(item.payload)
        status.group = max(status.group, item.group)
        if self._digests is not None:
            self._digests.write(
                name,
                item.group,
                object_id,
                item.payload,
                item.sample.data,
                item.time,
                sent=time.time(),
            )
