"""Filters and fetch ranges, resolved against what a track has already published."""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.moqt.messages import Fetch, FetchKind, FilterKind, LocationFilter
from fastrelay.moqt.names import Location

END = Location((1 << 62) - 1, (1 << 62) - 1)
"""After every object."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of locations, both ends included."""

    start: Location
    end: Location = END

    def holds(self, location: Location) -> bool:
        return self.start <= location <= self.end

    def is_over(self, largest: Location | None) -> bool:
        """Whether no object after ``largest`` can be in the range."""
        return largest is not None and self.end <= largest and self.end != END


def after(location: Location) -> Location:
    """The next object's place at the earliest."""
    return Location(location.group, location.object + 1)


def subscription_window(wanted: LocationFilter | None, largest: Location | None) -> Window:
    """What a subscription with this filter gets (draft-18 section 5.1.2)."""
    live = Location(0, 0) if largest is None else after(largest)
    if wanted is None or wanted.kind in (FilterKind.UNFILTERED, FilterKind.NEXT_OBJECT):
        return Window(live)
    if wanted.kind is FilterKind.ABSOLUTE:
        return Window(wanted.start, _end(wanted.end_group, wanted.end_object))
    if largest is None:
        return Window(Location(0, 0))
    if wanted.kind is FilterKind.NEXT_GROUP:
        return Window(Location(largest.group + 1, 0))
    return Window(Location(max(0, largest.group - wanted.groups_back), 0))


def fetch_window(request: Fetch, largest: Location, joining: Location | None) -> Window | None:
    """What a FETCH asks for; None if nothing of it can exist yet.

    ``joining``: the largest object when the joined subscription began.
    """
    if request.kind is FetchKind.STANDALONE:
        if request.parameters.filter is not None:
            window = fill_window(request.parameters.filter, largest)
        else:
            window = Window(request.start, _end(request.end_group, request.end_object))
    elif joining is None:
        return None
    elif request.kind is FetchKind.RELATIVE_JOINING:
        window = Window(Location(max(0, joining.group - request.joining_start), 0), joining)
    else:
        window = Window(Location(request.joining_start, 0), joining)
    return window if window.start <= min(window.end, largest) else None


def fill_window(wanted: LocationFilter | None, largest: Location) -> Window:
    """A filter over the past: never beyond what is published now."""
    if wanted is None:
        return Window(Location(0, 0), largest)
    window = subscription_window(wanted, largest)
    return Window(window.start, min(window.end, largest))


def _end(group: int | None, obj: int | None) -> Location:
    if group is None:
        return END
    return Location(group, END.object if obj is None else obj)
