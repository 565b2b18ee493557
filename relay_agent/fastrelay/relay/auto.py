"""A peer's subscription to the relay's own track of an alternate group: one rendition after the
other, as the path carries them, group by group.

The member sees one track: one alias, group ids that rise, each group whole and of one rendition.
In the kernel it is a member of the current rendition's track, with the range of groups that it
gets of that one (:class:`~fastrelay.relay.leg.Leg`); a switch closes one range and opens another
where it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.events import RequestUpdated
from fastrelay.moqt.messages import Parameters, PublishDone
from fastrelay.moqt.names import FullTrackName
from fastrelay.relay import renditions
from fastrelay.relay.adaptation import Adapter, Sample
from fastrelay.relay.catalogs import CatalogReader, name_of
from fastrelay.relay.leg import Leg
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.policy import Tokens
from fastrelay.relay.renditions import NoRenditionsError, Rendition, Wanted
from fastrelay.relay.subscription import Phase, Subscription, changed
from fastrelay.relay.timers import Timer

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay

LOOK_SECONDS = 0.1
BUSY_LOOK_SECONDS = 0.05
"""Between two looks at a path; the second while it is busy."""
CATALOG_SECONDS = 8.0
"""Within which a catalog has to come: publishers repeat theirs every 5 s."""
JOIN_SECONDS = 5.0
"""Within which a rendition has to begin that the member is to get."""
SPURN_SECONDS = 30.0
"""For how long one is not tried again that could not be had."""
CLOSE_SECONDS = 10.0
"""How long after a switch the rendition before may still bring what belongs to the member."""
MOST_APART = 8
"""Groups between the newest of two renditions that are aligned: encoders are not equally fast."""
NOT_ALIGNED = "its groups are not aligned with the others'"
_OTHERS_SECONDS = 1.0


class Auto(Handle):
    """``current``: the leg whose groups come now; ``coming``: the one that follows as soon as its
    rendition is there. ``switches``: how often the rendition has changed."""

    __slots__ = (
        "_ending",
        "_kernel_streams",
        "_old",
        "_others",
        "_packets",
        "_reader",
        "_spurned",
        "_streams",
        "_timer",
        "_tokens",
        "_wanted",
        "adapter",
        "alias",
        "coming",
        "core",
        "current",
        "deadline",
        "hops",
        "is_over",
        "ladder",
        "name",
        "parameters",
        "peer",
        "request_id",
        "switches",
    )

    def __init__(
        self,
        core: Relay,
        peer: Peer,
        request_id: int,
        name: FullTrackName,
        wanted: Wanted,
        parameters: Parameters,
        *,
        hops: bytes,
        tokens: Tokens,
    ) -> None:
        self.core = core
        self.peer = peer
        self.request_id = request_id
        self.name = name
        self.parameters = parameters
        self.hops = hops
        self.alias = -1
        self.ladder: list[Rendition] = []
        self.adapter = Adapter([1.0])
        self.current: Leg | None = None
        self.coming: Leg | None = None
        self.switches = 0
        self.is_over = False
        self.deadline = 0.0
        """For ``coming``; before the first leg, for the catalog."""
        self._wanted = wanted
        self._tokens = tokens
        self._reader: CatalogReader | None = None
        self._timer: Timer | None = None
        self._old: dict[Leg, float] = {}
        """Legs whose last groups are still under way; and when they end at the latest."""
        self._spurned: dict[FullTrackName, tuple[float, str]] = {}
        """Renditions that cannot be had, until when, and why."""
        self._ending: tuple[PublishDoneStatus, str] | None = None
        """How the current rendition has ended, while another one is sought."""
        self._streams = 0
        self._kernel_streams = 0
        self._packets = 0
        """Of legs that are over."""
        self._others = (0.0, 0, 0.0)
        """Bytes of the session's other tracks: when they were counted, how many there had been,
        and how many a second have come lately."""

    # Beginning

    def begin(self) -> None:
        """Ask for the catalog."""
        self.peer.handles[self.request_id] = self
        self.peer.autos[self] = None
        self.deadline = self.core.timers.now() + CATALOG_SECONDS
        track = self.core.track(name_of(self._wanted.namespace))
        if track is None:
            self.reject(RequestErrorCode.EXCESSIVE_LOAD, "too many tracks")
            return
        self._reader = CatalogReader(track, self.hops, self._catalog_changed)
        self._look_again()
        self._reader.begin()

    def _catalog_changed(self) -> None:
        reader = self._reader
        assert reader is not None
        if reader.catalog is None:
            if not self.ladder:
                self.reject(
                    RequestErrorCode.DOES_NOT_EXIST,
                    f"no catalog tells the renditions: {reader.why}",
                )
            return
        try:
            ladder = renditions.of_catalog(reader.catalog, self._wanted)
        except NoRenditionsError as error:
            if not self.ladder:
                self.reject(error.code, str(error))
            return  # what there is goes on until it ends
        may = self.core.policy.may_subscribe
        ladder = [each for each in ladder if may(each.name.namespace, self._tokens)]
        if not ladder:
            self.reject(RequestErrorCode.UNAUTHORIZED, "not allowed here")
        elif ladder != self.ladder:
            self._take(ladder)

    def _take(self, ladder: list[Rendition]) -> None:
        """These are the renditions now."""
        first, self.ladder = not self.ladder, ladder
        self.adapter = Adapter([rendition.rate for rendition in ladder])
        leg = self.coming or self.current
        if leg is not None:
            self._settle_on(leg.rendition)
        elif first:
            self._go(ladder[0])

    def accepted(self, alias: int) -> None:
        """SUBSCRIBE_OK has been sent."""
        self.alias = alias

    def reject(self, code: int, reason: str) -> None:
        """REQUEST_ERROR instead."""
        self._leave()
        self.core.requests.reject(self.peer, self.request_id, code, reason)

    # Looking

    def _look_again(self) -> None:
        pause = BUSY_LOOK_SECONDS if self.adapter.is_busy else LOOK_SECONDS
        self._timer = self.core.timers.after(pause, self._look)

    def _look(self) -> None:
        now = self.core.timers.now()
        if self.current is None:
            self._look_again()
            if now >= self.deadline and not self.ladder:
                self.reject(RequestErrorCode.TIMEOUT, "no catalog came that tells the renditions")
            return
        self._consider(now)
        if not self.is_over:
            self._look_again()

    def _consider(self, now: float) -> None:
        for leg, deadline in list(self._old.items()):
            if now >= deadline or leg.has_come_to_its_end():
                leg.finish(PublishDoneStatus.SUBSCRIPTION_ENDED)
        if self.coming is not None:
            self._switch(self.coming, now)
        if self.is_over or self._ending is not None:
            return
        sample = self._sample(now)
        if sample is None:
            return
        wish = self.ladder[self.adapter.look(sample)]
        latest = self.coming or self.current
        assert latest is not None
        other = wish.name != latest.rendition.name
        if other and (self.coming is None or wish.rate < latest.rendition.rate):
            self._follow(wish, now)

    def _sample(self, now: float) -> Sample | None:
        measure = self.peer.measure
        if measure is None:
            return None
        found = measure()
        queueing = found.latest_rtt - found.min_rtt
        if found.bandwidth:
            # More is on its way than there is room for: it waits, or is lost; that shows before the
            # round trips tell.
            standing = found.bytes_in_flight / found.bandwidth - found.min_rtt
            queueing = max(queueing, standing)
        waiting = sum(leg.lane.behind for leg in self.legs)
        return Sample(
            now,
            found.delivered,
            waiting + self.peer.transport.backlog,
            max(0.0, queueing),
            found.bandwidth,
            self._other(now),
            self.peer.limiter.cap or None,
        )

    def _other(self, now: float) -> float:
        since, before, rate = self._others
        if now - since < _OTHERS_SECONDS:
            return rate
        tracks = [h.track for h in self.peer.handles.values() if isinstance(h, Subscription)]
        tracks += [a.current.track for a in self.peer.autos if a is not self and a.current]
        received = sum(track.received for track in tracks)
        # Tracks come and go: what went is no negative rate.
        rate = max(0, received - before) / (now - since) if since else 0.0
        self._others = now, received, rate
        return rate

    # Switching

    def _follow(self, wish: Rendition, now: float) -> None:
        """Go to this rendition, or to a smaller one if it cannot be had."""
        assert self.current is not None
        if self.coming is not None:
            coming, self.coming = self.coming, None
            coming.give_up()
        held = self.current.rendition
        at = self.ladder.index(wish)
        usable = [r for r in self.ladder[: at + 1] if not self._is_spurned(r, now)]
        if not usable or (usable[-1].rate <= held.rate < wish.rate) or usable[-1] == held:
            self._settle_on(held)
        else:
            self._settle_on(usable[-1])
            self._go(usable[-1])

    def _settle_on(self, rendition: Rendition) -> None:
        """The choice goes on from here; from the next smaller one if the catalog has it no more."""
        rates = [at for at, each in enumerate(self.ladder) if each.rate <= rendition.rate]
        self.adapter.moved(max(rates, default=0), self.core.timers.now())

    def _is_spurned(self, rendition: Rendition, now: float) -> bool:
        return self._spurned.get(rendition.name, (0.0, ""))[0] > now

    def _spurn(self, rendition: Rendition, why: str) -> None:
        now = self.core.timers.now()
        self._spurned[rendition.name] = now + SPURN_SECONDS, why
        self.core.observer.log(
            "info", "a rendition cannot be had", track=str(rendition.name), why=why
        )

    def _go(self, rendition: Rendition) -> None:
        """Subscribe to it; if it is the first, the member's subscription begins with it."""
        track = self.core.track(rendition.name)
        if track is None:
            self._refused(rendition, RequestErrorCode.EXCESSIVE_LOAD, "too many tracks")
            return
        before = self.current
        leg = Leg(self, track, rendition, None if before is None or before.is_over else before)
        if before is None:
            self.current = leg
        else:
            self.coming = leg
            self.deadline = self.core.timers.now() + JOIN_SECONDS
        track.join(leg)
        self.core.release(track)

    def _switch(self, coming: Leg, now: float) -> None:
        """Let the groups of the one that comes follow those of the current one, if it is there."""
        current, store = self.current, coming.track.store
        assert current is not None
        newest = coming.track.largest
        if not coming.is_active or newest is None or store.live_from is None:
            if now >= self.deadline:
                self._fail(coming, "it does not begin")
            return
        mine = current.track.largest
        if mine is not None and abs(newest.group - mine.group) > MOST_APART:
            self._fail(coming, NOT_ALIGNED)
            return
        if not current.is_over:
            current.seat.withdraw()
        whole_from = store.live_from.group + (store.live_from.object > 0)
        before = current.window
        first = max(current.begun + 1, before.start.group, whole_from, store.floor)
        if first > before.end_group:
            self._fail(coming, "the last group that is wanted is under way")
            return
        up = coming.rendition.rate > current.rendition.rate
        self.coming, self.current, self._ending = None, coming, None
        if not current.is_over:
            current.close_before(first)
            self._old[current] = now + CLOSE_SECONDS
        coming.open_from(first, before)
        self.switches += 1
        switched = self.core.counters.rendition_switches
        direction = "up" if up else "down"
        switched[direction] = switched.get(direction, 0) + 1

    def _fail(self, coming: Leg, why: str) -> None:
        """It cannot follow."""
        self.coming = None
        coming.give_up()
        self._refused(coming.rendition, RequestErrorCode.TIMEOUT, why)

    def _switch_soon(self) -> None:
        if self.coming is not None:
            self._switch(self.coming, self.core.timers.now())

    # What legs tell

    def leg_accepted(self, leg: Leg) -> None:
        """A publisher brings its rendition from now on."""
        # Not within what the publisher has just said, of which there may be more.
        self.core.timers.after(0.0, self._switch_soon)

    def leg_refused(self, leg: Leg, code: int, reason: str) -> None:
        """No publisher brings its rendition."""
        if leg is self.coming:
            self.coming = None
        elif leg is self.current:
            self.current = None
        self._refused(leg.rendition, code, reason)

    def _refused(self, rendition: Rendition, code: int, reason: str) -> None:
        self._spurn(rendition, reason)
        if self.current is not None and self._ending is None:
            self._settle_on(self.current.rendition)
            return
        nearest = self._nearest(rendition)
        if nearest is not None:
            self._go(nearest)
        elif self._ending is not None:
            self._finish(*self._ending)
        else:
            self.reject(code, reason)

    def _nearest(self, rendition: Rendition) -> Rendition | None:
        """The next smaller one that may be had, else the next larger one."""
        now = self.core.timers.now()
        usable = [each for each in self.ladder if not self._is_spurned(each, now)]
        smaller = [each for each in usable if each.rate <= rendition.rate]
        return smaller[-1] if smaller else next(iter(usable), None)

    def leg_ended(self, leg: Leg, status: PublishDoneStatus, reason: str) -> None:
        """It has sent all that it ever will."""
        if leg is self.coming:
            self.coming = None
            self._refused(leg.rendition, RequestErrorCode.DOES_NOT_EXIST, "it has ended")
        if leg is not self.current:
            return
        if status in (PublishDoneStatus.TOO_FAR_BEHIND, PublishDoneStatus.UPDATE_FAILED):
            self._finish(status, reason)
            return
        self._ending = status, reason
        self._spurn(leg.rendition, "it has ended")
        if self.coming is not None:
            return
        nearest = self._nearest(leg.rendition)
        if nearest is None:
            self._finish(status, reason)
        else:
            self._settle_on(nearest)
            self._go(nearest)

    def leg_over(self, leg: Leg) -> None:
        """Nothing more is to be expected of it."""
        self._old.pop(leg, None)
        self._streams += leg.stream_count
        self._kernel_streams += leg.seat.streams
        self._packets += leg.seat.packets
        for later in self.legs:
            if later.earlier is leg:
                later.earlier = None
                if later.is_active:
                    self.core.reconsider(later.seat)

    # What the peer tells

    def updated(self, event: RequestUpdated) -> None:
        wish = event.parameters
        session = self.peer.session
        if wish.filter is not None or wish.fill is not None or self.current is None:
            reason = "an automatic track's range stays as it is"
            session.reject_update(
                self.request_id, event.update_id, RequestErrorCode.NOT_SUPPORTED, reason
            )
            self._finish(PublishDoneStatus.UPDATE_FAILED, reason)
            return
        self.parameters = changed(self.parameters, wish)
        for leg in self.legs:
            if leg is self.current:
                leg.updated(event)
            else:
                leg.apply(wish)

    def cancelled(self) -> None:
        self._leave()

    def lost(self) -> None:
        legs, self.is_over = self.legs, True
        for leg in legs:
            leg.lost()
        self._leave()

    # Ends

    def _finish(self, status: PublishDoneStatus, reason: str) -> None:
        """PUBLISH_DONE."""
        if not self.is_over:
            self._leave()
            done = PublishDone(self.request_id, status, self.streams, reason)
            self.peer.session.notify(self.request_id, done)

    def _leave(self) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        legs, self.coming = self.legs, None
        for leg in legs:
            if not leg.is_over:
                leg.give_up()
        self.peer.autos.pop(self, None)
        self.peer.handles.pop(self.request_id, None)
        self.peer.aliases.discard(self.alias)
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()

    # What is known

    @property
    def legs(self) -> list[Leg]:
        """All that there are, those with the oldest groups first."""
        return [leg for leg in (*self._old, self.current, self.coming) if leg is not None]

    @property
    def streams(self) -> int:
        return self._streams + sum(leg.stream_count for leg in self.legs if not leg.is_over)

    @property
    def kernel_streams(self) -> int:
        live = (leg.seat.streams for leg in self.legs if not leg.is_over)
        return self._kernel_streams + sum(live)

    @property
    def kernel_packets(self) -> int:
        return self._packets + sum(leg.seat.packets for leg in self.legs if not leg.is_over)

    @property
    def is_adapting(self) -> bool:
        """There is a smaller rendition that the member may get yet."""
        current = self.current
        return current is not None and (
            self.coming is not None or current.rendition.rate > self.ladder[0].rate
        )

    @property
    def phase(self) -> Phase:
        return Phase.WAITING if self.current is None else self.current.phase
