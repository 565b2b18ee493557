"""One subscription's place in the kernel: how it comes and goes, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.fastpath.ports import FastMember, MemberTerms, Template
from fastrelay.relay.peer import Peer
from fastrelay.relay.timers import Timer
from fastrelay.relay.window import OPEN_END

if TYPE_CHECKING:
    from fastrelay.relay.feed import Feed
    from fastrelay.relay.lending import Lending
    from fastrelay.relay.subscription import Subscription

BEHIND = "it is behind"
FETCHING = "a FETCH of its session goes first"
REST_SECONDS = 0.05
"""How long nothing must have waited for a slow subscriber before the kernel serves it again."""


class Seat:
    """``member``: the kernel's, if it serves this subscription. ``reason``: why it does not."""

    __slots__ = (
        "_packets",
        "_slow",
        "_streams",
        "_subscription",
        "_timer",
        "falls",
        "member",
        "reason",
    )

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.member: FastMember | None = None
        self.reason = "it has not begun"
        self._slow = False
        self._timer: Timer | None = None
        self._streams = 0
        """Of earlier members; so are the packets."""
        self._packets = 0
        self.falls = 0
        """How often it fell behind."""

    @property
    def streams(self) -> int:
        """Streams that the kernel began for it."""
        return self._streams + (self.member.streams if self.member is not None else 0)

    @property
    def packets(self) -> int:
        """Packets that the kernel sent for it."""
        return self._packets + (self.member.packets if self.member is not None else 0)

    @property
    def peer(self) -> Peer:
        return self._subscription.peer

    # Coming

    def review(self) -> None:
        """What the kernel can do for its connection may have changed."""
        if self.member is None:
            self.consider()
            return
        fast = self.peer.fast
        if fast is None or fast.link.reason:
            self.withdraw()
            self.consider()

    def consider(self) -> None:
        """Let the kernel serve the subscription from its next stream on, if it can."""
        if self.member is not None:
            return
        lane = self._subscription.track.fast
        self.reason = self._objection()
        if self.reason:
            if self._slow and not self._subscription.lane.waiting:
                self.caught_up()
            return
        assert lane.feed is not None
        assert lane.channel is not None
        fast = self._subscription.peer.fast
        assert fast is not None
        terms = terms_of(self._subscription, lane.feed)
        most = self._subscription.track.core.options.kernel_members
        if len(lane.members) >= most:
            self.reason = f"the kernel serves {most} subscribers of a track at most"
            return
        self.member = lane.channel.add(fast.link, terms, self._subscription)
        if self.member is None:
            self.reason = "the kernel has no room for another subscription"
            return
        lane.members[self] = self.member
        lane.changed()

    def _objection(self) -> str:
        subscription = self._subscription
        peer = subscription.peer
        lane = subscription.track.fast
        if lane.feed is None:
            return lane.reason
        if not subscription.is_active:
            return "it has not begun, or ends"
        if not subscription.forward:
            return "forward is off"
        if peer.fast is None:
            return "the connection is not shared with the kernel"
        if peer.fast.link.reason:
            return peer.fast.link.reason
        if peer.going_away:
            return "the session is going away"
        if peer.draft.quic_varints != lane.feed.peer.draft.quic_varints:
            return "the publisher writes other integers"
        first, last = ordinals(subscription)
        if first > last:
            return "it wants no whole group"
        if self._slow or subscription.is_behind:
            self._slow = True
            return BEHIND
        if self._is_fetching():
            self._slow = True
            return FETCHING
        return ""

    def _is_fetching(self) -> bool:
        """Whether its session still reads what is older of this track. The kernel would overtake
        that with the next group, as user space does not, and there are players that give up."""
        return any(fetch.peer is self.peer for fetch in self._subscription.track.watchers)

    def caught_up(self) -> None:
        """Nothing waits for it now: if that stays so for a while, it is not slow any more."""
        if not self._slow or self._timer is not None:
            return
        lane = self._subscription.lane
        served = lane.served

        def rested() -> None:
            self._timer = None
            if self._subscription.is_over:
                return
            behind = self._subscription.is_behind
            idle = not (behind or self.peer.transport.backlog or self._is_fetching())
            self._slow = not idle or lane.served != served
            if not self._slow:
                self.consider()
            elif not lane.waiting:
                self.caught_up()

        self._timer = self._subscription.track.core.timers.after(REST_SECONDS, rested)

    # Going

    def fell_behind(self, reason: str = BEHIND) -> None:
        """User space serves it, with its limits, until it has caught up."""
        self.falls += 1
        self._slow = True
        self.reason = reason
        self.withdraw()
        if not self._subscription.lane.waiting:
            self.caught_up()

    def withdraw(self) -> None:
        """User space goes on with everything that is under way."""
        for lending in self._leave():
            lending.withdraw(self._subscription)

    def abandon(self, code: int) -> None:
        """Nothing of it goes on: streams under way are reset."""
        for lending in self._leave():
            lending.abandon(self._subscription, code)

    def lost(self) -> None:
        """Its session is gone."""
        for lending in self._leave():
            lending.lose(self._subscription)

    def _leave(self) -> list[Lending]:
        """Not one more packet of the kernel's; returns the streams it may have had a part in."""
        member, lane = self.member, self._subscription.track.fast
        if member is not None:
            assert lane.channel is not None
            member.leave()
            self.closed(member, lane.channel.furthest)
            lane.changed()
        return list(self._subscription.track.fast.lendings)

    def closed(self, member: FastMember, furthest: int) -> None:
        """The kernel does not serve it any more, and has come to this group at most."""
        self._subscription.lent_until(furthest)
        self._streams += member.streams
        self._packets += member.packets
        self.member = None
        del self._subscription.track.fast.members[self]


def terms_of(subscription: Subscription, feed: Feed) -> MemberTerms:
    """What the kernel has to do for it."""
    peer, source = subscription.peer.fast, feed.peer.fast
    assert peer is not None
    assert source is not None
    first, last = ordinals(subscription)
    alias = subscription.peer.draft.varints.encode(subscription.alias)
    same = subscription.alias == feed.alias

    def template(mine: bytes, theirs: bytes) -> Template | None:
        return None if same and mine == theirs else Template(mine, alias)

    return MemberTerms(
        template(peer.transport.stream_prefix, source.transport.stream_prefix),
        template(peer.transport.datagram_prefix, source.transport.datagram_prefix),
        first,
        last,
        subscription.priority,
    )


def ordinals(subscription: Subscription) -> tuple[int, int]:
    """The groups of which the subscription wants everything, from the relay's own beginning on:
    in the group that this fell into, and before, something may be filled in. Nor is it to get the
    rest of groups of datagrams that were given up."""
    window = subscription.window
    first = window.start.group + (window.start.object > 0)
    first = max(first, subscription.declined.last_of_datagrams + 1)
    live_from = subscription.track.store.live_from
    if live_from is not None:
        first = max(first, live_from.group + (live_from.object > 0))
    last = window.end_group
    if last != OPEN_END and window.end_object != OPEN_END:
        last -= 1
    return first, last
