"""The publishers of a track: finding them, subscribing to them, living with their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.codes import MoqtError, PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.keyvalue import TrackProperties
from fastrelay.moqt.messages import (
    FilterKind,
    LocationFilter,
    Parameters,
    Publish,
    RequestError,
    RequestOk,
)
from fastrelay.relay.feed import Feed, FeedState, is_final
from fastrelay.relay.pace import Pace
from fastrelay.relay.peer import Peer
from fastrelay.relay.timers import Timer
from fastrelay.relay.window import after

if TYPE_CHECKING:
    from fastrelay.relay.tracks import Track

NEXT_OBJECT = LocationFilter(FilterKind.NEXT_OBJECT)
"""What the relay subscribes to upstream, whatever its subscribers want (section 9.4)."""


class Sources:
    """``feeds``: the publishers asked, or that offered the track, until they end."""

    __slots__ = ("_new_group", "_orphan", "_track", "feeds", "refused_by")

    def __init__(self, track: Track) -> None:
        self._track = track
        self.feeds: list[Feed] = []
        self.refused_by: set[Peer] = set()
        """Asked in vain since the last success."""
        self._orphan: Timer | None = None
        self._new_group: int | None = None
        """The largest NEW_GROUP_REQUEST under way."""

    def new_group_begun(self) -> None:
        """The largest group has increased: requests for a new one are answered."""
        self._new_group = None

    def close(self) -> None:
        """The track ends."""
        if self._orphan is not None:
            self._orphan.cancel()
            self._orphan = None

    @property
    def is_established(self) -> bool:
        return any(feed.state is FeedState.ESTABLISHED for feed in self.feeds)

    @property
    def published(self) -> list[Feed]:
        return [feed for feed in self.feeds if feed.state is FeedState.ESTABLISHED]

    def seek(self) -> bool:
        """Ask everybody who may have the track; whether an answer can be expected."""
        asked = {feed.peer for feed in self.feeds}
        publishers = self._track.core.routing.publishers_of(self._track)
        for peer in publishers:
            if peer not in asked and peer not in self.refused_by:
                self._subscribe(peer)
        if self.feeds:
            return True
        for peer in self._track.core.routing.upstreams_for(self._track):
            if peer not in self.refused_by:
                self._subscribe(peer)
                return True
        return self._track.core.routing.upstreams_coming(self._track)

    def _subscribe(self, peer: Peer) -> None:
        hops = b"".join(s.hops for s in [*self._track.waiting, *self._track.subscriptions])
        hops += b"".join(listener.hops for listener in self._track.listeners)
        parameters = Parameters(
            forward=True,
            filter=NEXT_OBJECT,
            new_group_request=self._wanted_new_group(peer.draft.varints.maximum),
            tokens=self._track.core.routing.hop_tokens(peer, hops),
        )
        request_id = peer.session.subscribe(self._track.name, parameters)
        feed = Feed(self._track, peer, request_id, pushed=False)
        peer.handles[request_id] = feed
        self.feeds.append(feed)

    def _wanted_new_group(self, most: int) -> int | None:
        wanted = [
            s.parameters.new_group_request
            for s in self._track.waiting
            if s.parameters.new_group_request is not None and s.parameters.new_group_request <= most
        ]
        if not wanted:
            return None
        self._new_group = max(wanted)
        return self._new_group

    def offered(self, peer: Peer, request: Publish) -> None:
        """PUBLISH: a publisher brings the track by itself."""
        feed = Feed(self._track, peer, request.request_id, pushed=True)
        peer.handles[request.request_id] = feed
        feed.forward = request.parameters.forward is not False
        self.feeds.append(feed)
        feed.idle_forward = feed.forward
        answer = Parameters()
        if peer.draft.publish_ok_parameters:
            wanted = any(s.forward for s in [*self._track.subscriptions, *self._track.waiting])
            feed.forward = feed.forward or wanted
            if not feed.forward:
                answer = Parameters(forward=False)
        peer.session.respond(RequestOk(request.request_id, answer))
        feed.establish(request.track_alias, request.parameters, request.properties)

    def established(self, feed: Feed) -> None:
        first = self.published == [feed]
        try:
            properties = TrackProperties.parse(feed.properties, feed.peer.draft)
        except MoqtError as error:
            feed.peer.session.close(error.code, error.reason)
            return
        if properties.unknown_mandatory:
            self.feeds.remove(feed)
            feed.cancel()
            self._track.fail_waiting(
                RequestErrorCode.UNSUPPORTED_EXTENSION, "unknown mandatory track property"
            )
            return
        self.refused_by.clear()
        if self._orphan is not None:
            self._orphan.cancel()
            self._orphan = None
        if first:
            self._begin_run(feed, properties)
        if feed.largest is not None:
            self._track.saw(feed.largest)
        for subscription in list(self._track.waiting):
            self._track.accept(subscription)
        if first:
            self._track.core.routing.announce_track(self._track)
        self._track.demand_changed()
        if self._track.listeners:
            self._track.past.fill_current_group()

    def _begin_run(self, feed: Feed, properties: TrackProperties) -> None:
        self._track.describe(properties, feed.properties, feed.peer.draft)
        store = self._track.store
        if self._track.largest is not None and (
            feed.largest is None or feed.largest < self._track.largest
        ):
            store.clear()
            self._track.largest = None
            for subscription in self._track.subscriptions:
                subscription.restart()
        self._track.final = None
        store.published = True
        store.live_from = after(feed.largest)
        self._track.past.begin_run()
        self._track.pace = Pace(self._track.core.timers.now())
        duration = properties.max_cache_duration
        store.seconds = self._track.core.cache.seconds
        if duration:
            store.seconds = min(store.seconds, duration / 1000)
        newest = store.groups.get(store.newest)
        if newest is not None and newest.id == store.live_from.group:
            newest.damaged = True

    def refused(self, feed: Feed, error: RequestError | None) -> None:
        """A publisher did not accept the relay's SUBSCRIBE."""
        if feed in self.feeds:
            self.feeds.remove(feed)
        self.refused_by.add(feed.peer)
        if self.feeds or (self._track.is_wanted() and self.seek()):
            return
        if error is None:
            self._track.fail_waiting(RequestErrorCode.TIMEOUT, "the publisher does not answer")
        else:
            self._track.fail_waiting(error.code, error.reason, error.retry_after)
        self.wait_for_return()

    def ended(self, feed: Feed, status: int | None) -> None:
        """A publisher stopped; ``status`` None: it vanished."""
        if feed in self.feeds:
            self.feeds.remove(feed)
        if self.published:
            return
        self._track.store.live_from = None
        newest = self._track.store.current
        if newest is not None and newest.open:
            newest.damaged = True
        if status is not None and is_final(status):
            self._track.end(PublishDoneStatus.TRACK_ENDED)
        elif status == PublishDoneStatus.MALFORMED_TRACK:
            self._track.malformed("the publisher says so")
        else:
            if status is None or status == PublishDoneStatus.GOING_AWAY:
                self.refused_by.add(feed.peer)
            if not self._track.is_wanted() or not self.seek():
                self.wait_for_return()
        self._track.core.release(self._track)

    def wait_for_return(self) -> None:
        """Subscribers keep their subscriptions for a while: publishers come back."""
        if self._track.is_wanted() and not self.feeds and self._orphan is None:
            self._orphan = self._track.core.timers.after(
                self._track.core.options.orphan_seconds,
                lambda: self._track.end(PublishDoneStatus.TRACK_ENDED, "the publisher is gone"),
            )

    def new_group_requested(self, wanted: int | None) -> None:
        """Section 10.2.13: pass it on unless it is moot or already asked for."""
        if wanted is None or not self._track.properties.dynamic_groups or not self.published:
            return
        newest = -1 if self._track.largest is None else self._track.largest.group
        if wanted and wanted <= newest:
            return
        if self._new_group is not None and self._new_group >= wanted:
            return
        self._new_group = wanted
        for feed in self.published:
            if wanted <= feed.peer.draft.varints.maximum:
                feed.peer.session.update(feed.request_id, Parameters(new_group_request=wanted))

    @property
    def alias(self) -> int:
        """The alias that lets bytes pass unmodified."""
        published = self.published
        return published[0].alias if published else 0
