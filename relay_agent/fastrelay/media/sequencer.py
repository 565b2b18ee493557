"""Puts the groups of one track in order again; each comes on a stream of its own.

What arrived in order passes at once. A group that overtook the one before it is held until
that one ended or until waiting for it has taken too long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Held(Generic[T]):
    since: float
    items: list[tuple[int, T]] = field(default_factory=list)
    open: set[int] = field(default_factory=set)


@dataclass(slots=True)
class GroupSequencer(Generic[T]):
    """``patience``: seconds that a later group waits for an earlier one. Times are those of
    one monotonic clock. ``late`` counts items whose group had been given up."""

    patience: float = 1.0
    late: int = 0
    _current: int | None = None
    _open: set[int] = field(default_factory=set)
    _finished: bool = False
    _held: dict[int, _Held[T]] = field(default_factory=dict)

    def push(self, group: int, subgroup: int, object_id: int, item: T, now: float) -> list[T]:
        """An item arrived; what can go on now, in order."""
        if self._current is None:
            self._current = group
        if group == self._current:
            self._open.add(subgroup)
            self._finished = False
            return [item]
        if group < self._current:
            self.late += 1
            return []
        held = self._held.setdefault(group, _Held(now))
        held.items.append((object_id, item))
        held.open.add(subgroup)
        return self.advance(now)

    def end(self, group: int, subgroup: int, now: float) -> list[T]:
        """A stream of the group ended, well or not."""
        if group == self._current:
            self._open.discard(subgroup)
            self._finished = not self._open
        elif group in self._held:
            self._held[group].open.discard(subgroup)
        return self.advance(now)

    def advance(self, now: float) -> list[T]:
        """What may go on because of the time alone; call it now and then."""
        ready: list[T] = []
        while self._held and self._current is not None:
            group = min(self._held)
            held = self._held[group]
            successor = self._finished and group == self._current + 1
            if not successor and now - held.since < self.patience:
                break
            del self._held[group]
            self._current = group
            self._open = held.open
            self._finished = not held.open
            held.items.sort(key=lambda pair: pair[0])
            ready += [item for _, item in held.items]
        return ready

    def flush(self) -> list[T]:
        """Everything that is still held, in order: the track is over."""
        return self.advance(float("inf"))
