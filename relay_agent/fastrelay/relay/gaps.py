"""What a fetch stream has to mark as unknown, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastrelay.moqt.names import Location
from fastrelay.relay.coverage import Span
from fastrelay.relay.window import OPEN_END

LAST_OBJECT = (1 << 62) - 1
"""Stands for a group's end in range markers: it fits the integers of all drafts."""


class Gaps:
    """Spans of which nobody could tell what is there."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, spans: Iterable[Span]) -> None:
        """More of them, behind those that are known."""
        self._spans += spans

    def reach(self, before: Location | None) -> bool:
        """Descending order: whether a gap lies ahead of this place (None: of the end)."""
        return any(before is None or gap.end >= before for gap in self._spans)

    def ahead_of(self, before: Location | None, last: Location) -> Iterator[Location]:
        """Ascending order: where the markers end that belong before the object at ``before``
        (None: before the end of the range, which is ``last``). They are forgotten by that."""
        while self._spans:
            gap = self._spans[0]
            if before is not None and gap.start >= before:
                return
            self._spans.pop(0)
            end = min(gap.end, last)
            if before is not None and end >= before:
                self._spans.insert(0, Span(Location(before.group, before.object + 1), gap.end))
                if before.object == 0:
                    end = Location(before.group - 1, OPEN_END)
                else:
                    end = Location(before.group, before.object - 1)
            if gap.start <= end:
                yield Location(end.group, min(end.object, LAST_OBJECT))


def not_passed(spans: Iterable[Span], here: int | None, descending: bool) -> Iterator[Span]:
    """What is left of ``spans`` from the group ``here`` on; None: nothing of them came."""
    for start, end in spans:
        if here is not None and descending:
            end = min(end, Location(here, OPEN_END))
        elif here is not None:
            start = max(start, Location(here, 0))
        if start <= end:
            yield Span(start, end)
