"""Objects from the past: a FETCH of the relay's towards a publisher, into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastrelay.moqt.codes import RequestErrorCode, StreamError
from fastrelay.moqt.events import FetchData, FetchRange, ObjectHeader
from fastrelay.moqt.fetches import NON_EXISTENT_RANGE
from fastrelay.moqt.messages import Answer, FetchKind, FetchOk, Parameters, RequestError
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.relay.absorb import absorb
from fastrelay.relay.body import Body
from fastrelay.relay.coverage import Span
from fastrelay.relay.gaps import between
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.store import Group
from fastrelay.relay.subgroup import OBJECT_OVERHEAD
from fastrelay.relay.window import OPEN_END

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription
    from fastrelay.relay.tracks import Track

Fetched = tuple[ObjectHeader, bytes]

MAX_UNKNOWN_RANGES = 1000
"""A publisher that knows less of its own track is not asked further."""


class Listener(Protocol):
    def fill_changed(self, fill: Fill) -> None:
        """More groups are complete, or it is over."""


class Fill(Handle):
    """``passed``: groups of which everything came are before it, in the order of the fetch."""

    __slots__ = (
        "_body",
        "_collected",
        "_head",
        "_pending",
        "_place",
        "_waiting",
        "answer",
        "descending",
        "done",
        "error",
        "for_track",
        "fresh",
        "groups",
        "listeners",
        "passed",
        "peer",
        "request_id",
        "span",
        "stream_id",
        "track",
        "unknown",
    )

    def __init__(self, track: Track, peer: Peer, span: Span, *, descending: bool = False) -> None:
        self.track = track
        self.peer = peer
        self.span = span
        self.descending = descending
        self.answer: FetchOk | None = None
        self.error: RequestError | None = None
        self.done = False
        self.passed: int | None = None
        """The group that is being received; all before it in the fetch's order are complete."""
        self.groups: dict[int, Group] = {}
        """Those that came since the listeners were told last."""
        self.fresh = True
        """Nothing was handed out yet: who comes now gets everything, too."""
        self.unknown: list[Span] = []
        """What the publisher could not tell either."""
        self.listeners: dict[Listener, None] = {}
        self.for_track = False
        """It was begun for the track's subscribers, it goes on without listeners."""
        self.stream_id: int | None = None
        self._waiting: dict[Subscription, None] = {}
        self._body = Body(peer.draft)
        self._pending: list[ObjectHeader | FetchRange] = []
        self._head = 0
        self._collected: list[Fetched] = []
        self._place: Location | None = None
        """Of the last object or marker."""
        end_object = None if span.end.object == OPEN_END else span.end.object
        self.request_id = peer.session.fetch(
            FetchKind.STANDALONE,
            track=track.name,
            start=span.start,
            end_group=span.end.group,
            end_object=end_object,
            parameters=Parameters(
                group_order=GroupOrder.DESCENDING if descending else GroupOrder.ASCENDING,
            ),
        )
        peer.handles[self.request_id] = self
        peer.expected_fetches[self.request_id] = self
        track.past.fills.append(self)

    # What comes

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, FetchOk):
            self.answer = answer
            self._tell()
            if self.done:
                self._release()
        elif isinstance(answer, RequestError):
            self.error = answer
            self._over(failed=True)

    def opened(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.peer.inflows[stream_id] = self

    def data(self, event: FetchData) -> None:
        if self.done:
            return
        counters = self.track.core.counters
        counters.bytes_in += len(event.body)
        counters.objects_in += len(event.objects)
        self._body.append(event.body)
        self._pending += event.objects
        size = len(event.body) + OBJECT_OVERHEAD * len(event.objects)
        self.track.core.backlog.hold(self, size)
        self._collect()
        if event.fin:
            self._over(failed=False)

    def _collect(self) -> None:
        """Take the objects that are complete, a group at a time."""
        before = self.passed
        for item in self._pending:
            if isinstance(item, FetchRange):
                self._range(item)
            elif item.end > self._body.length:
                break
            else:
                if item.location.group != self.passed:
                    self._absorb()
                    if self.done:
                        return
                    self.passed = item.location.group
                self._place = item.location
                payload = (
                    self._body.slice(item.payload_start, item.end)
                    if (item.end > item.payload_start)
                    else b""
                )
                self._collected.append((item, payload))
                self._body.forget(item.end)
            self._head += 1
        del self._pending[: self._head]
        self._head = 0
        if self.passed != before:
            self._tell()
            self.groups = {}

    def _range(self, marker: FetchRange) -> None:
        if marker.kind != NON_EXISTENT_RANGE:
            self.unknown += between(self._place, marker.until, self.span, self.descending)
            if len(self.unknown) > MAX_UNKNOWN_RANGES:
                self.overloaded()
        self._place = marker.until

    def _absorb(self) -> None:
        self.track.core.backlog.release(self)
        collected, self._collected = self._collected, []
        if collected and self.passed is not None:
            self.fresh = False
            if self.track.is_beyond(collected[-1][0].location):
                self.malformed("fetched an object behind the end")
                return
            group = absorb(self.track, self.peer.draft, self.passed, collected)
            self.groups[group.id] = group

    def overloaded(self) -> None:
        """It brings more than the relay can keep."""
        self._collected = []
        self.error = RequestError(
            self.request_id, RequestErrorCode.EXCESSIVE_LOAD, "more than this relay can keep"
        )
        self.cancel()

    def lost(self, code: int = StreamError.CANCELLED) -> None:
        """The stream was reset, or the session is gone."""
        self._over(failed=True)

    def malformed(self, reason: str) -> None:
        self._over(failed=True)
        self.track.malformed(reason)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if not self.done:
            self.peer.session.cancel(self.request_id)
            self._over(failed=True)

    def _over(self, *, failed: bool) -> None:
        if self.done:
            return
        self.done = True
        self._absorb()
        if failed and self.error is None:
            self.error = RequestError(
                self.request_id, RequestErrorCode.INTERNAL_ERROR, "the fetch from upstream failed"
            )
        if self.error is None:
            self._mark_known()
        if self.answer is not None or failed:
            self._release()
        self.track.past.fills.remove(self)
        waiting, self._waiting = self._waiting, {}
        for group in self.track.store.groups.values():
            if group.filling is self:
                group.filling = None
        self.track.past.over(self, list(waiting))
        self._tell()

    def _release(self) -> None:
        self.peer.handles.pop(self.request_id, None)
        self.peer.expected_fetches.pop(self.request_id, None)
        if self.stream_id is not None:
            self.peer.inflows.pop(self.stream_id, None)

    def _mark_known(self) -> None:
        """All of the span came: groups of it that are remembered are whole from its start."""
        start, end = self.span
        for group in self.track.store.ordered(start.group, end.group):
            first = start.object if group.id == start.group else 0
            last = end.object if group.id == end.group else OPEN_END
            if any(s.start.group <= group.id <= s.end.group for s in self.unknown):
                continue
            if last == OPEN_END or last + 1 >= group.known_from:
                group.known_from = min(group.known_from, first)
                if last == OPEN_END:
                    group.damaged = False

    # Who waits

    def wait_for(self, subscription: Subscription) -> None:
        """Attach the subscription to the groups of the span when this is over."""
        self._waiting[subscription] = None

    @property
    def is_wanted(self) -> bool:
        return bool(self.listeners or self._waiting) or self.for_track

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener.fill_changed(self)

    def has_passed(self, group_id: int) -> bool:
        """Whether everything of this group is here."""
        if self.done:
            return True
        if self.passed is None:
            return False
        return group_id > self.passed if self.descending else group_id < self.passed
