"""An upstream stream that the kernel forwards: what user space has to do for it.

One object in the place of a cursor for each member. For what the kernel does, it does nothing:
bytes that come are counted and compared with what the kernel took upon itself, once for all
members. What the kernel did not do for one of them is sent on the stream that it began there
(``missed``, ``lost``); what it did for nobody, to all of them; and who cannot be served any
more gets a :class:`~fastrelay.relay.delivery.Continuation`, a cursor that goes on where the kernel
stopped.

Offsets: *upstream* ones count the upstream stream's bytes, its prefix and header included;
*member* ones a member's, whose prefix and header may be others; *body* ones begin behind the
header, and are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastrelay.fastpath.layout import Outcome
from fastrelay.fastpath.ports import Leg, Loan
from fastrelay.moqt.codes import StreamError
from fastrelay.relay import joining
from fastrelay.relay.delivery import Continuation
from fastrelay.relay.lateness import give_time
from fastrelay.relay.roster import Roster
from fastrelay.relay.subgroup import State, Subgroup

if TYPE_CHECKING:
    from fastrelay.relay.fastlane import FastLane
    from fastrelay.relay.feed import Feed
    from fastrelay.relay.subscription import Subscription

SLOW = frozenset((Outcome.NO_STREAM, Outcome.NO_STREAM_DATA, Outcome.NO_DATA, Outcome.NO_WINDOW))
"""The peer, or the path to it, takes no more for now."""
PASSING = frozenset((Outcome.NO_LEG, Outcome.NO_NUMBER, Outcome.TOO_LARGE, Outcome.BUSY))
"""User space goes on with this stream; the next one may be the kernel's again."""

Range = tuple[int, int, bool]
"""Upstream offsets, and whether the stream ends there."""


