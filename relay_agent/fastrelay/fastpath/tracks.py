"""Channels, tracks, members, and the versions of tracks' member arrays.

Nothing is used again while the kernel may still read it. What was taken out of the maps waits
here: until every slot is settled that was taken before (``shared.slot_next`` then is its mark),
and until no stream under way and no version names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any, cast

import numpy as np

from fastrelay.fastpath import layout, ports
from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.connections import Link
from fastrelay.fastpath.layout import Switch
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.ports import MemberTerms, Template
from fastrelay.fastpath.tables import REST

_priority = attrgetter("terms.priority")


class Member:
    """Implements :class:`fastpath.ports.FastMember`."""

    __slots__ = ("_counts", "_track", "index", "link", "owner", "terms", "versions")

    def __init__(
        self, track: FastTrack, index: int, link: Link, terms: MemberTerms, owner: Any
    ) -> None:
        self._track = track
        self.index = index
        self.link = link
        self.terms = terms
        self.owner = owner
        self.versions = 0
        """Versions of the array that have it."""
        self._counts: tuple[int, int] | None = None
        """Set when it is no more."""

    @property
    def streams(self) -> int:
        return self._counted()[0]

    @property
    def packets(self) -> int:
        return self._counted()[1]

    def wants(self, ordinal: int) -> bool:
        return self.terms.first_ordinal <= ordinal <= self.terms.last_ordinal

    @property
    def gone(self) -> bool:
        return self._counts is not None

    def _counted(self) -> tuple[int, int]:
        return self._counts or self._track.registry.counted(self.index)

    def leave(self) -> None:
        if not self.gone:
            self._counts = self._track.drop(self)
            self._track.registry.release(self)


class Version:
    """A track's members at one time; ``members`` by position, never changed.

    ``uses``: loans and unsettled slots that name it.
    """

    __slots__ = ("_places", "index", "members", "track", "uses")

    def __init__(self, track: FastTrack, index: int, members: tuple[Member, ...]) -> None:
        self.track = track
        self.index = index
        self.members = members
        self.uses = 0
        self._places: dict[Link, list[int]] | None = None

    def places(self, link: Link) -> list[int]:
        """Positions of a connection's members."""
        if self._places is None:
            self._places = {}
            for position, member in enumerate(self.members):
                self._places.setdefault(member.link, []).append(position)
        return self._places.get(link, [])

    def place(self, link: Link, owner: Any) -> int | None:
        """The position of what the owner has on a connection."""
        places = self.places(link)
        return next((p for p in places if self.members[p].owner is owner), None)


class FastTrack:
    """Implements :class:`fastpath.ports.FastTrack`."""

    def __init__(self, registry: Tracks, index: int, link: Link, channel: int) -> None:
        self.registry = registry
        self.index = index
        self.link = link
        self.channel = channel
        self.members: list[Member] = []
        self.version: Version | None = None
        self.furthest = -1
        self.closed = False

    def add(self, link: ports.Link, terms: MemberTerms, owner: Any) -> Member | None:
        link = cast(Link, link)
        if self.closed or link.closed or link.reason:
            return None
        if len(self.members) >= layout.ARRAY_MEMBERS:
            return None
        member = self.registry.new_member(self, link, terms, owner)
        if member is not None:
            self.members.append(member)
            self.registry.dirty[self] = None
        return member

    def drop(self, member: Member) -> tuple[int, int]:
        """Returns what it has got in the end: streams and packets."""
        self.members.remove(member)
        if not self.closed:
            self.registry.dirty[self] = None
        self.registry.switch_off(member)
        return self.registry.counted(member.index)

    def publish(self) -> None:
        self.registry.publish(self)

    def began(self, ordinal: int) -> None:
        """An intent has something of it."""
        self.furthest = max(self.furthest, ordinal)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.registry.close_track(self)


