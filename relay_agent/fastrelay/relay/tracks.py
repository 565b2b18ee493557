"""A track: the publishers that feed it, what is remembered of it, and who gets it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import MoqtError, PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived, ObjectHeader, SubgroupHeader
from fastrelay.moqt.keyvalue import TrackProperties, reencode
from fastrelay.moqt.messages import (
    FilterKind,
    LocationFilter,
    Parameters,
    Publish,
    RequestError,
    RequestOk,
    SubscribeOk,
)
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, ObjectStatus
from fastrelay.relay.coverage import Span
from fastrelay.relay.feed import Feed, FeedState, is_final
from fastrelay.relay.fill import Fill
from fastrelay.relay.pace import UNHEARD_SECONDS, Pace
from fastrelay.relay.peer import Peer
from fastrelay.relay.store import Group, StoredDatagram, TrackStore
from fastrelay.relay.subgroup import State, Subgroup
from fastrelay.relay.subscription import Subscription
from fastrelay.relay.timers import Timer
from fastrelay.relay.window import after, fitting

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay
    from fastrelay.relay.fetch import Fetch

NEXT_OBJECT = LocationFilter(FilterKind.NEXT_OBJECT)
"""What the relay subscribes to upstream, whatever its subscribers want (section 9.4)."""


class Track:
    """One full track name, as long as anybody publishes, wants or remembers it."""

    __slots__ = (
        "_filled_from",
        "_linger",
        "_new_group",
        "_orphan",
        "_raw_properties",
        "_raw_properties_draft",
        "core",
        "feeds",
        "fetches",
        "fills",
        "final",
        "label",
        "largest",
        "name",
        "pace",
        "properties",
        "refused_by",
        "store",
        "subscriptions",
        "waiting",
        "watchers",
    )

    def __init__(self, core: Relay, name: FullTrackName) -> None:
        self.core = core
        self.name = name
        self.label = str(name)
        """For logs and status pages."""
        self.store = TrackStore(core.cache)
        self.feeds: list[Feed] = []
        self.subscriptions: dict[Subscription, None] = {}
        self.waiting: dict[Subscription, Timer | None] = {}
        """Held until a publisher is found; with the timer of RENDEZVOUS_TIMEOUT."""
        self.fetches = 0
        self.fills: list[Fill] = []
        self.watchers: dict[Fetch, None] = {}
        """Fetches under way."""
        self.refused_by: set[Peer] = set()
        """Asked in vain since the last success."""
        self.largest: Location | None = None
        self.final: Location | None = None
        """The last object of all, once that is known."""
        self._filled_from: Location | None = None
        self.properties = TrackProperties()
        self._raw_properties = b""
        self._raw_properties_draft: Draft | None = None
        self._linger: Timer | None = None
        self._orphan: Timer | None = None
        self._new_group: int | None = None
        """The largest NEW_GROUP_REQUEST under way."""
        self.pace = Pace(self.core.timers.now())

    # What is known

    @property
    def is_established(self) -> bool:
        return any(feed.state is FeedState.ESTABLISHED for feed in self.feeds)

    @property
    def published(self) -> list[Feed]:
        return [feed for feed in self.feeds if feed.state is FeedState.ESTABLISHED]

    def properties_for(self, draft: Draft) -> bytes:
        """The track's properties in the wire family of a draft."""
        source = self._raw_properties_draft
        if source is None or source.quic_varints == draft.quic_varints:
            return self._raw_properties
        return reencode(self._raw_properties, source.varints, draft.varints)

    def group_order(self, parameters: Parameters) -> GroupOrder:
        return parameters.group_order or self.properties.default_group_order

    def is_quiet(self) -> bool:
        """Whether a subscriber who joins now may wait long for the next object."""
        group = self.store.current
        return self.pace.is_quiet(self.core.timers.now(), group is not None and group.open)

    def first_fresh(self, subgroup: Subgroup, index: int) -> int:
        """The first object from ``index`` on that MAX_CACHE_DURATION allows to begin with."""
        duration = self.properties.max_cache_duration
        if not duration:
            return index
        oldest = self.core.timers.now() - duration / 1000
        return max(index, bisect_left(subgroup.times, oldest))

    # Publishers

    def seek(self) -> bool:
        """Ask everybody who may have the track; whether an answer can be expected."""
        asked = {feed.peer for feed in self.feeds}
        publishers = self.core.routing.publishers_of(self)
        for peer in publishers:
            if peer not in asked and peer not in self.refused_by:
                self._subscribe(peer)
        if self.feeds:
            return True
        for peer in self.core.routing.upstreams_for(self):
            if peer not in self.refused_by:
                self._subscribe(peer)
                return True
        return self.core.routing.upstreams_coming(self)

    def _subscribe(self, peer: Peer) -> None:
        hops = b"".join(s.hops for s in [*self.waiting, *self.subscriptions])
        parameters = Parameters(
            forward=True,
            filter=NEXT_OBJECT,
            new_group_request=self._wanted_new_group(peer.draft.varints.maximum),
            tokens=self.core.routing.hop_tokens(peer, hops),
        )
        request_id = peer.session.subscribe(self.name, parameters)
        feed = Feed(self, peer, request_id, pushed=False)
        peer.handles[request_id] = feed
        self.feeds.append(feed)

    def _wanted_new_group(self, most: int) -> int | None:
        wanted = [
            s.parameters.new_group_request
            for s in self.waiting
            if s.parameters.new_group_request is not None and s.parameters.new_group_request <= most
        ]
        if not wanted:
            return None
        self._new_group = max(wanted)
        return self._new_group

    def offered(self, peer: Peer, request: Publish) -> None:
        """PUBLISH: a publisher brings the track by itself."""
        feed = Feed(self, peer, request.request_id, pushed=True)
        peer.handles[request.request_id] = feed
        feed.forward = request.parameters.forward is not False
        self.feeds.append(feed)
        feed.idle_forward = feed.forward
        answer = Parameters()
        if peer.draft.publish_ok_parameters:
            wanted = any(s.forward for s in [*self.subscriptions, *self.waiting])
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
            self._fail_waiting(
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
            self.saw(feed.largest)
        for subscription in list(self.waiting):
            self.accept(subscription)
        if first:
            self.core.routing.announce_track(self)
        self.demand_changed()

    def _begin_run(self, feed: Feed, properties: TrackProperties) -> None:
        self.properties = properties
        self._raw_properties = feed.properties
        self._raw_properties_draft = feed.peer.draft
        store = self.store
        if self.largest is not None and (feed.largest is None or feed.largest < self.largest):
            store.clear()
            self.largest = None
            self.final = None
            for subscription in self.subscriptions:
                subscription.restart()
        store.published = True
        store.live_from = after(feed.largest)
        self._filled_from = None
        self.pace = Pace(self.core.timers.now())
        duration = properties.max_cache_duration
        store.seconds = self.core.cache.seconds
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
        if self.feeds or (self._is_wanted() and self.seek()):
            return
        if error is None:
            self._fail_waiting(RequestErrorCode.TIMEOUT, "the publisher does not answer")
        else:
            self._fail_waiting(error.code, error.reason, error.retry_after)
        self._orphaned()

    def feed_ended(self, feed: Feed, status: int | None) -> None:
        """A publisher stopped; ``status`` None: it vanished."""
        if feed in self.feeds:
            self.feeds.remove(feed)
        if self.published:
            return
        self.store.live_from = None
        newest = self.store.current
        if newest is not None and newest.open:
            newest.damaged = True
        if status is not None and is_final(status):
            self.end(PublishDoneStatus.TRACK_ENDED)
        elif status == PublishDoneStatus.MALFORMED_TRACK:
            self.malformed("the publisher says so")
        else:
            if status is None or status == PublishDoneStatus.GOING_AWAY:
                self.refused_by.add(feed.peer)
            if not self._is_wanted() or not self.seek():
                self._orphaned()
        self.core.release(self)

    def _is_wanted(self) -> bool:
        return bool(self.subscriptions or self.waiting)

    def _orphaned(self) -> None:
        """Subscribers keep their subscriptions for a while: publishers come back."""
        if self.subscriptions and not self.feeds and self._orphan is None:
            self._orphan = self.core.timers.after(
                self.core.options.orphan_seconds,
                lambda: self.end(PublishDoneStatus.TRACK_ENDED, "the publisher is gone"),
            )

    def end(self, status: PublishDoneStatus, reason: str = "") -> None:
        """No more objects: subscribers get what is there and PUBLISH_DONE."""
        if self._orphan is not None:
            self._orphan.cancel()
            self._orphan = None
        self.store.published = False
        self.store.end_open_ended()
        for subscription in list(self.subscriptions):
            subscription.finish(status, reason)
        self._fail_waiting(RequestErrorCode.DOES_NOT_EXIST, "the track ended")
        self.core.release(self)

    def malformed(self, reason: str) -> None:
        """Section 2.4.2: nothing of it is kept or passed on."""
        self.core.observer.log("warning", "malformed track", track=self.label, reason=reason)
        for feed in list(self.feeds):
            feed.cancel()
        self.feeds.clear()
        self.store.published = False
        for subscription in list(self.subscriptions):
            subscription.terminate(PublishDoneStatus.MALFORMED_TRACK, reason)
        for watcher in list(self.watchers):
            watcher.malformed()
        self.store.clear()
        self.largest = None
        self.core.release(self)

    def available(self) -> None:
        """A publisher or an upstream has come that was not there."""
        if self._is_wanted() and (self.waiting or not self.published or self.subscriptions):
            self.seek()

    # Subscribers

    def join(self, subscription: Subscription) -> None:
        """A SUBSCRIBE came: accept it, or hold it until a publisher has answered."""
        if self.is_established:
            self.accept(subscription)
            return
        self.waiting[subscription] = None
        if self.seek():
            return
        rendezvous = subscription.parameters.rendezvous_timeout
        if not rendezvous:
            del self.waiting[subscription]
            self.core.counters.cache_misses += 1
            subscription.reject(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")
            return
        seconds = min(rendezvous / 1000, self.core.options.max_rendezvous_seconds)
        self.waiting[subscription] = self.core.timers.after(
            seconds, lambda: self._rendezvous_over(subscription)
        )

    def upstream_failed(self) -> None:
        """A connection that could have brought a publisher was not made."""
        if self.waiting and not self.feeds and not self.core.routing.upstreams_coming(self):
            self._fail_waiting(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")

    def _rendezvous_over(self, subscription: Subscription) -> None:
        if subscription in self.waiting and not self.feeds:
            subscription.reject(RequestErrorCode.TIMEOUT, "no publisher appeared")

    def accept(self, subscription: Subscription) -> None:
        """Answer a SUBSCRIBE with SUBSCRIBE_OK and begin."""
        self._unhold(subscription)
        peer = subscription.peer
        fault = self.core.requests.range_fault(subscription.parameters, self.largest)
        if fault is not None:
            subscription.reject(RequestErrorCode.INVALID_RANGE, fault)
            return
        try:
            properties = self.properties_for(peer.draft)
        except ValueError:
            subscription.reject(RequestErrorCode.NOT_SUPPORTED, "the draft cannot hold the track")
            return
        subscription.alias = self.core.routing.choose_alias(peer, self.alias)
        peer.session.respond(
            SubscribeOk(
                subscription.request_id,
                subscription.alias,
                Parameters(largest_object=fitting(self.largest, peer.draft)),
                properties,
            )
        )
        self.accepted(subscription, self.largest)

    def accepted(self, subscription: Subscription, largest: Location | None) -> None:
        """The subscription is established on both sides."""
        self.subscriptions[subscription] = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self.demand_changed()
        subscription.begin(largest)
        self._maybe_fill()
        subscription.replay()
        self.new_group_requested(subscription.parameters.new_group_request)
        if subscription.parameters.fill is not None and subscription.forward:
            self.core.requests.fill(
                subscription, subscription.request_id, subscription.parameters.fill
            )
        if not self.feeds and not self.seek():
            self._orphaned()

    def offer(self, peer: Peer, parameters: Parameters) -> None:
        """PUBLISH this track to a peer that asked for every track under a prefix."""
        try:
            properties = self.properties_for(peer.draft)
        except ValueError:
            return
        alias = self.core.routing.choose_alias(peer, self.alias)
        told = Parameters(
            largest_object=fitting(self.largest, peer.draft),
            forward=False if parameters.forward is False else None,
        )
        request_id = peer.session.publish(self.name, alias, told, properties)
        subscription = Subscription(
            self, peer, request_id, parameters, self.core.timers.now(), pushed=True
        )
        subscription.alias = alias
        subscription.joining = self.largest
        peer.handles[request_id] = subscription
        peer.subscriptions[self.name] = subscription

    def _unhold(self, subscription: Subscription) -> None:
        timer = self.waiting.pop(subscription, None)
        if timer is not None:
            timer.cancel()

    def _fail_waiting(self, code: int, reason: str, retry_after: int | None = None) -> None:
        for subscription, timer in list(self.waiting.items()):
            if timer is not None:
                continue
            rendezvous = subscription.parameters.rendezvous_timeout
            if rendezvous and code == RequestErrorCode.DOES_NOT_EXIST:
                self.waiting[subscription] = self.core.timers.after(
                    min(rendezvous / 1000, self.core.options.max_rendezvous_seconds),
                    lambda s=subscription: self._rendezvous_over(s),  # type: ignore[misc]
                )
            else:
                subscription.reject(code, reason, retry_after)

    def left(self, subscription: Subscription) -> None:
        """A subscription is over."""
        self._unhold(subscription)
        self.subscriptions.pop(subscription, None)
        self.demand_changed()
        self.core.release(self)

    def demand_changed(self) -> None:
        """Tell pushing publishers whether anybody listens; let go of what nobody wants."""
        wanted = any(s.forward for s in self.subscriptions) or any(s.forward for s in self.waiting)
        if wanted:
            for feed in self.published:
                feed.set_forward(True)
        if self._is_wanted():
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
        elif self.feeds and self._linger is None and not self.core.closing:
            self._linger = self.core.timers.after(self.core.options.linger_seconds, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        if self._is_wanted() or self.fetches:
            self.demand_changed()
            return
        for feed in list(self.feeds):
            if feed.pushed:
                feed.set_forward(feed.idle_forward)
            else:
                self.feeds.remove(feed)
                feed.cancel()
        if not self.published:
            self.store.published = False
            self.store.live_from = None
        self.core.release(self)

    def new_group_requested(self, wanted: int | None) -> None:
        """Section 10.2.13: pass it on unless it is moot or already asked for."""
        if wanted is None or not self.properties.dynamic_groups or not self.published:
            return
        newest = -1 if self.largest is None else self.largest.group
        if wanted and wanted <= newest:
            return
        if self._new_group is not None and self._new_group >= wanted:
            return
        self._new_group = wanted
        for feed in self.published:
            if wanted <= feed.peer.draft.varints.maximum:
                feed.peer.session.update(feed.request_id, Parameters(new_group_request=wanted))

    # Objects

    def group(self, group_id: int) -> Group | None:
        """The group that new bytes belong to; None if it was forgotten already."""
        store = self.store
        if group_id < store.floor:
            return store.current if group_id == store.newest else None
        newer = group_id > store.newest
        group = store.group(group_id, self.core.timers.now())
        if newer:
            store.end_open_ended(group_id)
        return group

    def create(self, group: Group, header: SubgroupHeader, draft: Draft) -> Subgroup:
        """A new run of a subgroup; subscribers whose window holds it get a stream."""
        subgroup = Subgroup(group, header, draft)
        if group.evicted:
            group.subgroups = [run for run in group.subgroups if run.state is State.OPEN]
        group.subgroups.append(subgroup)
        for subscription in self.subscriptions:
            subscription.attach_new(subgroup)
        return subgroup

    def arrived(self, header: ObjectHeader | DatagramReceived) -> None:
        """An object's header came from a publisher."""
        self.pace.beat(self.core.timers.now())
        if header.status is ObjectStatus.END_OF_TRACK:
            self.final = header.location
        self.saw(header.location)

    def saw(self, location: Location) -> None:
        """There is an object at this place."""
        largest = self.largest
        if largest is None or location > largest:
            if largest is None or location.group > largest.group:
                self._new_group = None
            self.largest = location

    def datagram(self, event: DatagramReceived, draft: Draft) -> None:
        group = self.group(event.location.group)
        object_id = event.location.object
        if group is None or object_id in group.datagrams:
            self.core.counters.duplicates += 1
            return
        now = self.core.timers.now()
        stored = group.datagrams[object_id] = StoredDatagram(event, draft, now)
        group.grown(len(event.raw) + 300, now)
        self.arrived(event)
        for subscription in self.subscriptions:
            subscription.datagram(group, stored)

    # The past

    def fill(self, span: Span, *, descending: bool = False) -> Fill | None:
        """Ask a publisher for these objects; None if there is nobody to ask."""
        for fill in self.fills:
            if fill.descending == descending and fill.span.contains(span):
                return fill
        sources = [feed.peer for feed in self.published]
        sources += self.core.routing.publishers_of(self)
        sources += self.core.routing.upstreams_for(self)
        for peer in sources:
            if peer.ready and not peer.going_away:
                try:
                    return Fill(self, peer, span, descending=descending)
                except ValueError:  # its draft has no integers that large
                    continue
        return None

    def _maybe_fill(self) -> None:
        """Fetch the beginning of the group that the relay itself joined in the middle, if a
        subscriber begins there (or would, should nothing move: see ``is_quiet``)."""
        live_from = self.store.live_from
        if live_from is None or live_from.object == 0 or self._filled_from == live_from:
            return
        group_id = live_from.group
        if not any(s.wants_group(group_id) for s in self.subscriptions):
            return
        self._filled_from = live_from
        span = Span(Location(group_id, 0), Location(group_id, live_from.object - 1))
        fill = self.fill(span)
        if fill is None:
            return
        fill.for_track = True
        group = self.store.group(group_id, self.core.timers.now())
        group.filling = fill

    def fill_over(self, fill: Fill, waiting: list[Subscription]) -> None:
        """A fetch from upstream has ended: those who waited for it begin."""
        start, end = fill.span
        for subscription in waiting:
            for group in self.store.ordered(start.group, end.group):
                subscription.attach_group(group)
        if fill.for_track:
            self.core.timers.after(UNHEARD_SECONDS, lambda: self._begin_quietly(start))

    def _begin_quietly(self, start: Location) -> None:
        """Nothing has come since the relay subscribed: the current group is what there is."""
        if self.pace.beats:
            return
        for subscription in list(self.subscriptions):
            if subscription.begins_quietly(start):
                for group in self.store.ordered(start.group, start.group):
                    subscription.attach_group(group)

    @property
    def alias(self) -> int:
        """The alias that lets bytes pass unmodified."""
        published = self.published
        return published[0].alias if published else 0

    def ends_at(self, location: Location) -> bool:
        """Whether this is known to be the last place of the track."""
        return self.final is not None and location >= self.final

    # Ends

    @property
    def is_unused(self) -> bool:
        return not (
            self.feeds or self.subscriptions or self.waiting or self.fetches or self.store.groups
        )

    def close(self) -> None:
        for timer in (self._linger, self._orphan):
            if timer is not None:
                timer.cancel()
        self.store.close()