class Lending:
    """Implements :class:`fastrelay.fastpath.ports.Borrower`. ``subgroup`` None: nothing of the
    stream is new, so what the kernel sent of it is taken back."""

    __slots__ = (
        "_closed",
        "_continued",
        "_count",
        "_counted",
        "_counted_objects",
        "_deferred",
        "_head",
        "_header",
        "_lane",
        "_loan",
        "_ordinal",
        "_own",
        "_prefix",
        "_retired",
        "_roster",
        "_subgroup",
        "_taken",
    )

    def __init__(
        self, lane: FastLane, loan: Loan, roster: Roster, subgroup: Subgroup | None, feed: Feed
    ) -> None:
        assert feed.peer.fast is not None
        self._lane = lane
        self._loan = loan
        self._roster = roster
        self._subgroup = subgroup
        self._ordinal = loan.ordinal
        self._header = subgroup.header if subgroup is not None else None
        self._prefix = feed.peer.fast.transport.stream_prefix
        self._head = len(self._prefix) + (len(self._header.raw) if self._header else 0)
        """Where the body begins upstream."""
        self._taken: set[int] = set()
        """Members that the kernel does not serve any more."""
        self._closed: set[int] = set()
        """Of them, those who get nothing more of it."""
        self._continued: dict[int, Continuation] = {}
        """Of those whom the kernel does not serve any more: who goes on with what it has begun."""
        self._deferred: list[tuple[int, Range]] = []
        """To be sent as soon as user space has it, too."""
        self._own: bytes | None = None
        """The body as it came, once the subgroup's is not this one stream's any more."""
        self._retired = False
        self._count = len(roster.members) - len(roster.skipped(self._ordinal))
        """Members that the kernel serves."""
        self._counted = 0
        """Bytes of the body, and its objects, that were counted for them."""
        self._counted_objects = 0

    # The stream upstream

    def begin(self) -> None:
        """Told first, when the subgroup is there; what members miss may follow."""
        self._roster.begun(self._ordinal)
        self._lane.counters.streams_out += self._count

    def bound(self) -> None:
        """The forwarder knows this borrower now."""
        for position in self._roster.gone:
            if self._roster.serves(position, self._ordinal):
                self.take(position)

    def written(self, start: int, size: int, objects: int, fin: bool) -> None:
        """The body has grown by ``size`` bytes with so many objects."""
        if not self._retired:
            begin = self._head + start
            gaps = self._loan.uncovered(begin, begin + size, fin)
            if gaps:
                self._fill(gaps)
            counters = self._lane.counters
            counters.bytes_out += size * self._count
            counters.objects_out += objects * self._count
            self._counted += size
            self._counted_objects += objects
        if self._deferred:
            deferred, self._deferred = self._deferred, []
            for position, missing in deferred:
                if position not in self._closed:
                    self._send(position, *missing)
        if fin:
            self._retire()
            self._give_time()

    def _give_time(self) -> None:
        """The stream has ended: delivery timeouts count from now on."""
        timers = self._lane.timers
        for seconds, positions in self._roster.timed.items():
            served = [each for each in positions if self._roster.serves(each, self._ordinal)]
            give_time(timers, seconds, served, self._waits_for, self.expire)

    def _waits_for(self, position: int) -> bool:
        """Whether it is still under way to a member for which no cursor goes on with it."""
        begun = position not in self._taken or self._loan.leg(position) is not None
        return begun and position not in self._continued and self.is_under_way(position)

    def is_under_way(self, position: int) -> bool:
        """Whether the member may not have got all that was sent of it, or is to be sent."""
        peer = self._roster.members[position].owner.peer
        if position in self._closed or peer.session.is_closed:
            return False
        leg = self._loan.leg(position)
        if leg is not None and peer.transport.is_sending(leg.stream_id):
            return True
        return self._loan.is_under_way(position)

    def expire(self, position: int) -> None:
        """All of it is there, and has not reached the member in time."""
        assert self._subgroup is not None
        self._leave(position)
        self._close(position, StreamError.DELIVERY_TIMEOUT)
        self._roster.members[position].owner.expired(self._subgroup)

    def _fill(self, gaps: list[Range]) -> None:
        """User space has bytes that the kernel has not: it sends them to all, and goes on for
        all if the kernel has nothing behind them either."""
        reach = self._loan.reach
        if any(fin or stop > reach for _, stop, fin in gaps):
            self.dissolve(gaps)
            return
        for position in self._served():
            begun = self._loan.leg(position) is not None
            if begun and self._loan.reserve(position, gaps[-1][1]):
                for gap in gaps:
                    self._give(position, *gap)
            else:
                self.take(position, gaps)

    def dissolve(self, gaps: Sequence[Range] = ()) -> None:
        """User space goes on for all members, and sends the gaps to them, too."""
        if not self._retired:
            self._loan.dissolve()
            for position in self._served():
                self.take(position, gaps)
            self._retire()

    @property
    def needed(self) -> int:
        """How long the body has to be for all that is to be sent to one member alone; beyond
        every length for the stream's end."""
        return max((stop - self._head + fin for _, (_, stop, fin) in self._deferred), default=0)

    def part(self) -> None:
        """The subgroup's body will not be this stream's any more."""
        if self._own is None and self._subgroup is not None:
            body = self._subgroup.body
            self.dissolve()
            self._own = body.slice(0, body.length) if body.holds(0) else b""
            deferred, self._deferred = self._deferred, []
            for position, _ in deferred:
                self._give_up(position)

    def discard(self) -> None:
        """Nobody gets the stream; instead of anything else."""
        self._loan.dissolve()
        for position in self._served():
            self._leave(position)
            self._close(position, StreamError.CANCELLED)
        self._retire()

    def _retire(self) -> None:
        if not self._retired:
            self._retired = True
            self._loan.retire()

    def _served(self) -> list[int]:
        return [
            position
            for position in range(len(self._roster.members))
            if position not in self._taken and self._roster.serves(position, self._ordinal)
        ]

    # One member

    def has(self, subscription: Subscription) -> bool:
        """Whether the kernel serves this subscription with the stream."""
        return self._position(subscription) is not None

    def _position(self, subscription: Subscription) -> int | None:
        """Its place, if the kernel serves it."""
        position = self._roster.position(subscription)
        if position is None or position in self._taken:
            return None
        return position if self._roster.serves(position, self._ordinal) else None

    def withdraw(self, subscription: Subscription) -> None:
        """It has left the kernel: user space goes on."""
        position = self._position(subscription)
        if position is not None:
            self.take(position)

    def abandon(self, subscription: Subscription, code: int) -> None:
        """It wants nothing any more; a stream that is out already is left alone, and what is
        lost of it is sent again."""
        position = self._position(subscription)
        if position is None:
            return
        self._leave(position)
        holes = self._loan.take_leg(position)
        leg = self._loan.leg(position)
        waits = any(where == position for where, _ in self._deferred)
        if leg is None or not leg.finished or waits or holes:
            self._close(position, code)

    def lose(self, subscription: Subscription) -> None:
        """Its session is gone."""
        position = self._position(subscription)
        if position is not None:
            self._leave(position)
            self._closed.add(position)

    def _leave(self, position: int) -> None:
        if position not in self._taken:
            self._taken.add(position)
            self._count -= 1

    def take(self, position: int, gaps: Sequence[Range] = ()) -> None:
        """User space goes on with the stream for this member, and sends it the gaps, too."""
        if position in self._taken:
            return
        self._leave(position)
        subscription: Subscription = self._roster.members[position].owner
        subgroup = self._subgroup
        assert subgroup is not None
        if not subscription.is_served or subscription.has_declined(subgroup):
            self._close(position, StreamError.CANCELLED)
            return
        holes = self._loan.take_leg(position)
        leg = self._loan.leg(position)
        if leg is None:
            self._uncount()
            if self._loan.dropped(position):
                self._forgo(position, subscription)
            else:
                self._begin_anew(subscription)
            return
        if not leg.finished:
            self._continue(position, subscription, leg)
        highest = leg.highest - len(self._head_of(position)) + self._head
        holes += [(start, min(stop, highest)) for start, stop, _ in gaps]
        for start, stop in holes:
            if start < stop:
                self._give(position, start, stop, False)

    def _begin_anew(self, subscription: Subscription) -> None:
        """The kernel has sent nothing: an ordinary cursor reads all of it."""
        subgroup = self._subgroup
        assert subgroup is not None
        if subgroup.body.length and not subgroup.body.holds(0):
            self._drop(subscription)
        else:
            joining.join(subscription, subgroup)

    def _uncount(self) -> None:
        """One of the members does not get it from the kernel after all."""
        counters = self._lane.counters
        counters.streams_out -= 1
        counters.bytes_out -= self._counted
        counters.objects_out -= self._counted_objects

    def _forgo(self, position: int, subscription: Subscription) -> None:
        """The kernel has dropped it for this member: so nobody sends it."""
        assert self._subgroup is not None
        self._closed.add(position)
        if subscription.is_served and not subscription.has_declined(self._subgroup):
            subscription.forgo(self._subgroup)

    def _continue(self, position: int, subscription: Subscription, leg: Leg) -> None:
        subgroup = self._subgroup
        assert subgroup is not None
        session = subscription.peer.session
        head = self._head_of(position)
        self._adopt(position, leg, head, continued=True)
        highest = max(leg.highest, len(head))
        if leg.highest < highest:
            session.send(leg.stream_id, head[leg.highest :])
        offset = highest - len(head)
        body = subgroup.body
        if offset < body.length and not body.holds(offset):
            self._give_up(position)
            return
        begin = max(offset, self._counted)
        if begin < body.length:
            counters = self._lane.counters
            counters.bytes_out += body.length - begin
            counters.objects_out += sum(header.start >= begin for header in body.objects)
        header = subgroup.header_for(subscription.alias, subscription.peer.draft)
        cursor = Continuation(subscription, subgroup, body, header, offset, None)
        self._continued[position] = cursor
        cursor.resume(leg.stream_id, highest, _Begun(self, position))

    def _give_up(self, position: int) -> None:
        """The member cannot get all of the stream: it gets no more of it."""
        self._leave(position)
        self._close(position, StreamError.EXCESSIVE_LOAD)
        self._drop(self._roster.members[position].owner)

    def _drop(self, subscription: Subscription) -> None:
        assert self._subgroup is not None
        subscription.decline(self._subgroup)
        subscription.track.core.dropped("congestion", "stream")

    def end(self, position: int) -> None:
        """Nobody sends on the member's stream any more."""
        self._closed.add(position)

    def _close(self, position: int, code: int) -> None:
        self._closed.add(position)
        self._loan.close_leg(position)
        leg = self._loan.leg(position)
        if leg is not None:
            self._adopt(position, leg, b"", continued=True)
            self._roster.members[position].owner.peer.session.reset(leg.stream_id, code)

    # What a member has not got

    def missed(self, position: int, start: int, stop: int, fin: bool) -> None:
        if position in self._taken:
            return
        # The kernel may have begun the leg since this range was claimed.
        if self._loan.leg(position) is None or not self._loan.reserve(position, stop):
            self.take(position, [(start, stop, fin)])
        else:
            self._give(position, start, stop, fin)

    def refused(self, position: int, outcome: int) -> None:
        if position in self._taken:
            return
        subscription: Subscription = self._roster.members[position].owner
        if outcome == Outcome.DROPPED:
            self._leave(position)
            self._uncount()
            self._loan.close_leg(position)
            self._forgo(position, subscription)
        elif outcome in SLOW:
            self.take(position)
            subscription.seat.fell_behind()
        elif outcome in PASSING:
            self.take(position)
        # Otherwise it is this one packet: what follows tells what to send.

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        if position not in self._closed:
            self._send(position, start, stop, fin)

    def stopped(self, position: int, code: int) -> None:
        if position in self._closed:
            return
        subscription: Subscription = self._roster.members[position].owner
        assert self._subgroup is not None
        subscription.decline(self._subgroup)
        self._leave(position)
        self._close(position, StreamError.CANCELLED)

    def settled(self) -> None:
        self._lane.settled(self)

    def _give(self, position: int, start: int, stop: int, fin: bool) -> None:
        """Send a range that nobody has sent to the member yet."""
        subscription: Subscription = self._roster.members[position].owner
        assert self._header is not None
        subscription.charge(subscription.band(self._header.publisher_priority), stop - start)
        self._send(position, start, stop, fin)

    def _send(self, position: int, start: int, stop: int, fin: bool) -> None:
        """Send a range on the stream that the kernel began for the member."""
        subgroup = self._subgroup
        assert subgroup is not None
        whole = subgroup.state is State.FINISHED
        here = len(self._own) if self._own is not None else subgroup.body.length
        if stop - self._head > here or (fin and not whole):
            self._deferred.append((position, (start, stop, fin)))
            return
        leg = self._loan.leg(position)
        assert leg is not None
        if not self._holds(max(0, start - self._head), stop - self._head):
            self._give_up(position)
            return
        subscription: Subscription = self._roster.members[position].owner
        head = self._head_of(position)
        self._adopt(position, leg, head, continued=False)
        shift = len(head) - self._head
        assert subscription.peer.fast is not None
        subscription.peer.fast.transport.send_range(
            leg.stream_id, start + shift if start else 0, stop + shift, fin
        )

    def _adopt(self, position: int, leg: Leg, head: bytes, *, continued: bool) -> None:
        fast = self._roster.members[position].owner.peer.fast
        source = _MemberBytes(self, head)
        cursor = self._continued.get(position)
        highest = leg.highest if cursor is None else cursor.highest
        fast.transport.adopt_stream(leg.stream_id, source, highest, continued=continued)

    def _head_of(self, position: int) -> bytes:
        """What the member's stream begins with before the body."""
        assert self._header is not None
        raw = self._header.raw
        template = self._roster.members[position].terms.stream
        if template is None:
            return self._prefix + raw
        rest = raw[1 + self._header.alias_length :]
        return b"".join((template.before, raw[:1], template.after, rest))

    def sent_at(self, subscription: Subscription, stop: int, there: float) -> float | None:
        """When the packet left with what ends at ``stop`` in the body; None: it is not known any
        more, or it was not the kernel's. ``there``: the answer for who is no member."""
        fast = subscription.peer.fast
        if fast is None or not self.has(subscription):
            return there
        return self._loan.sent_at(fast.link, subscription, self._head + stop)

    # The body as it came

    def _holds(self, start: int, stop: int) -> bool:
        if self._own is not None or start >= stop:
            return self._own != b"" or start >= stop
        assert self._subgroup is not None
        return self._subgroup.body.holds(start)

    def read(self, start: int, stop: int) -> bytes | None:
        """These bytes of the body as it came; None: they are gone."""
        if self._own is not None:
            return self._own[start:stop] if stop <= len(self._own) else None
        assert self._subgroup is not None
        body = self._subgroup.body
        if not body.holds(start) or stop > body.length:
            return None
        return body.slice(start, stop)


class _Begun:
    """What the kernel has sent to a member (:class:`fastrelay.relay.delivery.Beginning`)."""

    __slots__ = ("_lending", "_position")

    def __init__(self, lending: Lending, position: int) -> None:
        self._lending = lending
        self._position = position

    def over(self) -> None:
        self._lending.end(self._position)

    def is_under_way(self) -> bool:
        return self._lending.is_under_way(self._position)

    def expire(self) -> None:
        self._lending.expire(self._position)


class _MemberBytes:
    """A member's stream as the engine reads it to send lost parts again
    (:class:`fastrelay.quic.lease.Source`)."""

    __slots__ = ("_head", "_lending")

    def __init__(self, lending: Lending, head: bytes) -> None:
        self._lending = lending
        self._head = head

    def read(self, start: int, stop: int) -> bytes | None:
        first = self._head[start:stop]
        start, stop = start + len(first) - len(self._head), stop - len(self._head)
        if start >= stop:
            return first
        rest = self._lending.read(start, stop)
        return None if rest is None else first + rest
