"""A peer's FETCH, or a fill of draft 22: objects of the past on one stream.

What the store has is served from it; what it cannot tell is asked upstream first
(:mod:`.fill`), and what nobody can tell is marked as unknown. Objects go out one after the
other while the transport takes them; the one at the live edge as its bytes come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.codes import RequestErrorCode, StreamError
from fastrelay.moqt.events import FetchRange, ObjectHeader, RequestUpdated
from fastrelay.moqt.fetches import TIMED_OUT_RANGE, UNKNOWN_RANGE, FetchEncoder
from fastrelay.moqt.messages import Fetch as FetchMessage
from fastrelay.moqt.messages import FetchKind, FetchOk, Parameters
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.relay.body import Body
from fastrelay.relay.coverage import Span, hull, unknown
from fastrelay.relay.fill import Fill
from fastrelay.relay.gaps import Gaps, not_passed
from fastrelay.relay.items import Item, head_of, items_of, location_of
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.seat import FETCHING
from fastrelay.relay.store import Group, StoredDatagram
from fastrelay.relay.subgroup import State, Subgroup
from fastrelay.relay.subscription import DEFAULT_PRIORITY
from fastrelay.relay.timers import Timer
from fastrelay.relay.window import OPEN_END

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription
    from fastrelay.relay.tracks import Track


class Fetch(Handle):
    """``owner``: the subscription that a fill belongs to; None for a FETCH."""

    __slots__ = (
        "_answered",
        "_asked",
        "_encoder",
        "_fill",
        "_gaps",
        "_group",
        "_items",
        "_left",
        "_rest",
        "_started",
        "_timed_out",
        "_timer",
        "_told",
        "descending",
        "done",
        "owner",
        "parameters",
        "peer",
        "priority",
        "request_id",
        "served",
        "span",
        "stream_id",
        "track",
    )

    def __init__(
        self,
        track: Track,
        peer: Peer,
        request_id: int,
        parameters: Parameters,
        owner: Subscription | None = None,
    ) -> None:
        self.track = track
        self.peer = peer
        self.request_id = request_id
        self.parameters = parameters
        self.owner = owner
        self.span = Span(Location(0, 0), Location(OPEN_END, OPEN_END))
        self.descending = parameters.group_order is GroupOrder.DESCENDING
        priority = parameters.subscriber_priority
        self.priority = DEFAULT_PRIORITY if priority is None else priority
        self.stream_id = -1
        self.served = 0
        self.done = False
        self._answered = owner is not None
        self._started = False
        self._fill: Fill | None = None
        self._gaps = Gaps(descending=self.descending)
        """What will not be found out."""
        self._asked: list[Span] = []
        """What upstream was asked for."""
        self._told = 0
        """How many of the unknown ranges of the fill are among the gaps."""
        self._timed_out = False
        self._timer: Timer | None = None
        self._encoder = FetchEncoder(peer.draft, self.descending)
        self._group: int | None = None
        """The group being sent, or sent last."""
        self._items: list[Item] = []
        """What is left of it, in reverse."""
        self._left: dict[int, Group] = {}
        """Groups still to be sent, and the one being sent: they outlive their eviction."""
        self._rest: tuple[Subgroup, Body, ObjectHeader, int] | None = None
        """The object being sent, and how much of its payload was."""
        track.watchers[self] = None
        track.fetches += 1
        track.core.counters.fetches += 1
        peer.fetches += 1
        subscription = peer.subscriptions.get(track.name)
        if subscription is not None:
            subscription.seat.fell_behind(FETCHING)

    # What is wanted

    def begin(self, span: Span) -> None:
        """Serve this range; its end may lie behind what exists."""
        track = self.track
        self.span = span
        if span.start > span.end:
            self._refuse(RequestErrorCode.INVALID_RANGE, "the range ends before it begins")
            return
        gaps = unknown(track.store, span)
        if track.sources.is_established or (not gaps and track.largest is not None):
            largest = track.largest
            if largest is None or span.start > largest:
                self._refuse(RequestErrorCode.INVALID_RANGE, "nothing was published there")
                return
            if span.end > largest:
                self.span = Span(span.start, largest)
                gaps = unknown(track.store, self.span)
            self._answer(self.span.end, end_of_track=track.ends_at(self.span.end))
        for group in track.store.ordered(span.start.group, span.end.group):
            self._keep(group)
            track.core.cache.touch(group)
        if gaps:
            track.core.counters.cache_misses += 1
            self._ask_upstream(gaps)
        else:
            track.core.counters.cache_hits += 1
        if not self.done:
            self.more()

    def join(self, joined: Subscription, request: FetchMessage, accepted: bool) -> None:
        """A joining FETCH: from a group's start to where the subscription began (10.12.2)."""
        if self.done:
            return
        largest = joined.joining
        if not accepted:
            self._refuse(
                RequestErrorCode.INVALID_JOINING_REQUEST_ID, "the subscription was refused"
            )
        elif not joined.forward or largest is None:
            self._refuse(RequestErrorCode.INVALID_RANGE, "nothing to join")
        else:
            group = request.joining_start
            if request.kind is FetchKind.RELATIVE_JOINING:
                group = max(0, largest.group - group)
            if group > largest.group:
                self._refuse(RequestErrorCode.INVALID_RANGE, "the range begins after its end")
            else:
                self.begin(Span(Location(group, 0), largest))

    def _ask_upstream(self, gaps: list[Span]) -> None:
        track = self.track
        wait = self.parameters.fill_timeout
        seconds = track.core.options.fill_seconds
        if wait is not None:
            seconds = min(seconds, wait / 1000)
        fill = track.past.fetch(hull(gaps), descending=self.descending) if seconds else None
        if fill is not None:
            self._fill = fill
            self._asked = gaps
            fill.listeners[self] = None
            self._timer = track.core.timers.after(seconds, self._timeout)
            return
        self._gaps.add(gaps)
        if not self._answered:
            self._without_publisher()

    def _without_publisher(self) -> None:
        """Nobody can tell how far the track goes: the cache is all there is."""
        largest = self.track.largest
        if largest is not None and self.span.start > largest:
            self._refuse(RequestErrorCode.INVALID_RANGE, "nothing was published there")
            return
        if not self._left or largest is None:
            self._refuse(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")
            return
        end = min(self.span.end, largest)
        self.span = Span(self.span.start, end)
        self._gaps.clear()
        self._gaps.add(unknown(self.track.store, self.span))
        self._answer(end, end_of_track=self.track.ends_at(end))

    def _timeout(self) -> None:
        self._timer = None
        self._timed_out = True
        fill, self._fill = self._fill, None
        if fill is not None:
            self._give_up(fill)
        if not self._answered:
            self._without_publisher()
        if not self.done:
            self.more()

    def fill_changed(self, fill: Fill) -> None:
        if fill is not self._fill:
            return
        answer = fill.answer
        if answer is not None and not self._answered:
            last = OPEN_END if answer.end_object is None else answer.end_object
            end = min(self.span.end, Location(answer.end_group, last))
            self.span = Span(self.span.start, end)
            self._answer(end, end_of_track=answer.end_of_track)
        self._take(fill)
        self._gaps.add(fill.unknown[self._told :])
        self._told = len(fill.unknown)
        if fill.done and (self._answered or fill.error is not None):
            self._fill = None
            if fill.error is None:
                self._let_go(fill)
            else:
                self._give_up(fill)
                if not self._answered:
                    self._refuse(fill.error.code, fill.error.reason)
                    return
        self.more()

    def _give_up(self, fill: Fill) -> None:
        """What was asked for and did not come stays unknown."""
        self._let_go(fill)
        self._take(fill)
        self._gaps.add(not_passed(self._asked, fill.passed, self.descending))

    def _take(self, fill: Fill) -> None:
        """Groups have come from upstream."""
        for group in fill.groups.values():
            self._keep(group)

    def _keep(self, group: Group) -> None:
        """This group is to be sent, unless its turn is over."""
        if group.id not in self._left and self._is_ahead(group.id):
            self._left[group.id] = group
            group.read_by(self)

    def _is_ahead(self, group_id: int) -> bool:
        if self._group is None:
            return True
        return group_id < self._group if self.descending else group_id > self._group

    def _let_go(self, fill: Fill) -> None:
        fill.listeners.pop(self, None)
        if not fill.is_wanted:
            fill.cancel()

    def _answer(self, end: Location, *, end_of_track: bool) -> None:
        if self._answered:
            return
        draft = self.peer.draft
        try:
            properties = self.track.properties_for(draft, self.parameters)
        except ValueError:
            self._refuse(RequestErrorCode.NOT_SUPPORTED, "the draft cannot hold the track")
            return
        self._answered = True
        most = draft.varints.maximum
        self.peer.session.respond(
            FetchOk(
                self.request_id,
                end_of_track,
                min(end.group, most),
                None if end.object >= most else end.object,
                Parameters(),
                properties,
            )
        )

    def _refuse(self, code: int, reason: str) -> None:
        self._leave()
        if self.owner is None:
            self.track.core.requests.reject(self.peer, self.request_id, code, reason)

    # What goes out

    def more(self) -> None:
        """There may be something to send."""
        if not self.done:
            self.peer.activate(self)
            self.track.core.unsettled(self.peer)

    band = 0
    """It has an order of its own, and is never dropped."""

    def rank(self) -> tuple[int, int, int]:
        return self.priority, 0, self.served

    def review(self) -> None:
        """A fetch waits for its reader as long as it takes."""

    def give(self) -> bool:
        if self.done or not self._answered:
            return False
        if self._rest is None and not self._next():
            return False
        return self._send_payload()

    def _next(self) -> bool:
        """Write the next object's header; False: wait, or the end."""
        while not self._items:
            following = self._following()
            if not self._may_send(following):
                return False
            if following is None:
                self._finish()
                return False
            if self._group is not None:
                self._left.pop(self._group).left_by(self)
            self._group = following
            try:
                self._items = items_of(self._left[following], self.span, self.peer.draft)
            except ValueError:
                self.fail(StreamError.INTERNAL_ERROR)
                return False
        item = self._items.pop()
        self._mark_unknown(location_of(item))
        try:
            head = head_of(item, self._encoder, self.peer.draft, self._default_priority)
        except ValueError:
            self.fail(StreamError.INTERNAL_ERROR)
            return False
        if not isinstance(item, StoredDatagram):
            self._rest = (*item, 0)
        self._write(head)
        return True

    @property
    def _default_priority(self) -> int:
        return self.track.properties.default_priority

    def _following(self) -> int | None:
        """The next group in the fetch's order that there is."""
        for group in self.track.store.ordered(self.span.start.group, self.span.end.group):
            self._keep(group)
        first, last = self.span.start.group, self.span.end.group
        ids = (i for i in self._left if first <= i <= last and self._is_ahead(i))
        return max(ids, default=None) if self.descending else min(ids, default=None)

    def _may_send(self, group_id: int | None) -> bool:
        """Whether everything before this group (None: the end) is known."""
        fill = self._fill
        if fill is None:
            return True
        if group_id is None:
            return fill.done
        if self.descending:
            return group_id > fill.span.end.group or fill.has_passed(group_id)
        return group_id < fill.span.start.group or fill.has_passed(group_id)

    def _mark_unknown(self, before: Location | None) -> None:
        """Write markers for what is unknown ahead of a place (None: the end of the range)."""
        kind = TIMED_OUT_RANGE if self._timed_out else UNKNOWN_RANGE
        for until in self._gaps.ahead_of(before, self.span):
            self._write(self._encoder.range_end(FetchRange(until, kind)))

    def _send_payload(self) -> bool:
        """Write what there is of the current object's payload; whether to go on."""
        if self._rest is None:
            return True
        subgroup, body, header, sent = self._rest
        offset = header.payload_start + sent
        end = min(header.end, body.length)
        if offset < end:
            if not body.holds(offset):
                self.fail(StreamError.UNKNOWN_OBJECT_STATUS)
                return False
            data = body.read(offset, min(self.peer.quantum, end - offset))
            self._write(data)
            offset += len(data)
            self._rest = (subgroup, body, header, offset - header.payload_start)
        if offset >= header.end:
            self._rest = None
            return True
        if offset < body.length:
            return True
        if subgroup.state is State.OPEN:
            subgroup.wakers.append(self)
        else:
            self.fail(StreamError.UNKNOWN_OBJECT_STATUS)
        return False

    def _open(self) -> None:
        if self.stream_id < 0:
            self.stream_id = self.peer.session.open_fetch(self.request_id)
            self.peer.outflows[self.stream_id] = self
            self.track.core.counters.streams_out += 1
            if self.owner is not None:
                self.owner.streams += 1

    def _write(self, data: bytes, fin: bool = False) -> None:
        self._open()
        self.peer.session.send(self.stream_id, data, fin)
        self.served += len(data)
        self.track.core.counters.bytes_out += len(data)

    # Ends

    def _finish(self) -> None:
        self._mark_unknown(None)
        self._write(b"", True)
        self._leave()

    def fail(self, code: int) -> None:
        """End the stream with a reset; a FETCH not answered yet gets an error."""
        if self.done:
            return
        if not self._answered:
            self._refuse(RequestErrorCode.INTERNAL_ERROR, "the objects cannot be had")
            return
        self._open()
        self.peer.session.reset(self.stream_id, code)
        self._leave()

    def malformed(self) -> None:
        if self._answered:
            self.fail(StreamError.MALFORMED_TRACK)
        else:
            self._refuse(RequestErrorCode.MALFORMED_TRACK, "the track is malformed")

    def overloaded(self) -> None:
        """The relay cannot keep for longer what this has not read yet."""
        self.track.core.dropped("too-far-behind", "fetch")
        self.fail(StreamError.TOO_FAR_BEHIND)

    def updated(self, event: RequestUpdated) -> None:
        priority = event.parameters.subscriber_priority
        if priority is not None:
            self.priority = priority
        self.peer.session.respond_update(self.request_id, event.update_id, Parameters())

    def cancelled(self) -> None:
        self._leave()

    def stopped(self) -> None:
        """STOP_SENDING for the stream."""
        if self.owner is None:
            self.peer.session.cancel(self.request_id)
        self._leave()

    def lost(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.done:
            return
        self.done = True
        track, peer = self.track, self.peer
        if self._timer is not None:
            self._timer.cancel()
        if self._fill is not None:
            fill, self._fill = self._fill, None
            self._let_go(fill)
        for group in self._left.values():
            group.left_by(self)
        self._left = {}
        self._items = []
        self._rest = None
        peer.deactivate(self)
        peer.outflows.pop(self.stream_id, None)
        peer.fetches -= 1
        if self.owner is None:
            peer.handles.pop(self.request_id, None)
        track.watchers.pop(self, None)
        track.fetches -= 1
        track.core.counters.fetches -= 1
        if self.owner is not None:
            self.owner.fill_ended(self)
        track.core.release(track)
