"""Sets of ranges of a stream's bytes. What comes in order costs one comparison."""

from __future__ import annotations


class Ranges:
    """Disjoint ranges that do not touch, ascending; ends are exclusive."""

    __slots__ = ("spans",)

    def __init__(self) -> None:
        self.spans: list[list[int]] = []

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def stop(self) -> int:
        """Where the last one ends; 0: there is none."""
        return self.spans[-1][1] if self.spans else 0

    def add(self, start: int, stop: int) -> None:
        spans = self.spans
        if spans and spans[-1][1] == start:
            spans[-1][1] = stop
            return
        if start == stop:
            return
        first = 0
        while first < len(spans) and spans[first][1] < start:
            first += 1
        last = first
        while last < len(spans) and spans[last][0] <= stop:
            start, stop = min(start, spans[last][0]), max(stop, spans[last][1])
            last += 1
        spans[first:last] = [[start, stop]]

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What of a range is not in here."""
        found = []
        for low, high in self.spans:
            if high <= start:
                continue
            if low >= stop:
                break
            if start < low:
                found.append((start, low))
            start = high
        if start < stop:
            found.append((start, stop))
        return found
