"""A relay with real sessions on wires in memory, and peers that remember what they got."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.fetches import FetchEncoder
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location, ObjectStatus
from fastrelay.moqt.objects import encode_object
from fastrelay.moqt.session import Session
from fastrelay.quic.measurements import Measurements
from fastrelay.relay.core import Relay
from fastrelay.relay.feed import Feed
from fastrelay.relay.options import RelayOptions
from fastrelay.relay.ports import PeerInfo, Silent, Upstreams

NEXT_OBJECT = LocationFilter(FilterKind.NEXT_OBJECT)
TRACK = FullTrackName((b"live", b"demo"), b"video")
LOW_WATER = 64 * 1024
STILL = Measurements(
    min_rtt=0.0,
    smoothed_rtt=0.0,
    latest_rtt=0.0,
    rtt_variance=0.0,
    jitter=0.0,
    delivery_rate=None,
    application_limited=True,
    bandwidth=None,
    delivered=0,
    lost=0,
    loss=0.0,
    bytes_in_flight=0,
    congestion_window=12000,
)
"""Of a connection that has sent nothing."""
SIZED = ("stream_data", "piece")
"""What counts as backlog."""
FROM_A_STREAM = (*SIZED, "stream_reset")


class End:
    """One end of a wire: a transport whose bytes wait until the wire delivers them.

    ``room``: how many bytes of unidirectional streams and datagrams it still lets through;
    None: all.
    """

    is_webtransport = False
    max_datagram_size = 1200
    low_water = LOW_WATER

    def __init__(self, *, is_client: bool) -> None:
        self.is_client = is_client
        self.receiver: Session | None = None
        self.other: End | None = None
        self.queue: deque[tuple[str, tuple[Any, ...]]] = deque()
        self.held: deque[tuple[str, tuple[Any, ...]]] = deque()
        self.room: int | None = None
        self.backlog = 0
        self.dead: set[int] = set()
        self.stopped: set[int] = set()
        """Streams of the peer that bring nothing more."""
        self.closed: tuple[int, str] | None = None
        self._next = {False: 0, True: 0}

    def open_stream(self, *, unidirectional: bool) -> int:
        number = self._next[unidirectional]
        self._next[unidirectional] += 1
        return number * 4 + (2 if unidirectional else 0) + (0 if self.is_client else 1)

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        if stream_id in self.dead or self.closed:
            return
        if fin:
            self.dead.add(stream_id)
        self._put("stream_data", (stream_id, bytes(data), fin), stream_id & 2, len(data))

    def _put(self, method: str, values: tuple[Any, ...], limited: int, size: int) -> None:
        if not limited or self.room is None:
            self.queue.append((method, values))
            return
        self.held.append((method, values))
        self.backlog += size
        self.release()

    def release(self) -> None:
        """Let through what there is room for."""
        while self.held:
            method, values = self.held[0]
            size = len(values[1]) if method in SIZED else 0
            if self.room is not None and self.room <= 0:
                return
            if self.room is not None:
                self.room -= size
            self.backlog -= size
            self.queue.append(self.held.popleft())

    def reset(self, stream_id: int, code: int) -> None:
        held = any(values[0] == stream_id for _, values in self.held)
        if (stream_id in self.dead and not held) or self.closed:
            return
        self.dead.add(stream_id)
        kept = [(m, v) for m, v in self.held if v[0] != stream_id]
        self.held = deque(kept)
        self.backlog = sum(len(v[1]) for m, v in kept if m in SIZED)
        self.queue.append(("stream_reset", (stream_id, code)))

    def is_sending(self, stream_id: int) -> bool:
        """What is on the wire counts as acknowledged."""
        return any(values[0] == stream_id for _, values in self.held)

    def stop(self, stream_id: int, code: int) -> None:
        if not self.closed:
            self.stopped.add(stream_id)
            self.queue.append(("stream_stopped", (stream_id, code)))

    def send_datagram(self, data: bytes) -> bool:
        if len(data) > self.max_datagram_size:
            return False
        self.queue.append(("datagram", (bytes(data),)))
        return True

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self.queue.append(("closed", (code, reason)))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Remembering(Silent):
    """An observer that a test can ask."""

    def __init__(self) -> None:
        self.joins: list[float] = []
        self.drops: list[tuple[str, str]] = []
        self.logs: list[str] = []

    def joined(self, seconds: float) -> None:
        self.joins.append(seconds)

    def dropped(self, reason: str, what: str) -> None:
        self.drops.append((reason, what))

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logs.append(event)


@dataclass
class Stream:
    """A data stream as it was received."""

    header: ev.SubgroupHeader | None = None
    request_id: int | None = None
    body: bytearray = field(default_factory=bytearray)
    items: list[ev.ObjectHeader | ev.FetchRange] = field(default_factory=list)
    fin: bool = False
    reset: int | None = None

    @property
    def objects(self) -> list[tuple[int, int, bytes]]:
        """Group, object id and payload of those that are complete."""
        return [
            (*item.location, bytes(self.body[item.payload_start : item.end]))
            for item in self.items
            if isinstance(item, ev.ObjectHeader) and item.end <= len(self.body)
        ]


class Client:
    """A peer of the relay, with a real session."""

    def __init__(self, world: World, draft: Draft, info: PeerInfo, **setup: Any) -> None:
        self.world = world
        self.draft = draft
        relay_is_client = info.upstream is not None
        self.end = world.make_end(not relay_is_client)
        self.relay_end = world.make_end(relay_is_client)
        self.end.other, self.relay_end.other = self.relay_end, self.end
        self.events: list[ev.Event] = []
        self.streams: dict[int, Stream] = {}
        self.datagrams: list[ev.DatagramReceived] = []
        self.closed: ev.SessionClosed | None = None
        self.session = Session(self.end, draft, self._on_event, **setup)  # type: ignore[arg-type]
        relay = world.relay
        box: list[Session] = []
        self.relay_session = Session(
            self.relay_end,  # type: ignore[arg-type]
            draft,
            lambda event: relay.on_event(box[0], event),
            limits=world.session_limits,
            implementation=relay.implementation,
        )
        box.append(self.relay_session)
        self.end.receiver = self.session
        self.relay_end.receiver = self.relay_session
        relay.session_opened(self.relay_session, info)
        world.clients.append(self)
        world.opened(self)
        self.session.start()
        self.relay_session.start()
        world.run()

    def _on_event(self, event: ev.Event) -> None:
        self.events.append(event)
        if isinstance(event, ev.SubgroupOpened):
            self.streams[event.stream_id] = Stream(header=event.header)
        elif isinstance(event, ev.FetchOpened):
            self.streams[event.stream_id] = Stream(request_id=event.request_id)
        elif isinstance(event, ev.SubgroupData | ev.FetchData):
            stream = self.streams[event.stream_id]
            stream.body += event.body
            stream.items += event.objects
            stream.fin = event.fin
        elif isinstance(event, ev.DataStreamReset):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].reset = event.code
        elif isinstance(event, ev.DatagramReceived):
            self.datagrams.append(event)
        elif isinstance(event, ev.SessionClosed):
            self.closed = event

    # What came

    def take(self, kind: type) -> list[Any]:
        """Events of one kind since the last call, oldest first."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def answer(self, request_id: int) -> ms.Answer:
        """The answer to a request of this peer."""
        for event in self.events:
            if isinstance(event, ev.AnswerReceived) and event.answer.request_id == request_id:
                return event.answer
        raise AssertionError(f"no answer to {request_id}")

    def answered(self, request_id: int) -> bool:
        return any(
            isinstance(e, ev.AnswerReceived) and e.answer.request_id == request_id
            for e in self.events
        )

    def requests(self, kind: type) -> list[Any]:
        """Requests of one kind from the relay, each returned once."""
        found = [
            e
            for e in self.events
            if isinstance(e, ev.RequestReceived) and isinstance(e.request, kind)
        ]
        self.events = [e for e in self.events if e not in found]
        return [e.request for e in found]

    def notifications(self, kind: type) -> list[Any]:
        return [
            e.notification
            for e in self.take(ev.NotificationReceived)
            if isinstance(e.notification, kind)
        ]

    @property
    def objects(self) -> list[tuple[int, int, bytes]]:
        """All complete objects of subgroup streams and datagrams, sorted."""
        found = [o for s in self.streams.values() if s.header is not None for o in s.objects]
        found += [(*d.location, d.payload) for d in self.datagrams]
        return sorted(found)

    @property
    def ids(self) -> list[tuple[int, int]]:
        return [(group, object_id) for group, object_id, _ in self.objects]

    def fetched(self, request_id: int) -> Stream:
        for stream in self.streams.values():
            if stream.request_id == request_id:
                return stream
        raise AssertionError(f"no fetch stream for {request_id}")

    # What this peer does

    def run(self) -> Client:
        self.world.run()
        return self

    def subscribe(self, track: FullTrackName = TRACK, **parameters: Any) -> int:
        request_id = self.session.subscribe(track, Parameters(**parameters))
        self.world.run()
        return request_id

    def announce(self, *namespace: bytes, **parameters: Any) -> int:
        request_id = self.session.publish_namespace(namespace, Parameters(**parameters))
        self.world.run()
        return request_id

    def status(self, track: FullTrackName = TRACK, **parameters: Any) -> int:
        request_id = self.session.track_status(track, Parameters(**parameters))
        self.world.run()
        return request_id

    def fetch(
        self,
        start: tuple[int, int],
        end_group: int,
        end_object: int | None = None,
        track: FullTrackName = TRACK,
        **parameters: Any,
    ) -> int:
        request_id = self.session.fetch(
            ms.FetchKind.STANDALONE,
            track=track,
            start=Location(*start),
            end_group=end_group,
            end_object=end_object,
            parameters=Parameters(**parameters),
        )
        self.world.run()
        return request_id

    def joining_fetch(self, request_id: int, groups: int = 0, **parameters: Any) -> int:
        fetch_id = self.session.fetch(
            ms.FetchKind.RELATIVE_JOINING,
            joining_request_id=request_id,
            joining_start=groups,
            parameters=Parameters(**parameters),
        )
        self.world.run()
        return fetch_id

    def update(self, request_id: int, **parameters: Any) -> int:
        update_id = self.session.update(request_id, Parameters(**parameters))
        self.world.run()
        return update_id

    def leave(self) -> None:
        self.session.close(0, "bye")
        self.world.run()

    # Slow peers

    def stall(self, room: int = 0) -> None:
        """The way from the relay takes this many bytes more."""
        self.relay_end.room = room

    def resume(self, room: int | None = None) -> None:
        self.relay_end.room = room
        self.relay_end.release()
        self.relay_session.writable()
        self.world.run()


