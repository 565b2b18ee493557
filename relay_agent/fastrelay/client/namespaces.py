"""What a client announces, and what it hears of the namespaces and tracks of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.client.inbox import Inbox
from fastrelay.client.receiving import Subscription
from fastrelay.client.values import NamespaceChange, QueueLimits
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.messages import (
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishNamespace,
    RequestOk,
)
from fastrelay.moqt.names import Namespace

if TYPE_CHECKING:
    from fastrelay.client.client import Client


class Announcement:
    """A namespace that this client publishes."""

    def __init__(self, client: Client, namespace: Namespace, request_id: int) -> None:
        self.namespace = namespace
        self.request_id = request_id
        self.cancelled = False
        """The peer no longer wants it, or it was withdrawn."""
        self._client = client

    def withdraw(self) -> None:
        """Tell the peer that nothing new is to be had under the namespace."""
        if not self.cancelled:
            self.cancelled = True
            self._client.session.cancel(self.request_id)


class Namespaces:
    """The requests of one client that are about prefixes, by request id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._announcements: dict[int, Announcement] = {}
        self._asked: dict[int, tuple[Namespace, Inbox[NamespaceChange]]] = {}
        self._wanted_tracks: dict[int, tuple[Namespace, Inbox[Subscription]]] = {}
        self._heard: dict[int, Namespace] = {}

    async def publish(self, namespace: Namespace, parameters: Parameters) -> Announcement:
        client = self._client
        request_id = client.session.publish_namespace(namespace, parameters)
        announcement = Announcement(client, namespace, request_id)
        self._announcements[request_id] = announcement
        await client.exchanges.answer(request_id, lambda answer: answer)
        return announcement

    async def subscribe(self, prefix: Namespace, parameters: Parameters) -> Inbox[NamespaceChange]:
        client = self._client
        request_id = client.session.subscribe_namespace(prefix, parameters, options=1)
        inbox: Inbox[NamespaceChange] = Inbox()
        self._asked[request_id] = (prefix, inbox)
        try:
            await client.exchanges.answer(request_id, lambda answer: answer)
        except BaseException:
            self._asked.pop(request_id, None)
            raise
        return inbox

    async def subscribe_tracks(
        self, prefix: Namespace, parameters: Parameters
    ) -> Inbox[Subscription]:
        client = self._client
        request_id = client.session.subscribe_tracks(prefix, parameters)
        inbox: Inbox[Subscription] = Inbox()
        self._wanted_tracks[request_id] = (prefix, inbox)
        client.readers.expect()
        try:
            await client.exchanges.answer(request_id, lambda answer: answer)
        except BaseException:
            self._wanted_tracks.pop(request_id, None)
            client.readers.expect_no_more()
            raise
        return inbox

    # -- events

    def on_publish(self, request: Publish) -> None:
        """A track that is pushed: taken if somebody here asked for its namespace."""
        client = self._client
        namespace = request.track.namespace
        for prefix, inbox in self._wanted_tracks.values():
            if namespace[: len(prefix)] == prefix:
                client.session.respond(RequestOk(request.request_id))
                subscription = Subscription(client, request.track, request, QueueLimits())
                client.readers.add_subscription(subscription)
                inbox.put(subscription)
                return
        client.session.reject(
            request.request_id, RequestErrorCode.UNINTERESTED, "nobody here asked for it"
        )

    def on_publish_namespace(self, request: PublishNamespace) -> None:
        self._heard[request.request_id] = request.namespace
        self._client.session.respond(RequestOk(request.request_id))
        self._tell(request.namespace, True)

    def on_change(self, request_id: int, change: NamespaceAdded | NamespaceDone) -> None:
        if (asked := self._asked.get(request_id)) is not None:
            prefix, inbox = asked
            live = isinstance(change, NamespaceAdded)
            inbox.put(NamespaceChange(prefix + change.suffix, live))

    def on_cancelled(self, request_id: int) -> None:
        """The peer withdrew one of its namespaces, if it is that request."""
        if (namespace := self._heard.pop(request_id, None)) is not None:
            self._tell(namespace, False)

    def on_ended(self, request_id: int, error: Exception) -> None:
        """The peer ended one of this client's requests."""
        if (announcement := self._announcements.pop(request_id, None)) is not None:
            announcement.cancelled = True
        if (asked := self._asked.pop(request_id, None)) is not None:
            asked[1].end(error)
        if (tracks := self._wanted_tracks.pop(request_id, None)) is not None:
            tracks[1].end(error)
            self._client.readers.expect_no_more()

    def fail_all(self, error: Exception) -> None:
        """The session is over."""
        for _, changes in self._asked.values():
            changes.end(error)
        for _, tracks in self._wanted_tracks.values():
            tracks.end(error)

    def _tell(self, namespace: Namespace, live: bool) -> None:
        for prefix, inbox in self._asked.values():
            if namespace[: len(prefix)] == prefix:
                inbox.put(NamespaceChange(namespace, live))
