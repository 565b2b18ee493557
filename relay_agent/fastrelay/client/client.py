"""A MoQT session as its user sees it: requests to await, streams of objects to iterate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from fastrelay.client.errors import RequestFailedError, SessionLostError
from fastrelay.client.exchanges import Exchanges
from fastrelay.client.inbox import Inbox
from fastrelay.client.namespaces import Announcement, Namespaces
from fastrelay.client.publisher import Publisher
from fastrelay.client.publishing import PublishedTrack
from fastrelay.client.readers import Readers
from fastrelay.client.receiving import FetchStream, Subscription
from fastrelay.client.values import NamespaceChange, QueueLimits
from fastrelay.client.window import subscription_window
from fastrelay.moqt import events, keyvalue
from fastrelay.moqt.codes import RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import (
    NO_PARAMETERS,
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


class Client:
    """Made by :func:`fastrelay.client.connect`.

    Every request raises ``RequestFailedError`` when the peer refuses it and
    ``SessionLostError`` when the session ends first.
    """

    def __init__(self, draft: Draft, transport: Transport, tokens: tuple[Token, ...]) -> None:
        self.draft = draft
        self.transport = transport
        self.session: Session
        """Set by whoever makes the client; its events go to :meth:`on_event`."""
        self.going_away: GoAway | None = None
        self.exchanges = Exchanges(self)
        self.readers = Readers(self)
        self.publisher = Publisher(self)
        self.namespaces = Namespaces(self)
        self._tokens = tokens
        loop = asyncio.get_running_loop()
        self._setup: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[events.SessionClosed] = loop.create_future()
        self._goaway = asyncio.Event()
        self._writable = asyncio.Event()
        readers, publisher = self.readers, self.publisher
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.SetupReceived: self._on_setup,
            events.RequestReceived: self._on_request,
            events.RequestUpdated: publisher.on_update,
            events.RequestCancelled: self._on_cancelled,
            events.AnswerReceived: self.exchanges.on_answer,
            events.UpdateAnswered: self.exchanges.on_update_answer,
            events.NotificationReceived: self._on_notification,
            events.RequestEnded: self._on_ended,
            events.GoAwayReceived: self._on_goaway,
            events.SubgroupOpened: readers.on_subgroup,
            events.SubgroupRefused: lambda _: None,
            events.SubgroupData: readers.on_subgroup_data,
            events.FetchOpened: readers.on_fetch,
            events.FetchData: readers.on_fetch_data,
            events.DataStreamReset: readers.on_reset,
            events.DataStreamStopped: publisher.on_stream_stopped,
            events.DatagramReceived: readers.on_datagram,
            events.TrackMalformed: readers.on_malformed,
            events.Writable: self._on_writable,
            events.SessionClosed: self._on_closed,
        }

    def on_event(self, event: events.Event) -> None:
        """The session's event handler."""
        self._handlers[type(event)](event)

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

        What is established goes on; the user opens a new session and moves.
        """
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
                continue  # the transport reports its own low-water mark only

    def close(self, code: int = SessionError.NO_ERROR, reason: str = "") -> None:
        """End the session now."""
        self.session.close(SessionError(code), reason)

    def decode_properties(self, properties: bytes | None) -> list[tuple[int, int | bytes]]:
        """The key-value pairs of a received object or track."""
        return list(keyvalue.decode(properties or b"", self.draft.varints))

    # -- publishing

    async def publish_namespace(self, namespace: Namespace) -> Announcement:
        """Say that tracks under this namespace can be had here."""
        return await self.namespaces.publish(namespace, self._with_tokens(NO_PARAMETERS))

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

        :param priority: of its subgroups and datagrams, where they have none of their own.
        :param properties: track properties, key-value pairs in the varints of draft 17 on.
        :param keep_groups: how many groups stay for FETCH and late subscriptions.
        :param max_backlog: no new subgroup is sent while more bytes than this are queued.
        """
        return self.publisher.add(
            name,
            priority=priority,
            properties=properties,
            keep_groups=keep_groups,
            max_backlog=max_backlog,
        )

    async def publish(
        self, track: PublishedTrack, parameters: Parameters, properties: bytes
    ) -> None:
        """PUBLISH; see :meth:`PublishedTrack.publish`."""
        request_id = self.session.publish(
            track.name, track.alias, self._with_tokens(parameters), properties
        )

        def accepted(answer: RequestOk) -> None:
            self.publisher.add_feed(request_id, track)
            window = subscription_window(answer.parameters.filter, track.largest)
            track.add_feed(request_id, window, answer.parameters)

        await self.exchanges.answer(request_id, accepted)

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
            fill = FetchStream(self, request_id, queue)
            self.readers.add_fetch(fill)

        def accepted(answer: SubscribeOk) -> Subscription:
            subscription = Subscription(self, track, answer, queue)
            subscription.fill = fill
            self.readers.add_subscription(subscription)
            return subscription

        self.readers.expect()
        try:
            return cast(Subscription, await self.exchanges.answer(request_id, accepted))
        except RequestFailedError:
            self.readers.remove_fetch(request_id)
            raise
        finally:
            self.readers.expect_no_more()

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
            parameters,
            queue,
            kind=FetchKind.STANDALONE,
            track=track,
            start=start,
            end_group=end_group,
            end_object=end_object,
        )

    async def fetch_range(
        self, parameters: Parameters = NO_PARAMETERS, queue: QueueLimits = QUEUE, **fields: Any
    ) -> FetchStream:
        """FETCH of any kind; the other keywords are those of ``Session.fetch``."""
        request_id = self.session.fetch(parameters=self._with_tokens(parameters), **fields)
        stream = FetchStream(self, request_id, queue)
        self.readers.add_fetch(stream)

        def accepted(answer: FetchOk) -> FetchStream:
            stream.ok = answer
            return stream

        try:
            return cast(FetchStream, await self.exchanges.answer(request_id, accepted))
        except RequestFailedError:
            self.readers.remove_fetch(request_id)
            raise

    async def track_status(
        self, track: FullTrackName, parameters: Parameters = NO_PARAMETERS
    ) -> RequestOk:
        """TRACK_STATUS: ``parameters.largest_object`` and ``properties`` of the track."""
        request_id = self.session.track_status(track, self._with_tokens(parameters))
        return cast(RequestOk, await self.exchanges.answer(request_id, lambda answer: answer))

    async def subscribe_namespace(self, prefix: Namespace) -> Inbox[NamespaceChange]:
        """The namespaces under a prefix as they come and go."""
        return await self.namespaces.subscribe(prefix, self._with_tokens(NO_PARAMETERS))

    async def subscribe_tracks(self, prefix: Namespace) -> Inbox[Subscription]:
        """A subscription for every track under a prefix that somebody publishes."""
        return await self.namespaces.subscribe_tracks(prefix, self._with_tokens(NO_PARAMETERS))

    async def update(self, request_id: int, parameters: Parameters) -> None:
        """REQUEST_UPDATE of one of the established requests."""
        await self.exchanges.update(request_id, self._with_tokens(parameters))

    def _with_tokens(self, parameters: Parameters) -> Parameters:
        self._raise_if_closed()
        if not self._tokens:
            return parameters
        return replace(parameters, tokens=self._tokens + parameters.tokens)

    def _raise_if_closed(self) -> None:
        if self._closed.done():
            closed = self._closed.result()
            raise SessionLostError(closed.code, closed.reason)

    # -- events

    def _on_setup(self, _: events.SetupReceived) -> None:
        if not self._setup.done():
            self._setup.set_result(None)

    def _on_request(self, event: events.RequestReceived) -> None:
        request = event.request
        match request:
            case Subscribe():
                self.publisher.on_subscribe(request)
            case TrackStatus():
                self.publisher.on_track_status(request)
            case Fetch():
                self.publisher.on_fetch(request)
            case Publish():
                self.namespaces.on_publish(request)
            case PublishNamespace():
                self.namespaces.on_publish_namespace(request)
            case _:
                self.session.reject(
                    request.request_id, RequestErrorCode.NOT_SUPPORTED, "this is not a relay"
                )

    def _on_cancelled(self, event: events.RequestCancelled) -> None:
        request_id = event.request_id
        error = RequestFailedError(StreamError.CANCELLED, "the peer gave the request up")
        self.exchanges.fail(request_id, error)
        self.publisher.cancelled(request_id)
        self.readers.fail(request_id, error)
        self.namespaces.on_cancelled(request_id)

    def _on_notification(self, event: events.NotificationReceived) -> None:
        match event.notification:
            case PublishDone() as done:
                if (subscription := self.readers.subscription(event.request_id)) is not None:
                    subscription.publish_done(done)
            case NamespaceAdded() | NamespaceDone() as change:
                self.namespaces.on_change(event.request_id, change)

    def _on_ended(self, event: events.RequestEnded) -> None:
        error = RequestFailedError(event.code, "the peer ended the request")
        request_id = event.request_id
        self.exchanges.fail(request_id, error)
        self.readers.fail(request_id, error)
        self.namespaces.on_ended(request_id, error)

    def _on_goaway(self, event: events.GoAwayReceived) -> None:
        if event.request_id is None:
            self.going_away = event.goaway
            self._goaway.set()

    def _on_writable(self, _: events.Writable) -> None:
        self._writable.set()

    def _on_closed(self, event: events.SessionClosed) -> None:
        self._closed.set_result(event)
        self._writable.set()
        error = SessionLostError(event.code, event.reason)
        if not self._setup.done():
            self._setup.set_exception(error)
            self._setup.exception()  # it may be that nobody waits
        self.exchanges.fail_all(error)
        self.readers.fail_all(error)
        self.namespaces.fail_all(error)
