"""A subscriber's feedback: when objects arrived, joined with when they were sent.

For what the kernel sent that is the time of the packet with the object's last byte, as the kernel
reported it; for what user space sent, when the object was there to be sent, so that what waits in
the relay for this subscriber counts as delay. An object that cannot be found any more is not
counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.events import DatagramReceived
from fastrelay.moqt.feedback import Arrival, decode
from fastrelay.moqt.messages import Notification, Parameters, Publish, PublishDone, RequestOk
from fastrelay.relay.delays import Delays
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.rate import Meter, Rate

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay
    from fastrelay.relay.store import Group
    from fastrelay.relay.subscription import Subscription

REPORTS = Rate(20, 40)
"""A second, and at once; more are not looked at."""


class Feedback(Handle):
    """The track of one peer; there is at most one."""

    __slots__ = (
        "_core",
        "_meter",
        "_peer",
        "alias",
        "delays",
        "ignored",
        "problem",
        "reports",
        "request_id",
        "unknown",
    )

    def __init__(self, core: Relay, peer: Peer, request: Publish) -> None:
        self._core, self._peer = core, peer
        self.request_id, self.alias = request.request_id, request.track_alias
        self.delays = Delays()
        self.reports = 0
        self.ignored = 0
        """Reports that came too fast."""
        self.unknown = 0
        """Arrivals of objects that cannot be found."""
        self.problem = ""
        """Why no more is taken; empty if it is."""
        self._meter = Meter()

    def begin(self) -> None:
        """Take the track."""
        peer = self._peer
        peer.handles[self.request_id] = self
        peer.feedback = self
        peer.session.respond(RequestOk(self.request_id, Parameters()))
        self._core.early.replay(peer, self.alias)

    def datagram(self, event: DatagramReceived) -> None:
        """A report."""
        if self.problem:
            return
        now = int(self._core.timers.now() * 1e9)
        if not self._meter.take(REPORTS, now):
            self.ignored += 1
            return
        try:
            arrivals = decode(event.payload)
        except ValueError as error:
            self.refuse(str(error))
            return
        self.reports += 1
        measure = self._peer.measure
        min_rtt = measure().min_rtt if measure is not None else 0.0
        for arrival in arrivals:
            sent = self._sent(arrival)
            if sent is None:
                self.unknown += 1
            else:
                self.delays.add(sent, arrival.at, min_rtt)

    def refuse(self, problem: str) -> None:
        """No more of it: the publisher is told, and what still comes is dropped."""
        if not self.problem:
            self.problem = problem
            self._peer.handles.pop(self.request_id, None)
            self._peer.session.cancel(self.request_id, StreamError.CANCELLED)
            self._core.observer.log(
                "info", "feedback refused", peer=self._peer.info.address, why=problem
            )

    def _sent(self, arrival: Arrival) -> float | None:
        for subscription in self._subscriptions(arrival):
            group = subscription.track.store.groups.get(arrival.group)
            if group is not None:
                return _sent_at(subscription, group, arrival.object)
        return None

    def _subscriptions(self, arrival: Arrival) -> Iterator[Subscription]:
        for subscription in self._peer.subscriptions.values():
            if subscription.alias == arrival.alias:
                yield subscription
        for auto in self._peer.autos:
            if auto.alias == arrival.alias:
                for leg in auto.legs:
                    if leg.window.first_object(arrival.group) is not None:
                        yield leg

    # Ends

    def notified(self, notification: Notification) -> None:
        if isinstance(notification, PublishDone):
            self._leave()

    def cancelled(self) -> None:
        self._leave()

    def ended(self, code: int) -> None:
        self._leave()

    def lost(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self._peer.handles.pop(self.request_id, None)
        if self._peer.feedback is self:
            self._peer.feedback = None

    def status(self) -> dict[str, Any]:
        """For status pages; times in milliseconds."""
        found = self.delays.statistics()
        told: dict[str, Any] = {
            "reports": self.reports,
            "ignored": self.ignored,
            "unknown": self.unknown,
            "problem": self.problem or None,
            "objects": self.delays.objects,
        }
        for name in ("latest", "ewma", "jitter", "average", "deviation"):
            value = getattr(found, name, None)
            told[f"{name}_ms"] = None if value is None else round(value * 1e3, 3)
        told["variance_ms2"] = None if found is None else round(found.variance * 1e6, 3)
        return told


def _sent_at(subscription: Subscription, group: Group, object_id: int) -> float | None:
    for subgroup in group.subgroups:
        objects = subgroup.body.objects
        index = subgroup.body.first_from(object_id)
        if index < len(objects) and objects[index].location.object == object_id:
            there = subgroup.times[index]
            if subgroup.lending is None:
                return there
            return subgroup.lending.sent_at(subscription, objects[index].end, there)
    datagram = group.datagrams.get(object_id)
    if datagram is None:
        return None
    departures, fast = datagram.departures, subscription.peer.fast
    if departures is None or fast is None or not departures.has(fast.link, subscription):
        return datagram.time
    return departures.sent_at(fast.link, subscription)