class Tracks:
    """The registry of all of this."""

    def __init__(self, maps: Maps, settled: Callable[[], int]) -> None:
        self.dirty: dict[FastTrack, None] = {}
        """Tracks whose members have changed since they were published."""
        self.open: dict[int, FastTrack] = {}
        """By index."""
        self.versions: list[Version | None] = [None] * layout.ARRAYS
        self._maps = maps
        self._settled = settled
        self._free_tracks = list(range(layout.TRACKS - 1, -1, -1))
        self._free_members = list(range(layout.MEMBERS - 1, -1, -1))
        # Array 0 is left out: what was never written names it.
        self._free_arrays = list(range(layout.ARRAYS - 1, 0, -1))
        self._old_versions: dict[Version, tuple[int, float]] = {}
        self._old_tracks: dict[int, tuple[int, float]] = {}
        self._slot_next = maps.shared.word("slot_next")
        members = maps.members
        self._counts = (members.word("streams"), members.word("packets"))

    @property
    def room(self) -> tuple[int, int, int]:
        """How many more tracks, members and versions there can be."""
        return len(self._free_tracks), len(self._free_members), len(self._free_arrays)

    def counted(self, index: int) -> tuple[int, int]:
        """Streams and packets of a member."""
        base = index * self._maps.members.stride
        streams, packets = self._counts
        words = self._maps.members.words
        return words[base + streams], words[base + packets]

    def of_channel(self, link: Link, channel: int, priority: int) -> FastTrack | None:
        """Open a channel. None: no room, or it is open already."""
        if not self._free_tracks or not self._free_arrays:
            return None
        if self._maps.channels.find(channel, 1 + link.index) is not None:
            return None
        track = FastTrack(self, self._free_tracks.pop(), link, channel)
        row = self._maps.tracks.rows
        row[track.index] = np.zeros((), layout.TRACK.dtype)
        row[track.index]["priority"] = priority
        self.publish(track)
        row[track.index]["state"] = Switch.ON
        fence()
        if not self._maps.channels.put(channel, 1 + link.index, track.index):
            track.closed = True
            self._leave_track(track)
            return None
        self.open[track.index] = track
        return track

    def new_member(
        self, track: FastTrack, link: Link, terms: MemberTerms, owner: Any
    ) -> Member | None:
        templates = (("", terms.stream), ("datagram_", terms.datagram))
        for _, template in templates:
            _check(template)
        if not self._free_members:
            return None
        member = Member(track, self._free_members.pop(), link, terms, owner)
        link.users += 1
        link.members[member] = None
        rows = self._maps.members.rows
        rows[member.index] = np.zeros((), layout.MEMBER.dtype)
        row = rows[member.index]
        row["connection"], row["track"] = link.index, track.index
        row["first_ordinal"], row["last_ordinal"] = terms.first_ordinal, terms.last_ordinal
        row["priority"] = terms.priority
        for prefix, template in templates:
            _write(row, prefix, template)
        fence()
        row["state"] = Switch.ON
        return member

    def publish(self, track: FastTrack) -> None:
        """Without a free array the track stays dirty."""
        if track.closed:
            return
        if not self._free_arrays:
            self.sweep()
            if not self._free_arrays:
                return
        self.dirty.pop(track, None)
        members = tuple(sorted(track.members, key=_priority))
        version = Version(track, self._free_arrays.pop(), members)
        self.versions[version.index] = version
        row = self._maps.arrays.rows[version.index]
        row["count"], row["track"] = len(members), track.index
        row["members"][: len(members)] = [member.index for member in members]
        for member in members:
            member.versions += 1
        fence()
        tracks = self._maps.tracks
        tracks.words[track.index * tracks.stride + tracks.word("array")] = version.index
        fence()
        self._retire_version(track)
        track.version = version

    def publish_all(self) -> None:
        for track in list(self.dirty):
            self.publish(track)

    def _retire_version(self, track: FastTrack) -> None:
        if track.version is not None:
            self._old_versions[track.version] = self._mark()
            track.version = None

    def _mark(self) -> tuple[int, float]:
        """Below which slot all has to be settled, and when whoever reads it now is through."""
        return self._maps.shared.words[self._slot_next], time.monotonic() + REST

    def switch_off(self, member: Member) -> None:
        """Not one more packet for it."""
        members = self._maps.members
        members.words[member.index * members.stride + members.word("state")] = Switch.OFF
        del member.link.members[member]
        if not member.link.closed:
            member.link.pause()
            member.link.unpause()

    def close_track(self, track: FastTrack) -> None:
        self._maps.channels.remove(track.channel, 1 + track.link.index)
        del self.open[track.index]
        self._leave_track(track)
        for member in list(track.members):
            member.leave()

    def _leave_track(self, track: FastTrack) -> None:
        tracks = self._maps.tracks
        tracks.words[track.index * tracks.stride + tracks.word("state")] = Switch.OFF
        fence()
        self.dirty.pop(track, None)
        self._retire_version(track)
        self._old_tracks[track.index] = self._mark()

    def sweep(self) -> None:
        """Free what nobody names. All streams that have begun are known."""
        now = (self._settled(), time.monotonic())
        for version, mark in list(self._old_versions.items()):
            if _passed(mark, now) and not version.uses:
                del self._old_versions[version]
                self.versions[version.index] = None
                self._free_arrays.append(version.index)
                for member in version.members:
                    member.versions -= 1
                    self.release(member)
        for index, mark in list(self._old_tracks.items()):
            if _passed(mark, now):
                del self._old_tracks[index]
                self._free_tracks.append(index)

    def release(self, member: Member) -> None:
        """Free its index, if nothing names it."""
        if member.gone and not member.versions and member.index >= 0:
            self._free_members.append(member.index)
            member.index = -1
            member.link.users -= 1


def _passed(mark: tuple[int, float], now: tuple[int, float]) -> bool:
    return mark[0] <= now[0] and mark[1] <= now[1]


def _check(template: Template | None) -> None:
    if template and max(len(template.before), len(template.after)) > layout.TEMPLATE_SIZE:
        raise ValueError(f"a part of a template has more than {layout.TEMPLATE_SIZE} bytes")


def _write(row: Any, prefix: str, template: Template | None) -> None:
    if template is None:
        return
    row[f"{prefix}rewrite"] = 1
    for name, part in (("before", template.before), ("after", template.after)):
        row[f"{prefix}{name}"][: len(part)] = np.frombuffer(part, np.uint8)
        row[f"{prefix}{name}_length"] = len(part)
