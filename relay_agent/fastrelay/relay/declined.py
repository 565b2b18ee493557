"""What a subscription gets no more of, though it may still come: it was given up."""

from __future__ import annotations

from fastrelay.relay.remembered import remember

MAX_DECLINED = 512
"""Of each kind; the oldest groups are forgotten first."""


class Declined:
    """Subgroups by their ids; ``datagrams``: groups, and publisher priorities in them."""

    __slots__ = ("_subgroups", "datagrams")

    def __init__(self) -> None:
        self._subgroups: set[tuple[int, int | None]] = set()
        self.datagrams: set[tuple[int, int]] = set()

    def add_subgroup(self, group: int, subgroup: int | None) -> None:
        remember(self._subgroups, (group, subgroup), MAX_DECLINED)

    def has_subgroup(self, group: int, subgroup: int | None) -> bool:
        return (group, subgroup) in self._subgroups

    def add_datagrams(self, group: int, priority: int) -> None:
        remember(self.datagrams, (group, priority), MAX_DECLINED)

    @property
    def last_of_datagrams(self) -> int:
        """The last group of which datagrams were given up; -1: of none."""
        return max((group for group, _ in self.datagrams), default=-1)

    def clear(self) -> None:
        self._subgroups.clear()
        self.datagrams.clear()
