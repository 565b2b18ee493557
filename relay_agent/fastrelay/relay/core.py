"""The relay: events of all sessions in, calls on sessions out; no I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastrelay import __version__
from fastrelay.fastpath.bands import BandCounters, Bands
from fastrelay.moqt import events as ev
from fastrelay.moqt.codes import SessionError, StreamError
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic.measurements import Measurements
from fastrelay.relay import loops, snapshot
from fastrelay.relay.backlog import Backlog
from fastrelay.relay.early import Early
from fastrelay.relay.limits import Limiter
from fastrelay.relay.namespaces import (
    Namespaces,
)
from fastrelay.relay.options import RelayOptions
from fastrelay.relay.peer import Peer
from fastrelay.relay.policy import Policy
from fastrelay.relay.ports import (
    Counters,
    NoUpstreams,
    Observer,
    PeerInfo,
    Sharing,
    Silent,
    Upstreams,
)
from fastrelay.relay.requests import Requests
from fastrelay.relay.routing import Routing
from fastrelay.relay.seat import Seat
from fastrelay.relay.store import Cache
from fastrelay.relay.timers import Timers
from fastrelay.relay.tracks import Track
from fastrelay.relay.watch import Watch

if TYPE_CHECKING:
    from fastrelay.fastpath.ports import Forwarder
    from fastrelay.moqt.session import Session

SWEEP_SECONDS = 1.0
_NO_UPSTREAMS = NoUpstreams()
_SILENT = Silent()


def _nobody(deadline: float) -> None:
    """For callers that call ``expire`` regularly."""


class Relay:
    """All sessions, tracks and namespaces of one relay.

    :param clock: monotonic seconds.
    :param forwarder: the kernel, if it may forward.
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
        forwarder: Forwarder | None = None,
    ) -> None:
        self.options = options
        self.forwarder = forwarder
        self.observer = observer
        self.counters = Counters()
        self._bands_gone = BandCounters()
        """Of sessions that are over."""
        self.timers = Timers(clock, wake)
        self.policy = Policy(options.policy)
        self.backlog = Backlog(options.limits.fetch_bytes, self.timers)
        self.cache = Cache(options.cache.seconds, options.cache.bytes, self.counters, self.backlog)
        self.namespaces = Namespaces(self)
        self.tracks: dict[FullTrackName, Track] = {}
        self.closing = False
        self.draining = False
        self.id = loops.new_id()
        self.routing = Routing(self, upstreams)
        self.requests = Requests(self)
        self.watch = Watch(self)
        self.early = Early(options.limits.unknown_alias_bytes, self._handle)
        self._peers: dict[Session, Peer] = {}
        self._unsettled: dict[Peer, None] = {}
        self._released: dict[Track, None] = {}
        self._considered: dict[Seat, None] = {}
        self._handlers: dict[type, Callable[[Peer, Any], None]] = {
            ev.SubgroupData: _stream_data,
            ev.FetchData: _stream_data,
            ev.SubgroupOpened: self._subgroup_opened,
            ev.SubgroupRefused: _subgroup_refused,
            ev.DatagramReceived: self._datagram,
            ev.FetchOpened: self._fetch_opened,
            ev.DataStreamReset: _stream_reset,
            ev.DataStreamStopped: _stream_stopped,
            ev.TrackMalformed: _malformed,
            ev.SetupReceived: self._setup,
            ev.RequestReceived: self.requests.received,
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

    def session_opened(
        self,
        session: Session,
        info: PeerInfo,
        *,
        measure: Callable[[], Measurements] | None = None,
    ) -> None:
        """A session exists; to be called before its first event.

        :param measure: what is known of its path now.
        """
        now = self.timers.now()
        bands = Bands(self.options.shares)
        options = self.options
        limiter = Limiter(bands, options.peer_rate, self.timers.now, follows=options.limit_by_path)
        peer = Peer(session, info, self.watch.usual, now, limiter)
        peer.measure = measure
        self._peers[session] = peer
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

    def share(self, session: Session, sharing: Sharing) -> None:
        """The kernel may use the session's connection, too; to be called before its events."""
        peer = self._peers.get(session)
        if peer is not None:
            peer.fast = sharing

    def bands_of(self, session: Session) -> Bands:
        """For whoever else sends on the session's connection."""
        return self._peers[session].bands

    @property
    def bands(self) -> BandCounters:
        """Of all sessions since the start."""
        total = self._bands_gone
        for peer in self._peers.values():
            total = total.plus(peer.bands.counted())
        return total

    def begin_forwarding(self, forwarder: Forwarder) -> None:
        """The kernel forwards from now on; sessions are to be shared with it."""
        self.forwarder = forwarder

    def end_forwarding(self) -> None:
        """Everything is user space's again."""
        forwarder, self.forwarder = self.forwarder, None
        if forwarder is None:
            return
        self._review_sharing()
        forwarder.close()
        for track in self.tracks.values():
            track.fast.forget()
        self._settle()
        self._remove_released()

    def read_reports(self, now: float) -> None:
        """What the kernel did; to be called after a batch of datagrams was read and before the
        first of them is looked at, and at ``forwarder.deadline``."""
        if self.forwarder is not None:
            self.forwarder.drain(now)
            self._settle()
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
        self._bands_gone = self._bands_gone.plus(peer.bands.counted())
        for handle in list(peer.handles.values()):
            handle.lost()
        for stream in list(peer.inflows.values()):
            stream.lost(StreamError.CANCELLED)
        self.namespaces.forget_peer(peer)
        for track in self.tracks.values():
            track.sources.refused_by.discard(peer)
        self._unsettled.pop(peer, None)
        self.watch.forget(peer)
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

    # Tracks

    def track(self, name: FullTrackName) -> Track | None:
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

    # Data

    def _handle(self, peer: Peer, event: ev.Event) -> None:
        self._handlers[type(event)](peer, event)

    def _subgroup_opened(self, peer: Peer, event: ev.SubgroupOpened) -> None:
        feed = peer.feeds.get(event.header.track_alias)
        if feed is not None:
            feed.opened(event)
        elif peer.feedback is not None and peer.feedback.alias == event.header.track_alias:
            peer.session.stop(event.stream_id, StreamError.CANCELLED)
            peer.feedback.refuse("a stream; reports are datagrams")
        else:
            self.early.opened(peer, event)

    def _datagram(self, peer: Peer, event: ev.DatagramReceived) -> None:
        feed = peer.feeds.get(event.track_alias)
        if feed is not None:
            feed.datagram(event)
        elif peer.feedback is not None and peer.feedback.alias == event.track_alias:
            peer.feedback.datagram(event)
        else:
            self.early.keep(peer, event.track_alias, event)

    def _fetch_opened(self, peer: Peer, event: ev.FetchOpened) -> None:
        fill = peer.expected_fetches.get(event.request_id)
        if fill is not None:
            fill.opened(event.stream_id)
        else:
            peer.session.stop(event.stream_id, StreamError.CANCELLED)

    def dropped(self, reason: str, what: str) -> None:
        self.counters.drops[reason] = self.counters.drops.get(reason, 0) + 1
        self.observer.dropped(reason, what)

    # Afterwards

    def unsettled(self, peer: Peer) -> None:
        """This peer has something to send or to give up, once the event is dealt with."""
        self._unsettled[peer] = None

    def reconsider(self, seat: Seat) -> None:
        """Look, once this event is dealt with, whether the kernel can serve the subscription."""
        self._considered[seat] = None
        self.unsettled(seat.peer)

    def _settle(self) -> None:
        while self._unsettled:
            peer, _ = self._unsettled.popitem()
            peer.pump()
            peer.review()
        while self._considered:
            seat, _ = self._considered.popitem()
            seat.consider()

    def _review_sharing(self) -> None:
        """Connections may have become the kernel's, or may be it no longer."""
        for track in list(self.tracks.values()):
            track.fast.review()
            for subscription in track.subscriptions:
                subscription.seat.review()

    def _sweep(self) -> None:
        if not self.closing:
            self.timers.after(SWEEP_SECONDS, self._sweep)
        now = self.timers.now()
        self.cache.expire(now)
        self.watch.sweep(now)
        for track in list(self.tracks.values()):
            if track.is_unused:
                self.release(track)
        for peer in self.peers:
            peer.review()
            self.early.forget(peer)
        if self.forwarder is not None:
            self._review_sharing()
        self.counters.cache_bytes = self.cache.total
        self.counters.subscriptions = sum(len(t.subscriptions) for t in self.tracks.values())
        self.counters.upstream_subscriptions = sum(
            len(t.sources.feeds) for t in self.tracks.values()
        )


def _subgroup_refused(peer: Peer, event: ev.SubgroupRefused) -> None:
    """The session had no place for it; what the kernel has begun of it goes back."""
    feed = peer.feeds.get(event.header.track_alias)
    loan = None if feed is None else feed.loan(event.stream_id)
    if feed is not None and loan is not None:
        feed.track.fast.refuse(loan, feed)


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
