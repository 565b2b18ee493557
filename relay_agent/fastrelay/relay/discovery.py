"""Requests about namespaces: who publishes them and who wants to hear of them, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.events import RequestUpdated
from fastrelay.moqt.messages import (
    Answer,
    NamespaceAdded,
    NamespaceDone,
    Notification,
    Parameters,
    PublishBlocked,
    RequestError,
)
from fastrelay.moqt.names import FullTrackName, Namespace
from fastrelay.relay.peer import Handle, Peer

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay


def is_prefix(prefix: Namespace, namespace: Namespace) -> bool:
    return namespace[: len(prefix)] == prefix


class Announcement(Handle):
    """A namespace that a peer publishes: its PUBLISH_NAMESPACE."""

    __slots__ = ("core", "hops", "namespace", "peer", "request_id")

    def __init__(
        self, core: Relay, peer: Peer, namespace: Namespace, request_id: int, hops: bytes
    ) -> None:
        self.core = core
        self.peer = peer
        self.namespace = namespace
        self.request_id = request_id
        self.hops = hops

    def updated(self, event: RequestUpdated) -> None:
        if self.core.policy.may_publish(self.namespace, self.peer.tokens + event.tokens):
            self.peer.session.respond_update(self.request_id, event.update_id, Parameters())
        else:
            self.peer.session.reject_update(
                self.request_id, event.update_id, RequestErrorCode.UNAUTHORIZED, "not allowed"
            )
            self.cancelled()

    def cancelled(self) -> None:
        self.peer.handles.pop(self.request_id, None)
        self.core.namespaces.withdraw(self)

    def lost(self) -> None:
        self.cancelled()


class Watch(Handle):
    """The relay's own SUBSCRIBE_NAMESPACE to an upstream: what that has is passed on here."""

    __slots__ = ("_known", "core", "peer", "prefix", "request_id")

    def __init__(self, core: Relay, peer: Peer, prefix: Namespace) -> None:
        self.core = core
        self.peer = peer
        self.prefix = prefix
        self._known: dict[Namespace, Announcement] = {}
        self.request_id = peer.session.subscribe_namespace(prefix, Parameters())
        peer.handles[self.request_id] = self

    def notified(self, notification: Notification) -> None:
        namespaces = self.core.namespaces
        if isinstance(notification, NamespaceAdded):
            namespace = self.prefix + notification.suffix
            if namespace not in self._known and not namespaces.is_echo(self.peer, namespace):
                found = Announcement(self.core, self.peer, namespace, -1, b"")
                self._known[namespace] = found
                namespaces.add(found)
        elif isinstance(notification, NamespaceDone):
            gone = self._known.pop(self.prefix + notification.suffix, None)
            if gone is not None:
                namespaces.withdraw(gone)

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, RequestError):
            self.lost()

    def ended(self, code: int) -> None:
        self.lost()

    def lost(self) -> None:
        self.peer.handles.pop(self.request_id, None)
        for gone in self._known.values():
            self.core.namespaces.withdraw(gone)
        self._known.clear()


class TracksWatch(Handle):
    """The relay's own SUBSCRIBE_TRACKS to an upstream, for all who ask for this prefix here.

    Tracks are offered without objects (FORWARD 0) until somebody wants them.
    """

    __slots__ = ("peer", "prefix", "request_id")

    def __init__(self, peer: Peer, prefix: Namespace) -> None:
        self.peer = peer
        self.prefix = prefix
        self.request_id = peer.session.subscribe_tracks(prefix, Parameters(forward=False))
        peer.handles[self.request_id] = self

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, RequestError):
            self.lost()

    def ended(self, code: int) -> None:
        self.lost()

    def lost(self) -> None:
        self.peer.handles.pop(self.request_id, None)

    def cancel(self) -> None:
        if self.peer.handles.pop(self.request_id, None) is not None:
            self.peer.session.cancel(self.request_id)


