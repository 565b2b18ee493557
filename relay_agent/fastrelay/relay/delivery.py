"""One subscriber's place in one subgroup.

The fast path is :meth:`Cursor.push`: nothing waits for this subscriber, so the publisher's
bytes go straight on, the same object for everybody. Otherwise the cursor only remembers how
far it got, and the peer's scheduler reads on from the shared body when there is room.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.events import ObjectHeader, SubgroupHeader
from fastrelay.moqt.objects import join_prefix
from fastrelay.relay.body import Body
from fastrelay.relay.subgroup import State, Subgroup

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription


def _object_end(header: ObjectHeader) -> int:
    return header.end


class Cursor:
    """A downstream stream: ``offset`` bytes of ``body`` were given to the transport.

    ``waiting``: the scheduler has the cursor and sends for it. ``last_object``: the
    subscription's range ends at this id, within this subgroup's group.
    """

    __slots__ = (
        "_band",
        "_charge",
        "_peer",
        "_send",
        "_transport",
        "body",
        "header",
        "last_object",
        "offset",
        "stream_id",
        "subgroup",
        "subscription",
        "waiting",
    )

    def __init__(
        self,
        subscription: Subscription,
        subgroup: Subgroup,
        body: Body,
        header: SubgroupHeader,
        offset: int,
        last_object: int | None,
    ) -> None:
        peer = subscription.peer
        self.subscription = subscription
        self.subgroup = subgroup
        self.body = body
        self.header = header
        self.offset = offset
        self.last_object = last_object
        self.stream_id = -1
        self.waiting = False
        self._charge = subscription.charge
        self._band = subscription.band(header.publisher_priority)
        self._send = peer.session.send
        self._transport = peer.transport
        self._peer = peer

    def push(self, data: bytes, start: int, fin: bool) -> None:
        """The body has grown by ``data``, which begins at ``start``; ``fin``: for the last time."""
        if (
            not self.waiting
            and self.last_object is None
            and not self._peer.active
            and self._transport.backlog < self._peer.ahead[self._band]
        ):
            self._charge(self._band, len(data))
            self._send(self.stream_id, data, fin)
            self.offset = start + len(data)
            if fin:
                self.subscription.finished(self)
        else:
            self.wait(len(data))

    def wait(self, size: int) -> None:
        """Leave ``size`` more bytes, and the stream's end, to the scheduler."""
        lane = self.subscription.lane
        lane.behind += size
        if not self.waiting:
            self.waiting = True
            lane.enqueue(self)
        elif lane.behind > lane.patience:
            self.subscription.track.core.unsettled(self.subscription.peer)

    def lost(self) -> None:
        """The subgroup was reset: so is this stream, once it has sent what came before."""
        self.wait(0)

    def give(self) -> bool:
        """Send one quantum; whether there is more to send now."""
        subgroup = self.subgroup
        body = self.body
        limit = body.length
        ends = subgroup.state is State.FINISHED
        if self.last_object is not None:
            beyond = body.first_from(self.last_object + 1)
            if beyond < len(body.objects):
                limit = body.objects[beyond].start
                ends = True
        if self.stream_id < 0:
            if self.offset >= limit and subgroup.state is State.RESET:
                self.subscription.forget(self)
                return False
            if not self.subscription.admits(subgroup):
                self.subscription.forget(self)
                return False
            self.open()
        size = min(self._peer.quantum, limit - self.offset)
        data = body.read(self.offset, size) if size > 0 else b""
        self.offset += len(data)
        fin = ends and self.offset >= limit
        if data or fin:
            self._charge(self._band, len(data))
            self._send(self.stream_id, data, fin)
            self.subscription.lane.progressed(len(data))
        if fin:
            self.subscription.finished(self)
        elif self.offset < limit:
            return True
        elif subgroup.state is State.RESET:
            self.abandon(subgroup.reset_code)
        else:
            self.waiting = False
        return False

    def open(self) -> None:
        """Begin the stream with its header."""
        subscription = self.subscription
        peer = subscription.peer
        self.stream_id = peer.session.open_subgroup(self.header)
        peer.outflows[self.stream_id] = self
        subscription.opened(self.subgroup.group.id)

    def moved(
        self, shift: int, old_head: bytes, header: SubgroupHeader, first: ObjectHeader
    ) -> None:
        """Objects were put before ``first``, the body's first one; ``old_head``: its header as
        this cursor had it to send. The cursor still begins with that object."""
        if self.offset >= len(old_head):
            self.offset += shift
            return
        peer = self.subscription.peer
        if self.stream_id < 0:
            alias = self.subscription.alias
            raw = join_prefix(header, first, alias, peer.draft)
            self.header = replace(header, track_alias=alias, first_object=False, raw=raw)
        else:
            self._send(self.stream_id, old_head[self.offset :])
        if self.waiting:
            self.subscription.lane.behind -= len(old_head) - self.offset
        self.offset = first.payload_start

    def abandon(self, code: int) -> None:
        """Give the stream up: whatever was not acknowledged is lost to this subscriber."""
        if self.stream_id >= 0:
            self.subscription.peer.session.reset(self.stream_id, code)
        self.subscription.forget(self)

    def stopped(self) -> None:
        """The peer does not want this subgroup: it is not opened again."""
        self.subscription.decline(self.subgroup)
        self.subscription.forget(self)

    def is_under_way(self) -> bool:
        """Whether the peer may not have got all that was sent."""
        peer = self._peer
        return not peer.session.is_closed and peer.transport.is_sending(self.stream_id)

    def expire(self) -> None:
        """All was sent, and did not arrive in time."""
        self.subscription.expired(self.subgroup)
        self._peer.session.reset(self.stream_id, StreamError.DELIVERY_TIMEOUT)

    def next_came(self) -> float | None:
        """When the object came that the next byte belongs to; None: there is none yet."""
        if not self.waiting or self.offset >= self.body.length:
            return None
        index, times = self.object_index(), self.subgroup.times
        return times[index] if index < len(self.body.objects) else None

    def object_index(self) -> int:
        """Index of the object that the next byte belongs to."""
        return bisect_right(self.body.objects, self.offset, key=_object_end)

    @property
    def remaining(self) -> int:
        return self.body.length - self.offset


