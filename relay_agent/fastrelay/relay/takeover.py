"""A second stream of a subgroup that the kernel was forwarding.

What the kernel has sent of the first stream, user space may not have yet: a packet of it was
lost, or waits in the socket. The subgroup's next bytes have to be that stream's then, and not
those of another publisher, who may write the same objects otherwise. So streams of others wait
until the first has brought what members have of it, mostly for less than a round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.relay.subgroup import State, Subgroup

if TYPE_CHECKING:
    from fastrelay.relay.inflow import Inflow

PATIENCE = 1.0
"""Seconds after which the first stream's publisher counts as stuck: members who are ahead lose
this one subgroup."""


class Takeover:
    """Ends when the subgroup's body has ``needed`` bytes, or the first stream is over."""

    __slots__ = ("_first", "_needed", "_subgroup", "_timer", "_waiting")

    def __init__(self, subgroup: Subgroup, first: Inflow, needed: int) -> None:
        self._subgroup = subgroup
        self._first = first
        self._needed = needed
        self._waiting: list[Inflow] = []
        self._timer = first.feed.track.core.timers.after(PATIENCE, self.end)

    def wait(self, inflow: Inflow) -> None:
        """Another stream of the subgroup has come."""
        self._waiting.append(inflow)

    def grown(self) -> None:
        """The body has, or it has ended."""
        if self._subgroup.body.length >= self._needed or self._subgroup.state is not State.OPEN:
            self.end()

    def lost(self, inflow: Inflow) -> None:
        """One of the streams was reset. What has come of one that waits is of use nevertheless."""
        if inflow is self._first:
            self.end()

    def end(self) -> None:
        """From now on whoever is first adds the next bytes."""
        self._subgroup.takeover = None
        self._timer.cancel()
        if self._subgroup.state is State.OPEN:
            self._first.become_shared()
        for inflow in self._waiting:
            inflow.admit()