class Interest(Handle):
    """A peer's SUBSCRIBE_NAMESPACE."""

    __slots__ = ("core", "peer", "prefix", "request_id", "tokens", "told")

    def __init__(
        self,
        core: Relay,
        peer: Peer,
        prefix: Namespace,
        request_id: int,
        tokens: tuple[tuple[int, bytes], ...],
    ) -> None:
        self.core = core
        self.peer = peer
        self.prefix = prefix
        self.request_id = request_id
        self.tokens = tokens
        self.told: set[Namespace] = set()

    def begin(self) -> None:
        for namespace in self.core.namespaces.under(self.prefix):
            self.tell(namespace)

    def tell(self, namespace: Namespace) -> None:
        if namespace not in self.told and self.core.policy.may_subscribe(namespace, self.tokens):
            self.told.add(namespace)
            self.peer.session.notify(self.request_id, NamespaceAdded(namespace[len(self.prefix) :]))

    def untell(self, namespace: Namespace) -> None:
        if namespace in self.told:
            self.told.remove(namespace)
            self.peer.session.notify(self.request_id, NamespaceDone(namespace[len(self.prefix) :]))

    def updated(self, event: RequestUpdated) -> None:
        if not _authorized(self, event):
            return
        prefix = event.parameters.namespace_prefix
        self.peer.session.respond_update(self.request_id, event.update_id, Parameters())
        if prefix is not None and prefix != self.prefix:
            self.core.namespaces.move(self, prefix)
            self.told.clear()
            self.begin()

    def cancelled(self) -> None:
        self.peer.handles.pop(self.request_id, None)
        self.core.namespaces.uninterested(self)

    def lost(self) -> None:
        self.cancelled()


class TracksInterest(Handle):
    """A peer's SUBSCRIBE_TRACKS (in draft 16 SUBSCRIBE_NAMESPACE with options 0 or 2)."""

    __slots__ = ("core", "names", "parameters", "peer", "prefix", "request_id", "tokens")

    def __init__(
        self,
        core: Relay,
        peer: Peer,
        prefix: Namespace,
        request_id: int,
        parameters: Parameters,
        tokens: tuple[tuple[int, bytes], ...],
        names: Interest | None = None,
    ) -> None:
        self.core = core
        self.peer = peer
        self.prefix = prefix
        self.request_id = request_id
        self.parameters = replace(parameters, tokens=(), namespace_prefix=None)
        self.tokens = tokens
        self.names = names
        """Draft 16, options 2: the same request asks for namespaces too."""

    def blocked(self, track: FullTrackName) -> None:
        """This track is not offered with PUBLISH: the session has all the requests it may have.
        Draft 16 has no message for that."""
        if self.peer.draft.request_streams:
            suffix = track.namespace[len(self.prefix) :]
            self.peer.session.notify(self.request_id, PublishBlocked(suffix, track.name))

    def updated(self, event: RequestUpdated) -> None:
        if not _authorized(self, event):
            return
        prefix = event.parameters.namespace_prefix
        if event.parameters.forward is not None:
            self.parameters = replace(self.parameters, forward=event.parameters.forward)
        self.peer.session.respond_update(self.request_id, event.update_id, Parameters())
        if prefix is not None:
            self.prefix = prefix
            self.core.routing.offer_tracks(self)

    def cancelled(self) -> None:
        self.peer.handles.pop(self.request_id, None)
        self.core.namespaces.uninterested(self)

    def lost(self) -> None:
        self.cancelled()


def _authorized(interest: Interest | TracksInterest, event: RequestUpdated) -> bool:
    """Whether an update may be granted; with its tokens from then on. Else it is refused, and the
    request is over."""
    prefix = event.parameters.namespace_prefix
    tokens = interest.tokens + event.tokens
    wanted = interest.prefix if prefix is None else prefix
    if interest.core.policy.may_subscribe(wanted, tokens):
        interest.tokens = tokens
        return True
    interest.peer.session.reject_update(
        interest.request_id, event.update_id, RequestErrorCode.UNAUTHORIZED, "not allowed"
    )
    interest.cancelled()
    return False


class Passed(Handle):
    """A PUBLISH_NAMESPACE of the relay's: towards an upstream, or unasked to a peer."""

    __slots__ = ("core", "namespace", "peer", "request_id")

    def __init__(self, core: Relay, peer: Peer, namespace: Namespace, hops: bytes) -> None:
        self.core = core
        self.peer = peer
        self.namespace = namespace
        parameters = Parameters(tokens=core.routing.hop_tokens(peer, hops))
        self.request_id = peer.session.publish_namespace(namespace, parameters)
        peer.handles[self.request_id] = self

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, RequestError):
            self.ended(answer.code)

    def ended(self, code: int) -> None:
        self.peer.handles.pop(self.request_id, None)

    def cancelled(self) -> None:
        self.ended(0)

    def withdraw(self) -> None:
        if self.peer.handles.pop(self.request_id, None) is not None:
            self.peer.session.cancel(self.request_id)
