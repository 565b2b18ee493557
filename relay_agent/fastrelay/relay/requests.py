"""What peers ask for: checked against policy and limits, then handed to the part that serves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.feedback import TRACK as FEEDBACK
from fastrelay.moqt.messages import Parameters, RequestOk
from fastrelay.moqt.names import FullTrackName, Location, Namespace
from fastrelay.relay import loops, renditions
from fastrelay.relay.auto import Auto
from fastrelay.relay.coverage import Span
from fastrelay.relay.discovery import Announcement, Interest, TracksInterest
from fastrelay.relay.feedback import Feedback
from fastrelay.relay.fetch import Fetch
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.policy import Tokens
from fastrelay.relay.status_request import Status
from fastrelay.relay.subscription import Phase, Subscription
from fastrelay.relay.window import OPEN_END, is_empty, resolve

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay
    from fastrelay.relay.tracks import Track


class Requests:
    """The requests of all peers."""

    def __init__(self, core: Relay) -> None:
        self._core = core
        self._handlers: dict[type, Callable[[Peer, Any, Tokens], None]] = {
            ms.Subscribe: self._subscribe,
            ms.Fetch: self._fetch,
            ms.TrackStatus: self._track_status,
            ms.Publish: self._publish,
            ms.PublishNamespace: self._publish_namespace,
            ms.SubscribeNamespace: self._subscribe_namespace,
            ms.SubscribeTracks: self._subscribe_tracks,
        }

    def received(self, peer: Peer, event: ev.RequestReceived) -> None:
        request = event.request
        limits = self._core.options.limits
        if not isinstance(request, ms.PublishNamespace):
            peer.asked = True
        tokens = peer.tokens + event.tokens
        if self._core.draining or peer.going_away:
            self.reject(
                peer, request.request_id, RequestErrorCode.GOING_AWAY, "the session is ending"
            )
        elif len(peer.handles) >= limits.requests_per_session:
            self._overloaded(peer, request.request_id, "too many requests in this session")
        elif loops.contains(loops.hops_of(event.tokens), self._core.id):
            self.reject(
                peer, request.request_id, RequestErrorCode.DOES_NOT_EXIST, "a loop of relays"
            )
        else:
            self._handlers[type(request)](peer, request, tokens)

    def reject(
        self, peer: Peer, request_id: int, code: int, reason: str, retry_after: int | None = None
    ) -> None:
        try:
            name = RequestErrorCode(code).name
        except ValueError:
            name = "OTHER"
        rejected = self._core.counters.requests_rejected
        rejected[name] = rejected.get(name, 0) + 1
        peer.session.reject(request_id, code, reason, retry_after)

    def _overloaded(self, peer: Peer, request_id: int, reason: str) -> None:
        self.reject(peer, request_id, RequestErrorCode.EXCESSIVE_LOAD, reason, 1000)

    def _unauthorized(self, peer: Peer, request_id: int) -> None:
        self.reject(peer, request_id, RequestErrorCode.UNAUTHORIZED, "not allowed here")

    def _wanted(
        self, peer: Peer, request_id: int, name: FullTrackName, tokens: Tokens
    ) -> Track | None:
        """The track for somebody who wants to read it; None: the request has been rejected."""
        if not self._core.policy.may_subscribe(name.namespace, tokens):
            self._unauthorized(peer, request_id)
            return None
        track = self._core.track(name)
        if track is None:
            self._overloaded(peer, request_id, "too many tracks")
        return track

    def _subscribe(self, peer: Peer, request: ms.Subscribe, tokens: Tokens) -> None:
        track = self._wanted(peer, request.request_id, request.track, tokens)
        if track is None:
            return
        automatic = renditions.wanted(request.track)
        if automatic is not None and not track.sources.feeds:
            self._core.release(track)
            Auto(
                self._core,
                peer,
                request.request_id,
                request.track,
                automatic,
                request.parameters,
                hops=loops.hops_of(tokens),
                tokens=tokens,
            ).begin()
            return
        subscription = Subscription(
            track,
            peer,
            request.request_id,
            request.parameters,
            self._core.timers.now(),
            hops=loops.hops_of(tokens),
        )
        peer.handles[request.request_id] = subscription
        peer.subscriptions[request.track] = subscription
        track.join(subscription)
        self._core.release(track)

    def _fetch(self, peer: Peer, request: ms.Fetch, tokens: Tokens) -> None:
        if peer.fetches >= self._core.options.limits.fetches_per_session:
            self._overloaded(peer, request.request_id, "too many fetches in this session")
        elif request.kind is not ms.FetchKind.STANDALONE:
            self._joining_fetch(peer, request)
        else:
            assert request.track is not None
            track = self._wanted(peer, request.request_id, request.track, tokens)
            if track is None:
                return
            fetch = Fetch(track, peer, request.request_id, request.parameters)
            peer.handles[request.request_id] = fetch
            fetch.begin(_fetch_span(request, track.largest))

    def _joining_fetch(self, peer: Peer, request: ms.Fetch) -> None:
        """Sections 10.12.2: from a group on to where the subscription began."""
        joined = peer.handles.get(request.joining_request_id)
        if isinstance(joined, Auto):
            joined = joined.current
        if not isinstance(joined, Subscription):
            self.reject(
                peer,
                request.request_id,
                RequestErrorCode.INVALID_JOINING_REQUEST_ID,
                "no such subscription",
            )
            return
        fetch = Fetch(joined.track, peer, request.request_id, request.parameters)
        peer.handles[request.request_id] = fetch
        if joined.phase is Phase.WAITING:
            joined.on_accepted.append(lambda accepted: fetch.join(joined, request, accepted))
        else:
            fetch.join(joined, request, True)

    def fill(self, subscription: Subscription, request_id: int, parameters: Parameters) -> None:
        """FILL_PARAMETERS: a fetch stream for a subscription (draft 22)."""
        largest = subscription.track.largest
        if largest is None:
            return
        merged = Parameters(
            fill_timeout=parameters.fill_timeout,
            subscriber_priority=_first(
                parameters.subscriber_priority, subscription.parameters.subscriber_priority
            ),
            group_order=parameters.group_order or subscription.parameters.group_order,
        )
        window = resolve(parameters.filter or subscription.parameters.filter, largest)
        end = min(Location(window.end_group, window.end_object), largest)
        if window.start > end:
            return
        fetch = Fetch(subscription.track, subscription.peer, request_id, merged, subscription)
        subscription.fills.append(fetch)
        fetch.begin(Span(window.start, end))

    def _track_status(self, peer: Peer, request: ms.TrackStatus, tokens: Tokens) -> None:
        track = self._wanted(peer, request.request_id, request.track, tokens)
        if track is None:
            return
        Status(track, peer, request).begin()
        self._core.release(track)

    def _publish(self, peer: Peer, request: ms.Publish, tokens: Tokens) -> None:
        if request.track.namespace == FEEDBACK.namespace:
            self._feedback(peer, request)
            return
        if not self._core.policy.may_publish(request.track.namespace, tokens):
            self._unauthorized(peer, request.request_id)
            return
        track = self._core.track(request.track)
        if track is None:
            self._overloaded(peer, request.request_id, "too many tracks")
            return
        track.sources.offered(peer, request)

    def _feedback(self, peer: Peer, request: ms.Publish) -> None:
        """Anybody may tell when its objects arrive: nobody else sees it."""
        if request.track != FEEDBACK:
            why = "there is no such feedback here"
            self.reject(peer, request.request_id, RequestErrorCode.DOES_NOT_EXIST, why)
        elif peer.feedback is not None:
            why = "there is a feedback track in this session"
            self.reject(peer, request.request_id, RequestErrorCode.DUPLICATE_SUBSCRIPTION, why)
        elif request.track_alias in peer.feeds:
            why = "its alias is that of another track"
            self.reject(peer, request.request_id, RequestErrorCode.DUPLICATE_SUBSCRIPTION, why)
        else:
            Feedback(self._core, peer, request).begin()

    def _publish_namespace(self, peer: Peer, request: ms.PublishNamespace, tokens: Tokens) -> None:
        limits = self._core.options.limits
        if not self._core.policy.may_publish(request.namespace, tokens):
            self._unauthorized(peer, request.request_id)
        elif (
            len(self._core.namespaces) >= limits.namespaces
            or peer.namespaces >= limits.namespaces_per_session
        ):
            self._overloaded(peer, request.request_id, "too many namespaces")
        else:
            peer.asked = True
            announcement = Announcement(
                self._core, peer, request.namespace, request.request_id, loops.hops_of(tokens)
            )
            peer.handles[request.request_id] = announcement
            peer.session.respond(RequestOk(request.request_id))
            self._core.namespaces.add(announcement)

    def _subscribe_namespace(
        self, peer: Peer, request: ms.SubscribeNamespace, tokens: Tokens
    ) -> None:
        if not self._may_discover(peer, request.request_id, request.prefix, tokens):
            return
        wants_names = request.options != 0
        names = Interest(self._core, peer, request.prefix, request.request_id, tokens)
        handle: Handle = names
        tracks: TracksInterest | None = None
        if request.options != 1:
            tracks = handle = TracksInterest(
                self._core,
                peer,
                request.prefix,
                request.request_id,
                request.parameters,
                tokens,
                names if wants_names else None,
            )
        peer.handles[request.request_id] = handle
        peer.session.respond(RequestOk(request.request_id))
        if wants_names:
            self._core.namespaces.interested(names)
            names.begin()
        if tracks is not None:
            self._core.namespaces.interested(tracks)
            self._core.routing.offer_tracks(tracks)

    def _subscribe_tracks(self, peer: Peer, request: ms.SubscribeTracks, tokens: Tokens) -> None:
        if not self._may_discover(peer, request.request_id, request.prefix, tokens):
            return
        interest = TracksInterest(
            self._core, peer, request.prefix, request.request_id, request.parameters, tokens
        )
        peer.handles[request.request_id] = interest
        peer.session.respond(RequestOk(request.request_id))
        self._core.namespaces.interested(interest)
        self._core.routing.offer_tracks(interest)

    def _may_discover(self, peer: Peer, request_id: int, prefix: Namespace, tokens: Tokens) -> bool:
        if not self._core.policy.may_subscribe(prefix, tokens):
            self._unauthorized(peer, request_id)
            return False
        if (
            len(list(self._core.namespaces.under(prefix)))
            > self._core.options.limits.namespaces_per_session
        ):
            self.reject(
                peer,
                request_id,
                RequestErrorCode.NAMESPACE_TOO_LARGE,
                "more namespaces than this relay enumerates",
            )
            return False
        return True

    def update_fault(
        self, subscription: Subscription, event: ev.RequestUpdated
    ) -> tuple[RequestErrorCode, str] | None:
        """Why a subscription may not be changed like this."""
        tokens = subscription.peer.tokens + event.tokens
        if event.tokens and not self._core.policy.may_subscribe(
            subscription.track.name.namespace, tokens
        ):
            return RequestErrorCode.UNAUTHORIZED, "not allowed here"
        fault = self.range_fault(event.parameters, None)
        if fault is not None:
            return RequestErrorCode.INVALID_RANGE, fault
        return None

    def range_fault(self, parameters: Parameters, largest: Location | None) -> str | None:
        """Why the wanted range cannot be had (section 5.1.2)."""
        if parameters.filter is None:
            return None
        window = resolve(parameters.filter, largest)
        if is_empty(window):
            return "the range ends before it begins"
        if largest is not None and window.end_group < largest.group:
            return "the range was published already; use FETCH"
        return None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _fetch_span(request: ms.Fetch, largest: Location | None) -> Span:
    """The range of a standalone FETCH, both ends inclusive."""
    wanted = request.parameters.filter
    if wanted is not None:
        window = resolve(wanted, largest)
        return Span(window.start, Location(window.end_group, window.end_object))
    end_group = OPEN_END if request.end_group is None else request.end_group
    end_object = OPEN_END if request.end_object is None else request.end_object
    return Span(request.start, Location(end_group, end_object))
