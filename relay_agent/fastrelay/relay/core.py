"""The relay: events of all sessions in, calls on sessions out; no I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastrelay import __version__
from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.messages import Parameters, RequestOk
from fastrelay.moqt.names import FullTrackName, Location, Namespace
from fastrelay.relay import loops, snapshot
from fastrelay.relay.coverage import Span
from fastrelay.relay.fetch import Fetch
from fastrelay.relay.namespaces import (
    Announcement,
    Interest,
    Namespaces,
    TracksInterest,
    is_prefix,
)
from fastrelay.relay.options import RelayOptions
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.policy import Policy, Tokens
from fastrelay.relay.ports import Counters, NoUpstreams, Observer, PeerInfo, Silent, Upstreams
from fastrelay.relay.status_request import Status
from fastrelay.relay.store import Cache
from fastrelay.relay.subscription import Phase, Subscription
from fastrelay.relay.timers import Timers
from fastrelay.relay.tracks import Track
from fastrelay.relay.window import OPEN_END, is_empty, resolve

if TYPE_CHECKING:
    from fastrelay.moqt.session import Session

SWEEP_SECONDS = 1.0
_NO_UPSTREAMS = NoUpstreams()
_SILENT = Silent()


def _nobody(deadline: float) -> None:
    """For callers that call ``expire`` regularly."""


class Relay:
    """All sessions, tracks and namespaces of one relay.

    :param clock: monotonic seconds.
    :param wake: told of the time at which :meth:`expire` has to be called at the latest,
        whenever that moves closer.
    """

    def __init__(
        self,
        options: RelayOptions,
        *,
        clock: Callable[[], float],
        wake: Callable[[float], None] = _nobody,
        upstreams: Upstreams = _NO_UPSTREAMS,
        observer: Observer = _SILENT,
    ) -> None:
        self.options = options
        self.observer = observer
        self.counters = Counters()
        self.timers = Timers(clock, wake)
        self.policy = Policy(options.policy)
        self.cache = Cache(options.cache.seconds, options.cache.bytes, self.counters)
        self.namespaces = Namespaces(self)
        self.tracks: dict[FullTrackName, Track] = {}
        self.closing = False
        self.draining = False
        self.id = loops.new_id()
        self._upstreams = upstreams
        self._peers: dict[Session, Peer] = {}
        self._unsettled: dict[Peer, None] = {}
        self._released: dict[Track, None] = {}
        self._handlers: dict[type, Callable[[Peer, Any], None]] = {
            ev.SubgroupData: _stream_data,
            ev.FetchData: _stream_data,
            ev.SubgroupOpened: self._subgroup_opened,
            ev.DatagramReceived: self._datagram,
            ev.FetchOpened: self._fetch_opened,
            ev.DataStreamReset: _stream_reset,
            ev.DataStreamStopped: _stream_stopped,
            ev.TrackMalformed: _malformed,
            ev.SetupReceived: self._setup,
            ev.RequestReceived: self._request,
            ev.RequestUpdated: _request_updated,
            ev.RequestCancelled: _request_cancelled,
            ev.AnswerReceived: _answered,
            ev.UpdateAnswered: _update_answered,
            ev.NotificationReceived: _notified,
            ev.RequestEnded: _request_ended,
            ev.GoAwayReceived: self._goaway,
            ev.Writable: self._writable,
            ev.SessionClosed: self._closed,
        }
        self._requests: dict[type, Callable[[Peer, Any, Tokens], None]] = {
            ms.Subscribe: self._subscribe,
            ms.Fetch: self._fetch,
            ms.TrackStatus: self._track_status,
            ms.Publish: self._publish,
            ms.PublishNamespace: self._publish_namespace,
            ms.SubscribeNamespace: self._subscribe_namespace,
            ms.SubscribeTracks: self._subscribe_tracks,
        }
        self.timers.after(SWEEP_SECONDS, self._sweep)

    # For the shell

    @property
    def implementation(self) -> str:
        """For SETUP of every session: it carries the relay's id (see :mod:`.loops`)."""
        return loops.implementation(__version__, self.id)

    @property
    def accepting(self) -> bool:
        """Whether one more session is welcome."""
        return not self.draining and len(self._peers) < self.options.limits.sessions

    @property
    def idle(self) -> bool:
        return not self._peers

    @property
    def peers(self) -> list[Peer]:
        return list(self._peers.values())

    def session_opened(self, session: Session, info: PeerInfo) -> None:
        """A session exists; to be called before its first event."""
        self._peers[session] = Peer(session, info, self.options.high_water_bytes, self.timers.now())
        self.counters.sessions = len(self._peers)

    def on_event(self, session: Session, event: ev.Event) -> None:
        """What a session tells."""
        peer = self._peers.get(session)
        if peer is None:
            return
        self._handlers[type(event)](peer, event)
        if self._unsettled:
            self._settle()
        if self._released:
            self._remove_released()

    def writable(self, session: Session) -> None:
        """The session's transport takes bytes again."""
        peer = self._peers.get(session)
        if peer is not None:
            self._writable(peer, None)
            self._settle()
            self._remove_released()

    def session_closed(self, session: Session) -> None:
        """The session is over, whether or not it said so itself."""
        peer = self._peers.pop(session, None)
        if peer is None:
            return
        self.counters.sessions = len(self._peers)
        for handle in list(peer.handles.values()):
            handle.lost()
        for stream in list(peer.inflows.values()):
            stream.lost(StreamError.CANCELLED)
        self.namespaces.forget_peer(peer)
        for track in self.tracks.values():
            track.refused_by.discard(peer)
        self._unsettled.pop(peer, None)
        self._settle()
        self._remove_released()

    def upstream_failed(self, url: str) -> None:
        """An attempt to connect that ``Upstreams.want`` counted has failed."""
        for track in list(self.tracks.values()):
            track.upstream_failed()
        self._remove_released()

    def expire(self, now: float) -> float | None:
        """Do what is due; returns when to call again."""
        deadline = self.timers.expire(now)
        self._settle()
        self._remove_released()
        return deadline

    def drain(self, uri: str = "", timeout_ms: int = 0) -> None:
        """Send GOAWAY to everybody and refuse what is new; what runs goes on.

        :param uri: where clients should go. Servers cannot be sent anywhere (section 10.4).
        """
        self.draining = True
        for peer in self.peers:
            peer.session.goaway("" if peer.transport.is_client else uri, timeout_ms)

    def close(self) -> None:
        """End every session."""
        self.closing = True
        code = SessionError.GOAWAY_TIMEOUT if self.draining else SessionError.NO_ERROR
        for peer in self.peers:
            peer.session.close(code, "the relay stops")
            self.session_closed(peer.session)

    def status(self) -> dict[str, Any]:
        """Everything that is there now, as values that JSON knows."""
        return snapshot.of(self)

    # Sessions

    def _setup(self, peer: Peer, event: ev.SetupReceived) -> None:
        peer.ready = True
        peer.tokens = event.tokens
        peer.relay_id = loops.id_of(event.setup.implementation)
        if peer.relay_id == self.id:
            self.observer.log("warning", "upstream is this relay itself", peer=peer.info.address)
            return
        if peer.info.upstream is not None:
            self._upstream_ready(peer)
        elif self.options.deviations.announce_unasked and peer.draft.forwards_publish_namespace:
            self.timers.after(self.options.unasked_seconds, lambda: self._tell_unasked(peer))

    def _tell_unasked(self, peer: Peer) -> None:
        """A session that asks for nothing waits to be told (players in the field do)."""
        if peer.session in self._peers and not peer.asked and not peer.going_away:
            peer.announced_unasked = True
            self.namespaces.pass_all_on(peer)

    def _upstream_ready(self, peer: Peer) -> None:
        self.namespaces.upstream_ready(peer)
        for track in list(self.tracks.values()):
            track.available()

    def _goaway(self, peer: Peer, event: ev.GoAwayReceived) -> None:
        if event.request_id is None:
            peer.going_away = True
            self.observer.log("info", "peer is going away", peer=peer.info.address)

    def _closed(self, peer: Peer, event: ev.SessionClosed) -> None:
        self.session_closed(peer.session)

    def _writable(self, peer: Peer, event: object) -> None:
        peer.pump()

    # Requests

    def _request(self, peer: Peer, event: ev.RequestReceived) -> None:
        request = event.request
        limits = self.options.limits
        if not isinstance(request, ms.PublishNamespace):
            peer.asked = True
        tokens = peer.tokens + event.tokens
        if self.draining or peer.going_away:
            self.reject(
                peer, request.request_id, RequestErrorCode.GOING_AWAY, "the session is ending"
            )
        elif len(peer.handles) >= limits.requests_per_session:
            self._overloaded(peer, request.request_id, "too many requests in this session")
        elif loops.contains(loops.hops_of(event.tokens), self.id):
            self.reject(
                peer, request.request_id, RequestErrorCode.DOES_NOT_EXIST, "a loop of relays"
            )
        else:
            self._requests[type(request)](peer, request, tokens)

    def reject(
        self, peer: Peer, request_id: int, code: int, reason: str, retry_after: int | None = None
    ) -> None:
        try:
            name = RequestErrorCode(code).name
        except ValueError:
            name = "OTHER"
        rejected = self.counters.requests_rejected
        rejected[name] = rejected.get(name, 0) + 1
        peer.session.reject(request_id, code, reason, retry_after)

    def _overloaded(self, peer: Peer, request_id: int, reason: str) -> None:
        self.reject(peer, request_id, RequestErrorCode.EXCESSIVE_LOAD, reason, 1000)

    def _unauthorized(self, peer: Peer, request_id: int) -> None:
        self.reject(peer, request_id, RequestErrorCode.UNAUTHORIZED, "not allowed here")

    def _subscribe(self, peer: Peer, request: ms.Subscribe, tokens: Tokens) -> None:
        if not self.policy.may_subscribe(request.track.namespace, tokens):
            self._unauthorized(peer, request.request_id)
            return
        track = self._track(request.track)
        if track is None:
            self._overloaded(peer, request.request_id, "too many tracks")
            return
        subscription = Subscription(
            track,
            peer,
            request.request_id,
            request.parameters,
            self.timers.now(),
            hops=loops.hops_of(tokens),
        )
        peer.handles[request.request_id] = subscription
        peer.subscriptions[request.track] = subscription
        track.join(subscription)
        self.release(track)

    def _fetch(self, peer: Peer, request: ms.Fetch, tokens: Tokens) -> None:
        if peer.fetches >= self.options.limits.fetches_per_session:
            self._overloaded(peer, request.request_id, "too many fetches in this session")
        elif request.kind is not ms.FetchKind.STANDALONE:
            self._joining_fetch(peer, request)
        else:
            assert request.track is not None
            if not self.policy.may_subscribe(request.track.namespace, tokens):
                self._unauthorized(peer, request.request_id)
                return
            track = self._track(request.track)
            if track is None:
                self._overloaded(peer, request.request_id, "too many tracks")
                return
            fetch = Fetch(track, peer, request.request_id, request.parameters)
            peer.handles[request.request_id] = fetch
            fetch.begin(_fetch_span(request, track.largest))

    def _joining_fetch(self, peer: Peer, request: ms.Fetch) -> None:
        """Sections 10.12.2: from a group on to where the subscription began."""
        joined = peer.handles.get(request.joining_request_id)
        if not isinstance(joined, Subscription):
            self.reject(
                peer,
                request.request_id,
                RequestErrorCode.INVALID_JOINING_REQUEST_ID,
                "no such subscription",
            )
            return
        joined.fetches_past = True
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
        if not self.policy.may_subscribe(request.track.namespace, tokens):
            self._unauthorized(peer, request.request_id)
            return
        track = self._track(request.track)
        if track is None:
            self._overloaded(peer, request.request_id, "too many tracks")
            return
        Status(track, peer, request).begin()
        self.release(track)

    def _publish(self, peer: Peer, request: ms.Publish, tokens: Tokens) -> None:
        if not self.policy.may_publish(request.track.namespace, tokens):
            self._unauthorized(peer, request.request_id)
            return
        track = self._track(request.track)
        if track is None:
            self._overloaded(peer, request.request_id, "too many tracks")
            return
        track.offered(peer, request)

    def _publish_namespace(self, peer: Peer, request: ms.PublishNamespace, tokens: Tokens) -> None:
        limits = self.options.limits
        if not self.policy.may_publish(request.namespace, tokens):
            self._unauthorized(peer, request.request_id)
        elif (
            len(self.namespaces) >= limits.namespaces
            or peer.namespaces >= limits.namespaces_per_session
        ):
            self._overloaded(peer, request.request_id, "too many namespaces")
        else:
            peer.asked = True
            announcement = Announcement(
                self, peer, request.namespace, request.request_id, loops.hops_of(tokens)
            )
            peer.handles[request.request_id] = announcement
            peer.session.respond(RequestOk(request.request_id))
            self.namespaces.add(announcement)

    def _subscribe_namespace(
        self, peer: Peer, request: ms.SubscribeNamespace, tokens: Tokens
    ) -> None:
        if not self._may_discover(peer, request.request_id, request.prefix, tokens):
            return
        wants_names = request.options != 0
        names = Interest(self, peer, request.prefix, request.request_id, tokens)
        handle: Handle = names
        tracks: TracksInterest | None = None
        if request.options != 1:
            tracks = handle = TracksInterest(
                self,
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
            self.namespaces.interested(names)
            names.begin()
        if tracks is not None:
            self.namespaces.interested(tracks)
            self.offer_tracks(tracks)

    def _subscribe_tracks(self, peer: Peer, request: ms.SubscribeTracks, tokens: Tokens) -> None:
        if not self._may_discover(peer, request.request_id, request.prefix, tokens):
            return
        interest = TracksInterest(
            self, peer, request.prefix, request.request_id, request.parameters, tokens
        )
        peer.handles[request.request_id] = interest
        peer.session.respond(RequestOk(request.request_id))
        self.namespaces.interested(interest)
        self.offer_tracks(interest)

    def _may_discover(self, peer: Peer, request_id: int, prefix: Namespace, tokens: Tokens) -> bool:
        if not self.policy.may_subscribe(prefix, tokens):
            self._unauthorized(peer, request_id)
            return False
        if len(list(self.namespaces.under(prefix))) > self.options.limits.namespaces_per_session:
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
        if event.tokens and not self.policy.may_subscribe(
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

    # Tracks

    def _track(self, name: FullTrackName) -> Track | None:
        track = self.tracks.get(name)
        if track is None and len(self.tracks) < self.options.limits.tracks:
            track = self.tracks[name] = Track(self, name)
            self.counters.tracks = len(self.tracks)
        return track

    def release(self, track: Track) -> None:
        """Look, once this event is dealt with, whether the track is still needed."""
        self._released[track] = None

    def _remove_released(self) -> None:
        while self._released:
            track, _ = self._released.popitem()
            if track.is_unused and self.tracks.get(track.name) is track:
                track.close()
                del self.tracks[track.name]
        self.counters.tracks = len(self.tracks)

    def choose_alias(self, peer: Peer, wanted: int) -> int:
        """``wanted`` (the publisher's) if this peer has no such alias, else one as long as it."""
        varints = peer.draft.varints
        if wanted > varints.maximum:
            wanted = 0
        size = varints.size(wanted)
        alias = wanted
        step = 0
        while alias in peer.aliases or (varints.size(alias) != size and step < _SAME_SIZE_TRIES):
            step += 1
            alias = wanted ^ step
        peer.aliases.add(alias)
        return alias

    def publishers_of(self, track: Track) -> list[Peer]:
        """Sessions that published the track's namespace or a prefix of it (section 9.5)."""
        found: dict[Peer, None] = {}
        for announcement in self.namespaces.publishers(track.name.namespace):
            peer = announcement.peer
            if peer.info.upstream is None and self._may_ask(peer, track):
                found[peer] = None
        return list(found)

    def upstreams_for(self, track: Track) -> list[Peer]:
        """Upstream sessions to ask, those that announced the namespace first."""
        announced = {a.peer for a in self.namespaces.publishers(track.name.namespace)}
        upstreams = [
            peer
            for peer in self._peers.values()
            if peer.info.upstream is not None
            and peer.ready
            and self.serves(peer, track.name.namespace)
            and self._may_ask(peer, track)
        ]
        return sorted(upstreams, key=lambda peer: peer not in announced)

    def serves(self, peer: Peer, namespace: Namespace) -> bool:
        """Whether an upstream is configured for this namespace."""
        prefixes = peer.info.prefixes
        return not prefixes or any(is_prefix(prefix, namespace) for prefix in prefixes)

    def _may_ask(self, peer: Peer, track: Track) -> bool:
        """Not the relay that a request came from, nor one it came through."""
        if peer.going_away:
            return False
        if peer.relay_id is None:
            return True
        for subscription in [*track.waiting, *track.subscriptions]:
            if subscription.peer.relay_id == peer.relay_id:
                return False
            if self.is_loop(peer, subscription.hops):
                return False
        return peer.relay_id != self.id

    def is_loop(self, peer: Peer, hops: bytes) -> bool:
        return peer.relay_id is not None and loops.contains(hops, peer.relay_id)

    def hop_tokens(self, peer: Peer, hops: bytes) -> tuple[ms.Token, ...]:
        return () if peer.relay_id is None else (loops.token(hops, self.id),)

    def upstreams_coming(self, track: Track) -> bool:
        """Whether a connection to an upstream is being made that could have the track."""
        return self._upstreams.want() > 0

    def namespace_added(self, announcement: Announcement) -> None:
        for track in list(self.tracks.values()):
            if is_prefix(announcement.namespace, track.name.namespace):
                track.refused_by.discard(announcement.peer)
                track.available()

    def announce_track(self, track: Track) -> None:
        """Offer a track that is published now to whoever asked for all under a prefix."""
        for interest in self.namespaces.wanting_tracks(track.name.namespace):
            self._offer(track, interest)

    def offer_tracks(self, interest: TracksInterest) -> None:
        for track in list(self.tracks.values()):
            if is_prefix(interest.prefix, track.name.namespace):
                self._offer(track, interest)

    def _offer(self, track: Track, interest: TracksInterest) -> None:
        peer = interest.peer
        feeds = track.published
        if (
            any(feed.pushed for feed in feeds)
            and all(feed.peer is not peer for feed in feeds)
            and track.name not in peer.subscriptions
            and self.policy.may_subscribe(track.name.namespace, interest.tokens)
        ):
            track.offer(peer, interest.parameters)

    # Data

    def _subgroup_opened(self, peer: Peer, event: ev.SubgroupOpened) -> None:
        feed = peer.feeds.get(event.header.track_alias)
        if feed is not None:
            feed.opened(event)
        else:
            _Early(self, peer, event)

    def _datagram(self, peer: Peer, event: ev.DatagramReceived) -> None:
        feed = peer.feeds.get(event.track_alias)
        if feed is not None:
            feed.datagram(event)
        else:
            self.keep_early(peer, event.track_alias, event)

    def _fetch_opened(self, peer: Peer, event: ev.FetchOpened) -> None:
        fill = peer.expected_fetches.get(event.request_id)
        if fill is not None:
            fill.opened(event.stream_id)
        else:
            peer.session.stop(event.stream_id, StreamError.CANCELLED)

    def keep_early(self, peer: Peer, alias: int, event: ev.Event) -> bool:
        """Keep an event until somebody says what this alias stands for; False: no room."""
        size = _size(event)
        if peer.early_bytes + size > self.options.limits.unknown_alias_bytes:
            return False
        peer.early_bytes += size
        peer.early.setdefault(alias, []).append(event)
        return True

    def replay_early(self, peer: Peer, alias: int) -> None:
        """The alias is known now: deal with what came before."""
        for event in peer.early.pop(alias, ()):
            peer.early_bytes -= _size(event)
            self._handlers[type(event)](peer, event)

    def dropped(self, reason: str, what: str) -> None:
        self.counters.drops[reason] = self.counters.drops.get(reason, 0) + 1
        self.observer.dropped(reason, what)

    # Afterwards

    def unsettled(self, peer: Peer) -> None:
        """This peer has something to send or to give up, once the event is dealt with."""
        self._unsettled[peer] = None

    def _settle(self) -> None:
        while self._unsettled:
            peer, _ = self._unsettled.popitem()
            peer.pump()
            peer.review()

    def _sweep(self) -> None:
        if not self.closing:
            self.timers.after(SWEEP_SECONDS, self._sweep)
        now = self.timers.now()
        self.cache.expire(now)
        for track in list(self.tracks.values()):
            if track.is_unused:
                self.release(track)
        for peer in self.peers:
            peer.review()
            self._forget_early(peer)
        self.counters.cache_bytes = self.cache.total
        self.counters.subscriptions = sum(len(t.subscriptions) for t in self.tracks.values())
        self.counters.upstream_subscriptions = sum(len(t.feeds) for t in self.tracks.values())

    def _forget_early(self, peer: Peer) -> None:
        """Data whose alias nobody has explained for two sweeps is not wanted."""
        for alias in peer.early_old & peer.early.keys():
            for event in peer.early[alias]:
                if isinstance(event, ev.SubgroupOpened):
                    peer.inflows.pop(event.stream_id, None)
                    peer.session.stop(event.stream_id, StreamError.CANCELLED)
            peer.early_bytes -= sum(_size(event) for event in peer.early.pop(alias))
        peer.early_old = set(peer.early)


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


_SAME_SIZE_TRIES = 4096
_EVENT_SIZE = 200


def _size(event: ev.Event) -> int:
    """Memory that a kept event takes, roughly."""
    if isinstance(event, ev.SubgroupData):
        return _EVENT_SIZE + len(event.body)
    if isinstance(event, ev.DatagramReceived):
        return _EVENT_SIZE + len(event.raw)
    return _EVENT_SIZE


class _Early:
    """A stream whose alias nobody has explained yet."""

    __slots__ = ("_alias", "_core", "_peer", "_stream_id")

    def __init__(self, core: Relay, peer: Peer, event: ev.SubgroupOpened) -> None:
        self._core = core
        self._peer = peer
        self._alias = event.header.track_alias
        self._stream_id = event.stream_id
        peer.inflows[event.stream_id] = self
        self._keep(event)

    def _keep(self, event: ev.Event) -> None:
        if not self._core.keep_early(self._peer, self._alias, event):
            self._peer.inflows.pop(self._stream_id, None)
            self._peer.session.stop(self._stream_id, StreamError.CANCELLED)

    def data(self, event: ev.SubgroupData) -> None:
        self._keep(event)

    def lost(self, code: int) -> None:
        self._keep(ev.DataStreamReset(self._stream_id, code))

    def malformed(self, reason: str) -> None:
        self._keep(ev.TrackMalformed(self._stream_id, reason))


def _stream_data(peer: Peer, event: ev.SubgroupData | ev.FetchData) -> None:
    inflow = peer.inflows.get(event.stream_id)
    if inflow is not None:
        inflow.data(event)


def _stream_reset(peer: Peer, event: ev.DataStreamReset) -> None:
    inflow = peer.inflows.get(event.stream_id)
    if inflow is not None:
        inflow.lost(event.code)


def _malformed(peer: Peer, event: ev.TrackMalformed) -> None:
    inflow = None if event.stream_id is None else peer.inflows.get(event.stream_id)
    feed = None if event.track_alias is None else peer.feeds.get(event.track_alias)
    if inflow is not None:
        inflow.malformed(event.reason)
    elif feed is not None:
        feed.track.malformed(event.reason)


def _stream_stopped(peer: Peer, event: ev.DataStreamStopped) -> None:
    outflow = peer.outflows.get(event.stream_id)
    if outflow is not None:
        outflow.stopped()


def _request_updated(peer: Peer, event: ev.RequestUpdated) -> None:
    handle = peer.handles.get(event.request_id)
    if handle is not None:
        handle.updated(event)


def _request_cancelled(peer: Peer, event: ev.RequestCancelled) -> None:
    handle = peer.handles.get(event.request_id)
    if handle is not None:
        handle.cancelled()


def _answered(peer: Peer, event: ev.AnswerReceived) -> None:
    handle = peer.handles.get(event.answer.request_id)
    if handle is not None:
        handle.answered(event.answer)


def _update_answered(peer: Peer, event: ev.UpdateAnswered) -> None:
    handle = peer.handles.get(event.request_id)
    if handle is not None:
        handle.update_answered(event)


def _notified(peer: Peer, event: ev.NotificationReceived) -> None:
    handle = peer.handles.get(event.request_id)
    if handle is not None:
        handle.notified(event.notification)


def _request_ended(peer: Peer, event: ev.RequestEnded) -> None:
    handle = peer.handles.get(event.request_id)
    if handle is not None:
        handle.ended(event.code)
