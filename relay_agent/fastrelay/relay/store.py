"""What a relay remembers of a track: groups, and in them subgroups and datagrams.

A subgroup's bytes are kept once, as they came, in the wire family of their publisher; a
second body in the other family is made when the first subscriber of that family reads it.
Subscribers are cursors into these bodies.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.datagrams import rewrite_datagram
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived, ObjectHeader, SubgroupHeader
from fastrelay.moqt.names import Location
from fastrelay.moqt.objects import rewrite_subgroup_header
from fastrelay.moqt.transcode import SubgroupTranscoder

if TYPE_CHECKING:
    from fastrelay.relay.delivery import Cursor
    from fastrelay.relay.fill import Fill
    from fastrelay.relay.inflow import Inflow
    from fastrelay.relay.subscription import Subscription

OBJECT_OVERHEAD = 300
"""Bytes that Python needs to remember one object beside its payload."""


class Waker(Protocol):
    def more(self) -> None:
        """A subgroup that was waited for has grown or ended."""


class Body:
    """Bytes of a subgroup stream after its header, in one wire family, and their objects."""

    __slots__ = ("_chunks", "_starts", "draft", "length", "objects")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.length = 0
        self.objects: list[ObjectHeader] = []
        self._chunks: list[bytes] = []
        self._starts: list[int] = []

    def append(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
            self._starts.append(self.length)
            self.length += len(data)

    def read(self, offset: int, limit: int) -> bytes:
        """At least one byte and at most ``limit`` from ``offset``, which lies in the body."""
        index = bisect_right(self._starts, offset) - 1
        skip = offset - self._starts[index]
        chunk = self._chunks[index]
        if skip or len(chunk) > limit:
            return chunk[skip : skip + limit]
        if index + 1 == len(self._chunks) or len(chunk) + len(self._chunks[index + 1]) > limit:
            return chunk
        pieces = [chunk]
        room = limit - len(chunk)
        for chunk in self._chunks[index + 1 :]:
            if len(chunk) > room:
                break
            pieces.append(chunk)
            room -= len(chunk)
        return b"".join(pieces)

    def slice(self, start: int, end: int) -> bytes:
        """Exactly these bytes, all of which are there."""
        pieces = []
        while start < end:
            piece = self.read(start, end - start)
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def forget(self, offset: int) -> None:
        """Give up whole chunks before ``offset``: nobody will read them again."""
        index = bisect_right(self._starts, offset) - 1
        if index > 0:
            del self._chunks[:index], self._starts[:index]

    def first_from(self, object_id: int) -> int:
        """Index of the first object whose id is at least ``object_id``."""
        return bisect_left(self.objects, object_id, key=_object_id)


def _object_id(header: ObjectHeader) -> int:
    return header.location.object


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
        "open_ended",
        "partial",
        "reset_code",
        "state",
        "subgroup_id",
        "times",
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
        self.partial: list[Subscription] = []
        """Subscriptions that begin in the middle of this group, at an object still to come."""
        self.wakers: list[Waker] = []
        self._foreign: Body | None = None
        self._transcoder: SubgroupTranscoder | None = None
        self._headers: dict[tuple[int, bool], SubgroupHeader] = {}

    @property
    def last_object(self) -> int:
        """Id of the newest object, -1 if there is none yet."""
        objects = self.body.objects
        return objects[-1].location.object if objects else -1

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
            body.objects += objects
            for _ in objects:
                self.times.append(now)
            size += OBJECT_OVERHEAD * len(objects)
        body.append(data)
        self.group.grown(size, now)
        if fin:
            self.state = State.FINISHED
            self.ended = now
        for cursor in self.cursors:
            cursor.push(data, start, fin)
        if self._transcoder is not None:
            self._write_foreign(data, objects, fin)
        if self.partial and objects:
            waiting, self.partial = self.partial, []
            for subscription in waiting:
                subscription.attach(self)
        if fin:
            self._settle()
        elif self.group.evicted:
            self._trim()
        self._wake()

    def _write_foreign(self, data: bytes, objects: list[ObjectHeader], fin: bool) -> None:
        assert self._transcoder is not None
        assert self._foreign is not None
        foreign = self._foreign
        start = foreign.length
        other, headers = self._transcoder.feed(data, objects)
        foreign.objects += headers
        foreign.append(other)
        self.group.grown(len(other), None)
        for cursor in self.foreign_cursors:
            cursor.push(other, start, fin)

    def finish(self) -> None:
        """No more objects: every cursor ends with FIN once it has sent all."""
        if self.state is State.OPEN:
            self.write(b"", [], self.group.updated, True)

    def reset(self, code: int) -> None:
        """The rest will not come: cursors end with a reset at the same place."""
        if self.state is not State.OPEN:
            return
        self.state = State.RESET
        self.reset_code = code
        for cursor in self.cursors + self.foreign_cursors:
            cursor.lost()
        self._settle()
        self._wake()

    def _settle(self) -> None:
        """Nothing will be added: forget what is only needed for that."""
        self.partial = []
        self._transcoder = None
        self.cursors = []
        self.foreign_cursors = []

    def _trim(self) -> None:
        """This group is out of the cache: keep what its slowest cursor still needs."""
        for body, cursors in ((self.body, self.cursors), (self._foreign, self.foreign_cursors)):
            if body is not None:
                body.forget(min((cursor.offset for cursor in cursors), default=body.length))

    def _wake(self) -> None:
        if self.wakers:
            wakers, self.wakers = self.wakers, []
            for waker in wakers:
                waker.more()

    def body_for(self, draft: Draft) -> Body:
        """The body as a session of ``draft`` reads it."""
        if draft.quic_varints == self.body.draft.quic_varints:
            return self.body
        if self._foreign is None:
            self._foreign = Body(draft)
            transcoder = SubgroupTranscoder(self.body.draft.varints, draft.varints)
            whole = self.body.slice(0, self.body.length) if self.body.length else b""
            other, headers = transcoder.feed(whole, self.body.objects)
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

    def attach(self, cursor: Cursor) -> None:
        """From now on ``cursor`` is told of what comes."""
        if self.state is State.OPEN:
            (self.cursors if cursor.body is self.body else self.foreign_cursors).append(cursor)

    def detach(self, cursor: Cursor) -> None:
        if self.state is State.OPEN:
            cursors = self.cursors if cursor.body is self.body else self.foreign_cursors
            cursors.remove(cursor)


class StoredDatagram:
    """An object that came as a datagram, and its bytes as each kind of session gets them."""

    __slots__ = ("_raws", "draft", "event", "time")

    def __init__(self, event: DatagramReceived, draft: Draft, time: float) -> None:
        self.event = event
        self.draft = draft
        self.time = time
        self._raws: dict[tuple[int, bool], bytes] = {}

    def raw_for(self, alias: int, draft: Draft) -> bytes:
        key = (alias, draft.quic_varints)
        raw = self._raws.get(key)
        if raw is None:
            raw = self._raws[key] = rewrite_datagram(self.event, self.draft, draft, alias)
        return raw


class Group:
    """A group of a track.

    ``known_from``: every object from this id on either came, will still come by the live
    subscription, or does not exist; what is before it, the relay does not know.
    """

    __slots__ = (
        "damaged",
        "datagrams",
        "evicted",
        "filling",
        "final_object",
        "id",
        "known_from",
        "objects",
        "size",
        "store",
        "subgroups",
        "updated",
    )

    def __init__(self, store: TrackStore, group_id: int, known_from: int, now: float) -> None:
        self.store = store
        self.id = group_id
        self.known_from = known_from
        self.subgroups: list[Subgroup] = []
        self.datagrams: dict[int, StoredDatagram] = {}
        self.objects = 0
        self.size = 0
        self.updated = now
        self.damaged = False
        """A stream was reset or lost: there may be objects that never came."""
        self.filling: Fill | None = None
        """The fetch from upstream that brings what came before ``known_from``."""
        self.final_object: int | None = None
        """The group ends with this id (END_OF_GROUP, or the FIN of a stream that says so)."""
        self.evicted = False

    @property
    def open(self) -> bool:
        """A stream of this group has not ended yet."""
        return any(subgroup.state is State.OPEN for subgroup in self.subgroups)

    def grown(self, size: int, now: float | None) -> None:
        """Account for ``size`` more bytes; ``now``: they came from a publisher."""
        self.size += size
        if now is not None:
            self.updated = now
        if not self.evicted:
            self.store.cache.total += size
            if self.store.cache.total > self.store.cache.limit:
                self.store.cache.shrink(self)

    def newest(self, subgroup_id: int) -> Subgroup | None:
        """The latest run of this subgroup."""
        for subgroup in reversed(self.subgroups):
            if subgroup.subgroup_id == subgroup_id:
                return subgroup
        return None


class TrackStore:
    """The groups of one track that are still remembered."""

    __slots__ = ("cache", "floor", "groups", "live_from", "newest", "published", "seconds")

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.groups: dict[int, Group] = {}
        self.newest = -1
        """Id of the newest group seen."""
        self.floor = 0
        """Groups below were forgotten."""
        self.live_from: Location | None = None
        """From here on everything that the publisher sends arrives; None: nobody publishes."""
        self.published = False
        """Somebody may still add to the newest group: it is kept."""
        self.seconds = cache.seconds
        cache.stores.add(self)

    def group(self, group_id: int, now: float) -> Group:
        """The group, made if this is its first sign."""
        group = self.groups.get(group_id)
        if group is None:
            group = Group(self, group_id, self._known_from(group_id), now)
            self.groups[group_id] = group
            self.cache.recent[group] = None
            self.newest = max(self.newest, group_id)
        return group

    def _known_from(self, group_id: int) -> int:
        live_from = self.live_from
        if live_from is None or group_id < live_from.group or group_id < self.floor:
            return UNKNOWN
        return live_from.object if group_id == live_from.group else 0

    def knows(self, group_id: int, object_id: int) -> bool:
        """Whether the relay can tell what is at this place: an object, or nothing."""
        group = self.groups.get(group_id)
        if group is not None:
            return not group.damaged and object_id >= group.known_from
        return self._known_from(group_id) <= object_id

    def ordered(self, start: int = 0, end: int | None = None) -> list[Group]:
        """Groups by id, from ``start`` to ``end`` inclusive."""
        return [
            self.groups[i] for i in sorted(self.groups) if i >= start and (end is None or i <= end)
        ]

    def forget(self, group: Group) -> None:
        """Drop a group and everything older. Cursors that still read it keep its bytes alive."""
        for other in [g for g in self.groups.values() if g.id <= group.id]:
            del self.groups[other.id]
            other.evicted = True
            self.cache.total -= other.size
            self.cache.recent.pop(other, None)
        self.floor = max(self.floor, group.id + 1)

    def clear(self) -> None:
        """The publisher began anew: nothing of the earlier run counts."""
        for group in list(self.groups.values()):
            for subgroup in group.subgroups:
                subgroup.reset(StreamError.CANCELLED)
        if self.groups:
            self.forget(self.groups[max(self.groups)])
        self.newest = -1
        self.floor = 0

    def close(self) -> None:
        self.clear()
        self.cache.stores.discard(self)


UNKNOWN = 1 << 64
"""A group's ``known_from`` when nothing is known of it."""


class Cache:
    """All remembered groups of the relay, least recently used first."""

    def __init__(self, seconds: float, limit: int) -> None:
        self.seconds = seconds
        self.limit = limit
        self.total = 0
        self.recent: OrderedDict[Group, None] = OrderedDict()
        self.stores: set[TrackStore] = set()

    def touch(self, group: Group) -> None:
        """Somebody reads this group."""
        if group in self.recent:
            self.recent.move_to_end(group)

    def shrink(self, writing: Group) -> None:
        """Come below the limit; the group being written and the newest of live tracks go last."""
        for spare in (True, False):
            for group in list(self.recent):
                if self.total <= self.limit:
                    return
                store = group.store
                if group is writing or group.evicted:
                    continue
                if spare and store.published and group.id == store.newest:
                    continue
                store.forget(group)
        if self.total > self.limit:
            writing.store.forget(writing)

    def expire(self, now: float) -> None:
        """Forget groups that are too old."""
        for store in self.stores:
            for group_id in sorted(store.groups):
                group = store.groups[group_id]
                if group.updated + store.seconds > now or (
                    store.published and group_id == store.newest
                ):
                    break
                store.forget(group)