class Beginning(Protocol):
    """What somebody else has sent of a stream."""

    def over(self) -> None:
        """It was reset or stopped: nobody sends on it any more."""

    def is_under_way(self) -> bool:
        """As for a cursor, with what was sent by either."""

    def expire(self) -> None:
        """As for a cursor."""


class Continuation(Cursor):
    """Goes on with a stream that somebody else began and sent up to ``offset``; that may lie
    ahead of what has come here. ``highest``: of what was sent on the stream, in its own offsets."""

    __slots__ = ("_beginning", "highest")

    def resume(self, stream_id: int, highest: int, beginning: Beginning) -> None:
        """From now on this cursor sends on the stream, from ``highest`` on."""
        self._beginning = beginning
        self.highest = highest
        send = self._send

        def counted(stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
            self.highest += len(data)
            send(stream_id, data, fin)

        self._send = counted
        subscription, subgroup = self.subscription, self.subgroup
        self.stream_id = stream_id
        subscription.cursors[self] = None
        subscription.peer.outflows[stream_id] = self
        subgroup.attach(self)
        if self.remaining or subgroup.state is not State.OPEN:
            self.wait(self.remaining)

    def push(self, data: bytes, start: int, fin: bool) -> None:
        if start < self.offset:
            data = data[self.offset - start :]
            start = self.offset
            if not data and not fin:
                return
        super().push(data, start, fin)

    def is_under_way(self) -> bool:
        return self._beginning.is_under_way()

    def expire(self) -> None:
        self._beginning.expire()

    def abandon(self, code: int) -> None:
        self._beginning.over()
        super().abandon(code)

    def stopped(self) -> None:
        self._beginning.over()
        super().stopped()

    @property
    def remaining(self) -> int:
        return max(0, self.body.length - self.offset)
