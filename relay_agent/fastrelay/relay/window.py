"""Which places of a track a subscription gets, once its filter is resolved."""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import Location

OPEN_END = (1 << 64) - 1
"""An end that no group or object id lies behind."""


@dataclass(frozen=True, slots=True)
class Window:
    """Inclusive on both sides. ``end_object`` counts in ``end_group`` only."""

    start: Location
    end_group: int = OPEN_END
    end_object: int = OPEN_END

    def first_object(self, group_id: int) -> int | None:
        """The least object id of the group that passes; None if no object of it does."""
        if group_id == self.start.group:
            return self.start.object if group_id <= self.end_group else None
        return 0 if self.start.group < group_id <= self.end_group else None

    def last_object(self, group_id: int) -> int:
        """The greatest object id that passes, in a group of which some do."""
        return self.end_object if group_id == self.end_group else OPEN_END

    def passes(self, location: Location) -> bool:
        return location >= self.start and (location.group, location.object) <= (
            self.end_group,
            self.end_object,
        )


def after(largest: Location | None) -> Location:
    """The next object's place at the earliest."""
    return Location(0, 0) if largest is None else Location(largest.group, largest.object + 1)


def resolve(wanted: LocationFilter | None, largest: Location | None) -> Window:
    """The range that a filter means when ``largest`` is the track's largest object."""
    if wanted is None or wanted.kind is FilterKind.UNFILTERED:
        return Window(Location(0, 0))
    if wanted.kind is FilterKind.NEXT_OBJECT:
        return Window(after(largest))
    if wanted.kind is FilterKind.NEXT_GROUP:
        return Window(Location(0 if largest is None else largest.group + 1, 0))
    if wanted.kind is FilterKind.RELATIVE:
        newest = 0 if largest is None else largest.group
        return Window(Location(max(0, newest - wanted.groups_back), 0))
    return Window(
        wanted.start,
        OPEN_END if wanted.end_group is None else wanted.end_group,
        OPEN_END if wanted.end_object is None else wanted.end_object,
    )


def fitting(location: Location | None, draft: Draft) -> Location | None:
    """The location as a draft can write it: ids too large for it are its largest."""
    if location is None or location.group <= (most := draft.varints.maximum) >= location.object:
        return location
    return Location(min(location.group, most), min(location.object, most))


def is_empty(window: Window) -> bool:
    return window.start > (window.end_group, window.end_object)
