"""What a member of an automatic track gets of one rendition: a subscription that its peer does not
know of. It has the automatic track's alias and a range of groups, which no other leg of that
track has: so no group comes twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import PublishDoneStatus
from fastrelay.moqt.names import Location
from fastrelay.relay.lane import Lane
from fastrelay.relay.renditions import Rendition
from fastrelay.relay.store import StoredDatagram
from fastrelay.relay.subscription import Phase, Subscription
from fastrelay.relay.window import OPEN_END, Window

if TYPE_CHECKING:
    from fastrelay.relay.auto import Auto
    from fastrelay.relay.tracks import Track

NO_GROUP = Window(Location(OPEN_END, 1))


class Leg(Subscription):
    """``earlier``: the leg whose groups come before this one's, until that is over. ``first``: it
    answers for the automatic track. ``begun``: the last group of which the member has something,
    or may have; -1: none."""

    __slots__ = ("_auto", "begun", "earlier", "first", "rendition")

    def __init__(self, auto: Auto, track: Track, rendition: Rendition, earlier: Leg | None) -> None:
        """After the first one's SUBSCRIBE_OK, ``auto.alias`` is known."""
        super().__init__(
            track,
            auto.peer,
            auto.request_id,
            auto.parameters,
            track.core.timers.now(),
            hops=auto.hops,
        )
        self._auto = auto
        self.rendition = rendition
        self.earlier = earlier
        self.first = auto.alias < 0
        self.begun = -1
        self.lane = _Lane(self, self.requested)
        if not self.first:
            # What the peer has asked for once, it has got from the first.
            self.parameters = replace(self.parameters, fill=None, new_group_request=None)
            self.alias = auto.alias
            self.started = True

    @property
    def is_behind(self) -> bool:
        return bool(self.lane.waiting) or (self.earlier is not None and self.earlier.is_behind)

    @property
    def is_open(self) -> bool:
        """Whether it has groups."""
        return self.window is not NO_GROUP

    def answer(self) -> bool:
        if not self.first:
            return True
        if not super().answer():
            return False
        self._auto.accepted(self.alias)
        return True

    def begin(self, largest: Location | None) -> None:
        super().begin(largest)
        if not self.first:
            self.window = NO_GROUP
            self._auto.leg_accepted(self)

    def open_from(self, group: int, before: Window) -> None:
        """Its groups begin here, and end where all do."""
        self.window = replace(before, start=Location(group, 0))
        self.replay()
        self.track.core.reconsider(self.seat)

    def close_before(self, group: int) -> None:
        """Its groups end here; none of those from this one on has begun."""
        self.window = replace(self.window, end_group=group - 1, end_object=OPEN_END)
        for cursor in list(self.cursors):
            if self.window.first_object(cursor.subgroup.group.id) is None:
                self.forget(cursor)
        if self.window.end_group > self.begun:
            self.track.core.reconsider(self.seat)

    def has_come_to_its_end(self) -> bool:
        """All of its groups are here."""
        largest = self.track.largest
        if largest is None or largest.group <= self.window.end_group:
            return False
        groups = self.track.store.ordered(self.window.start.group, self.window.end_group)
        return not any(group.open for group in groups)

    def lent_until(self, group_id: int) -> None:
        super().lent_until(group_id)
        self.begun = max(self.begun, min(group_id, self.window.end_group))

    def opened(self, group_id: int) -> None:
        super().opened(group_id)
        self.begun = max(self.begun, group_id)

    def send_datagram(self, datagram: StoredDatagram) -> None:
        location = datagram.event.location
        if self.window.passes(location):
            super().send_datagram(datagram)
            self.begun = max(self.begun, location.group)

    def begins_quietly(self, start: Location) -> bool:
        return self.first and self.is_open and super().begins_quietly(start)

    def wants_group(self, group_id: int) -> bool:
        return self.first and super().wants_group(group_id)

    def restart(self) -> None:
        if self._auto.current is self:
            super().restart()
            self.begun = -1

    def reject(self, code: int, reason: str, retry_after: int | None = None) -> None:
        self._leave()
        self._auto.leg_refused(self, code, reason)

    def unregister(self) -> None:
        # Request id and alias are the automatic track's.
        self._auto.leg_over(self)

    def tell_done(self, status: PublishDoneStatus, reason: str) -> None:
        self._auto.leg_ended(self, status, reason)

    def give_up(self) -> None:
        """It is not needed after all."""
        if self.phase is Phase.WAITING:
            self._leave()
        else:
            self.cancelled()


class _Lane(Lane):
    """Older groups go first, whatever the publisher's priorities of the renditions are."""

    __slots__ = ()

    def rank(self) -> tuple[int, int, int]:
        leg = self._subscription
        assert isinstance(leg, Leg)
        earlier = leg.earlier
        if earlier is None or not earlier.lane.waiting:
            return super().rank()
        priority, publisher, served = earlier.lane.rank()
        return priority, publisher, served + 1
