"""A subgroup's bytes and who reads them.

They are kept once, as they came, in the wire family of their publisher; a second body in the
other family is made when the first subscriber of that family reads it. Subscribers are cursors
into these bodies.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import ObjectHeader, SubgroupHeader
from fastrelay.moqt.objects import encode_object, rewrite_subgroup_header
from fastrelay.moqt.transcode import SubgroupTranscoder
from fastrelay.relay.body import Body

if TYPE_CHECKING:
    from fastrelay.relay.delivery import Cursor
    from fastrelay.relay.inflow import Inflow
    from fastrelay.relay.lending import Lending
    from fastrelay.relay.store import Group
    from fastrelay.relay.subscription import Subscription
    from fastrelay.relay.takeover import Takeover

OBJECT_OVERHEAD = 300
"""Bytes that Python needs to remember one object beside its payload."""
KEPT_FOR_LOSSES = 2 * 1024 * 1024
"""Bytes kept of a stream that the kernel forwards: more than it may have on its way to one
member (``fastrelay.quic.ledger.ROWS`` packets)."""
SUBGROUP_OVERHEAD = 1000
"""The same for one subgroup: without objects, too, it is no gift."""


class Waker(Protocol):
    def more(self) -> None:
        """A subgroup that was waited for has grown or ended."""


class State(Enum):
    OPEN = "open"
    FINISHED = "finished"
    RESET = "reset"


class Subgroup:
    """One run of a subgroup: what one stream carries, from its first object to FIN or reset.

    A subgroup that was reset and sent again later is two of these.
    """

    __slots__ = (
        "_foreign",
        "_headers",
        "_transcoder",
        "body",
        "cursors",
        "ended",
        "foreign_cursors",
        "group",
        "header",
        "inflows",
        "lending",
        "open_ended",
        "partial",
        "reset_code",
        "state",
        "subgroup_id",
        "takeover",
        "times",
        "unfit",
        "wakers",
    )

    def __init__(self, group: Group, header: SubgroupHeader, draft: Draft) -> None:
        self.group = group
        self.header = header
        self.subgroup_id = header.subgroup_id
        self.body = Body(draft)
        self.times: list[float] = []
        """Arrival of each object's header."""
        self.state = State.OPEN
        self.ended = 0.0
        """When the last byte came."""
        self.reset_code = 0
        self.inflows: list[Inflow] = []
        """Upstream streams that may still add to this; more than one with several publishers."""
        self.open_ended = False
        """Made from a fetch: the publisher's next stream of this subgroup continues it."""
        self.cursors: list[Cursor] = []
        self.foreign_cursors: list[Cursor] = []
        self.lending: Lending | None = None
        """The kernel's part, if it forwards the stream."""
        self.takeover: Takeover | None = None
        """Set while streams of other publishers wait for this one's."""
        self.partial: list[Subscription] = []
        """Subscriptions that begin in the middle of this group, at an object still to come."""
        self.unfit = False
        """A value in it does not fit the integers of the other wire family."""
        self.wakers: list[Waker] = []
        self._foreign: Body | None = None
        self._transcoder: SubgroupTranscoder | None = None
        self._headers: dict[tuple[int, bool], SubgroupHeader] = {}
        group.grown(SUBGROUP_OVERHEAD, None)

    @property
    def last_object(self) -> int:
        """Id of the newest object, -1 if there is none yet."""
        objects = self.body.objects
        return objects[-1].location.object if objects else -1

    @property
    def last_whole(self) -> int:
        """Id of the newest object that is complete, -1 if there is none yet."""
        objects = self.body.objects
        count = len(objects) - (not self.at_boundary)
        return objects[count - 1].location.object if count else -1

    @property
    def at_boundary(self) -> bool:
        """Every object begun is complete."""
        objects = self.body.objects
        return not objects or objects[-1].end <= self.body.length

    def write(self, data: bytes, objects: list[ObjectHeader], now: float, fin: bool) -> None:
        """Add bytes that begin where the body ends, with the objects whose headers they hold."""
        body = self.body
        start = body.length
        size = len(data)
        if objects:
            if self.subgroup_id is None:
                self.subgroup_id = objects[0].subgroup_id
                self.group.index(self)
            body.objects += objects
            for _ in objects:
                self.times.append(now)
            size += OBJECT_OVERHEAD * len(objects)
        body.append(data)
        self.group.grown(size, now)
        if fin:
            self.state = State.FINISHED
            self.ended = now
        cursors = self.cursors
        if cursors:
            counters = self.group.store.cache.counters
            counters.objects_out += len(objects) * len(cursors)
            counters.bytes_out += len(data) * len(cursors)
            for cursor in cursors:
                cursor.push(data, start, fin)
        if self._transcoder is not None:
            self._write_foreign(data, objects, fin)
        if self.lending is not None:
            self.lending.written(start, len(data), len(objects), fin)
        if self.partial and (objects or fin):
            waiting, self.partial = self.partial, []
            for subscription in waiting:
                if objects:
                    subscription.attach(self)
                else:
                    subscription.missed(self)
        if fin:
            self._settle()
        elif self.group.evicted:
            self._trim()
        self._wake()
        if self.takeover is not None:
            self.takeover.grown()

    def _write_foreign(self, data: bytes, objects: list[ObjectHeader], fin: bool) -> None:
        assert self._transcoder is not None
        assert self._foreign is not None
        foreign = self._foreign
        start = foreign.length
        try:
            other, headers = self._transcoder.feed(data, objects)
        except ValueError:
            self._transcoder = None
            self.unfit = True
            cursors, self.foreign_cursors = self.foreign_cursors, []
            for cursor in cursors:
                cursor.abandon(StreamError.INTERNAL_ERROR)
            return
        foreign.objects += headers
        foreign.append(other)
        self.group.grown(len(other), None)
        counters = self.group.store.cache.counters
        counters.objects_out += len(objects) * len(self.foreign_cursors)
        counters.bytes_out += len(other) * len(self.foreign_cursors)
        for cursor in self.foreign_cursors:
            cursor.push(other, start, fin)

    def freeze(self) -> int:
        """Another stream of the subgroup has come: the kernel goes no further. Returns how far
        that has brought anybody, in bytes of the body."""
        furthest = 0
        if self.lending is not None:
            self.lending.dissolve()
            furthest = self.lending.needed
        return max([furthest, *(cursor.offset for cursor in self.cursors)])

    def merge(self) -> None:
        """What follows may come from another stream, written otherwise: nobody can stay ahead of
        what is here."""
        if self.lending is not None:
            self.lending.part()
        for cursor in [each for each in self.cursors if each.offset > self.body.length]:
            cursor.subscription.decline(self)
            cursor.subscription.track.core.dropped("merged", "stream")
            cursor.abandon(StreamError.EXCESSIVE_LOAD)

    def finish(self) -> None:
        """No more objects: every cursor ends with FIN once it has sent all."""
        if self.state is State.OPEN:
            self.write(b"", [], self.group.updated, True)

    def lapse(self) -> None:
        """As much, but nobody said so: who has got nothing of it is not told."""
        self.partial = []
        self.finish()

    def reset(self, code: int) -> None:
        """The rest will not come: cursors end with a reset at the same place."""
        if self.state is not State.OPEN:
            return
        self.state = State.RESET
        self.reset_code = code
        if self.lending is not None:
            self.lending.dissolve()
        for cursor in self.cursors + self.foreign_cursors:
            cursor.lost()
        self._settle()
        self._wake()
        if self.takeover is not None:
            self.takeover.grown()

    def _settle(self) -> None:
        """Nothing will be added: forget what is only needed for that."""
        self.group.unfinished -= 1
        self.partial = []
        self._transcoder = None
        self.cursors = []
        self.foreign_cursors = []

    def _trim(self) -> None:
        """This group is out of the cache: keep what its slowest cursor still needs."""
        for body, cursors in ((self.body, self.cursors), (self._foreign, self.foreign_cursors)):
            if body is not None:
                needed = min((cursor.offset for cursor in cursors), default=body.length)
                if self.lending is not None and body is self.body:
                    needed = min(needed, body.length - KEPT_FOR_LOSSES)
                body.forget(needed)

    def _wake(self) -> None:
        if self.wakers:
            wakers, self.wakers = self.wakers, []
            for waker in wakers:
                waker.more()

    def body_for(self, draft: Draft) -> Body:
        """The body as a session of ``draft`` reads it.

        :raises ValueError: a value in it does not fit that draft's integers.
        """
        if draft.quic_varints == self.body.draft.quic_varints:
            return self.body
        if self.unfit:
            raise ValueError("a value that the other wire family cannot hold")
        if self._foreign is None:
            self._foreign = Body(draft)
            transcoder = SubgroupTranscoder(self.body.draft.varints, draft.varints)
            whole = self.body.slice(0, self.body.length) if self.body.length else b""
            try:
                other, headers = transcoder.feed(whole, self.body.objects)
            except ValueError:
                self.unfit = True
                self._foreign = None
                raise
            self._foreign.objects += headers
            self._foreign.append(other)
            self.group.grown(len(other), None)
            if self.state is State.OPEN:
                self._transcoder = transcoder
        return self._foreign

    def header_for(self, alias: int, draft: Draft) -> SubgroupHeader:
        """The stream's header for a session: the very bytes that came, if alias and family fit."""
        key = (alias, draft.quic_varints)
        header = self._headers.get(key)
        if header is None:
            source = self.header
            raw = rewrite_subgroup_header(source, self.body.draft, draft, alias)
            header = self._headers[key] = SubgroupHeader(
                alias,
                source.group_id,
                source.subgroup_id,
                source.publisher_priority,
                source.has_properties,
                source.end_of_group,
                source.first_object,
                raw,
                source.alias_length,
            )
        return header

    def prepend(self, data: bytes, headers: list[ObjectHeader]) -> None:
        """Put objects before the first one: it then follows the last of them in this stream.

        Cursors go on where they are, they do not get what is new.
        """
        body = self.body
        if self.lending is not None:
            self.lending.part()
        if not body.objects:
            self.open_ended = True
            for inflow in self.inflows:
                inflow.become_shared()
            self.write(data, headers, self.group.updated, False)
            return
        first = body.objects[0]
        old_head = body.slice(0, first.payload_start)
        lead = data + encode_object(
            first.location.object,
            headers[-1].location.object,
            first.end - first.payload_start,
            body.draft.varints,
            first.properties,
            first.status,
        )
        source = self.header
        self.header = SubgroupHeader(
            source.track_alias,
            source.group_id,
            self.subgroup_id,
            source.publisher_priority,
            source.has_properties,
            source.end_of_group,
            headers[0].location.object == 0,
        )
        self._headers.clear()
        shift = body.prepend(lead, len(data), headers)
        self.times[:0] = [self.times[0]] * len(headers)
        for inflow in self.inflows:
            inflow.moved(shift)
        for cursor in self.cursors:
            cursor.moved(shift, old_head, self.header, first)
        self.group.grown(shift, None)
        if self._foreign is not None:
            self._prepend_foreign(lead, [*headers, first])

    def _prepend_foreign(self, lead: bytes, headers: list[ObjectHeader]) -> None:
        foreign = self._foreign
        assert foreign is not None
        source, target = self.body.draft.varints, foreign.draft.varints
        first = foreign.objects[0]
        old_head = foreign.slice(0, first.payload_start)
        other, others = SubgroupTranscoder(source, target).feed(lead, headers)
        shift = foreign.prepend(other, others[-1].start, others[:-1])
        for cursor in self.foreign_cursors:
            cursor.moved(shift, old_head, self.header, first)
        self.group.grown(shift, None)
        if self._transcoder is not None:
            # A transcoder knows how far it read: a new one reads all of it once.
            self._transcoder = SubgroupTranscoder(source, target)
            whole = self.body.slice(0, self.body.length)
            self._transcoder.feed(whole, self.body.objects)

    def attach(self, cursor: Cursor) -> None:
        """From now on ``cursor`` is told of what comes."""
        if self.state is State.OPEN:
            (self.cursors if cursor.body is self.body else self.foreign_cursors).append(cursor)

    def detach(self, cursor: Cursor) -> None:
        if self.state is State.OPEN and not (self.unfit and cursor.body is not self.body):
            cursors = self.cursors if cursor.body is self.body else self.foreign_cursors
            cursors.remove(cursor)
