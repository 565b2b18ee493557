"""A transport in memory: two sessions back to back, or one session and a scripted peer."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fastrelay.moqt.codec import decode, encode, split
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import Event, SessionClosed
from fastrelay.moqt.messages import Message, Setup
from fastrelay.moqt.objects import CONTROL_STREAM
from fastrelay.moqt.session import Session
from fastrelay.moqt.transport import Receiver


@dataclass
class Wire:
    """Half a connection: what one end sent, by stream, in order.

    Behaves as ``moqt.transport.Transport`` promises: bytes after a FIN or reset are dropped,
    STOP_SENDING is answered with a reset by the other end, and brings silence to this one.
    """

    is_client: bool
    is_webtransport: bool = False
    max_datagram_size: int = 1200
    backlog: int = 0
    peer: Wire | None = None
    receiver: Receiver | None = None
    sent: dict[int, bytearray] = field(default_factory=dict)
    finished: dict[int, int | None] = field(default_factory=dict)
    """Ended streams: None for a FIN, else the code of the reset."""
    stopped: dict[int, int] = field(default_factory=dict)
    datagrams: list[bytes] = field(default_factory=list)
    closed_with: tuple[int, str] | None = None
    queue: deque[tuple[object, ...]] = field(default_factory=deque)
    """What the other end has not seen: (kind, stream id, ...)."""
    _next: dict[bool, int] = field(default_factory=dict)

    def open_stream(self, *, unidirectional: bool) -> int:
        base = (0 if self.is_client else 1) + (2 if unidirectional else 0)
        number = self._next.get(unidirectional, 0)
        self._next[unidirectional] = number + 1
        stream_id = base + 4 * number
        self.sent[stream_id] = bytearray()
        return stream_id

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        if stream_id in self.finished or self.closed_with:
            return
        self.sent.setdefault(stream_id, bytearray()).extend(data)
        if fin:
            self.finished[stream_id] = None
        self.queue.append(("data", stream_id, bytes(data), fin))

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id not in self.finished and not self.closed_with:
            self.finished[stream_id] = code
            self.queue.append(("reset", stream_id, code))

    def stop(self, stream_id: int, code: int) -> None:
        if not self.closed_with:
            self.stopped.setdefault(stream_id, code)
            self.queue.append(("stop", stream_id, code))

    def send_datagram(self, data: bytes) -> bool:
        if self.closed_with or len(data) > self.max_datagram_size:
            return False
        self.datagrams.append(data)
        self.queue.append(("datagram", data))
        return True

    def close(self, code: int, reason: str) -> None:
        if not self.closed_with:
            self.closed_with = (code, reason)
            self.queue.append(("close", code, reason))


class Pair:
    """A client and a server session of one draft; :meth:`run` delivers until all is quiet.

    :param chunks: seed of a random chunking and interleaving of streams; None: as sent.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        webtransport: bool = False,
        chunks: int | None = None,
        start: bool = True,
        client: dict[str, object] | None = None,
        server: dict[str, object] | None = None,
    ) -> None:
        self.random = None if chunks is None else random.Random(chunks)
        self.wires = (Wire(True, webtransport), Wire(False, webtransport))
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []
        self.on_client: Callable[[Event], None] = lambda event: None
        self.on_server: Callable[[Event], None] = lambda event: None
        self.client = Session(self.wires[0], draft, self._client, **(client or {}))  # type: ignore[arg-type]
        self.server = Session(self.wires[1], draft, self._server, **(server or {}))  # type: ignore[arg-type]
        self.sessions = (self.client, self.server)
        if start:
            self.client.start()
            self.server.start()
            self.run()

    def _client(self, event: Event) -> None:
        self.client_events.append(event)
        self.on_client(event)

    def _server(self, event: Event) -> None:
        self.server_events.append(event)
        self.on_server(event)

    def run(self) -> None:
        """Deliver everything, and what that causes."""
        while self.wires[0].queue or self.wires[1].queue:
            for wire, session in ((self.wires[0], self.server), (self.wires[1], self.client)):
                self._deliver(wire, session)

    def _deliver(self, wire: Wire, session: Session) -> None:
        batch = list(wire.queue)
        wire.queue.clear()
        if self.random:
            batch = self._chunked(batch)
        other = self.wires[1] if wire is self.wires[0] else self.wires[0]
        for item in batch:
            if item[0] in ("data", "reset") and item[1] in other.stopped:
                continue
            match item:
                case ("data", int(stream_id), bytes(data), bool(fin)):
                    session.stream_data(stream_id, data, fin)
                case ("reset", int(stream_id), int(code)):
                    session.stream_reset(stream_id, code)
                case ("stop", int(stream_id), int(code)):
                    other.reset(stream_id, code)
                    session.stream_stopped(stream_id, code)
                case ("datagram", bytes(data)):
                    session.datagram(data)
                case ("close", int(code), str(reason)):
                    session.closed(code, reason)

    def _chunked(self, batch: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
        """Cut data anywhere; keep the order within a stream, mix the streams."""
        assert self.random
        queues: dict[object, deque[tuple[object, ...]]] = {}
        for item in batch:
            if item[0] == "close":
                continue
            queue = queues.setdefault(item[1] if item[0] != "datagram" else None, deque())
            if item[0] == "data":
                _, stream_id, data, fin = item
                assert isinstance(data, bytes)
                while len(data) > 1 and self.random.random() < 0.7:
                    cut = self.random.randrange(1, len(data))
                    queue.append(("data", stream_id, data[:cut], False))
                    data = data[cut:]
                queue.append(("data", stream_id, data, fin))
            else:
                queue.append(item)
        mixed = []
        while queues:
            key = self.random.choice(list(queues))
            mixed.append(queues[key].popleft())
            if not queues[key]:
                del queues[key]
        return mixed + [item for item in batch if item[0] == "close"]


class Peer:
    """A scripted peer of one session: it can say anything.

    :param client: whether the *session* is the client.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        client: bool = False,
        webtransport: bool = False,
        setup: Setup | None = None,
        start: bool = True,
        **options: object,
    ) -> None:
        self.draft = draft
        self.wire = Wire(client, webtransport)
        self.events: list[Event] = []
        self.handler: Callable[[Event], None] = lambda event: None
        self.session = Session(self.wire, draft, self._event, **options)  # type: ignore[arg-type]
        self._next = {False: 1 if client else 0, True: 3 if client else 2}
        self.session.start()
        self.control: int
        """The stream on which the peer writes control messages."""
        if start:
            self.set_up(setup or Setup(max_request_id=1000, max_auth_token_cache_size=1000))

    def _event(self, event: Event) -> None:
        self.events.append(event)
        self.handler(event)

    def set_up(self, setup: Setup) -> None:
        if self.draft.request_streams:
            self.control = self.new(unidirectional=True)
        elif self.wire.is_client:
            self.control = 0
        else:
            self.control = self.new()
        self.say(self.control, setup)

    def new(self, *, unidirectional: bool = False) -> int:
        """An unused stream id of the peer."""
        stream_id = self._next[unidirectional]
        self._next[unidirectional] += 4
        return stream_id

    def bytes_of(self, message: Message, *, publish_ok: bool = False) -> bytes:
        return encode(message, self.draft, is_client=not self.wire.is_client, publish_ok=publish_ok)

    def say(self, stream_id: int, *messages: Message, fin: bool = False) -> int:
        """Messages on a stream; returns the stream."""
        data = b"".join(map(self.bytes_of, messages))
        self.session.stream_data(stream_id, data, fin)
        return stream_id

    def request(self, message: Message, *, fin: bool = False) -> int:
        """A request, where the draft wants it; returns its stream."""
        own = self.draft.request_streams or type(message).__name__ == "SubscribeNamespace"
        return self.say(self.new() if own else self.control, message, fin=fin)

    def data(self, data: bytes, *, fin: bool = False) -> int:
        """A new unidirectional stream."""
        stream_id = self.new(unidirectional=True)
        self.session.stream_data(stream_id, data, fin)
        return stream_id

    def heard(self, stream_id: int) -> list[Message]:
        """The messages that the session has sent on a stream."""
        data = bytes(self.wire.sent.get(stream_id, b""))
        position, messages = 0, []
        while message := split(data, position, self.draft):
            kind, body, position = message
            messages.append(decode(kind, body, self.draft, from_client=self.wire.is_client))
        assert position == len(data)
        return messages

    @property
    def session_control(self) -> int:
        """The stream on which the session writes control messages."""
        if not self.draft.request_streams:
            return self.control
        prefix = self.draft.varints.encode(CONTROL_STREAM)
        return next(i for i, data in self.wire.sent.items() if data.startswith(prefix))

    def answers(self, stream_id: int) -> list[Message]:
        """What the session said on a request's stream, or, in draft 16, on the control stream
        after SETUP."""
        if stream_id == self.session_control:
            return self.heard(stream_id)[1:]
        return self.heard(stream_id)

    @property
    def closed_with(self) -> int | None:
        """The code with which the session closed."""
        return None if self.wire.closed_with is None else self.wire.closed_with[0]

    @property
    def last(self) -> Event:
        return self.events[-1]

    def assert_closed(self, code: int) -> None:
        assert self.wire.closed_with is not None, f"open; events: {self.events[-3:]}"
        assert self.closed_with == code, self.wire.closed_with
        assert isinstance(self.last, SessionClosed)
        assert self.last.code == code
