"""The kernel's share in one track: which publisher's packets it forwards, and to whom.

A track that has exactly one publisher, on a connection that the kernel knows, is a channel of
that connection. Its subscriptions are members if nothing stands against it (:mod:`.seat`). Each
upstream stream that the kernel began is lent to it (:mod:`.lending`); everybody else gets a
cursor, as without a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastrelay.fastpath.ports import FastMember, FastTrack, Loan
from fastrelay.relay.lending import Lending
from fastrelay.relay.ports import Counters
from fastrelay.relay.roster import Roster
from fastrelay.relay.timers import Timers

if TYPE_CHECKING:
    from fastrelay.relay.feed import Feed
    from fastrelay.relay.seat import Seat
    from fastrelay.relay.store import Group, StoredDatagram
    from fastrelay.relay.subgroup import Subgroup
    from fastrelay.relay.subscription import Subscription
    from fastrelay.relay.tracks import Track


class FastLane:
    """``channel``: the kernel's, while it forwards; ``feed``: whose packets. ``reason``: why it
    does not; empty if it does."""

    __slots__ = (
        "_concluding",
        "_roster",
        "_track",
        "_version",
        "channel",
        "feed",
        "lendings",
        "members",
        "reason",
    )

    def __init__(self, track: Track) -> None:
        self._track = track
        self.channel: FastTrack | None = None
        self.feed: Feed | None = None
        self.reason = "nobody publishes it"
        self.lendings: dict[Lending, None] = {}
        """Streams of which the kernel may still have something to say."""
        self.members: dict[Seat, FastMember] = {}
        """Subscriptions that the kernel serves."""
        self._roster: tuple[int, Roster] | None = None
        """The one used last, and the version of the subscriptions it was made for."""
        self._version = 0
        self._concluding: dict[Subscription, None] = {}

    @property
    def counters(self) -> Counters:
        return self._track.core.counters

    @property
    def timers(self) -> Timers:
        return self._track.core.timers

    # Which publisher

    def review(self) -> None:
        """Its publishers, or what the kernel can do for them, may have changed."""
        feed, self.reason = self._sole_publisher()
        if feed is self.feed and (feed is None or self.channel is not None):
            return
        self._close()
        if feed is not None:
            self._open(feed)

    def _sole_publisher(self) -> tuple[Feed | None, str]:
        forwarder = self._track.core.forwarder
        if forwarder is None:
            return None, "the fast path is not configured"
        if forwarder.reason:
            return None, forwarder.reason
        published = self._track.sources.published
        if len(published) != 1:
            return None, "more than one publisher" if published else "nobody publishes it"
        (feed,) = published
        if feed.peer.fast is None:
            return None, "the publisher's connection is not shared with the kernel"
        if feed.peer.fast.link.reason:
            return None, f"the publisher's connection: {feed.peer.fast.link.reason}"
        return feed, ""

    def _open(self, feed: Feed) -> None:
        forwarder = self._track.core.forwarder
        assert forwarder is not None
        assert feed.peer.fast is not None
        priority = self._track.properties.default_priority
        self.channel = forwarder.open_track(feed.peer.fast.link, feed.alias, priority)
        if self.channel is None:
            self.reason = "the kernel has no room for another track"
            return
        self.feed = feed
        for subscription in self._track.subscriptions:
            self._track.core.reconsider(subscription.seat)

    def _close(self) -> None:
        channel, self.channel = self.channel, None
        self.feed = None
        if channel is None:
            return
        for lending in list(self.lendings):
            lending.dissolve()
        channel.close()
        for seat, member in list(self.members.items()):
            seat.closed(member, channel.furthest)
        self.changed()

    # Its subscribers

    def changed(self) -> None:
        """A subscription has come or gone, or a member has."""
        self._version += 1

    def roster(self, members: Sequence[FastMember]) -> Roster:
        """For an array of the kernel's."""
        if self._roster is not None:
            version, roster = self._roster
            if version == self._version and roster.members is members:
                return roster
        roster = Roster(members, self._track.subscriptions)
        self._roster = self._version, roster
        return roster

    # What comes

    def lend(self, loan: Loan, subgroup: Subgroup, feed: Feed, *, again: bool) -> None:
        """A subgroup has begun with a stream that the kernel forwards already.

        :param again: it was sent before, so it may be that not everybody wants it.
        """
        roster = self.roster(loan.members)
        group = subgroup.group.id
        lending = Lending(self, loan, roster, subgroup, feed)
        self.lendings[lending] = None
        subgroup.lending = lending
        for subscription in roster.others:
            subscription.attach_new(subgroup)
        for position in roster.skipped(group):
            loan.members[position].owner.attach_new(subgroup)
        lending.begin()
        forwarder = self._track.core.forwarder
        assert forwarder is not None
        forwarder.bind(loan, lending)
        lending.bound()
        if again or feed is not self.feed:
            lending.dissolve()

    def refuse(self, loan: Loan, feed: Feed) -> None:
        """A stream that brings nothing new, or comes too late: what the kernel sent of it ends."""
        Lending(self, loan, self.roster(loan.members), None, feed).discard()

    def datagram(self, group: Group, stored: StoredDatagram, feed: Feed) -> bool:
        """Let the kernel's part of a datagram be, and send it to the rest. False: the kernel has
        no part in it."""
        forwarder, fast = self._track.core.forwarder, feed.peer.fast
        if forwarder is None or fast is None or self.feed is not feed:
            return False
        place = fast.transport.datagram_place
        if place is None:
            return False
        exceptions = _Exceptions(group, stored)
        departures = forwarder.datagram(fast.link, *place, exceptions)
        if departures is None:
            return False
        stored.departures, members = departures, departures.members
        roster = self.roster(members)
        roster.begun(group.id)
        skipped = roster.skipped(group.id)
        self.counters.datagrams_out += len(members) - len(skipped)
        exceptions.resolve(members)
        for subscription in roster.others:
            subscription.datagram(group, stored)
        for position in skipped:
            members[position].owner.datagram(group, stored)
        return True

    # Ends

    def is_busy_with(self, subscription: Subscription) -> bool:
        """Whether the kernel may still send something of a stream for it; if so,
        :meth:`Subscription.conclude` is called when it is known."""
        busy = any(lending.has(subscription) for lending in self.lendings)
        if busy:
            self._concluding[subscription] = None
        return busy

    def forget(self) -> None:
        """The kernel is gone: nothing more is heard of it."""
        for lending in list(self.lendings):
            self.settled(lending)

    def settled(self, lending: Lending) -> None:
        """The kernel is through with the stream."""
        self.lendings.pop(lending, None)
        concluding, self._concluding = self._concluding, {}
        for subscription in concluding:
            subscription.conclude()


class _Exceptions:
    """Members that do not get a datagram by the kernel after all."""

    __slots__ = ("_early", "_group", "_members", "_stored")

    def __init__(self, group: Group, stored: StoredDatagram) -> None:
        self._group = group
        self._stored = stored
        self._early: list[int] = []
        self._members: Sequence[FastMember] | None = None

    def resolve(self, members: Sequence[FastMember]) -> None:
        """These are the members: what was missed up to now is sent."""
        self._members = members
        for position in self._early:
            self.missed(position)

    def missed(self, position: int) -> None:
        if self._members is None:
            self._early.append(position)
            return
        subscription: Subscription = self._members[position].owner
        subscription.counters.datagrams_out -= 1
        if not subscription.is_over:
            subscription.datagram(self._group, self._stored)
