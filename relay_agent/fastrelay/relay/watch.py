"""Looks at members for which something waits, and tells their limiters what it sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastrelay.fastpath.bands import nanoseconds
from fastrelay.fastpath.layout import BANDS
from fastrelay.relay.limits import Limiter, Look
from fastrelay.relay.peer import QUANTUM, Peer

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay
    from fastrelay.relay.subscription import Subscription

LOOK_SECONDS = 0.1
EACH_SECONDS = 0.0005
"""Members that are looked at have so much of the time between two looks, each: with very many of
them there is more of it."""
NOTICED_BYTES = 32 * 1024
"""What waits of one member, as seen once a second, for it to be looked at."""
QUEUED_SECONDS = 0.05
"""A transport for which something waits is given so much ahead: what comes later may be more
important."""
LEAST_QUEUED = 8 * 1024
UNKNOWN_QUEUED = 64 * 1024
"""Of whom nothing is known: that much waits before it is found out."""
CAREFUL_SECONDS = 30.0
"""A member whose path held something back is looked at for so long afterwards, whatever waits:
what a transport has been given is in the order in which it came."""


class Watch:
    """All members of one relay; those without measurements are left alone."""

    def __init__(self, core: Relay) -> None:
        self._core = core
        self._members: dict[Peer, None] = {}
        self._is_looking = False

    def waits(self, peer: Peer) -> None:
        """Something waits for the member. Cheap, if that is known."""
        if peer not in self._members and peer.measure is not None:
            self._members[peer] = None
            peer.limiter.begin()
            if not self._is_looking:
                self._is_looking = True
                self._core.timers.after(LOOK_SECONDS, self._look)

    @property
    def usual(self) -> int:
        """Bytes of backlog up to which a transport is given more that is not looked at."""
        return min(self._core.options.high_water_bytes, UNKNOWN_QUEUED)

    def forget(self, peer: Peer) -> None:
        self._members.pop(peer, None)

    def sweep(self, now: float) -> None:
        """About once a second."""
        for peer in self._core.peers:
            if peer.bands.limited:
                peer.bands.forget(nanoseconds(now))
        for track in self._core.tracks.values():
            track.brings.roll(now)
        for peer in self._core.peers:
            if peer.transport.backlog >= NOTICED_BYTES:
                self.waits(peer)
        for peer in list(self._members):
            for subscription in list(_subscriptions(peer)):
                if subscription.lane.waiting:
                    subscription.lane.outdate()

    def _look(self) -> None:
        now = self._core.timers.now()
        for peer in list(self._members):
            limiter = peer.limiter
            if peer.fetches or (peer.is_adapting and limiter.estimate is None):
                # What it has asked for itself, or has a better way to get less.
                most = self._core.options.high_water_bytes if peer.fetches else self.usual
                self._release(peer, most)
                continue
            assert peer.measure is not None
            waiting = self._waiting(peer)
            measured = peer.measure()
            oldest = _oldest(peer) if limiter.follows else ()
            limiter.look(Look(now, measured.delivered, waiting, _offered(peer), oldest))
            self._shorten(peer, limiter, measured.congestion_window)
            if waiting and peer.bands.level:
                for subscription in list(_subscriptions(peer)):
                    subscription.lane.sift()
            if limiter.is_idle and not waiting and now - limiter.held_back_at > CAREFUL_SECONDS:
                self._release(peer, self.usual)
        self._is_looking = bool(self._members)
        if self._is_looking:
            self._core.timers.after(
                max(LOOK_SECONDS, EACH_SECONDS * len(self._members)), self._look
            )

    def _release(self, peer: Peer, ahead: int) -> None:
        """It is not looked at any more, until something waits again."""
        peer.limiter.rest()
        peer.bands.set_window(0)
        self._members.pop(peer)
        self._give_ahead(peer, ahead)
        peer.quantum = QUANTUM

    def _waiting(self, peer: Peer) -> int:
        return peer.transport.backlog + sum(each.lane.behind for each in _subscriptions(peer))

    def _shorten(self, peer: Peer, limiter: Limiter, window: int) -> None:
        ahead = max(int(limiter.carried * QUEUED_SECONDS), LEAST_QUEUED)
        peer.bands.set_window(window if limiter.estimate is not None else 0)
        self._give_ahead(peer, min(ahead, self._core.options.high_water_bytes))
        peer.quantum = min(QUANTUM, ahead // 2)

    def _give_ahead(self, peer: Peer, ahead: int) -> None:
        if ahead != peer.high_water:
            peer.high_water = ahead
            peer.transport.low_water = ahead // 4
        peer.ahead = tuple(
            max(ahead - peer.bands.reserve(band), ahead // 2) for band in range(BANDS)
        )


def _subscriptions(peer: Peer) -> Iterator[Subscription]:
    yield from peer.subscriptions.values()
    for auto in peer.autos:
        yield from auto.legs


def _offered(peer: Peer) -> list[float]:
    """Bytes a second, by band."""
    found = [0.0] * BANDS
    for subscription in _subscriptions(peer):
        if subscription.is_served:
            for priority, rate in subscription.track.brings.rates.items():
                found[subscription.band(priority)] += rate
    return found


def _oldest(peer: Peer) -> list[float]:
    """Seconds that something of each band has waited."""
    found = [0.0] * BANDS
    for subscription in _subscriptions(peer):
        if subscription.lane.waiting:
            subscription.lane.age(found)
    return found