class Publisher(Client):
    """A peer that answers SUBSCRIBE and FETCH for its tracks."""

    alias = 7

    def accept(
        self,
        largest: tuple[int, int] | None = None,
        properties: bytes = b"",
        alias: int | None = None,
        **parameters: Any,
    ) -> ms.Subscribe:
        """Answer the relay's (one) SUBSCRIBE."""
        (request,) = self.requests(ms.Subscribe)
        if alias is not None:
            self.alias = alias
        told = Parameters(
            largest_object=None if largest is None else Location(*largest), **parameters
        )
        self.session.respond(ms.SubscribeOk(request.request_id, self.alias, told, properties))
        self.world.run()
        return request

    def open(
        self,
        group: int,
        subgroup: int | None = 0,
        *,
        priority: int | None = 128,
        properties: bool = False,
        end_of_group: bool = False,
        first_object: bool = True,
        alias: int | None = None,
    ) -> Sending:
        header = ev.SubgroupHeader(
            self.alias if alias is None else alias,
            group,
            subgroup,
            priority,
            properties,
            end_of_group,
            first_object,
        )
        return Sending(self, header, self.session.open_subgroup(header))

    def group(self, group: int, count: int, **header: Any) -> None:
        """A whole group in one stream."""
        stream = self.open(group, **header)
        for object_id in range(count):
            stream.write(object_id)
        stream.close()

    def datagram(self, group: int, object_id: int, payload: bytes = b"", **fields: Any) -> None:
        raw = encode_datagram(
            self.alias,
            Location(group, object_id),
            fields.pop("priority", 128),
            payload or content(group, object_id),
            self.draft,
            **fields,
        )
        self.session.send_datagram(raw)
        self.world.run()

    def relay_feeds(self) -> list[int]:
        """Ids of the relay's subscriptions to this publisher that live."""
        peer = self.world.relay._peers[self.relay_session]
        return [i for i, handle in peer.handles.items() if isinstance(handle, Feed)]

    def serve_fetch(
        self, objects: list[tuple[int, int, bytes]], *, end: tuple[int, int] | None = None
    ) -> ms.Fetch:
        """Answer the relay's (one) FETCH with these objects, all of subgroup 0."""
        (request,) = self.requests(ms.Fetch)
        last = end or objects[-1][:2]
        self.session.respond(ms.FetchOk(request.request_id, False, *last))
        stream_id = self.session.open_fetch(request.request_id)
        encoder = FetchEncoder(self.draft)
        for group, object_id, payload in objects:
            head = encoder.object(Location(group, object_id), 0, 128, len(payload))
            self.session.send(stream_id, head + payload)
        self.session.send(stream_id, b"", True)
        self.world.run()
        return request


