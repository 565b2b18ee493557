"""A downstream subscription: asked for by SUBSCRIBE, or offered by a PUBLISH of the relay's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from fastrelay.fastpath.bands import Verdict, nanoseconds
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, StreamError
from fastrelay.moqt.events import RequestUpdated
from fastrelay.moqt.messages import (
    Answer,
    FilterKind,
    Parameters,
    PublishDone,
    RequestError,
    RequestOk,
    SubscribeOk,
)
from fastrelay.moqt.names import Location
from fastrelay.relay import joining
from fastrelay.relay.declined import Declined
from fastrelay.relay.delivery import Cursor
from fastrelay.relay.lane import Lane
from fastrelay.relay.lateness import give_time
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.seat import Seat
from fastrelay.relay.store import Group, StoredDatagram
from fastrelay.relay.subgroup import Subgroup
from fastrelay.relay.window import Window, after, fitting, resolve

if TYPE_CHECKING:
    from fastrelay.relay.fetch import Fetch
    from fastrelay.relay.tracks import Track

DEFAULT_PRIORITY = 128
FORGO_SECONDS = 0.005
"""Between the header of a stream that is dropped and its reset."""


class Phase(Enum):
    WAITING = "waiting"
    """For a publisher, or (a PUBLISH of ours) for the peer's answer."""
    ACTIVE = "active"
    ENDING = "ending"
    """PUBLISH_DONE follows when the last stream is closed."""
    DONE = "done"


