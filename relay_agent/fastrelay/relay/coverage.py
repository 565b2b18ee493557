"""What a relay can tell about a range of a track without asking anybody."""

from __future__ import annotations

from typing import NamedTuple

from fastrelay.moqt.names import Location
from fastrelay.relay.store import Group, TrackStore
from fastrelay.relay.window import OPEN_END


class Span(NamedTuple):
    """Places from ``start`` to ``end``, both inclusive; ``end.object`` OPEN_END: all of it."""

    start: Location
    end: Location

    def contains(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end


def unknown(store: TrackStore, span: Span) -> list[Span]:
    """The parts of ``span`` of which the relay does not know what is there, in order."""
    if store.live_from is None:
        known_groups_from = OPEN_END
    else:
        known_groups_from = max(store.live_from.group, store.floor)
    gaps: list[Span] = []
    position = span.start
    for group in store.ordered(span.start.group, span.end.group):
        if group.id > position.group and position.group < known_groups_from:
            last = min(group.id, known_groups_from) - 1
            gaps.append(Span(position, Location(last, OPEN_END)))
        _add_group_gap(gaps, group, span)
        position = Location(group.id + 1, 0)
    if position <= span.end and position.group < known_groups_from:
        last = min(span.end.group, known_groups_from - 1)
        end = span.end if last == span.end.group else Location(last, OPEN_END)
        gaps.append(Span(position, end))
    live_from = store.live_from
    if (
        live_from is not None
        and live_from.object
        and live_from.group not in store.groups
        and live_from.group >= store.floor
        and position.group <= live_from.group
    ):
        begin = max(position, Location(live_from.group, 0))
        end = min(Location(live_from.group, live_from.object - 1), span.end)
        if begin <= end:
            gaps.append(Span(begin, end))
    return gaps


def _add_group_gap(gaps: list[Span], group: Group, span: Span) -> None:
    first = span.start.object if group.id == span.start.group else 0
    last = span.end.object if group.id == span.end.group else OPEN_END
    end = last if group.damaged else min(last, group.known_from - 1)
    if first <= end:
        gaps.append(Span(Location(group.id, first), Location(group.id, end)))


def hull(gaps: list[Span]) -> Span:
    """One span that has all of them in it."""
    return Span(gaps[0].start, gaps[-1].end)