class Sending:
    """A subgroup stream of a publisher."""

    def __init__(self, publisher: Publisher, header: ev.SubgroupHeader, stream_id: int) -> None:
        self.publisher = publisher
        self.header = header
        self.stream_id = stream_id
        self.previous: int | None = None
        publisher.world.run()

    def encode(
        self,
        object_id: int,
        payload: bytes | None = None,
        properties: bytes | None = None,
        status: ObjectStatus = ObjectStatus.NORMAL,
    ) -> bytes:
        if payload is None:
            payload = content(self.header.group_id, object_id) if not status else b""
        if properties is None and self.header.has_properties:
            properties = b""
        head = encode_object(
            object_id,
            self.previous,
            len(payload),
            self.publisher.draft.varints,
            properties,
            status,
        )
        self.previous = object_id
        return head + payload

    def write(self, object_id: int, payload: bytes | None = None, **fields: Any) -> None:
        self.raw(self.encode(object_id, payload, **fields))

    def raw(self, data: bytes, fin: bool = False) -> None:
        self.publisher.session.send(self.stream_id, data, fin)
        self.publisher.world.run()

    def close(self) -> None:
        self.raw(b"", True)

    def reset(self, code: int = 1) -> None:
        self.publisher.session.reset(self.stream_id, code)
        self.publisher.world.run()


