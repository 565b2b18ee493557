"""Who of a track's subscribers is served by the kernel, seen from one version of its members.

Made once for each version, used for every stream and datagram that has it: what is done for
each of these does not grow with the number of members, only with that of the exceptions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fastrelay.fastpath.ports import FastMember

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription


class Roster:
    """``members``: of the kernel's array, by position. ``others``: subscriptions without a place
    in it. ``gone``: positions of members that have left since; who owned them is no other.
    ``timed``: positions of members that have a delivery timeout of subgroups, by that."""

    __slots__ = (
        "_by_first",
        "_by_last",
        "_fresh",
        "_positions",
        "gone",
        "members",
        "others",
        "timed",
    )

    def __init__(
        self, members: Sequence[FastMember], subscriptions: Iterable[Subscription]
    ) -> None:
        self.members = members
        owners = {member.owner for member in members}
        self.others = [s for s in subscriptions if s not in owners]
        self.gone = [p for p, m in enumerate(members) if m.owner.seat.member is not m]
        self._by_first = sorted((m.terms.first_ordinal, p) for p, m in enumerate(members))
        self._by_last = sorted((m.terms.last_ordinal, p) for p, m in enumerate(members))
        self._positions: dict[Subscription, int] = {}
        self.timed: dict[float, list[int]] = {}
        for position, member in enumerate(members):
            if member.owner.subgroup_timeout:
                self.timed.setdefault(member.owner.subgroup_timeout, []).append(position)
        self._fresh = [p for p, m in enumerate(members) if not m.owner.started]

    def position(self, subscription: Subscription) -> int | None:
        """Its place in the array."""
        if not self._positions:
            self._positions = {m.owner: p for p, m in enumerate(self.members)}
        return self._positions.get(subscription)

    def serves(self, position: int, ordinal: int) -> bool:
        """Whether the ordinal lies in the member's range; otherwise the kernel skips it."""
        terms = self.members[position].terms
        return terms.first_ordinal <= ordinal <= terms.last_ordinal

    def skipped(self, ordinal: int) -> list[int]:
        """Positions of members that the kernel does not serve with this ordinal."""
        if not self.members or self._by_first[-1][0] <= ordinal <= self._by_last[0][0]:
            return []  # as mostly
        late = self._by_first[bisect_right(self._by_first, (ordinal, len(self.members))) :]
        early = self._by_last[: bisect_left(self._by_last, (ordinal, -1))]
        return sorted({position for _, position in [*late, *early]})

    def begun(self, ordinal: int) -> None:
        """Objects go to the members: those that waited for their first have got it."""
        if self._fresh:
            waiting, self._fresh = self._fresh, []
            for position in waiting:
                if self.serves(position, ordinal):
                    self.members[position].owner.mark_started()
                else:
                    self._fresh.append(position)
