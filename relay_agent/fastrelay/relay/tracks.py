"""A track: the publishers that feed it, what is remembered of it, and who gets it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived, ObjectHeader, SubgroupHeader
from fastrelay.moqt.keyvalue import TrackProperties, reencode
from fastrelay.moqt.messages import Parameters
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, ObjectStatus
from fastrelay.relay.fastlane import FastLane
from fastrelay.relay.offer import Offer
from fastrelay.relay.pace import Pace
from fastrelay.relay.past import Past
from fastrelay.relay.peer import Peer
from fastrelay.relay.sources import Sources
from fastrelay.relay.store import Group, StoredDatagram, TrackStore
from fastrelay.relay.subgroup import Subgroup
from fastrelay.relay.subscription import Subscription
from fastrelay.relay.timers import Timer
from fastrelay.relay.window import fitting

if TYPE_CHECKING:
    from fastrelay.fastpath.ports import Loan
    from fastrelay.relay.catalogs import Listener
    from fastrelay.relay.core import Relay
    from fastrelay.relay.feed import Feed
    from fastrelay.relay.fetch import Fetch


class Track:
    """One full track name, as long as anybody publishes, wants or remembers it."""

    __slots__ = (
        "_linger",
        "_raw_properties",
        "_raw_properties_draft",
        "brings",
        "core",
        "fast",
        "fetches",
        "final",
        "label",
        "largest",
        "listeners",
        "name",
        "pace",
        "past",
        "properties",
        "received",
        "sources",
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
        self.subscriptions: dict[Subscription, None] = {}
        self.waiting: dict[Subscription, Timer | None] = {}
        """Held until a publisher is found; with the timer of RENDEZVOUS_TIMEOUT."""
        self.fetches = 0
        self.sources = Sources(self)
        self.fast = FastLane(self)
        self.past = Past(self)
        self.watchers: dict[Fetch, None] = {}
        """Fetches under way."""
        self.listeners: dict[Listener, None] = {}
        """Parts of the relay itself that read it."""
        self.received = 0
        """Bytes that have come from publishers."""
        self.largest: Location | None = None
        self.final: Location | None = None
        """The last object of all, once that is known."""
        self.properties = TrackProperties()
        self._raw_properties = b""
        self._raw_properties_draft: Draft | None = None
        self._linger: Timer | None = None
        self.pace = Pace(self.core.timers.now())
        self.brings = Offer(self.core.timers.now())

    # What is known

    def properties_for(self, draft: Draft, parameters: Parameters) -> bytes:
        """The track's properties in the wire family of a draft, if the request wants them.

        :raises ValueError: a value does not fit the draft's integers.
        """
        if parameters.include_properties is False:
            return b""
        source = self._raw_properties_draft
        if source is None or source.quic_varints == draft.quic_varints:
            return self._raw_properties
        return reencode(self._raw_properties, source.varints, draft.varints)

    def describe(self, properties: TrackProperties, raw: bytes, draft: Draft) -> None:
        """What the first publisher of a run says of the track."""
        self.properties = properties
        self._raw_properties = raw
        self._raw_properties_draft = draft

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

    def is_wanted(self) -> bool:
        """Whether anybody is or wants to be subscribed."""
        return bool(self.subscriptions or self.waiting or self.listeners)

    def end(self, status: PublishDoneStatus, reason: str = "") -> None:
        """No more objects: subscribers get what is there and PUBLISH_DONE."""
        self.sources.close()
        self.store.published = False
        self.store.end_open_ended()
        for subscription in list(self.subscriptions):
            subscription.finish(status, reason)
        self.fail_waiting(RequestErrorCode.DOES_NOT_EXIST, "the track ended")
        self.core.release(self)

    def malformed(self, reason: str) -> None:
        """Section 2.4.2: nothing of it is kept or passed on."""
        self.core.observer.log("warning", "malformed track", track=self.label, reason=reason)
        for feed in list(self.sources.feeds):
            feed.cancel()
        self.sources.feeds.clear()
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
        if self.is_wanted() and (self.waiting or not self.sources.published or self.subscriptions):
            self.sources.seek()

    # Subscribers

    def join(self, subscription: Subscription) -> None:
        """A SUBSCRIBE came: accept it, or hold it until a publisher has answered."""
        if self.sources.is_established:
            self.accept(subscription)
            return
        self.waiting[subscription] = None
        if self.sources.seek():
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

    # The relay's own readers

    def listen(self, listener: Listener) -> None:
        """Read the track, from what is there of its current group on."""
        self.listeners[listener] = None
        if not self.sources.is_established and not self.sources.seek():
            del self.listeners[listener]
            listener.refused(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")
            return
        self.demand_changed()
        self.past.fill_current_group()
        self.listen_again()

    def listen_again(self) -> None:
        """There may be something new for them."""
        for listener in list(self.listeners):
            listener.more()

    def unlisten(self, listener: Listener) -> None:
        """It reads no more."""
        self.listeners.pop(listener, None)
        self.demand_changed()
        self.core.release(self)

    def upstream_failed(self) -> None:
        """A connection that could have brought a publisher was not made."""
        asked = self.waiting or self.listeners
        if asked and not self.sources.feeds and not self.core.routing.upstreams_coming(self):
            self.fail_waiting(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")

    def _rendezvous_over(self, subscription: Subscription) -> None:
        if subscription in self.waiting and not self.sources.feeds:
            subscription.reject(RequestErrorCode.TIMEOUT, "no publisher appeared")

    def accept(self, subscription: Subscription) -> None:
        """Answer a SUBSCRIBE with SUBSCRIBE_OK and begin."""
        self._unhold(subscription)
        if subscription.answer():
            self.accepted(subscription, self.largest)

    def accepted(self, subscription: Subscription, largest: Location | None) -> None:
        """The subscription is established on both sides."""
        self.subscriptions[subscription] = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self.demand_changed()
        subscription.begin(largest)
        self.past.fill_current_group()
        subscription.replay()
        self.fast.changed()
        self.core.reconsider(subscription.seat)
        self.sources.new_group_requested(subscription.parameters.new_group_request)
        if subscription.parameters.fill is not None and subscription.forward:
            self.core.requests.fill(
                subscription, subscription.request_id, subscription.parameters.fill
            )
        if not self.sources.feeds and not self.sources.seek():
            self.sources.wait_for_return()

    def offer(self, peer: Peer, parameters: Parameters) -> None:
        """PUBLISH this track to a peer that asked for every track under a prefix."""
        try:
            properties = self.properties_for(peer.draft, parameters)
        except ValueError:
            return
        alias = self.core.routing.choose_alias(peer, self.sources.alias)
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

    def fail_waiting(self, code: int, reason: str, retry_after: int | None = None) -> None:
        """No publisher could be won; who can wait goes on waiting if there is just none."""
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
        for listener in list(self.listeners):
            listener.refused(code, reason)

    def left(self, subscription: Subscription) -> None:
        """A subscription is over."""
        self._unhold(subscription)
        self.subscriptions.pop(subscription, None)
        self.fast.changed()
        self.demand_changed()
        self.core.release(self)

    def demand_changed(self) -> None:
        """Tell pushing publishers whether anybody listens; let go of what nobody wants."""
        wanted = any(s.forward for s in self.subscriptions) or any(s.forward for s in self.waiting)
        if wanted or self.listeners:
            for feed in self.sources.published:
                feed.set_forward(True)
        if self.is_wanted():
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
        elif self.sources.feeds and self._linger is None and not self.core.closing:
            self._linger = self.core.timers.after(self.core.options.linger_seconds, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        if self.is_wanted() or self.fetches:
            self.demand_changed()
            return
        for feed in list(self.sources.feeds):
            if feed.pushed:
                feed.set_forward(feed.idle_forward)
            else:
                self.sources.feeds.remove(feed)
                feed.cancel()
        if not self.sources.published:
            self.store.published = False
            self.store.live_from = None
        self.core.release(self)

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
        group.add(subgroup)
        for subscription in self.subscriptions:
            subscription.attach_new(subgroup)
        subgroup.wakers += self.listeners
        return subgroup

    def create_lent(
        self, group: Group, header: SubgroupHeader, feed: Feed, loan: Loan, *, again: bool
    ) -> Subgroup:
        """The same for a stream that the kernel forwards to most of them already."""
        subgroup = Subgroup(group, header, feed.peer.draft)
        group.add(subgroup)
        self.fast.lend(loan, subgroup, feed, again=again)
        subgroup.wakers += self.listeners
        return subgroup

    def arrived(self, group: Group, header: ObjectHeader | DatagramReceived) -> bool:
        """An object's header came from a publisher. False: it must not exist, and the track
        is over (section 2.4.2)."""
        self.pace.beat(self.core.timers.now())
        location = header.location
        if location.object > group.end or (self.final is not None and location > self.final):
            self.malformed(f"object {location} behind the end")
            return False
        self.saw(location)
        if header.status is ObjectStatus.NORMAL:
            return True
        if header.status is ObjectStatus.END_OF_TRACK:
            self.final = location
            if self.largest != location:
                self.malformed(f"the track ends at {location}, before an object")
                return False
        return self.group_ends(group, location.object)

    def is_beyond(self, location: Location) -> bool:
        """Whether no object can be there: its group or the track ended before."""
        group = self.store.groups.get(location.group)
        if group is not None and location.object > group.end:
            return True
        return self.final is not None and location > self.final

    def group_ends(self, group: Group, last: int) -> bool:
        """No object of the group is behind this one. False: there is, and the track is over."""
        if group.largest > last:
            self.malformed(f"group {group.id} ends at {last}, before an object")
            return False
        group.end = min(group.end, last)
        return True

    def saw(self, location: Location) -> None:
        """There is an object at this place."""
        largest = self.largest
        if largest is None or location > largest:
            if largest is None or location.group > largest.group:
                self.sources.new_group_begun()
            self.largest = location

    def datagram(self, event: DatagramReceived, feed: Feed) -> None:
        group = self.group(event.location.group)
        object_id = event.location.object
        if group is None or object_id in group.datagrams:
            self.core.counters.duplicates += 1
            return
        now = self.core.timers.now()
        stored = group.datagrams[object_id] = StoredDatagram(event, feed.peer.draft, now)
        group.grown(len(event.raw) + 300, now)
        if not self.arrived(group, event):
            return
        if event.end_of_group and not self.group_ends(group, object_id):
            return
        if not self.fast.datagram(group, stored, feed):
            for subscription in self.subscriptions:
                subscription.datagram(group, stored)

    def ends_at(self, location: Location) -> bool:
        """Whether this is known to be the last place of the track."""
        return self.final is not None and location >= self.final

    # Ends

    @property
    def is_unused(self) -> bool:
        return not (
            self.sources.feeds
            or self.subscriptions
            or self.waiting
            or self.listeners
            or self.fetches
            or self.store.groups
        )

    def close(self) -> None:
        """Nobody needs it any more."""
        if self._linger is not None:
            self._linger.cancel()
        self.sources.close()
        self.store.close()
