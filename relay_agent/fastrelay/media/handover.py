"""Whose objects count while a viewer moves from one session to another, sans-I/O.

Both sessions deliver a track for a while. The cut is between two groups: those that the old
session has begun are its own to the end, the later ones are the new session's. So nothing comes
twice, and nothing is missing as long as the old session stays until its last group is complete.
"""

from __future__ import annotations

from fastrelay.client import ReceivedObject, SubgroupEnd


class Source:
    """What one session delivers of one track.

    :param predecessor: the session's that it takes over from; None: this is the first, of
        which everything counts.
    """

    def __init__(self, predecessor: Source | None = None) -> None:
        self._predecessor = predecessor
        self._begin = 0 if predecessor is None else None
        """The first group that counts; None: not known yet."""
        self._end: int | None = None
        """From this group on the successor's count."""
        self._latest = -1
        self._joined_in: int | None = None
        self._open: set[tuple[int, int]] = set()
        self._complete = -1
        self._is_past_end = False

    @property
    def begun(self) -> bool:
        """Whether it has delivered something that counts."""
        return self._begin is not None

    @property
    def finished(self) -> bool:
        """Whether every group before the successor's first is complete."""
        if self._end is None or self._open:
            return False
        return self._is_past_end or self._complete >= self._end - 1

    @property
    def open(self) -> set[tuple[int, int]]:
        """Group and subgroup of the streams that count and have not ended."""
        return self._open

    def takes(self, item: ReceivedObject) -> bool:
        """Whether an object counts."""
        group, number = item.location
        if self._begin is None and not self._may_begin(group, number):
            return False
        if self._begin is None or group < self._begin or self._is_beyond(group):
            return False
        self._latest = max(self._latest, group)
        if not item.datagram:
            self._open.add((group, item.subgroup_id))
        return True

    def ends(self, item: SubgroupEnd) -> bool:
        """Whether the end of a stream counts."""
        group = item.group_id
        if self._begin is None or group < self._begin or self._is_beyond(group):
            return False
        self._open.discard((group, item.subgroup_id or 0))
        self._latest = max(self._latest, group)
        if item.end_of_group:
            self._complete = max(self._complete, group)
        return True

    def _may_begin(self, group: int, number: int) -> bool:
        """Only with a whole group: the first may have been joined in its middle."""
        if self._joined_in is None:
            self._joined_in = group
        if number and group <= self._joined_in:
            return False
        before = self._predecessor
        while before is not None and before._begin is None:
            before = before._predecessor  # it was left before it delivered anything
        self._begin = group if before is None else before._cut_at(group)
        return True

    def _is_beyond(self, group: int) -> bool:
        beyond = self._end is not None and group >= self._end
        self._is_past_end |= beyond
        return beyond

    def _cut_at(self, group: int) -> int:
        """The successor has this group: the first that is left to it."""
        self._end = max(group, self._latest + 1)
        return self._end
