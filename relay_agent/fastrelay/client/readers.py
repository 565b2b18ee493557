"""From the session's data events to the subscription or fetch that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.client.early import EarlyStreams
from fastrelay.client.errors import ClientError, RequestFailedError
from fastrelay.moqt import events
from fastrelay.moqt.codes import RequestErrorCode, StreamError

if TYPE_CHECKING:
    from fastrelay.client.client import Client
    from fastrelay.client.receiving import FetchStream, Subscription


class Readers:
    """Every subscription and fetch of a client, and the incoming streams of each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscriptions: dict[int, Subscription] = {}
        self._aliases: dict[int, Subscription] = {}
        self._fetches: dict[int, FetchStream] = {}
        self._subgroup_streams: dict[int, Subscription] = {}
        self._fetch_streams: dict[int, FetchStream] = {}
        self._early = EarlyStreams()
        self._expected = 0

    def expect(self) -> None:
        """A subscription may begin at any time, from now until :meth:`expect_no_more`."""
        self._expected += 1

    def expect_no_more(self) -> None:
        self._expected -= 1
        if not self._expected:
            for stream_id in self._early.drop_retired():
                self._client.session.stop(stream_id, StreamError.CANCELLED)

    def add_subscription(self, subscription: Subscription) -> None:
        """Its alias is known from now on; it gets what came too early, too."""
        alias = subscription.established.track_alias
        self._subscriptions[subscription.request_id] = subscription
        self._aliases[alias] = subscription
        for event in self._early.take(alias):
            self._client.on_event(event)

    def subscription(self, request_id: int) -> Subscription | None:
        return self._subscriptions.get(request_id)

    def remove_subscription(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription.request_id, None)
        alias = subscription.established.track_alias
        if self._aliases.get(alias) is subscription:
            del self._aliases[alias]
            self._early.retire(alias)

    def add_fetch(self, fetch: FetchStream) -> None:
        self._fetches[fetch.request_id] = fetch

    def remove_fetch(self, request_id: int) -> None:
        self._fetches.pop(request_id, None)

    def remove_stream(self, stream_id: int) -> None:
        self._subgroup_streams.pop(stream_id, None)

    def fail(self, request_id: int, error: ClientError) -> None:
        """The peer ended a request."""
        if (subscription := self._subscriptions.get(request_id)) is not None:
            subscription.broken(error)
        if (fetch := self._fetches.get(request_id)) is not None:
            fetch.broken(error)

    def fail_all(self, error: ClientError) -> None:
        for request_id in [*self._subscriptions, *self._fetches]:
            self.fail(request_id, error)

    # -- events

    def on_subgroup(self, event: events.SubgroupOpened) -> None:
        subscription = self._aliases.get(event.header.track_alias)
        if subscription is not None:
            self._subgroup_streams[event.stream_id] = subscription
            subscription.opened(event.stream_id, event.header)
        elif not self._early.opened(event, expecting=self._expected > 0):
            self._client.session.stop(event.stream_id, StreamError.CANCELLED)

    def on_subgroup_data(self, event: events.SubgroupData) -> None:
        subscription = self._subgroup_streams.get(event.stream_id)
        if subscription is not None:
            subscription.data(event)
        elif not self._early.data(event):
            self._client.session.stop(event.stream_id, StreamError.CANCELLED)

    def on_fetch(self, event: events.FetchOpened) -> None:
        fetch = self._fetches.get(event.request_id)
        if fetch is None:
            self._client.session.stop(event.stream_id, StreamError.CANCELLED)
        else:
            self._fetch_streams[event.stream_id] = fetch
            fetch.opened(event.stream_id)

    def on_fetch_data(self, event: events.FetchData) -> None:
        if (fetch := self._fetch_streams.get(event.stream_id)) is not None:
            fetch.data(event)
            if event.fin:
                del self._fetch_streams[event.stream_id]

    def on_reset(self, event: events.DataStreamReset) -> None:
        if (subscription := self._subgroup_streams.get(event.stream_id)) is not None:
            subscription.reset(event.stream_id, event.code)
        elif (fetch := self._fetch_streams.pop(event.stream_id, None)) is not None:
            fetch.broken(RequestFailedError(event.code, "the fetch stream was reset"))
        else:
            self._early.reset(event)

    def on_datagram(self, event: events.DatagramReceived) -> None:
        if (subscription := self._aliases.get(event.track_alias)) is not None:
            subscription.datagram(event)

    def on_malformed(self, event: events.TrackMalformed) -> None:
        error = RequestFailedError(RequestErrorCode.MALFORMED_TRACK, event.reason)
        reader: Subscription | FetchStream | None
        if event.stream_id is None:
            reader = None if event.track_alias is None else self._aliases.get(event.track_alias)
        else:
            reader = self._subgroup_streams.pop(event.stream_id, None)
            reader = reader or self._fetch_streams.pop(event.stream_id, None)
        if reader is not None:
            self._client.session.cancel(reader.request_id)
            reader.broken(error)
