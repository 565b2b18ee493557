"""A MoQT session as its user sees it: requests to await, streams of objects to iterate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from fastrelay.client.early import EarlyStreams
from fastrelay.client.errors import RequestFailedError, SessionLostError
from fastrelay.client.inbox import Inbox
from fastrelay.client.publishing import PublishedTrack
from fastrelay.client.receiving import FetchStream, Subscription
from fastrelay.client.values import NamespaceChange, QueueLimits
from fastrelay.client.window import subscription_window
from fastrelay.moqt import events, keyvalue
from fastrelay.moqt.codes import RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import (
    NO_PARAMETERS,
    Answer,
    Fetch,
    FetchKind,
    FetchOk,
    GoAway,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishDone,
    PublishNamespace,
    RequestError,
    RequestOk,
    Subscribe,
    SubscribeOk,
    Token,
    TrackStatus,
)
from fastrelay.moqt.names import FullTrackName, Location, Namespace
from fastrelay.moqt.session import Session
from fastrelay.moqt.transport import Transport

QUEUE = QueueLimits()


class Announcement:
    """A namespace that this client publishes."""

    def __init__(self, client: Client, namespace: Namespace, request_id: int) -> None:
        self.namespace = namespace
        self.request_id = request_id
        self.cancelled = False
        """The peer no longer wants it."""
        self._client = client

    def withdraw(self) -> None:
        """Tell the peer that nothing new is to be had under the namespace."""
        if not self.cancelled:
            self.cancelled = True
            self._client.session.cancel(self.request_id)


class Client:
    """Made by :func:`fastrelay.client.connect`.

    Every request raises :class:`RequestFailedError` when the peer refuses it and
    :class:`SessionLostError` when the session ends first.
    """

    def __init__(self, draft: Draft, transport: Transport, tokens: tuple[Token, ...]) -> None:
        self.draft = draft
        self.transport = transport
        self.session: Session
        """Set by the one who makes the client; its events go to :meth:`on_event`."""
        self.going_away: GoAway | None = None
        self._loop = asyncio.get_running_loop()
        self._tokens = tokens
        self._setup: asyncio.Future[None] = self._loop.create_future()
        self._goaway = asyncio.Event()
        self._writable = asyncio.Event()
        self._closed: asyncio.Future[events.SessionClosed] = self._loop.create_future()
        self._answers: dict[int, tuple[asyncio.Future[Any], Callable[[Answer], Any]]] = {}
        self._updates: dict[tuple[int, int], asyncio.Future[None]] = {}
        self._next_alias = 0
        self._tracks: dict[FullTrackName, PublishedTrack] = {}
        self._feeds: dict[int, PublishedTrack] = {}
        self._announcements: dict[int, Announcement] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._aliases: dict[int, Subscription] = {}
        self._fetches: dict[int, FetchStream] = {}
        self._streams: dict[int, Subscription | FetchStream] = {}
        self._early = EarlyStreams()
        self._namespaces: dict[int, tuple[Namespace, Inbox[NamespaceChange]]] = {}
        self._wanted_tracks: dict[int, tuple[Namespace, Inbox[Subscription]]] = {}
        self._heard_namespaces: dict[int, Namespace] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.SetupReceived: self._on_setup,
            events.RequestReceived: self._on_request,
            events.RequestUpdated: self._on_update,
            events.RequestCancelled: self._on_cancelled,
            events.AnswerReceived: self._on_answer,
            events.UpdateAnswered: self._on_update_answer,
            events.NotificationReceived: self._on_notification,
            events.RequestEnded: self._on_ended,
            events.GoAwayReceived: self._on_goaway,
            events.SubgroupOpened: self._on_subgroup,
            events.SubgroupData: self._on_subgroup_data,
            events.FetchOpened: self._on_fetch,
            events.FetchData: self._on_fetch_data,
            events.DataStreamReset: self._on_stream_reset,
            events.DataStreamStopped: self._on_stream_stopped,
            events.DatagramReceived: self._on_datagram,
            events.TrackMalformed: self._on_malformed,
            events.Writable: self._on_writable,
            events.SessionClosed: self._on_closed,
        }

    # -- the session

    @property
    def closed(self) -> bool:
        return self._closed.done()

    async def ready(self) -> None:
        """Wait for the peer's SETUP."""
        await asyncio.shield(self._setup)

    async def wait_closed(self) -> events.SessionClosed:
        """Wait until the session ends, for whatever reason."""
        return await asyncio.shield(self._closed)

    async def wait_goaway(self) -> GoAway:
        """Wait until the peer asks this client to move (draft-18 section 10.4).

        What is established goes on; the user opens a new session and moves."""
        await self._goaway.wait()
        assert self.going_away is not None
        return self.going_away

    @property
    def backlog(self) -> int:
        """Bytes that were written and are not on the wire yet."""
        return self.transport.backlog

    async def drain(self, below: int = 64 * 1024) -> None:
        """Wait until less than ``below`` bytes are queued (publishers' back pressure).

        :raises SessionLostError: the session ended first.
        """
        while self.transport.backlog >= below:
            self._raise_if_closed()
            self._writable.clear()
            try:
                await asyncio.wait_for(self._writable.wait(), 0.02)
            except TimeoutError:
                continue  # the transport only reports its own low-water mark

    def close(self, code: int = SessionError.NO_ERROR, reason: str = "") -> None:
        """End the session now."""
        self.session.close(SessionError(code), reason)

    def decode_properties(self, properties: bytes | None) -> list[tuple[int, int | bytes]]:
        """The key-value pairs of a received object or track."""
        return keyvalue.decode(properties or b"", self.draft.varints)

    # -- publishing

    async def publish_namespace(self, namespace: Namespace) -> Announcement:
        """Say that tracks under this namespace can be had here."""
        request_id = self.session.publish_namespace(namespace, self._with_tokens(NO_PARAMETERS))
        await self._answer(request_id, lambda answer: answer)
        announcement = self._announcements[request_id] = Announcement(self, namespace, request_id)
        return announcement

    def add_track(
        self,
        name: FullTrackName,
        *,
        priority: int = 128,
        properties: bytes = b"",
        keep_groups: int = 2,
        max_backlog: int = 16 * 1024 * 1024,
    ) -> PublishedTrack:
        """A track that answers requests from now on.

        :param properties: track properties, key-value pairs in the varints of draft 17 on.
        :param keep_groups: how many groups stay for FETCH and late subscriptions.
        """
        if name in self._tracks:
            raise ValueError(f"{name} exists already")
        track = self._tracks[name] = PublishedTrack(
            self,
            name,
            self._next_alias,
            priority=priority,
            properties=properties,
            keep_groups=keep_groups,
            max_backlog=max_backlog,
        )
        self._next_alias += 1
        return track

    async def publish(
        self, track: PublishedTrack, parameters: Parameters, properties: bytes
    ) -> None:
        """PUBLISH; see :meth:`PublishedTrack.publish`."""
        request_id = self.session.publish(
            track.name, track.alias, self._with_tokens(parameters), properties
        )

        def accepted(answer: Answer) -> None:
            self._feeds[request_id] = track
            window = subscription_window(answer.parameters.filter, track.largest)  # type: ignore[union-attr]
            track.add_feed(request_id, window, answer.parameters)  # type: ignore[union-attr]

        await self._answer(request_id, accepted)

    # -- subscribing

    async def subscribe(
        self,
        track: FullTrackName,
        parameters: Parameters = NO_PARAMETERS,
        *,
        queue: QueueLimits = QUEUE,
    ) -> Subscription:
        """SUBSCRIBE; returns when the publisher has accepted."""
        request_id = self.session.subscribe(track, self._with_tokens(parameters))
        fill = None
        if parameters.fill is not None:
            fill = self._fetches[request_id] = FetchStream(self, request_id, queue)

        def accepted(answer: Answer) -> Subscription:
            subscription = Subscription(self, track, cast(SubscribeOk, answer), queue)
            subscription.fill = fill
            self._established(subscription)
            return subscription

        try:
            return cast(Subscription, await self._answer(request_id, accepted))
        except RequestFailedError:
            self._fetches.pop(request_id, None)
            raise

    async def fetch(
        self,
        track: FullTrackName,
        start: Location,
        end_group: int,
        end_object: int | None = None,
        parameters: Parameters = NO_PARAMETERS,
        *,
        queue: QueueLimits = QUEUE,
    ) -> FetchStream:
        """FETCH from ``start`` to the end, both included; ``end_object`` None: all of the
        group."""
        return await self.fetch_range(
            kind=FetchKind.STANDALONE,
            track=track,
            start=start,
            end_group=end_group,
            end_object=end_object,
            parameters=parameters,
            queue=queue,
        )

    async def fetch_range(
        self,
        *,
        parameters: Parameters = NO_PARAMETERS,
        queue: QueueLimits = QUEUE,
        **range_: Any,
    ) -> FetchStream:
        """FETCH of any kind; the keywords are those of :meth:`Session.fetch`."""
        request_id = self.session.fetch(parameters=self._with_tokens(parameters), **range_)
        stream = self._fetches[request_id] = FetchStream(self, request_id, queue)

        def accepted(answer: Answer) -> FetchStream:
            stream.ok = cast(FetchOk, answer)
            return stream

        try:
            return cast(FetchStream, await self._answer(request_id, accepted))
        except RequestFailedError:
            self._fetches.pop(request_id, None)
            raise

    async def track_status(
        self, track: FullTrackName, parameters: Parameters = NO_PARAMETERS
    ) -> RequestOk:
        """TRACK_STATUS: ``parameters.largest_object`` and ``properties`` of the track."""
        request_id = self.session.track_status(track, self._with_tokens(parameters))
        return cast(RequestOk, await self._answer(request_id, lambda answer: answer))

    async def subscribe_namespace(self, prefix: Namespace) -> Inbox[NamespaceChange]:
        """The namespaces under a prefix as they come and go."""
        request_id = self.session.subscribe_namespace(
            prefix, self._with_tokens(NO_PARAMETERS), options=1
        )
        inbox: Inbox[NamespaceChange] = Inbox()
        self._namespaces[request_id] = (prefix, inbox)
        await self._answer_or_forget(request_id, self._namespaces)
        return inbox

    async def subscribe_tracks(self, prefix: Namespace) -> Inbox[Subscription]:
        """A subscription for every track under a prefix that somebody publishes."""
        request_id = self.session.subscribe_tracks(prefix, self._with_tokens(NO_PARAMETERS))
        inbox: Inbox[Subscription] = Inbox()
        self._wanted_tracks[request_id] = (prefix, inbox)
        await self._answer_or_forget(request_id, self._wanted_tracks)
        return inbox

    async def update(self, request_id: int, parameters: Parameters) -> None:
        """REQUEST_UPDATE of one of the established requests."""
        self._raise_if_closed()
        update_id = self.session.update(request_id, self._with_tokens(parameters))
        answered: asyncio.Future[None] = self._loop.create_future()
        self._updates[request_id, update_id] = answered
        await answered

    # -- for tracks, subscriptions and fetches

    def forget_track(self, track: PublishedTrack) -> None:
        del self._tracks[track.name]

    def forget_feed(self, request_id: int) -> None:
        del self._feeds[request_id]

    def forget_stream(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)

    def forget_subscription(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription.request_id, None)
        alias = subscription.established.track_alias
        if self._aliases.get(alias) is subscription:
            del self._aliases[alias]
            self._early.retire(alias)

    def forget_fetch(self, fetch: FetchStream) -> None:
        self._fetches.pop(fetch.request_id, None)

    # -- events

    def on_event(self, event: events.Event) -> None:
        """The session's event handler."""
        self._handlers[type(event)](event)

    def _on_setup(self, _: events.SetupReceived) -> None:
        if not self._setup.done():
            self._setup.set_result(None)

    def _on_request(self, event: events.RequestReceived) -> None:
        request = event.request
        session = self.session
        match request:
            case Subscribe() | TrackStatus():
                track = self._tracks.get(request.track)
                if track is None:
                    session.reject(
                        request.request_id, RequestErrorCode.DOES_NOT_EXIST, "no such track"
                    )
                elif isinstance(request, TrackStatus):
                    track.track_status(request)
                else:
                    self._feeds[request.request_id] = track
                    track.subscribe(request)
                    if not track.has_feed(request.request_id):
                        self._feeds.pop(request.request_id, None)
            case Fetch():
                self._on_fetch_request(request)
            case Publish():
                self._on_publish(request)
            case PublishNamespace():
                self._heard_namespaces[request.request_id] = request.namespace
                session.respond(RequestOk(request.request_id))
                self._tell_namespace(request.namespace, True)
            case _:
                session.reject(
                    request.request_id, RequestErrorCode.NOT_SUPPORTED, "this is not a relay"
                )

    def _on_fetch_request(self, request: Fetch) -> None:
        if request.kind is FetchKind.STANDALONE:
            track = self._tracks.get(cast(FullTrackName, request.track))
        else:
            track = self._feeds.get(request.joining_request_id)
        if track is None:
            self.session.reject(
                request.request_id, RequestErrorCode.DOES_NOT_EXIST, "no such track"
            )
        else:
            track.fetch(request)

    def _on_publish(self, request: Publish) -> None:
        namespace = request.track.namespace
        for prefix, inbox in self._wanted_tracks.values():
            if namespace[: len(prefix)] == prefix:
                self.session.respond(RequestOk(request.request_id))
                subscription = Subscription(self, request.track, request, QUEUE)
                self._established(subscription)
                inbox.put(subscription)
                return
        self.session.reject(
            request.request_id, RequestErrorCode.UNINTERESTED, "nobody here asked for it"
        )

    def _on_update(self, event: events.RequestUpdated) -> None:
        track = self._feeds.get(event.request_id)
        if track is not None:
            track.update(event.request_id, event.update_id, event.parameters)
        else:
            self.session.respond_update(event.request_id, event.update_id, NO_PARAMETERS)

    def _on_cancelled(self, event: events.RequestCancelled) -> None:
        request_id = event.request_id
        if (track := self._feeds.pop(request_id, None)) is not None:
            track.unsubscribe(request_id)
        elif (namespace := self._heard_namespaces.pop(request_id, None)) is not None:
            self._tell_namespace(namespace, False)
        elif (subscription := self._subscriptions.get(request_id)) is not None:
            subscription.broken(RequestFailedError(StreamError.CANCELLED, "the publisher withdrew"))

    def _on_answer(self, event: events.AnswerReceived) -> None:
        answer = event.answer
        waiting = self._answers.pop(answer.request_id, None)
        if waiting is None:
            return
        future, accepted = waiting
        if isinstance(answer, RequestError):
            if not future.done():
                future.set_exception(RequestFailedError.of(answer))
        elif future.done():
            self.session.cancel(answer.request_id)  # nobody waits any more
        else:
            future.set_result(accepted(answer))

    def _on_update_answer(self, event: events.UpdateAnswered) -> None:
        answered = self._updates.pop((event.request_id, event.update_id), None)
        if answered is None or answered.done():
            return
        if isinstance(event.answer, RequestError):
            answered.set_exception(RequestFailedError.of(event.answer))
        else:
            answered.set_result(None)

    def _on_notification(self, event: events.NotificationReceived) -> None:
        notification = event.notification
        match notification:
            case PublishDone():
                if (subscription := self._subscriptions.get(event.request_id)) is not None:
                    subscription.publish_done(notification)
            case NamespaceAdded() | NamespaceDone():
                if (asked := self._namespaces.get(event.request_id)) is not None:
                    prefix, inbox = asked
                    live = isinstance(notification, NamespaceAdded)
                    inbox.put(NamespaceChange(prefix + notification.suffix, live))

    def _on_ended(self, event: events.RequestEnded) -> None:
        error = RequestFailedError(event.code, "the peer ended the request")
        request_id = event.request_id
        waiting = self._answers.pop(request_id, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_exception(error)
        if (subscription := self._subscriptions.get(request_id)) is not None:
            subscription.broken(error)
        if (fetch := self._fetches.get(request_id)) is not None:
            fetch.broken(error)
        if (announcement := self._announcements.pop(request_id, None)) is not None:
            announcement.cancelled = True
        if (track := self._feeds.pop(request_id, None)) is not None:
            track.unsubscribe(request_id)
        for asked in (
            self._namespaces.pop(request_id, None),
            self._wanted_tracks.pop(request_id, None),
        ):
            if asked is not None:
                asked[1].end(error)

    def _on_goaway(self, event: events.GoAwayReceived) -> None:
        if event.request_id is None:
            self.going_away = event.goaway
            self._goaway.set()

    def _on_subgroup(self, event: events.SubgroupOpened) -> None:
        subscription = self._aliases.get(event.header.track_alias)
        if subscription is not None:
            self._streams[event.stream_id] = subscription
            subscription.opened(event.stream_id, event.header)
        elif not self._early.opened(event):
            self.session.stop(event.stream_id, StreamError.CANCELLED)

    def _on_subgroup_data(self, event: events.SubgroupData) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            cast(Subscription, stream).data(event)
        elif not self._early.data(event):
            self.session.stop(event.stream_id, StreamError.CANCELLED)

    def _on_fetch(self, event: events.FetchOpened) -> None:
        fetch = self._fetches.get(event.request_id)
        if fetch is None:
            self.session.stop(event.stream_id, StreamError.CANCELLED)
        else:
            self._streams[event.stream_id] = fetch
            fetch.opened(event.stream_id)

    def _on_fetch_data(self, event: events.FetchData) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            cast(FetchStream, stream).data(event)
            if event.fin:
                self.forget_stream(event.stream_id)

    def _on_stream_reset(self, event: events.DataStreamReset) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if isinstance(stream, Subscription):
            stream.reset(event.stream_id, event.code)
        elif stream is not None:
            stream.broken(RequestFailedError(event.code, "the fetch stream was reset"))
        else:
            self._early.reset(event)

    def _on_stream_stopped(self, event: events.DataStreamStopped) -> None:
        for track in self._tracks.values():
            track.stream_stopped(event.stream_id)

    def _on_datagram(self, event: events.DatagramReceived) -> None:
        if (subscription := self._aliases.get(event.track_alias)) is not None:
            subscription.datagram(event)

    def _on_malformed(self, event: events.TrackMalformed) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if stream is not None:
            self.session.cancel(stream.request_id)
            stream.broken(RequestFailedError(RequestErrorCode.MALFORMED_TRACK, event.reason))

    def _on_writable(self, _: events.Writable) -> None:
        self._writable.set()

    def _on_closed(self, event: events.SessionClosed) -> None:
        if self._closed.done():
            return
        self._closed.set_result(event)
        self._writable.set()
        error = SessionLostError(event.code, event.reason)
        pending = [future for future, _ in self._answers.values()]
        for future in [*pending, *self._updates.values(), self._setup]:
            if not future.done():
                future.set_exception(error)
                future.exception()  # it may be that nobody waits
        for reader in [*self._subscriptions.values(), *self._fetches.values()]:
            reader.broken(error)
        for inbox in (
            *(inbox for _, inbox in self._namespaces.values()),
            *(inbox for _, inbox in self._wanted_tracks.values()),
        ):
            inbox.end(error)

    # -- inside

    def _with_tokens(self, parameters: Parameters) -> Parameters:
        self._raise_if_closed()
        if not self._tokens:
            return parameters
        return replace(parameters, tokens=self._tokens + parameters.tokens)

    def _raise_if_closed(self) -> None:
        if self._closed.done():
            closed = self._closed.result()
            raise SessionLostError(closed.code, closed.reason)

    async def _answer(self, request_id: int, accepted: Callable[[Answer], Any]) -> Any:
        """The answer to a request, made into something as soon as it arrives: what follows
        it may be handled before the caller runs again."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._answers[request_id] = (future, accepted)
        try:
            return await future
        except asyncio.CancelledError:
            if not self.closed and request_id in self._answers:
                del self._answers[request_id]
                self.session.cancel(request_id)
            raise

    async def _answer_or_forget(self, request_id: int, table: dict[int, Any]) -> None:
        try:
            await self._answer(request_id, lambda answer: answer)
        except BaseException:
            table.pop(request_id, None)
            raise

    def _established(self, subscription: Subscription) -> None:
        alias = subscription.established.track_alias
        self._subscriptions[subscription.request_id] = subscription
        self._aliases[alias] = subscription
        for event in self._early.take(alias):
            self.on_event(event)

    def _tell_namespace(self, namespace: Namespace, live: bool) -> None:
        for prefix, inbox in self._namespaces.values():
            if namespace[: len(prefix)] == prefix:
                inbox.put(NamespaceChange(namespace, live))
