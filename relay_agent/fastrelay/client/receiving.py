"""The subscriber's side: subscriptions and fetches as streams of whole objects."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from fastrelay.client.assembly import Assembler
from fastrelay.client.errors import RequestFailedError, TooSlowError
from fastrelay.client.inbox import Inbox
from fastrelay.client.values import QueueLimits, ReceivedObject, SubgroupEnd
from fastrelay.moqt.codes import RequestErrorCode, StreamError
from fastrelay.moqt.events import (
    DatagramReceived,
    FetchData,
    FetchRange,
    ObjectHeader,
    SubgroupData,
    SubgroupHeader,
)
from fastrelay.moqt.keyvalue import TrackProperties
from fastrelay.moqt.messages import (
    FetchKind,
    FetchOk,
    Parameters,
    Publish,
    PublishDone,
    SubscribeOk,
)
from fastrelay.moqt.names import FullTrackName, Location

if TYPE_CHECKING:
    from fastrelay.client.client import Client

UNSEEN_TIMEOUT = 5.0
"""Seconds of silence after PUBLISH_DONE, before streams that it counted and that did not arrive are
given up: one reset before its header was seen is never known (draft-18 section 10.11)."""
OPEN_TIMEOUT = 15.0
"""The same, while streams are open: what was lost is sent again, after four losses in a row
seconds later (RFC 9002 section 6.2.1); only a broken publisher never ends them."""


class SubgroupStream:
    """One incoming subgroup stream of a subscription."""

    def __init__(self, stream_id: int, header: SubgroupHeader) -> None:
        self.stream_id = stream_id
        self.header = header
        self.subgroup_id = header.subgroup_id
        self._objects = Assembler()

    def feed(self, event: SubgroupData, subscription: Subscription, now: float) -> bool:
        """Pass whole objects on; False when the reader is too slow for them."""
        priority = self.header.publisher_priority
        for header, payload, at in self._objects.feed(event.body, event.objects, now):
            assert isinstance(header, ObjectHeader)
            self.subgroup_id = header.subgroup_id
            if not subscription.inbox.has_room(len(payload)):
                return False
            subscription.inbox.put(
                ReceivedObject(
                    header.location,
                    header.subgroup_id,
                    subscription.default_priority if priority is None else priority,
                    header.properties,
                    header.status,
                    payload,
                    False,
                    at,
                    now,
                ),
                len(payload),
            )
        return subscription.inbox.has_room(self._objects.held)

    def end(self, subscription: Subscription, reset: int | None) -> None:
        header = self.header
        subscription.inbox.put(
            SubgroupEnd(
                header.group_id, self.subgroup_id, reset, header.end_of_group and reset is None
            )
        )


class Subscription:
    """An established subscription: iterate it for objects and the ends of subgroups.

    Items come in the order of arrival: within a subgroup in order, between them in any. The
    iteration ends after PUBLISH_DONE and the last stream, and raises ``SessionLostError`` or
    ``RequestFailedError`` when the subscription broke. A subgroup that finds the queue full is
    stopped and ends with TOO_FAR_BEHIND, so there is never a hole inside of a subgroup. As an
    async context manager it unsubscribes at the end.
    """

    def __init__(
        self,
        client: Client,
        track: FullTrackName,
        established: SubscribeOk | Publish,
        queue: QueueLimits,
    ) -> None:
        self.track = track
        self.established = established
        self.request_id = established.request_id
        self.largest: Location | None = established.parameters.largest_object
        """The newest object when the subscription began."""
        self.properties = established.properties
        """The track's properties, in the session's varint family."""
        self.default_priority = TrackProperties.parse(
            established.properties, client.draft
        ).default_priority
        self.done: PublishDone | None = None
        self.fill: FetchStream | None = None
        """The fill that was asked for with the subscription (draft 20 on)."""
        self.inbox: Inbox[ReceivedObject | SubgroupEnd] = Inbox(queue)
        self._client = client
        self._open: dict[int, SubgroupStream] = {}
        self._streams_seen = 0
        self._patience: asyncio.TimerHandle | None = None
        """After PUBLISH_DONE: when to end without the rest."""

    def __aiter__(self) -> Inbox[ReceivedObject | SubgroupEnd]:
        return self.inbox

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def update(self, parameters: Parameters) -> None:
        """REQUEST_UPDATE: forward, priority, filter, timeouts or a new-group request.

        :raises RequestFailedError: the publisher refused.
        """
        await self._client.update(self.request_id, parameters)

    async def joining_fetch(self, groups_back: int = 0) -> FetchStream:
        """What was published before the subscription: from the start of the group
        ``groups_back`` before the current one to the object before the first live one.

        Draft 20 on has no joining fetch; a fetch of the same range means the same.

        :raises RequestFailedError: there is nothing there, or it is refused.
        """
        client = self._client
        if not client.draft.fill:
            return await client.fetch_range(
                kind=FetchKind.RELATIVE_JOINING,
                joining_request_id=self.request_id,
                joining_start=groups_back,
            )
        if self.largest is None:
            raise RequestFailedError(RequestErrorCode.INVALID_RANGE, "nothing was published yet")
        start = Location(max(0, self.largest.group - groups_back), 0)
        return await client.fetch(self.track, start, self.largest.group, self.largest.object)

    def close(self) -> None:
        """Unsubscribe; the iteration ends at once."""
        if self.done is None and not self.inbox.ended:
            self._client.session.cancel(self.request_id)
        self.inbox.discard()
        self._leave()

    # -- for the client

    def opened(self, stream_id: int, header: SubgroupHeader) -> None:
        self._streams_seen += 1
        self._open[stream_id] = SubgroupStream(stream_id, header)
        self._wait_for_the_rest()

    def data(self, event: SubgroupData) -> None:
        stream = self._open.get(event.stream_id)
        if stream is None:
            return
        self._wait_for_the_rest()
        if not stream.feed(event, self, time.monotonic()):
            self._client.session.stop(event.stream_id, StreamError.TOO_FAR_BEHIND)
            self._stream_ended(event.stream_id, StreamError.TOO_FAR_BEHIND)
        elif event.fin:
            self._stream_ended(event.stream_id, None)

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._open:
            self._stream_ended(stream_id, code)

    def datagram(self, event: DatagramReceived) -> None:
        if not self.inbox.has_room(len(event.payload)):
            return
        now = time.monotonic()
        priority = event.publisher_priority
        self.inbox.put(
            ReceivedObject(
                event.location,
                event.location.object,
                self.default_priority if priority is None else priority,
                event.properties,
                event.status,
                event.payload,
                True,
                now,
                now,
            ),
            len(event.payload),
        )

    def publish_done(self, done: PublishDone) -> None:
        self.done = done
        self._wait_for_the_rest()
        self._end_if_complete()

    def broken(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self.inbox.end(error)
        if self.fill is not None and error is not None:
            self.fill.inbox.end(error)
        self._leave()

    def _stream_ended(self, stream_id: int, reset: int | None) -> None:
        self._open.pop(stream_id).end(self, reset)
        self._client.readers.remove_stream(stream_id)
        self._wait_for_the_rest()
        self._end_if_complete()

    def _wait_for_the_rest(self) -> None:
        if self.done is None:
            return
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(
            OPEN_TIMEOUT if self._open else UNSEEN_TIMEOUT, self.broken, None
        )

    def _end_if_complete(self) -> None:
        count = None if self.done is None else self.done.stream_count
        if count is not None and self._streams_seen >= count and not self._open:
            self.broken(None)

    def _leave(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        for stream_id in self._open:
            self._client.readers.remove_stream(stream_id)
        self._open.clear()
        self._client.readers.remove_subscription(self)


class FetchStream:
    """The objects of a FETCH or of a fill, and the ranges in which there are none.

    Nothing may be left out here, so a reader that lets the queue overflow loses the fetch
    with :class:`~fastrelay.client.errors.TooSlowError`.
    """

    def __init__(self, client: Client, request_id: int, queue: QueueLimits) -> None:
        self.request_id = request_id
        self.ok: FetchOk | None = None
        """The answer; None of a fill, which has none."""
        self.inbox: Inbox[ReceivedObject | FetchRange] = Inbox(queue)
        self._client = client
        self._stream_id: int | None = None
        self._objects = Assembler()

    def __aiter__(self) -> Inbox[ReceivedObject | FetchRange]:
        return self.inbox

    def close(self) -> None:
        """Give the fetch up."""
        if not self.inbox.ended:
            self._abandon()
        self.inbox.discard()

    # -- for the client

    def opened(self, stream_id: int) -> None:
        self._stream_id = stream_id

    def data(self, event: FetchData) -> None:
        now = time.monotonic()
        for header, payload, at in self._objects.feed(event.body, event.objects, now):
            if isinstance(header, FetchRange):
                self.inbox.put(header)
                continue
            if not self.inbox.has_room(len(payload)):
                self._abandon()
                self.inbox.end(TooSlowError("the fetch's queue is full"))
                return
            self.inbox.put(
                ReceivedObject(
                    header.location,
                    header.subgroup_id,
                    128 if header.publisher_priority is None else header.publisher_priority,
                    header.properties,
                    header.status,
                    payload,
                    header.datagram,
                    at,
                    now,
                ),
                len(payload),
            )
        if event.fin:
            self.broken(None)

    def broken(self, error: Exception | None) -> None:
        self.inbox.end(error)
        self._client.readers.remove_fetch(self.request_id)

    def _abandon(self) -> None:
        if self.ok is not None:
            self._client.session.cancel(self.request_id)
        elif self._stream_id is not None:
            self._client.session.stop(self._stream_id, StreamError.CANCELLED)
        self._client.readers.remove_fetch(self.request_id)