class World:
    """A relay, its clock and everybody connected to it."""

    def __init__(self, options: RelayOptions | None = None, *, upstreams: Upstreams | None = None):
        self.clock = Clock()
        self.observer = Remembering()
        more: dict[str, Any] = {} if upstreams is None else {"upstreams": upstreams}
        self.relay = Relay(
            options or RelayOptions(), clock=self.clock, observer=self.observer, **more
        )
        self.session_limits = SessionLimits()
        """Of the relay's side of sessions that begin from now on."""
        self.clients: list[Client] = []

    def make_end(self, is_client: bool) -> End:
        return End(is_client=is_client)

    def opened(self, client: Client) -> None:
        """The relay knows the session of a client, which has not begun yet."""

    def client(self, draft: Draft = DRAFT_18, **setup: Any) -> Client:
        return Client(self, draft, PeerInfo(address=f"client-{len(self.clients)}"), **setup)

    def publisher(self, draft: Draft = DRAFT_18, **setup: Any) -> Publisher:
        return Publisher(self, draft, PeerInfo(address=f"publisher-{len(self.clients)}"), **setup)

    def upstream(self, draft: Draft = DRAFT_18, **setup: Any) -> Publisher:
        info = PeerInfo(address="upstream", upstream="moqt://upstream:4443")
        return Publisher(self, draft, info, **setup)

    def run(self) -> None:
        """Deliver everything that is on a wire."""
        moved = True
        while moved:
            moved = False
            for client in self.clients:
                for end in (client.end, client.relay_end):
                    while end.queue:
                        moved = True
                        self.deliver(client, end)

    def deliver(self, client: Client, end: End) -> None:
        """Something that waits on a wire arrives at its other end."""
        method, values = end.queue.popleft()
        assert end.other is not None
        if method in FROM_A_STREAM and values[0] in end.other.stopped:
            return
        getattr(end.other.receiver, method)(*values)

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 0.25)
            self.relay.expire(self.clock.now)
            self.run()

    def assert_empty(self) -> None:
        """Everybody left and everything expired: nothing must remain."""
        for client in list(self.clients):
            if client.closed is None:
                client.leave()
        self.wait(60)
        relay = self.relay
        assert relay.tracks == {}
        assert relay.cache.total == 0
        assert not relay.cache.recent
        assert not relay.cache.stores
        assert len(relay.namespaces) == 0
        assert relay.idle


def asking() -> tuple[World, Publisher, Client, int]:
    """A viewer that has subscribed and wants the current group by a joining FETCH, of which the
    id; the publisher has answered nothing yet."""
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    return world, publisher, viewer, viewer.joining_fetch(viewer.subscribe(filter=NEXT_OBJECT))


def content(group: int, object_id: int) -> bytes:
    return b"object %d/%d " % (group, object_id) * 3


def expect(*places: tuple[int, int]) -> list[tuple[int, int, bytes]]:
    return [(group, object_id, content(group, object_id)) for group, object_id in places]
