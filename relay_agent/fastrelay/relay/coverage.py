"""What a relay can tell about a range of a track without asking anybody."""

from __future__ import annotations

from typing import NamedTuple

from fastrelay.moqt.names import Location
from fastrelay.relay.store import UNKNOWN, TrackStore
from fastrelay.relay.window import OPEN_END


class Span(NamedTuple):
    """Places from ``start`` to ``end``, both inclusive; ``end.object`` OPEN_END: all of it."""

    start: Location
    end: Location

    def contains(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end


def unknown(store: TrackStore, span: Span) -> list[Span]:
    """The parts of ``span`` of which the relay does not know what is there, in order."""
    start, end = span
    live_from = store.live_from
    # From this group on, groups that are not in the store do not exist.
    complete_from = OPEN_END if live_from is None else max(live_from.group, store.floor)
    known_from = {
        group.id: UNKNOWN if group.damaged else group.known_from
        for group in store.ordered(start.group, end.group)
    }
    if live_from is not None and live_from.group >= store.floor:
        known_from.setdefault(live_from.group, live_from.object)
    gaps: list[Span] = []
    position = start
    for group_id in sorted(known_from):
        if not start.group <= group_id <= end.group:
            continue
        last_before = min(group_id, complete_from) - 1
        if position.group <= last_before:
            gaps.append(Span(position, Location(last_before, OPEN_END)))
        first = start.object if group_id == start.group else 0
        last = end.object if group_id == end.group else OPEN_END
        last = min(last, known_from[group_id] - 1)
        if first <= last:
            gaps.append(Span(Location(group_id, first), Location(group_id, last)))
        position = Location(group_id + 1, 0)
    if position <= end and position.group < complete_from:
        if end.group < complete_from:
            gaps.append(Span(position, end))
        else:
            gaps.append(Span(position, Location(complete_from - 1, OPEN_END)))
    return gaps


def hull(gaps: list[Span]) -> Span:
    """One span that has all of them in it."""
    return Span(gaps[0].start, gaps[-1].end)
