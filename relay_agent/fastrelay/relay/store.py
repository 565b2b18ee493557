"""What a relay remembers of its tracks: groups, and in them subgroups and datagrams."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.datagrams import rewrite_datagram
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived
from fastrelay.moqt.names import Location
from fastrelay.relay.backlog import Backlog, Holder
from fastrelay.relay.ports import Counters
from fastrelay.relay.subgroup import State, Subgroup
from fastrelay.relay.window import OPEN_END

if TYPE_CHECKING:
    from fastrelay.fastpath.ports import Departures
    from fastrelay.relay.fill import Fill


GROUP_OVERHEAD = 3000
"""Bytes that Python needs to remember a group with one subgroup."""


class StoredDatagram:
    """An object that came as a datagram, and its bytes as each kind of session gets them.
    ``departures``: the kernel's part, if it forwards it."""

    __slots__ = ("_raws", "departures", "draft", "event", "time")

    def __init__(self, event: DatagramReceived, draft: Draft, time: float) -> None:
        self.event = event
        self.draft = draft
        self.time = time
        self.departures: Departures | None = None
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
        "end",
        "evicted",
        "filling",
        "id",
        "known_from",
        "objects",
        "readers",
        "runs",
        "size",
        "store",
        "subgroups",
        "unfinished",
        "updated",
    )

    def __init__(self, store: TrackStore, group_id: int, known_from: int, now: float) -> None:
        self.store = store
        self.id = group_id
        self.known_from = known_from
        self.subgroups: list[Subgroup] = []
        self.runs: dict[int, list[Subgroup]] = {}
        """Of each subgroup, oldest first; a publisher may send any number of subgroups."""
        self.unfinished = 0
        """Runs whose stream has not ended yet."""
        self.datagrams: dict[int, StoredDatagram] = {}
        self.objects = 0
        self.size = 0
        self.updated = now
        self.end = OPEN_END
        """Id of the last object, or of the status object behind it, once that is known."""
        self.damaged = False
        """A stream was reset or lost: there may be objects that never came."""
        self.filling: Fill | None = None
        """The fetch from upstream that brings what came before ``known_from``."""
        self.evicted = False
        self.readers: dict[Holder, None] = {}
        """Fetches that will send it."""

    def read_by(self, reader: Holder) -> None:
        """Somebody will need it, also when it has left the cache."""
        self.readers[reader] = None
        if self.evicted:
            self.outlive()

    def left_by(self, reader: Holder) -> None:
        del self.readers[reader]
        if not self.readers:
            self.store.cache.backlog.release(self)

    def outlive(self) -> None:
        """It has left the cache."""
        if self.readers:
            self.store.cache.backlog.release(self)
            self.store.cache.backlog.hold(self, self.size + GROUP_OVERHEAD)

    def overloaded(self) -> None:
        """Nobody may read it any more."""
        for reader in list(self.readers):
            reader.overloaded()

    @property
    def largest(self) -> int:
        """The greatest object id that came, -1 before the first."""
        largest = max(self.datagrams) if self.datagrams else -1
        for subgroup in self.subgroups:
            last = subgroup.last_object
            if last > largest:
                largest = last
        return largest

    @property
    def open(self) -> bool:
        """A stream of this group has not ended yet."""
        return self.unfinished > 0

    def grown(self, size: int, now: float | None) -> None:
        """Account for ``size`` more bytes; ``now``: they came from a publisher."""
        self.size += size
        if now is not None:
            self.updated = now
        if not self.evicted:
            self.store.cache.total += size
            if self.store.cache.total > self.store.cache.limit:
                self.store.cache.shrink(self)
        elif self.readers:
            self.store.cache.backlog.hold(self, size)

    def last_whole(self, subgroup_id: int) -> int:
        """The greatest id of the subgroup's complete objects, -1 if there are none."""
        return max((run.last_whole for run in self.runs.get(subgroup_id, ())), default=-1)

    def newest(self, subgroup_id: int) -> Subgroup | None:
        """The latest run of this subgroup."""
        runs = self.runs.get(subgroup_id)
        return runs[-1] if runs else None

    def add(self, run: Subgroup) -> None:
        """A new run; of a group that left the cache only those are kept that still grow."""
        if self.evicted:
            self.subgroups = [known for known in self.subgroups if known.state is State.OPEN]
            self.runs = {}
            for known in self.subgroups:
                self.index(known)
        self.subgroups.append(run)
        self.unfinished += 1
        self.index(run)

    def index(self, run: Subgroup) -> None:
        """Its subgroup is known."""
        if run.subgroup_id is not None:
            self.runs.setdefault(run.subgroup_id, []).append(run)


