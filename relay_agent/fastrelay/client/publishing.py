"""The publisher's side: tracks that answer SUBSCRIBE, FETCH and TRACK_STATUS by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fastrelay.client.feed import Feed
from fastrelay.client.subgroup import KeptGroup, KeptObject, Subgroup
from fastrelay.client.window import Window, after, fetch_window, fill_window, subscription_window
from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.moqt.events import FetchRange
from fastrelay.moqt.fetches import FetchEncoder
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    Parameters,
    PublishDone,
    RequestOk,
    Subscribe,
    SubscribeOk,
    TrackStatus,
)
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, ObjectStatus

if TYPE_CHECKING:
    from fastrelay.client.client import Client

_LAST_OBJECT = (1 << 62) - 1
_UNKNOWN_RANGE = 0x10C


class PublishedTrack:
    """A track of this client, made by :meth:`Client.add_track`.

    Everything that subscribed gets what is written; the newest ``keep_groups`` groups stay to
    answer FETCH and subscriptions that begin in the past. Writing only queues: see
    :meth:`Client.drain`. A subscriber whose connection has more than ``max_backlog`` bytes
    queued is not given new subgroups.
    """

    def __init__(
        self,
        client: Client,
        name: FullTrackName,
        alias: int,
        *,
        priority: int,
        properties: bytes,
        keep_groups: int,
        max_backlog: int,
    ) -> None:
        self.name = name
        self.alias = alias
        self.priority = priority
        self.largest: Location | None = None
        self.on_new_group: Callable[[int], None] | None = None
        """Called with the wire's value when a subscriber asks for a new group: the group id
        that it wants at least, plus 1; 0 for any."""
        self.max_backlog = max_backlog
        self.ended = False
        self._client = client
        self._properties = self.in_session_family(properties)
        self._keep_groups = keep_groups
        self._groups: dict[int, KeptGroup] = {}
        self._feeds: dict[int, Feed] = {}
        self._subscribed = asyncio.Event()

    # -- for the user

    @property
    def subscribers(self) -> int:
        """How many subscriptions want objects now (forward 1)."""
        return sum(feed.forward for feed in self._feeds.values())

    async def wait_subscribed(self) -> None:
        """Wait until somebody wants objects."""
        while not self.subscribers:
            self._subscribed.clear()
            await self._subscribed.wait()

    async def publish(self) -> None:
        """Push the track with PUBLISH; once accepted it has one subscriber more.

        :raises RequestFailedError: the peer does not want it.
        """
        await self._client.publish(self, Parameters(largest_object=self.largest), self._properties)

    def open_subgroup(
        self,
        group_id: int,
        subgroup_id: int = 0,
        *,
        priority: int | None = None,
        properties: bool = False,
        end_of_group: bool = False,
    ) -> Subgroup:
        """Begin a subgroup, and with a new ``group_id`` a group.

        :param properties: objects of this subgroup may carry properties.
        :param end_of_group: the last object before ``close`` is the last of the group.
        """
        subgroups = self._group(group_id).subgroups
        if subgroup_id in subgroups:
            raise ValueError(f"subgroup {subgroup_id} of group {group_id} exists already")
        subgroup = Subgroup(
            self,
            group_id,
            subgroup_id,
            self.priority if priority is None else priority,
            properties,
            end_of_group,
        )
        subgroups[subgroup_id] = subgroup
        return subgroup

    def send_datagram(
        self,
        group_id: int,
        object_id: int,
        payload: bytes,
        *,
        properties: bytes = b"",
        priority: int | None = None,
        end_of_group: bool = False,
    ) -> None:
        """Publish one object as a datagram; one that does not fit the path is dropped."""
        kept = KeptObject(
            Location(group_id, object_id),
            object_id,
            self.priority if priority is None else priority,
            self.in_session_family(properties) if properties else None,
            ObjectStatus.NORMAL,
            payload,
            True,
        )
        self._group(group_id).datagrams.append(kept)
        self.note_largest(kept.location)
        raw = encode_datagram(
            self.alias,
            kept.location,
            kept.priority,
            payload,
            self._client.draft,
            properties=kept.properties,
            end_of_group=end_of_group,
        )
        for feed in self.active_feeds():
            feed.datagram(kept.location, raw)

    def end(self, status: PublishDoneStatus = PublishDoneStatus.TRACK_ENDED) -> None:
        """PUBLISH_DONE to every subscriber; the track is no longer known. Subgroups still open
        are reset."""
        if self.ended:
            return
        self.ended = True
        for request_id in list(self._feeds):
            self._finish(request_id, status)
        self._client.publisher.remove(self)

    # -- for subgroups

    def in_session_family(self, properties: bytes) -> bytes:
        """Key-value pairs as this session writes them."""
        draft = self._client.draft
        if not properties or not draft.quic_varints:
            return properties
        return keyvalue.reencode(properties, DRAFT_18.varints, draft.varints)

    def note_largest(self, location: Location) -> None:
        if self.largest is None or location > self.largest:
            self.largest = location

    def active_feeds(self) -> Iterator[Feed]:
        """The feeds that get what is written now."""
        return iter([feed for feed in self._feeds.values() if feed.forward])

    # -- for the client: requests about this track

    def subscribe(self, request: Subscribe) -> None:
        parameters = request.parameters
        window = subscription_window(parameters.filter, self.largest)
        session = self._client.session
        if window.is_over(self.largest) and not self._client.draft.fill:
            session.reject(
                request.request_id, RequestErrorCode.INVALID_RANGE, "the range is in the past"
            )
            return
        session.respond(
            SubscribeOk(
                request.request_id,
                self.alias,
                Parameters(largest_object=self.largest),
                self._properties,
            )
        )
        self._client.publisher.add_feed(request.request_id, self)
        self.add_feed(request.request_id, window, parameters)
        if parameters.fill is not None and self.largest is not None:
            fill = fill_window(parameters.fill.filter, self.largest)
            order = parameters.fill.group_order
            self._send_range(request.request_id, fill, order == GroupOrder.DESCENDING)

    def add_feed(self, request_id: int, window: Window, parameters: Parameters) -> None:
        """A subscription begins, by SUBSCRIBE or by an accepted PUBLISH."""
        feed = Feed(self._client.session, request_id, self.alias, window, self)
        feed.forward = parameters.forward is not False
        feed.joining = self.largest
        self._feeds[request_id] = feed
        self._catch_up(feed)
        self._after_change(parameters)

    def update(self, request_id: int, update_id: int, parameters: Parameters) -> None:
        """REQUEST_UPDATE of a subscription."""
        feed = self._feeds[request_id]
        if parameters.filter is not None:
            feed.window = subscription_window(parameters.filter, self.largest)
        if parameters.forward is not None and parameters.forward != feed.forward:
            feed.set_forward(parameters.forward, self.largest)
            self._catch_up(feed)
        self._client.session.respond_update(
            request_id, update_id, Parameters(largest_object=self.largest)
        )
        self._after_change(parameters)

    def unsubscribe(self, request_id: int) -> None:
        self._feeds.pop(request_id).drop()

    def stream_stopped(self, stream_id: int) -> None:
        for feed in self._feeds.values():
            feed.stopped(stream_id)

    def track_status(self, request: TrackStatus) -> None:
        self._client.session.respond(
            RequestOk(request.request_id, Parameters(largest_object=self.largest), self._properties)
        )

    def fetch(self, request: Fetch) -> None:
        session = self._client.session
        largest = self.largest
        joining = None
        if request.kind is not FetchKind.STANDALONE:
            joining = self._feeds[request.joining_request_id].joining
        window = None if largest is None else fetch_window(request, largest, joining)
        if window is None or largest is None:
            session.reject(
                request.request_id, RequestErrorCode.INVALID_RANGE, "there is nothing in the range"
            )
            return
        end = min(window.end, largest)
        session.respond(
            FetchOk(
                request.request_id,
                False,
                end.group,
                None if window.end.object >= _LAST_OBJECT and end != largest else end.object,
                properties=self._properties,
            )
        )
        self._send_range(
            request.request_id, window, request.parameters.group_order == GroupOrder.DESCENDING
        )

    # -- inside

    def _group(self, group_id: int) -> KeptGroup:
        group = self._groups.get(group_id)
        if group is None:
            if self.largest is not None and group_id > self.largest.group:
                for request_id, feed in list(self._feeds.items()):
                    if feed.window.end < (group_id, 0) and not self._client.draft.fill:
                        self._finish(request_id, PublishDoneStatus.SUBSCRIPTION_ENDED)
            group = self._groups[group_id] = KeptGroup()
            for old in sorted(self._groups)[: -max(1, self._keep_groups)]:
                if all(subgroup.closed for subgroup in self._groups[old].subgroups.values()):
                    del self._groups[old]
        return group

    def _catch_up(self, feed: Feed) -> None:
        """What is kept and lies in the subscription's range, its beginning right behind a
        subgroup's end included."""
        if not feed.forward:
            return
        for group_id in sorted(g for g in self._groups if g >= feed.window.start.group):
            for subgroup in self._groups[group_id].subgroups.values():
                if not subgroup.objects:
                    continue
                for kept in subgroup.objects:
                    feed.object(subgroup, kept)
                if subgroup.reset_code is not None:
                    feed.reset(subgroup, subgroup.reset_code)
                elif subgroup.closed and after(kept.location) >= feed.window.start:
                    feed.fin(subgroup)

    def _send_range(self, request_id: int, window: Window, descending: bool) -> None:
        """A fetch stream with what is kept of a range."""
        session = self._client.session
        encoder = FetchEncoder(session.draft, descending)
        parts = []
        groups = sorted(self._groups, reverse=descending)
        oldest = min(self._groups)
        unknown = FetchRange(Location(oldest - 1, _LAST_OBJECT), _UNKNOWN_RANGE)
        if window.start.group < oldest and not descending:
            parts.append(encoder.range_end(unknown))
        for group_id in groups:
            group = self._groups[group_id]
            objects = [k for s in group.subgroups.values() for k in s.objects] + group.datagrams
            for kept in sorted(objects, key=lambda k: k.location):
                if kept.status is ObjectStatus.NORMAL and window.holds(kept.location):
                    parts.append(
                        encoder.object(
                            kept.location,
                            kept.subgroup_id,
                            kept.priority,
                            len(kept.payload),
                            kept.properties,
                            datagram=kept.datagram,
                        )
                    )
                    parts.append(kept.payload)
        if window.start.group < oldest and descending:
            parts.append(encoder.range_end(unknown))
        session.send(session.open_fetch(request_id), b"".join(parts), fin=True)

    def _finish(self, request_id: int, status: PublishDoneStatus) -> None:
        feed = self._feeds.pop(request_id)
        feed.drop()
        self._client.session.notify(
            request_id, PublishDone(request_id, status, feed.streams_opened)
        )
        self._client.publisher.remove_feed(request_id)

    def _after_change(self, parameters: Parameters) -> None:
        if self.subscribers:
            self._subscribed.set()
        if parameters.new_group_request is not None and self.on_new_group is not None:
            self.on_new_group(parameters.new_group_request)
