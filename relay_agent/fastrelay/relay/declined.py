"""What a subscription gets no more of, though it may still come: it was given up."""

from __future__ import annotations

from typing import TypeVar

MAX_DECLINED = 512
"""Of each kind; the oldest groups are forgotten first."""

_Key = TypeVar("_Key", tuple[int, int], tuple[int, int | None])


class Declined:
    """Subgroups by their ids; ``datagrams``: groups, and publisher priorities in them."""

    __slots__ = ("_subgroups", "datagrams")

    def __init__(self) -> None:
        self._subgroups: set[tuple[int, int | None]] = set()
        self.datagrams: set[tuple[int, int]] = set()

    def add_subgroup(self, group: int, subgroup: int | None) -> None:
        self._subgroups = _bounded(self._subgroups)
        self._subgroups.add((group, subgroup))

    def has_subgroup(self, group: int, subgroup: int | None) -> bool:
        return (group, subgroup) in self._subgroups

    def add_datagrams(self, group: int, priority: int) -> None:
        self.datagrams = _bounded(self.datagrams)
        self.datagrams.add((group, priority))

    @property
    def last_of_datagrams(self) -> int:
        """The last group of which datagrams were given up; -1: of none."""
        return max((group for group, _ in self.datagrams), default=-1)

    def clear(self) -> None:
        self._subgroups.clear()
        self.datagrams.clear()


def _bounded(keys: set[_Key]) -> set[_Key]:
    if len(keys) < MAX_DECLINED:
        return keys
    return set(sorted(keys, key=lambda key: key[0])[MAX_DECLINED // 2 :])
