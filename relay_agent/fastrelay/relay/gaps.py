"""What a fetch stream has to mark as unknown, in the order of the fetch (section 11.4.4).

A marker stands for everything between what was written before it and its own place. In
descending order groups come from the last to the first, the objects of each still ascending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastrelay.moqt.names import Location
from fastrelay.relay.coverage import Span
from fastrelay.relay.window import OPEN_END

LAST_OBJECT = (1 << 62) - 1
"""Stands for a group's end in range markers: it fits the integers of all drafts."""

Place = tuple[int, int]
"""A location that compares as the fetch goes: in descending order with the group negated."""
Run = tuple[Place, Place]
"""Places that follow each other in the order of the fetch, both ends inclusive."""


class Gaps:
    """Spans of which nobody could tell what is there."""

    __slots__ = ("_runs", "_spans", "descending")

    def __init__(self, *, descending: bool) -> None:
        self.descending = descending
        self._spans: list[Span] = []
        self._runs: list[Run] = []

    def add(self, spans: Iterable[Span]) -> None:
        """More of them."""
        self._spans += spans

    def clear(self) -> None:
        """There are none after all."""
        self._spans = []
        self._runs = []

    def ahead_of(self, before: Location | None, whole: Span) -> Iterator[Location]:
        """Where the markers end that belong before the object at ``before`` (None: before the
        end of the range, which is ``whole``). They are forgotten by that."""
        if self._spans:
            spans, self._spans = self._spans, []
            runs = (run for span in spans for run in _runs(span, whole, self.descending))
            self._runs = _merged([*self._runs, *runs])
        limit = None if before is None else self._place(before)
        while self._runs and (limit is None or self._runs[0][0] < limit):
            start, end = self._runs.pop(0)
            if limit is not None and end >= limit:
                if end > limit:
                    self._runs.insert(0, ((limit[0], limit[1] + 1), end))
                end = (limit[0], limit[1] - 1) if limit[1] else (limit[0] - 1, OPEN_END)
            if start <= end:
                yield Location(abs(end[0]), min(end[1], LAST_OBJECT))

    def _place(self, location: Location) -> Place:
        group, object_id = location
        return (-group if self.descending else group), object_id


def _runs(span: Span, whole: Span, descending: bool) -> Iterator[Run]:
    """What of a span lies in the fetch's range, as runs in its order."""
    start, end = max(span.start, whole.start), min(span.end, whole.end)
    if start > end:
        return
    if not descending or start.group == end.group:
        sign = -1 if descending else 1
        yield (sign * start.group, start.object), (sign * end.group, end.object)
        return
    newest, oldest = end.group, start.group
    if end.object != OPEN_END:
        yield (-newest, 0), (-newest, end.object)
        newest -= 1
    if start.object:
        yield (-oldest, start.object), (-oldest, OPEN_END)
        oldest += 1
    if newest >= oldest:
        yield (-newest, 0), (-oldest, OPEN_END)


def _merged(runs: list[Run]) -> list[Run]:
    """In order, those that overlap or touch as one."""
    found: list[Run] = []
    for start, end in sorted(runs):
        if found and start <= _next(found[-1][1]):
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _next(place: Place) -> Place:
    group, object_id = place
    return (group + 1, 0) if object_id == OPEN_END else (group, object_id + 1)


def between(last: Location | None, until: Location, whole: Span, descending: bool) -> list[Span]:
    """What a marker at ``until`` stands for, after an object or marker at ``last``; None: it is
    the first of its stream."""
    if last is not None and last.object < LAST_OBJECT:
        begin = Location(last.group, last.object + 1)
    elif last is not None:
        begin = Location(last.group + (-1 if descending else 1), 0)
    else:
        begin = Location(whole.end.group, 0) if descending else whole.start
    if until.object >= LAST_OBJECT:
        until = Location(until.group, OPEN_END)
    if not descending or begin.group == until.group:
        return [Span(begin, until)] if begin <= until else []
    if begin.group < until.group:
        return []
    spans = [
        Span(Location(until.group, 0), until),
        Span(Location(until.group + 1, 0), Location(begin.group - 1, OPEN_END)),
        Span(begin, Location(begin.group, OPEN_END)),
    ]
    return [span for span in spans if span.start <= span.end]


def not_passed(spans: Iterable[Span], here: int | None, descending: bool) -> Iterator[Span]:
    """What is left of ``spans`` from the group ``here`` on; None: nothing of them came."""
    for start, end in spans:
        if here is not None and descending:
            end = min(end, Location(here, OPEN_END))
        elif here is not None:
            start = max(start, Location(here, 0))
        if start <= end:
            yield Span(start, end)
