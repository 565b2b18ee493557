"""What of a subscription waits for a slow peer: its order, and when it is given up.

Streams whose delivery timeout is over are reset. Groups that are older than the cache's are given
up, if nothing was sent of them. When too much waits, whole groups go, the
oldest of the least important publisher priority first, those that have begun last; when even that
does not help, the subscription ends with TOO_FAR_BEHIND.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from fastrelay.fastpath.bands import Verdict, nanoseconds
from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.names import GroupOrder
from fastrelay.relay.delivery import Cursor
from fastrelay.relay.remembered import remember
from fastrelay.relay.store import StoredDatagram
from fastrelay.relay.subgroup import State

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription

LEAST_PATIENCE = 5.0
"""Seconds that a group may wait, however little the cache keeps."""
MAX_BEGUN = 64
"""Groups of datagrams remembered to have begun; the oldest are forgotten first."""

_order = count()

Item = Cursor | StoredDatagram
Entry = tuple[int, int, int, int, Item]
"""Publisher priority, group (negated if descending), subgroup id (datagrams -1), number."""


class Lane:
    """The outlet of one subscription (see :class:`~fastrelay.relay.peer.Outlet`).

    ``behind``: bytes that wait; ``served``: bytes sent after they had waited.
    """

    __slots__ = (
        "_begun",
        "_core",
        "_lent_until",
        "_subscription",
        "behind",
        "patience",
        "progress",
        "served",
        "shed_since",
        "waiting",
    )

    def __init__(self, subscription: Subscription, now: float) -> None:
        self._subscription = subscription
        self._core = subscription.track.core
        self.waiting: list[Entry] = []
        """A heap; cursors in it that do not wait any more are passed over."""
        self.behind = 0
        self.patience = self._core.options.limits.bytes_behind // 2
        """Bytes behind at which streams are given up."""
        self.served = 0
        self._begun: set[tuple[int, int | None]] = set()
        """Of these a datagram was sent: groups, and publisher priorities in them."""
        self._lent_until = -1
        """Groups up to this one the kernel may have begun."""
        self.progress = now
        """When something was sent last."""
        self.shed_since: float | None = None
        """When streams were given up first, after the last progress."""

    def clear(self) -> None:
        """Nothing is to be sent any more."""
        self.waiting = []
        self.behind = 0

    def progressed(self, size: int) -> None:
        """So many of the bytes that waited were sent."""
        self.behind -= size
        self.served += size
        self.progress = self._core.timers.now()

    def departed(self, group: int, priority: int | None) -> None:
        """A datagram was sent: what else comes of its group goes on with that."""
        remember(self._begun, (group, priority), MAX_BEGUN)

    def lent_until(self, group: int) -> None:
        """The kernel serves the subscription no longer, and may have begun all groups up to this
        one. Nothing waited when it began to, so nothing of these is whole here."""
        self._lent_until = max(self._lent_until, group)

    def restart(self) -> None:
        """Groups with lower ids are new ones."""
        self._begun = set()
        self._lent_until = -1

    def enqueue(self, item: Cursor | StoredDatagram) -> None:
        """Remember what has to wait, in the order in which it is to be sent."""
        priority, group = self.priority(item), _group_of(item)
        subgroup = item.subgroup.subgroup_id or 0 if isinstance(item, Cursor) else -1
        if self._is_newest_first:
            group = -group
        heapq.heappush(self.waiting, (priority, group, subgroup, next(_order), item))
        peer = self._subscription.peer
        peer.activate(self)
        self._core.unsettled(peer)
        self._core.watch.waits(peer)

    def priority(self, item: Item) -> int:
        """The publisher's."""
        source = item.subgroup.header if isinstance(item, Cursor) else item.event
        priority = source.publisher_priority
        return (
            self._subscription.track.properties.default_priority if priority is None else priority
        )

    @property
    def _is_newest_first(self) -> bool:
        order = self._subscription.track.group_order(self._subscription.parameters)
        return order is GroupOrder.DESCENDING

    def age(self, oldest: list[float]) -> None:
        """Raise these to the seconds, by band, that what waits here has waited; what had come
        before the subscription, since that."""
        subscription, now = self._subscription, self._core.timers.now()
        for entry in self.waiting:
            item = entry[4]
            came = item.time if isinstance(item, StoredDatagram) else item.next_came()
            if came is not None:
                band = subscription.band(entry[0])
                oldest[band] = max(oldest[band], now - max(came, subscription.requested))

    def sift(self) -> None:
        """What waits to begin goes now, if the level drops it: nobody is to wait for it."""
        subscription, kept = self._subscription, []
        bands = subscription.peer.bands
        now = nanoseconds(self._core.timers.now())
        for entry in self.waiting:
            item, group = entry[4], _group_of(entry[4])
            band = subscription.band(entry[0])
            if isinstance(item, Cursor):
                begun = item.stream_id >= 0 or not item.waiting
            else:
                begun = bands.recalled(band, group, now) is Verdict.ADMITTED
            if begun or not bands.is_beyond(band, group):
                kept.append(entry)
                continue
            bands.drop(band)
            if isinstance(item, Cursor):
                subscription.forget(item)
                subscription.forgo(item.subgroup)
            else:
                bands.judge(band, group, now, datagram=True)  # the rest of the group goes, too
                self.behind -= len(item.event.raw)
                self._core.dropped("priority", "datagram")
        self.waiting = kept
        heapq.heapify(self.waiting)

    def rank(self) -> tuple[int, int, int]:
        """Subscriber priority, publisher priority of the most urgent stream, bytes served."""
        return self._subscription.priority, self.waiting[0][0] if self.waiting else 0, self.served

    @property
    def band(self) -> int:
        return self._subscription.band(self.waiting[0][0]) if self.waiting else 0

    def give(self) -> bool:
        """Send the most urgent quantum."""
        queue = self.waiting
        while queue:
            entry = queue[0]
            item = entry[4]
            if isinstance(item, StoredDatagram):
                heapq.heappop(queue)
                self.progressed(len(item.event.raw))
                if self._is_late(item.time, datagram=True):
                    self._core.dropped("delivery-timeout", "datagram")
                    continue
                self._subscription.send_datagram(item)
                break
            if not item.waiting:
                heapq.heappop(queue)
                continue
            if self._expired(item):
                heapq.heappop(queue)
                self._give_up(item, StreamError.DELIVERY_TIMEOUT, "delivery-timeout")
                continue
            if not item.give() and queue and queue[0] is entry:
                heapq.heappop(queue)
            break
        if not queue:
            self._subscription.seat.caught_up()
            self._subscription.conclude()
        return bool(queue)

    def _is_late(self, since: float, *, datagram: bool = False) -> bool:
        limit = self._subscription.object_timeout
        if datagram and self._subscription.subgroup_timeout:
            limit = min(
                limit or self._subscription.subgroup_timeout, self._subscription.subgroup_timeout
            )
        return bool(limit) and self._core.timers.now() - since > limit

    def _expired(self, cursor: Cursor) -> bool:
        """Whether the object that would be sent next is too old to be begun or gone on with."""
        subgroup = cursor.subgroup
        if subgroup.state is State.FINISHED and self._subscription.subgroup_timeout:
            ended = subgroup.ended
            if self._core.timers.now() - ended > self._subscription.subgroup_timeout:
                return True
        if not self._subscription.object_timeout:
            return False
        came = cursor.next_came()
        return came is not None and self._is_late(came)

    def review(self) -> None:
        """Give up streams that are too late or too many, then the subscription itself."""
        if self.waiting and self._subscription.seat.member is not None:
            self._subscription.seat.fell_behind()
        if self._subscription.object_timeout or self._subscription.subgroup_timeout:
            for cursor in [c for c in self._subscription.cursors if c.waiting and self._expired(c)]:
                self._give_up(cursor, StreamError.DELIVERY_TIMEOUT, "delivery-timeout")
        limits = self._core.options.limits
        while self.behind > self.patience or len(self.waiting) > limits.streams_behind:
            victims = self._victims()
            if not victims:
                break
            if self.shed_since is None or self.progress > self.shed_since:
                self.shed_since = self._core.timers.now()
            self._shed(victims)
        stalled = (
            self.shed_since is not None
            and self.shed_since >= self.progress
            and self._core.timers.now() - self.progress > limits.stalled_seconds
        )
        if stalled or self.behind > limits.bytes_behind:
            self._subscription.terminate(
                PublishDoneStatus.TOO_FAR_BEHIND, "the subscriber is too slow"
            )

    def outdate(self) -> None:
        """Give up groups of which nothing was sent, and nothing has come for longer than the cache
        keeps them; where newer ones go first, those that have begun, too: nobody goes on with them.
        To be called once a second or so."""
        keeps = max(self._core.options.cache.seconds, LEAST_PATIENCE)
        before = self._core.timers.now() - keeps
        newest = self._subscription.track.store.newest
        spares_begun = not self._is_newest_first
        old: list[Entry] = []
        groups: set[tuple[int, int]] = set()
        for entry in self.waiting:
            item = entry[4]
            group = _group_of(item)
            if group == newest or (spares_begun and self._has_begun(item)):
                continue
            if isinstance(item, StoredDatagram):
                if item.time < before:
                    groups.add((group, entry[0]))
            elif item.waiting and item.subgroup.group.updated < before:
                old.append(entry)
        for group, priority in groups:
            self._subscription.declined.add_datagrams(group, priority)
        if groups:
            old += [
                entry
                for entry in self.waiting
                if isinstance(entry[4], StoredDatagram)
                and (_group_of(entry[4]), entry[0]) in groups
            ]
        if old:
            self._shed(old)

    def _shed(self, entries: list[Entry]) -> None:
        gone = {entry[3] for entry in entries}
        self.waiting = [entry for entry in self.waiting if entry[3] not in gone]
        heapq.heapify(self.waiting)
        for entry in entries:
            item = entry[4]
            if isinstance(item, Cursor):
                self._give_up(item, StreamError.EXCESSIVE_LOAD, "congestion")
            else:
                self.behind -= len(item.event.raw)
                self._core.dropped("congestion", "datagram")

    def _victims(self) -> list[Entry]:
        """Of the least important priority, the oldest group of which nothing was sent, else what is
        left of the oldest one; of datagrams of the only group, the first. Never the only thing
        left."""
        self.waiting = [
            entry
            for entry in self.waiting
            if isinstance(entry[4], StoredDatagram) or entry[4].waiting
        ]
        heapq.heapify(self.waiting)
        if len(self.waiting) < 2:
            return []
        worst = max(entry[0] for entry in self.waiting)
        least = [entry for entry in self.waiting if entry[0] == worst]
        begun = {_group_of(each[4]) for each in least if self._has_begun(each[4])}
        groups = {_group_of(each[4]) for each in least}
        oldest = min(groups - begun or groups)
        found = [entry for entry in least if _group_of(entry[4]) == oldest]
        if len(found) == len(self.waiting):
            found = [min(found, key=lambda entry: entry[3])]
        elif oldest not in begun and isinstance(found[0][4], StoredDatagram):
            self._subscription.declined.add_datagrams(oldest, worst)
        return found

    def _has_begun(self, item: Item) -> bool:
        if isinstance(item, StoredDatagram):
            group = item.event.location.group
            begun = (group, item.event.publisher_priority) in self._begun
            return begun or group <= self._lent_until
        return item.stream_id >= 0

    def _give_up(self, cursor: Cursor, code: StreamError, reason: str) -> None:
        self._subscription.decline(cursor.subgroup)
        self._core.dropped(reason, "stream")
        cursor.abandon(code)


def _group_of(item: Cursor | StoredDatagram) -> int:
    if isinstance(item, StoredDatagram):
        return item.event.location.group
    return item.subgroup.group.id
