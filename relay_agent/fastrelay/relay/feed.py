"""One publisher of a track: the relay's SUBSCRIBE to it, or its PUBLISH."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.events import DatagramReceived, RequestUpdated, SubgroupOpened, UpdateAnswered
from fastrelay.moqt.messages import (
    Answer,
    Notification,
    Parameters,
    PublishDone,
    PublishStateNotify,
    RequestError,
    SubscribeOk,
)
from fastrelay.moqt.names import Location
from fastrelay.relay.inflow import Inflow
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.timers import Timer

if TYPE_CHECKING:
    from fastrelay.fastpath.ports import Loan
    from fastrelay.relay.tracks import Track

UNCOUNTED_SECONDS = 2.0
"""After PUBLISH_DONE, silence for so long ends a track whose streams nobody has counted, ..."""
UNSEEN_SECONDS = 5.0
"""... one of whose streams some have not been seen (draft-18 section 10.11), ..."""
OPEN_SECONDS = 15.0
"""... and one of whose streams some have not ended: what was lost is sent again, after four losses
in a row seconds later (RFC 9002 section 6.2.1); only a broken publisher never ends them."""


class FeedState(Enum):
    PENDING = "pending"
    ESTABLISHED = "established"
    OVER = "over"


class Feed(Handle):
    """``pushed``: the publisher offered the track with PUBLISH."""

    __slots__ = (
        "_done",
        "_timer",
        "alias",
        "forward",
        "idle_forward",
        "inflows",
        "largest",
        "peer",
        "properties",
        "pushed",
        "request_id",
        "state",
        "streams",
        "track",
    )

    def __init__(self, track: Track, peer: Peer, request_id: int, *, pushed: bool) -> None:
        self.track = track
        self.peer = peer
        self.request_id = request_id
        self.pushed = pushed
        self.state = FeedState.PENDING
        self.alias = -1
        self.forward = True
        self.idle_forward = True
        """What FORWARD goes back to when nobody listens (a PUBLISH only)."""
        self.largest: Location | None = None
        self.properties = b""
        self.inflows: dict[int, Inflow] = {}
        self.streams = 0
        self._done: PublishDone | None = None
        self._timer: Timer | None = track.core.timers.after(
            track.core.options.upstream_timeout_seconds, self._timeout
        )

    # Beginning

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, RequestError):
            self._over()
            self.track.sources.refused(self, answer)
        elif isinstance(answer, SubscribeOk) and self.state is FeedState.PENDING:
            self.establish(answer.track_alias, answer.parameters, answer.properties)

    def establish(self, alias: int, parameters: Parameters, properties: bytes) -> None:
        self._stop_timer()
        self.alias = alias
        self.largest = parameters.largest_object
        self.properties = properties
        self.state = FeedState.ESTABLISHED
        if parameters.expires:
            self._renew_after(parameters.expires)
        self.peer.feeds[alias] = self
        self.track.sources.established(self)
        self.track.core.early.replay(self.peer, alias)
        self.track.fast.review()

    def _renew_after(self, milliseconds: int) -> None:
        """Ask for an extension well before the publisher ends the subscription (10.2.9)."""
        self._timer = self.track.core.timers.after(milliseconds * 0.0008, self._renew)

    def _renew(self) -> None:
        self.peer.session.update(self.request_id, Parameters())

    def update_answered(self, event: UpdateAnswered) -> None:
        if isinstance(event.answer, RequestError):
            return
        parameters = event.answer.parameters
        if parameters.expires:
            self._stop_timer()
            self._renew_after(parameters.expires)
        if parameters.largest_object is not None:
            self.track.saw(parameters.largest_object)

    def _timeout(self) -> None:
        self._timer = None
        self.cancel()
        self.track.sources.refused(self, None)

    def set_forward(self, forward: bool) -> None:
        if forward != self.forward:
            self.forward = forward
            self.peer.session.update(self.request_id, Parameters(forward=forward))

    # Objects

    def opened(self, event: SubgroupOpened) -> None:
        self.streams += 1
        self.track.core.counters.streams_in += 1
        inflow = Inflow(self, event.stream_id, event.header)
        self.inflows[event.stream_id] = inflow
        self.peer.inflows[event.stream_id] = inflow

    def loan(self, stream_id: int) -> Loan | None:
        """What the kernel does with a stream of this publisher."""
        forwarder, fast = self.track.core.forwarder, self.peer.fast
        if forwarder is None or fast is None:
            return None
        return forwarder.loan(fast.link, stream_id)

    def datagram(self, event: DatagramReceived) -> None:
        self.received(1, len(event.raw), event.publisher_priority)
        self.track.core.counters.datagrams_in += 1
        self.track.datagram(event, self)

    def received(self, objects: int, size: int, priority: int | None) -> None:
        counters = self.track.core.counters
        counters.objects_in += objects
        counters.bytes_in += size
        self.track.received += size
        self.track.brings.count(priority, size)
        if self._done is not None and self.state is not FeedState.OVER:
            self._wait_for_the_rest()

    def closed(self, inflow: Inflow) -> None:
        if self.inflows.pop(inflow.stream_id, None) is None:
            return
        self.peer.inflows.pop(inflow.stream_id, None)
        if self._done is not None and self.state is not FeedState.OVER:
            self._wait_for_the_rest()
            self._check_done()

    # End

    def notified(self, notification: Notification) -> None:
        if isinstance(notification, PublishDone):
            self._done = notification
            self._wait_for_the_rest()
            self._check_done()
        elif isinstance(notification, PublishStateNotify):
            largest = notification.parameters.largest_object
            if largest is not None:
                self.track.saw(largest)

    def updated(self, event: RequestUpdated) -> None:
        """The publisher of a PUBLISH changes its parameters."""
        self.peer.session.respond_update(self.request_id, event.update_id, Parameters())

    def _wait_for_the_rest(self) -> None:
        assert self._done is not None
        self._stop_timer()
        seconds = UNSEEN_SECONDS
        if self.inflows:
            seconds = OPEN_SECONDS
        elif self._done.stream_count is None:
            seconds = UNCOUNTED_SECONDS
        self._timer = self.track.core.timers.after(seconds, self._finish)

    def _check_done(self) -> None:
        assert self._done is not None
        expected = self._done.stream_count
        if expected is not None and self.streams >= expected and not self.inflows:
            self._finish()

    def _finish(self) -> None:
        """PUBLISH_DONE and all its streams are here."""
        done = self._done
        assert done is not None
        self._over()
        self._lose_streams(StreamError.CANCELLED)
        self.track.sources.ended(self, done.status)

    def cancelled(self) -> None:
        self.ended(StreamError.CANCELLED)

    def ended(self, code: int) -> None:
        self._fail()

    def lost(self) -> None:
        self._fail()

    def _fail(self) -> None:
        """The publisher went away without a word."""
        if self.state is FeedState.OVER:
            return
        pending = self.state is FeedState.PENDING
        self._over()
        self._lose_streams(StreamError.CANCELLED)
        if pending:
            self.track.sources.refused(self, None)
        else:
            self.track.sources.ended(self, None)

    def cancel(self, code: StreamError = StreamError.CANCELLED) -> None:
        """The relay wants no more of this."""
        if self.state is FeedState.OVER:
            return
        self._over()
        for stream_id in list(self.inflows):
            self.peer.session.stop(stream_id, code)
        self._lose_streams(code)
        self.peer.session.cancel(self.request_id, code)

    def _lose_streams(self, code: int) -> None:
        for inflow in list(self.inflows.values()):
            inflow.lost(code)

    def _over(self) -> None:
        self.state = FeedState.OVER
        self._stop_timer()
        self.peer.handles.pop(self.request_id, None)
        if self.peer.feeds.get(self.alias) is self:
            del self.peer.feeds[self.alias]
        self.track.fast.review()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_final(status: int) -> bool:
    """Whether a publisher that ends with this status will not come back to the track."""
    return status == PublishDoneStatus.TRACK_ENDED