class TrackStore:
    """The groups of one track that are still remembered."""

    __slots__ = (
        "_ids",
        "cache",
        "current",
        "floor",
        "groups",
        "live_from",
        "open_ended",
        "published",
        "seconds",
    )

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.groups: dict[int, Group] = {}
        self._ids: list[int] = []
        """Of ``groups``, ascending."""
        self.current: Group | None = None
        """The newest group seen, also when it is too large to be remembered."""
        self.open_ended: list[Subgroup] = []
        """Runs made from a fetch, which end when their group does."""
        self.floor = 0
        """Groups below were forgotten."""
        self.live_from: Location | None = None
        """From here on everything that the publisher sends arrives; None: nobody publishes."""
        self.published = False
        """Somebody may still add to the newest group: it is kept."""
        self.seconds = cache.seconds
        cache.stores.add(self)

    @property
    def newest(self) -> int:
        """Id of the newest group seen, -1 before the first."""
        return -1 if self.current is None else self.current.id

    def group(self, group_id: int, now: float) -> Group:
        """The group, made if this is its first sign."""
        group = self.groups.get(group_id)
        if group is None:
            group = Group(self, group_id, self._known_from(group_id), now)
            self.groups[group_id] = group
            insort(self._ids, group_id)
            self.cache.recent[group] = None
            if group_id > self.newest:
                self.current = group
        return group

    def _known_from(self, group_id: int) -> int:
        live_from = self.live_from
        if live_from is None or group_id < live_from.group or group_id < self.floor:
            return UNKNOWN
        return live_from.object if group_id == live_from.group else 0

    def ordered(self, start: int = 0, end: int | None = None) -> list[Group]:
        """Groups by id, from ``start`` to ``end`` inclusive."""
        first = bisect_left(self._ids, start)
        last = len(self._ids) if end is None else bisect_right(self._ids, end)
        return [self.groups[i] for i in self._ids[first:last]]

    def forget(self, group: Group) -> None:
        """Drop a group and everything older. Cursors that still read it keep its bytes alive."""
        count = bisect_right(self._ids, group.id)
        for group_id in self._ids[:count]:
            other = self.groups.pop(group_id)
            other.evicted = True
            self.cache.total -= other.size
            self.cache.recent.pop(other, None)
            other.outlive()
        del self._ids[:count]
        self.floor = max(self.floor, group.id + 1)

    def forget_before(self, now: float) -> None:
        """Drop what has outlived its time."""
        for group_id in list(self._ids):
            group = self.groups[group_id]
            kept = self.published and group is self.current
            if kept or group.updated + self.seconds > now:
                break
            self.forget(group)

    def end_open_ended(self, before: int | None = None) -> None:
        """Groups before this one (None: all) are over: so are the runs made from fetches."""
        runs, self.open_ended = self.open_ended, []
        for run in runs:
            if before is None or run.group.id < before:
                if not run.inflows:
                    run.lapse()
            else:
                self.open_ended.append(run)

    def clear(self) -> None:
        """The publisher began anew: nothing of the earlier run counts."""
        for group in list(self.groups.values()):
            for subgroup in group.subgroups:
                subgroup.reset(StreamError.CANCELLED)
        if self._ids:
            self.forget(self.groups[self._ids[-1]])
        self.current = None
        self.open_ended = []
        self.floor = 0

    def close(self) -> None:
        self.clear()
        self.cache.stores.discard(self)


UNKNOWN = 1 << 64
"""A group's ``known_from`` when nothing is known of it."""


class Cache:
    """All remembered groups of the relay, least recently used first."""

    def __init__(self, seconds: float, limit: int, counters: Counters, backlog: Backlog) -> None:
        self.backlog = backlog
        self.counters = counters
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
        """Come below the limit; the group being written and the newest of live tracks go last.

        A sixteenth more than necessary goes, so that this is not done for every chunk.
        """
        enough = self.limit - self.limit // 16
        for spare in (True, False):
            excess = self.total - enough
            doomed = []
            for group in self.recent:
                if excess <= 0:
                    break
                store = group.store
                if group is writing or (spare and store.published and group is store.current):
                    continue
                doomed.append(group)
                excess -= group.size
            for group in doomed:
                if not group.evicted:
                    group.store.forget(group)
            if self.total <= enough:
                return
        if self.total > self.limit:
            writing.store.forget(writing)

    def expire(self, now: float) -> None:
        """Forget groups that are too old."""
        for store in self.stores:
            store.forget_before(now)