class Subscription(Handle):
    """What one peer gets of one track, and how far it got."""

    __slots__ = (
        "_done",
        "alias",
        "counters",
        "cursors",
        "declined",
        "fills",
        "forward",
        "hops",
        "joining",
        "lane",
        "object_timeout",
        "on_accepted",
        "parameters",
        "peer",
        "phase",
        "priority",
        "pushed",
        "request_id",
        "requested",
        "seat",
        "started",
        "streams",
        "subgroup_timeout",
        "track",
        "window",
    )

    def __init__(
        self,
        track: Track,
        peer: Peer,
        request_id: int,
        parameters: Parameters,
        now: float,
        *,
        pushed: bool = False,
        hops: bytes = b"",
    ) -> None:
        self.track = track
        self.peer = peer
        self.request_id = request_id
        self.parameters = parameters
        self.pushed = pushed
        self.hops = hops
        self.phase = Phase.WAITING
        self.alias = -1
        self.window = Window(Location(0, 0))
        self.joining: Location | None = None
        """The track's largest object when objects began to be forwarded (section 5.1)."""
        self.forward = parameters.forward is not False
        self.priority = _or(parameters.subscriber_priority, DEFAULT_PRIORITY)
        self.object_timeout = 0.0
        self.subgroup_timeout = 0.0
        self.cursors: dict[Cursor, None] = {}
        self.declined = Declined()
        self.streams = 0
        self.requested = now
        self.lane = Lane(self, now)
        self.seat = Seat(self)
        self.started = False
        self.fills: list[Fetch] = []
        self.on_accepted: list[Callable[[bool], None]] = []
        """Joining fetches that wait for this subscription; told whether it was accepted."""
        self.counters = track.core.counters
        self._done: tuple[PublishDoneStatus, str] | None = None

    @property
    def is_active(self) -> bool:
        """Objects flow, or would if there were any."""
        return self.phase is Phase.ACTIVE

    @property
    def is_served(self) -> bool:
        """It still gets what has begun."""
        return self.phase in (Phase.ACTIVE, Phase.ENDING) and self.forward

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.DONE

    @property
    def is_behind(self) -> bool:
        """Something waits that comes before what the kernel would send."""
        return bool(self.lane.waiting)

    # Life

    def answer(self) -> bool:
        """A publisher is there: SUBSCRIBE_OK, with which the peer gets an alias. False: it was
        refused."""
        track, peer = self.track, self.peer
        fault = track.core.requests.range_fault(self.parameters, track.largest)
        if fault is not None:
            self.reject(RequestErrorCode.INVALID_RANGE, fault)
            return False
        try:
            properties = track.properties_for(peer.draft, self.parameters)
        except ValueError:
            self.reject(RequestErrorCode.NOT_SUPPORTED, "the draft cannot hold the track")
            return False
        self.alias = track.core.routing.choose_alias(peer, track.sources.alias)
        peer.session.respond(
            SubscribeOk(
                self.request_id,
                self.alias,
                Parameters(largest_object=fitting(track.largest, peer.draft)),
                properties,
            )
        )
        return True

    def begin(self, largest: Location | None) -> None:
        """Objects that come flow from now on; ``largest`` is what the peer was told."""
        self.phase = Phase.ACTIVE
        self.joining = largest
        self.window = self._resolve(self.parameters, largest)
        self._set_timeouts()
        for told in self.on_accepted:
            told(True)
        self.on_accepted = []

    def _resolve(self, parameters: Parameters, largest: Location | None) -> Window:
        """The filter's window, with the deviations that players need (see options)."""
        wanted = parameters.filter
        window = resolve(wanted, largest)
        if largest is None:
            return window
        deviations = self.track.core.options.deviations
        # Who asks for a fill says itself what of the past it wants.
        replays = deviations.replay_current_group and parameters.fill is None
        kind = FilterKind.UNFILTERED if wanted is None else wanted.kind
        current = Location(largest.group, 0)
        if kind in (FilterKind.UNFILTERED, FilterKind.NEXT_OBJECT):
            # Who says nothing gets what a viewer needs; who wants what is next, means it.
            replayed = replays and (kind is FilterKind.UNFILTERED or self.track.is_quiet())
            return Window(current if replayed else after(largest))
        if window.start <= largest and not deviations.replay_past:
            return replace(window, start=after(largest))
        return window

    def _set_timeouts(self) -> None:
        properties = self.track.properties
        wanted = self.parameters
        self.object_timeout = _least(
            properties.object_delivery_timeout, wanted.object_delivery_timeout
        )
        self.subgroup_timeout = _least(
            properties.subgroup_delivery_timeout, wanted.subgroup_delivery_timeout
        )

    def replay(self) -> None:
        """Begin with what is there already of the window."""
        if not self.forward:
            return
        store = self.track.store
        for group in store.ordered(self.window.start.group, self.window.end_group):
            store.cache.touch(group)
            self.attach_group(group)

    def attach_group(self, group: Group) -> None:
        """Deliver what of a group passes, when its beginning is there."""
        if self.waits_for(group):
            return
        for subgroup in list(group.subgroups):
            self.attach(subgroup)
        for datagram in list(group.datagrams.values()):
            self.datagram(group, datagram)

    def waits_for(self, group: Group) -> bool:
        """Whether the group's beginning is wanted and still on its way."""
        if group.filling is None:
            return False
        first = self.window.first_object(group.id)
        if first is None or first >= group.known_from:
            return False
        group.filling.wait_for(self)
        return True

    def attach_new(self, subgroup: Subgroup) -> None:
        """A stream has begun upstream: begin one downstream, at once if nothing is in the way."""
        if self.phase is not Phase.ACTIVE or not self.forward:
            return
        if not joining.open_at_once(self, subgroup):
            self.attach(subgroup)

    def attach(self, subgroup: Subgroup) -> None:
        """Deliver what of a subgroup passes, from its first such object on."""
        self._enter(joining.join, subgroup)

    def missed(self, subgroup: Subgroup) -> None:
        """A subgroup in the middle of which it was to begin has ended without another object."""
        self._enter(joining.tell_end, subgroup)

    def _enter(self, way: Callable[[Subscription, Subgroup], None], subgroup: Subgroup) -> None:
        if self.phase is not Phase.ACTIVE or not self.forward:
            return
        try:
            way(self, subgroup)
        except ValueError as error:
            self.track.core.observer.log(
                "warning", "a subgroup does not fit", track=self.track.label, why=str(error)
            )

    def datagram(self, group: Group, datagram: StoredDatagram) -> None:
        """Deliver one datagram, if it passes."""
        peer = self.peer
        if not self.window.passes(datagram.event.location) or not self.forward:
            return
        if self.waits_for(group):
            return
        declined = self.declined.datagrams
        if declined and (group.id, self.lane.priority(datagram)) in declined:
            self.track.core.dropped("congestion", "datagram")
            return
        if peer.active or peer.transport.backlog >= peer.high_water:
            self.lane.behind += len(datagram.event.raw)
            self.lane.enqueue(datagram)
        else:
            self.send_datagram(datagram)

    def send_datagram(self, datagram: StoredDatagram) -> None:
        """Give one datagram to the transport, with this subscription's alias."""
        try:
            raw = datagram.raw_for(self.alias, self.peer.draft)
        except ValueError:
            self.track.core.dropped("draft", "datagram")
            return
        event = datagram.event
        band = self.band(event.publisher_priority)
        if not self._admits(band, event.location.group, datagram=True):
            self.track.core.dropped("priority", "datagram")
            return
        self.charge(band, len(raw))
        self.lane.departed(event.location.group, event.publisher_priority)
        if self.peer.session.send_datagram(raw):
            self.counters.datagrams_out += 1
            self.mark_started()
        else:
            self.track.core.dropped("datagram-size", "datagram")

    # Bands

    def band(self, publisher: int | None) -> int:
        """That of a stream or datagram of this publisher priority."""
        if publisher is None:
            publisher = self.track.properties.default_priority
        return self.peer.bands.band(publisher, self.priority)

    def admits(self, subgroup: Subgroup) -> bool:
        """Whether a stream for this subgroup may begin now. If not, it is dropped."""
        band = self.band(subgroup.header.publisher_priority)
        if self._admits(band, subgroup.group.id):
            return True
        self.forgo(subgroup)
        return False

    def _admits(self, band: int, group: int, *, datagram: bool = False) -> bool:
        bands = self.peer.bands
        if not bands.limited:
            return True
        now = nanoseconds(self.track.core.timers.now())
        if bands.judge(band, group, now, datagram=datagram) is Verdict.ADMITTED:
            return True
        bands.drop(band)
        return False

    def charge(self, band: int, size: int) -> None:
        """User space sends so many bytes of the band."""
        bands = self.peer.bands
        if bands.limited:
            bands.charge(band, size, nanoseconds(self.track.core.timers.now()))
        else:
            bands.note(band, size)

    def forgo(self, subgroup: Subgroup) -> None:
        """It does not get this subgroup, for which nothing was sent: a stream says so that has
        the subgroup's header, and is reset."""
        core, session = self.track.core, self.peer.session
        self.decline(subgroup)
        core.dropped("priority", "stream")
        stream_id = session.open_subgroup(subgroup.header_for(self.alias, self.peer.draft))
        self.opened(subgroup.group.id)
        # Not in the same packet: a reset takes back what has not left yet.
        core.timers.after(
            FORGO_SECONDS, lambda: session.reset(stream_id, StreamError.EXCESSIVE_LOAD)
        )

    def wants_group(self, group_id: int) -> bool:
        """Whether it begins with this group's first object, or would on a quiet track."""
        return self.forward and (
            self.window.first_object(group_id) == 0 or self._may_begin_quietly()
        )

    def _may_begin_quietly(self) -> bool:
        wanted = self.parameters.filter
        return (
            (wanted is None or wanted.kind in (FilterKind.UNFILTERED, FilterKind.NEXT_OBJECT))
            and self.parameters.fill is None
            and self.track.core.options.deviations.replay_current_group
        )

    def begins_quietly(self, start: Location) -> bool:
        """Nothing moves on the track: begin with the current group after all, if it may."""
        if not (self.forward and self._may_begin_quietly()) or self.window.start <= start:
            return False
        self.window = replace(self.window, start=start)
        return True

    def restart(self) -> None:
        """The publisher began anew, with lower ids: the window opens for them."""
        self.window = replace(self.window, start=Location(0, 0))
        self.declined.clear()
        self.lane.restart()

    # What cursors report

    def decline(self, subgroup: Subgroup) -> None:
        """Do not open this subgroup again."""
        self.declined.add_subgroup(subgroup.group.id, subgroup.subgroup_id)

    @property
    def stream_count(self) -> int:
        """Streams that were opened for it, by user space and by the kernel."""
        return self.streams + self.seat.streams

    def has_declined(self, subgroup: Subgroup) -> bool:
        """Whether it must not be opened again."""
        return self.declined.has_subgroup(subgroup.group.id, subgroup.subgroup_id)

    def opened(self, group_id: int) -> None:
        """A stream for this group."""
        self.streams += 1
        self.counters.streams_out += 1
        self.mark_started()

    def lent_until(self, group_id: int) -> None:
        """The kernel serves it no longer, and may have begun all groups up to this one."""
        self.lane.lent_until(group_id)

    def mark_started(self) -> None:
        if not self.started:
            self.started = True
            core = self.track.core
            core.observer.joined(core.timers.now() - self.requested)

    def finished(self, cursor: Cursor) -> None:
        """A stream was handed over with its FIN."""
        if self.subgroup_timeout:
            give_time(
                self.track.core.timers,
                self.subgroup_timeout,
                [cursor],
                lambda late: late.is_under_way(),
                lambda late: late.expire(),
            )
        self.forget(cursor)

    def expired(self, subgroup: Subgroup) -> None:
        """Its delivery timeout is over, and the peer has not got all of it."""
        self.decline(subgroup)
        self.track.core.dropped("delivery-timeout", "stream")

    def forget(self, cursor: Cursor) -> None:
        if cursor not in self.cursors:
            return
        del self.cursors[cursor]
        if cursor.waiting:
            cursor.waiting = False
            self.lane.behind -= cursor.remaining
        cursor.subgroup.detach(cursor)
        self.peer.outflows.pop(cursor.stream_id, None)
        if self.phase is Phase.ENDING:
            self.conclude()

    # Ends

    def finish(self, status: PublishDoneStatus, reason: str = "") -> None:
        """End well: what is there is still sent, then PUBLISH_DONE."""
        if self.phase is Phase.ACTIVE:
            self.phase = Phase.ENDING
            self._done = (status, reason)
            self.conclude()

    def terminate(self, status: PublishDoneStatus, reason: str = "") -> None:
        """End at once: open streams are reset."""
        if self.phase not in (Phase.ACTIVE, Phase.ENDING):
            return
        if status is PublishDoneStatus.TOO_FAR_BEHIND:
            self.track.core.dropped("too-far-behind", "subscription")
        self.phase = Phase.ENDING
        self._done = (status, reason)
        code = {
            PublishDoneStatus.TOO_FAR_BEHIND: StreamError.TOO_FAR_BEHIND,
            PublishDoneStatus.MALFORMED_TRACK: StreamError.MALFORMED_TRACK,
        }.get(status, StreamError.CANCELLED)
        self.lane.clear()
        for fill in list(self.fills):
            fill.fail(code)
        for cursor in list(self.cursors):
            cursor.abandon(code)
        self.seat.abandon(code)
        self.conclude()

    def conclude(self) -> None:
        """PUBLISH_DONE, if it is due and nothing is left to send."""
        if self.phase is not Phase.ENDING or self.cursors or self.lane.waiting or self.fills:
            return
        if self.track.fast.is_busy_with(self):
            return
        done = self._done
        self._leave()
        if done is not None:
            self.tell_done(*done)

    def tell_done(self, status: PublishDoneStatus, reason: str) -> None:
        """All of it is sent that ever will be."""
        self.peer.session.notify(
            self.request_id, PublishDone(self.request_id, status, self.stream_count, reason)
        )

    def fill_ended(self, fill: Fetch) -> None:
        if fill in self.fills:
            self.fills.remove(fill)
        if self.phase is Phase.ENDING:
            self.conclude()

    def cancelled(self) -> None:
        """UNSUBSCRIBE: the peer wants no more of it, and is told nothing."""
        self._done = None
        self.lane.clear()
        for fill in list(self.fills):
            fill.fail(StreamError.CANCELLED)
        for cursor in list(self.cursors):
            cursor.abandon(StreamError.CANCELLED)
        self.seat.abandon(StreamError.CANCELLED)
        self._leave()

    def lost(self) -> None:
        self._done = None
        self.lane.clear()
        for fill in list(self.fills):
            fill.lost()
        self.seat.lost()
        for cursor in list(self.cursors):
            self.forget(cursor)
        self._leave()

    def reject(self, code: int, reason: str, retry_after: int | None = None) -> None:
        """Answer a SUBSCRIBE that still waits with an error."""
        self._leave()
        self.track.core.requests.reject(self.peer, self.request_id, code, reason, retry_after)

    def _leave(self) -> None:
        if self.phase is Phase.DONE:
            return
        self.phase = Phase.DONE
        self.seat.abandon(StreamError.CANCELLED)
        self.peer.kernel_packets += self.seat.packets
        for told in self.on_accepted:
            told(False)
        self.on_accepted = []
        self.peer.deactivate(self.lane)
        self.unregister()
        self.track.left(self)

    def unregister(self) -> None:
        """The peer may use its request id and its alias for something else."""
        peer = self.peer
        peer.handles.pop(self.request_id, None)
        peer.aliases.discard(self.alias)
        if peer.subscriptions.get(self.track.name) is self:
            del peer.subscriptions[self.track.name]

    # Changes

    def answered(self, answer: Answer) -> None:
        """To our PUBLISH: its parameters say what the peer wants of the track."""
        if isinstance(answer, RequestError):
            self._leave()
        elif isinstance(answer, RequestOk) and self.phase is Phase.WAITING:
            self.apply(answer.parameters)
            self.track.accepted(self, self.joining)

    def updated(self, event: RequestUpdated) -> None:
        track = self.track
        parameters = event.parameters
        fault = track.core.requests.update_fault(self, event)
        if fault is not None:
            self.peer.session.reject_update(self.request_id, event.update_id, *fault)
            self.terminate(PublishDoneStatus.UPDATE_FAILED, fault[1])
            return
        largest = track.largest
        before = self.forward
        if _moves(parameters) or parameters.forward is False or _ranks(parameters):
            self.seat.withdraw()
            track.core.reconsider(self.seat)
        self.apply(parameters)
        # Only where it says something: there are clients that take no parameters here.
        told = fitting(largest, self.peer.draft) if _moves(parameters) else None
        self.peer.session.respond_update(
            self.request_id, event.update_id, Parameters(largest_object=told)
        )
        if self.phase is not Phase.ACTIVE:
            return
        if parameters.filter is not None:
            # What lies behind is for FETCH (section 10.9.1), so the start goes back to now at most.
            window = resolve(parameters.filter, largest)
            earliest = min(self.window.start, after(largest))
            self.window = replace(window, start=max(window.start, earliest))
            for cursor in list(self.cursors):
                if self.window.first_object(cursor.subgroup.group.id) is None:
                    cursor.abandon(StreamError.CANCELLED)
        if before and not self.forward:
            for cursor in list(self.cursors):
                cursor.abandon(StreamError.CANCELLED)
            self.lane.clear()
        elif self.forward and not before:
            self.joining = largest
            self.declined.clear()
            self.window = replace(self.window, start=max(self.window.start, after(largest)))
            self.replay()
        track.demand_changed()
        track.sources.new_group_requested(parameters.new_group_request)
        if parameters.fill is not None and self.forward:
            track.core.requests.fill(self, event.update_id, parameters.fill)

    def apply(self, parameters: Parameters) -> None:
        """What of these is set counts from now on."""
        self.parameters = changed(self.parameters, parameters)
        self.forward = self.parameters.forward is not False
        self.priority = _or(self.parameters.subscriber_priority, DEFAULT_PRIORITY)
        self._set_timeouts()


def changed(parameters: Parameters, update: Parameters) -> Parameters:
    """A subscription's parameters after an update."""
    values = {
        name: value
        for name in (
            "forward",
            "subscriber_priority",
            "filter",
            "group_order",
            "object_delivery_timeout",
            "subgroup_delivery_timeout",
        )
        if (value := getattr(update, name)) is not None
    }
    return replace(parameters, **values)


def _moves(parameters: Parameters) -> bool:
    """Whether an update changes which objects come."""
    return bool(parameters.forward or parameters.filter or parameters.fill)


def _ranks(parameters: Parameters) -> bool:
    """Whether an update changes when objects come, or how long they may take."""
    return (
        parameters.subscriber_priority is not None
        or parameters.subgroup_delivery_timeout is not None
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _least(publisher: int | None, subscriber: int | None) -> float:
    """Seconds of the smaller of two millisecond timeouts, of which 0 and None are "none"."""
    return min((t for t in (publisher, subscriber) if t), default=0) / 1000
