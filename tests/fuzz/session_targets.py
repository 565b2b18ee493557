"""What may happen to a session whatever its peer does: events in a sensible order, or one
``SessionClosed``.

The bytes are a program: they pick the draft and the side, then say what the peer sends (valid
messages, valid messages with a byte changed, any bytes, the ends of streams) and what the
owner does in between. The owner does only what it may, so every exception is a fault, and so
is an event that does not fit those before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrelay.moqt.codec import encode
from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import DRAFTS, Draft
from fastrelay.moqt.events import (
    AnswerReceived,
    Event,
    FetchData,
    FetchOpened,
    GoAwayReceived,
    NotificationReceived,
    RequestCancelled,
    RequestEnded,
    RequestReceived,
    RequestUpdated,
    SessionClosed,
    SubgroupData,
    SubgroupHeader,
    SubgroupOpened,
    TrackMalformed,
    UpdateAnswered,
)
from fastrelay.moqt.fetches import FetchEncoder, encode_fetch_header
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import (
    Fetch,
    FetchCancel,
    FetchKind,
    FetchOk,
    GoAway,
    MaxRequestId,
    Message,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishNamespace,
    PublishNamespaceCancel,
    PublishNamespaceDone,
    PublishStateNotify,
    RequestError,
    RequestOk,
    RequestsBlocked,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    Token,
    TokenAction,
    TrackStatus,
    Unsubscribe,
)
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.moqt.objects import encode_object, encode_subgroup_header
from unit.moqt.wires import Peer

_DRAFTS = tuple(DRAFTS.values())
_LIMITS = SessionLimits(
    incoming_requests=6,
    request_updates=3,
    namespaces=3,
    data_streams=6,
    early_bytes=200,
    token_cache=60,
    answer_timeout=30,
)
_NAMES = tuple(FullTrackName((b"a",) * (n % 3 + 1), bytes([n])) for n in range(4))


class Tape:
    """The program's bytes, read from the front; zeros after its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def ended(self) -> bool:
        return self._position >= len(self._data)

    def byte(self, bound: int = 256) -> int:
        value = self._data[self._position] if not self.ended else 0
        self._position += 1
        return value % bound

    def bytes(self) -> bytes:
        size = self.byte(32)
        self._position += size
        return self._data[self._position - size : self._position]

    def pick(self, choices: Any) -> Any:
        return choices[self.byte(len(choices))]


class Life:
    """What is known of a request, from the events and from what the owner did."""

    def __init__(self, request: Message, ours: bool) -> None:
        self.request: Any = request
        self.ours = ours
        self.answered = False
        self.stream: int | None = None
        self.data_ended = False
        self.updates: list[int] = []
        """Those of the peer that the owner has not answered."""
        self.failed = False
        """An update was refused, which ends most requests."""

    @property
    def publishes(self) -> bool:
        return isinstance(self.request, Publish) is self.ours


class Run:
    """One run of a program."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.draft: Draft = tape.pick(_DRAFTS)
        flags = tape.byte()
        self.peer = Peer(
            self.draft,
            client=bool(flags & 1),
            webtransport=bool(flags & 2),
            start=False,
            limits=_LIMITS,
        )
        self.session = self.peer.session
        self.peer.handler = self.event
        self.lives: dict[int, Life] = {}
        self.data_streams: set[int] = set()
        self.closed = False
        self.streams: list[int] = []
        """Streams on which the peer may say something, its control stream first."""
        self.next_id = 1 if flags & 1 else 0
        self.alias = 0
        self.now = 0.0
        self.patience = tape.byte() if flags & 8 else -1
        """After so many events the owner closes the session."""
        if not flags & 4:
            self.peer.set_up(Setup(max_request_id=20, max_auth_token_cache_size=100))
            self.streams.append(self.peer.control)

    def go(self) -> None:
        steps: tuple[Callable[[], None], ...] = (
            self.say, self.say, self.reply, self.reply, self.follow, self.subgroup,
            self.fetch_stream, self.datagram, self.raw, self.end_stream, self.ask, self.ask,
            self.answer, self.answer, self.objects, self.change, self.time,
        )  # fmt: skip
        while not self.tape.ended and not self.session.is_closed:
            self.tape.pick(steps)()
        self.session.closed(SessionError.NO_ERROR, "")
        assert self.closed
        context = self.session._context
        assert not context.uni
        assert not context.bidi

    # The peer

    def deliver(self, stream_id: int, data: bytes, fin: bool) -> None:
        """As the transport does: nothing after STOP_SENDING."""
        if stream_id not in self.peer.wire.stopped:
            self.session.stream_data(stream_id, data, fin)

    def stream(self) -> int:
        """An old stream or a new one."""
        choice = self.tape.byte()
        streams = self.streams + [s for s in self.peer.wire.sent if not s & 2]
        streams = [s for s in streams if s not in self.peer.wire.stopped]
        if choice & 1 or not streams:
            new = self.peer.new(unidirectional=not choice & 14)
            self.streams.append(new)
            return new
        return streams[(choice >> 1) % len(streams)]

    def an_id(self) -> int:
        """A request id, mostly one that makes sense."""
        choice = self.tape.byte()
        if choice & 3 == 0:
            return choice >> 2
        known = list(self.lives)
        return known[(choice >> 2) % len(known)] if known else 0

    def message(self) -> Message:
        tape, name = self.tape, self.tape.pick(_NAMES)
        kind = tape.byte(30)
        request_id = self.next_id
        if kind < 9:
            self.next_id += 2
        token = Token(TokenAction(tape.byte(4)), tape.byte(3), 0, b"x" * tape.byte(40))
        parameters = Parameters(tokens=(token,) * (tape.byte(4) == 1))
        other = self.an_id()
        messages: tuple[Callable[[], Message], ...] = (
            lambda: Subscribe(request_id, name, parameters),
            lambda: Publish(request_id, name, tape.byte(4), parameters),
            lambda: Fetch(request_id, FetchKind.STANDALONE, name, end_group=tape.byte()),
            lambda: Fetch(request_id, FetchKind.RELATIVE_JOINING, joining_request_id=other),
            lambda: TrackStatus(request_id, name, parameters),
            lambda: PublishNamespace(request_id, name.namespace, parameters),
            lambda: SubscribeNamespace(request_id, name.namespace, parameters, tape.byte(3)),
            lambda: SubscribeTracks(request_id, name.namespace, parameters),
            lambda: RequestUpdate(request_id, other, parameters),
            lambda: SubscribeOk(other, tape.byte(4)),
            lambda: RequestOk(other),
            lambda: FetchOk(other, False, tape.byte(), None),
            lambda: RequestError(other, tape.byte(), "no"),
            lambda: PublishDone(other, tape.byte(), tape.byte()),
            lambda: NamespaceAdded((bytes([tape.byte(5) + 1]),)),
            lambda: NamespaceDone((bytes([tape.byte(5) + 1]),)),
            lambda: PublishBlocked((b"x",), b"y"),
            lambda: PublishStateNotify(),
            lambda: GoAway(request_id=1 if self.peer.wire.is_client is False else 0),
            lambda: GoAway(),
            lambda: MaxRequestId(tape.byte()),
            lambda: RequestsBlocked(tape.byte()),
            lambda: Unsubscribe(other),
            lambda: FetchCancel(other),
            lambda: PublishNamespaceDone(other),
            lambda: PublishNamespaceCancel(other, tape.byte()),
            lambda: Setup(max_request_id=tape.byte()),
        )
        return messages[min(kind, len(messages) - 1)]()

    def say(self) -> None:
        tape = self.tape
        message = self.message()
        try:
            data = encode(
                message,
                self.draft,
                is_client=not self.peer.wire.is_client,
                publish_ok=bool(tape.byte(2)),
            )
        except ValueError:
            return  # This draft has no such message.
        style = tape.byte()
        if style & 7 == 0:
            changed = bytearray(data)
            changed[tape.byte(len(data))] = tape.byte()
            data = bytes(changed)
        stream_id = self.stream()
        fin = style & 56 == 0
        if style & 64:
            cut = tape.byte(len(data))
            self.deliver(stream_id, data[:cut], False)
            data = data[cut:]
        self.deliver(stream_id, data, fin)

    def reply(self) -> None:
        """The right answer to a request of the session, or to an update of it."""
        found = self.living(lambda life: life.ours)
        if not found:
            return
        request_id, life = found
        state = self.session._table.get(request_id)
        assert state
        update_id = next(iter(state.updates_sent), request_id)
        answers: dict[type, Message] = {
            Subscribe: SubscribeOk(request_id, self.tape.byte(40)),
            Fetch: FetchOk(request_id, False, 9, None),
        }
        answer: Message = RequestOk(update_id)
        if not life.answered:
            answer = answers.get(type(life.request), RequestOk(request_id))
        if self.tape.byte(8) == 1:
            answer = RequestError(update_id if life.answered else request_id, 3)
        self.on_stream_of(request_id, answer)

    def follow(self) -> None:
        """Something that may follow on a request of either side."""
        found = self.living(lambda life: True)
        if not found:
            return
        request_id, life = found
        if not life.ours or isinstance(life.request, Publish):
            update = RequestUpdate(self.next_id, request_id)
            self.next_id += 2
            self.on_stream_of(request_id, self.tape.pick((update, update, GoAway())))
            return
        tape = self.tape
        messages: dict[type, Message] = {
            Subscribe: PublishDone(request_id, tape.byte(9), tape.byte()),
            SubscribeNamespace: tape.pick((NamespaceAdded, NamespaceDone))(
                (bytes([tape.byte(3) + 1]),)
            ),
            SubscribeTracks: PublishBlocked((b"x",), b"y"),
        }
        self.on_stream_of(request_id, messages.get(type(life.request), GoAway()))

    def on_stream_of(self, request_id: int, message: Message) -> None:
        state = self.session._table.get(request_id)
        assert state
        publish_ok = isinstance(state.request, Publish) and state.phase.value == "pending"
        is_client = not self.peer.wire.is_client
        data = encode(message, self.draft, is_client=is_client, publish_ok=publish_ok)
        stream_id = 0 if state.stream_id is None else state.stream_id
        self.deliver(stream_id, data, self.tape.byte(8) == 1)

    def subgroup(self) -> None:
        tape = self.tape
        header = SubgroupHeader(
            tape.byte(4), tape.byte(), tape.pick((0, None, 5)), tape.pick((None, 3)),
            False, False, False,
        )  # fmt: skip
        data = encode_subgroup_header(header, self.draft)
        data += encode_object(0, None, 3, self.draft.varints) + b"abc" + tape.bytes()
        self.data(data)

    def fetch_stream(self) -> None:
        data = encode_fetch_header(self.an_id(), self.draft)
        data += FetchEncoder(self.draft).object(Location(1, 1), 0, 1, 3) + b"abc"
        self.data(data + self.tape.bytes())

    def data(self, data: bytes) -> None:
        style = self.tape.byte()
        stream_id = self.peer.new(unidirectional=True)
        self.streams.append(stream_id)
        cut = self.tape.byte(len(data)) if style & 1 else len(data)
        self.deliver(stream_id, data[:cut], bool(style & 2))
        if not style & 2:
            self.deliver(stream_id, data[cut:], bool(style & 4))

    def datagram(self) -> None:
        tape = self.tape
        data = encode_datagram(tape.byte(4), Location(1, tape.byte()), 0, b"x", self.draft)
        self.session.datagram(tape.bytes() if tape.byte(2) else data)

    def raw(self) -> None:
        self.deliver(self.stream(), self.tape.bytes(), bool(self.tape.byte(4) == 1))

    def end_stream(self) -> None:
        how, stream_id, code = self.tape.byte(3), self.stream(), self.tape.byte()
        ours = self.peer.wire.is_client is not bool(stream_id & 1)
        if how == 0:
            self.deliver(stream_id, b"", True)
        elif how == 1 and not (ours and stream_id & 2) and stream_id not in self.peer.wire.stopped:
            self.session.stream_reset(stream_id, code)
        elif ours or not stream_id & 2:
            self.peer.wire.reset(stream_id, code)
            self.session.stream_stopped(stream_id, code)

    # The owner

    def ask(self) -> None:
        tape, session, name = self.tape, self.session, self.tape.pick(_NAMES)
        self.alias += 1
        fill = Parameters(fill=Parameters()) if self.draft.fill and tape.byte(2) else Parameters()
        asks: tuple[Callable[[], int], ...] = (
            lambda: session.subscribe(name, fill),
            lambda: session.fetch(track=name, start=Location(1, 0), end_group=9),
            lambda: session.track_status(name),
            lambda: session.publish(name, self.alias),
            lambda: session.publish_namespace(name.namespace),
            lambda: session.subscribe_namespace(name.namespace),
            lambda: session.subscribe_tracks(name.namespace),
        )
        kind = tape.byte(len(asks))
        request_id = asks[kind]()
        request = session._table.get(request_id)
        assert request
        self.lives[request_id] = Life(request.request, ours=True)

    def living(self, wanted: Callable[[Life], bool]) -> tuple[int, Life] | None:
        found = [item for item in self.lives.items() if wanted(item[1])]
        return self.tape.pick(found) if found else None

    def answer(self) -> None:
        found = self.living(lambda life: not life.ours and not life.answered)
        if not found:
            self.answer_update()
            return
        request_id, life = found
        if self.tape.byte(4) == 0:
            self.session.reject(request_id, self.tape.byte(8), "no")
            del self.lives[request_id]
            return
        self.alias += 1
        life.answered = True
        if isinstance(life.request, Subscribe):
            self.session.respond(SubscribeOk(request_id, self.alias))
        elif isinstance(life.request, Fetch):
            self.session.respond(FetchOk(request_id, False, 4, None))
        else:
            self.session.respond(RequestOk(request_id))
        self.fetch_over(request_id, life)
        if isinstance(life.request, TrackStatus):
            del self.lives[request_id]
        self.drop_failed(request_id)

    def answer_update(self) -> None:
        found = self.living(lambda life: bool(life.updates))
        if not found:
            return
        request_id, life = found
        update_id = life.updates.pop(self.tape.byte(len(life.updates)))
        if self.tape.byte(3) == 0:
            life.failed = True
            self.session.reject_update(request_id, update_id, 0, "no")
        else:
            self.session.respond_update(request_id, update_id)
        self.drop_failed(request_id)

    def drop_failed(self, request_id: int) -> None:
        """A refused update ends a request, when those before it have been answered."""
        life = self.lives.get(request_id)
        if life and life.failed and self.session._table.get(request_id) is None:
            assert not isinstance(life.request, Subscribe | Publish)
            del self.lives[request_id]

    def objects(self) -> None:
        """Of ours: fetch streams and subgroups."""
        found = self.living(
            lambda life: not life.ours and isinstance(life.request, Fetch) and life.stream is None
        )
        if found and self.tape.byte(2):
            found[1].stream = self.session.open_fetch(found[0])
            return
        open_fetch = self.living(lambda life: life.stream is not None and not life.data_ended)
        if open_fetch:
            request_id, life = open_fetch
            assert life.stream is not None
            life.data_ended = True
            if self.tape.byte(2):
                self.session.send(life.stream, b"", fin=True)
            else:
                self.session.reset(life.stream, 0)
            self.fetch_over(request_id, life)
            return
        header = SubgroupHeader(1, 1, 0, None, False, False, False)
        self.session.send(self.session.open_subgroup(header), b"", fin=True)

    def fetch_over(self, request_id: int, life: Life) -> None:
        if isinstance(life.request, Fetch) and life.answered and life.data_ended:
            self.lives.pop(request_id, None)

    def change(self) -> None:
        """Updates, notifications, cancellations, GOAWAY, stopped streams."""
        tape, session = self.tape, self.session
        what = tape.byte(6)
        if what == 0:
            session.goaway(timeout=tape.byte())
        elif what == 1 and self.data_streams:
            stream_id = tape.pick(sorted(self.data_streams))
            session.stop(stream_id, 1)
            self.data_streams.discard(stream_id)
        elif what == 2:
            found = self.living(
                lambda life: (
                    not isinstance(life.request, TrackStatus)
                    and (life.ours or (life.answered and isinstance(life.request, Publish)))
                )
            )
            if found:
                session.update(found[0], Parameters())
        elif what == 3:
            found = self.living(
                lambda life: (
                    isinstance(life.request, Subscribe | Publish)
                    and life.publishes
                    and (life.answered or life.ours)
                )
            )
            if found:
                session.notify(found[0], PublishDone(found[0], 2, 0))
                del self.lives[found[0]]
        elif what == 4:
            found = self.living(
                lambda life: (
                    isinstance(life.request, SubscribeNamespace) and life.answered and not life.ours
                )
            )
            if found:
                session.notify(found[0], NamespaceAdded((b"n",)))
        else:
            found = self.living(
                lambda life: not (isinstance(life.request, Subscribe | Publish) and life.publishes)
            )
            if found:
                session.cancel(found[0])
                del self.lives[found[0]]

    def time(self) -> None:
        self.now += self.tape.byte(16)
        self.session.expire(self.now)

    # What comes of it

    def event(self, event: Event) -> None:
        assert not self.closed, "an event after SessionClosed"
        self.patience -= 1
        lives = self.lives
        match event:
            case SessionClosed(code=code):
                self.closed = True
                assert SessionError(code) in SessionError
            case RequestReceived(request=request):
                assert request.request_id not in lives
                lives[request.request_id] = Life(request, ours=False)
            case RequestUpdated(request_id=request_id, update_id=update_id):
                life = lives[request_id]
                assert not life.ours or isinstance(life.request, Publish)
                life.updates.append(update_id)
            case RequestCancelled(request_id=request_id):
                life = lives.pop(request_id)
                assert not life.ours or isinstance(life.request, Publish)
            case RequestEnded(request_id=request_id):
                assert lives.pop(request_id).ours
            case AnswerReceived(answer=answer):
                life = lives[answer.request_id]
                assert life.ours
                assert not life.answered
                life.answered = True
                if isinstance(answer, RequestError) or isinstance(life.request, TrackStatus):
                    del lives[answer.request_id]
                self.fetch_over(answer.request_id, life)
            case UpdateAnswered(request_id=request_id):
                assert request_id in lives
            case NotificationReceived(request_id=request_id, notification=notification):
                life = lives[request_id]
                assert life.answered or not life.ours
                if isinstance(notification, PublishDone):
                    assert not life.publishes
                    del lives[request_id]
            case GoAwayReceived(request_id=request_id):
                assert request_id is None or request_id in lives
            case SubgroupOpened(stream_id=stream_id) | FetchOpened(stream_id=stream_id):
                assert stream_id not in self.data_streams
                self.data_streams.add(stream_id)
                if isinstance(event, FetchOpened) and event.request_id in lives:
                    lives[event.request_id].stream = stream_id
            case (
                SubgroupData(stream_id=stream_id, fin=fin) | FetchData(stream_id=stream_id, fin=fin)
            ):
                assert stream_id in self.data_streams
                if fin:
                    self.stream_over(stream_id)
            case TrackMalformed(stream_id=int(stream_id)):
                self.data_streams.remove(stream_id)
            case _ if hasattr(event, "stream_id") and event.stream_id in self.data_streams:
                self.stream_over(event.stream_id)
        if self.patience == 0:
            self.session.close()

    def stream_over(self, stream_id: int) -> None:
        self.data_streams.discard(stream_id)
        for request_id, life in list(self.lives.items()):
            if life.stream == stream_id and life.ours and isinstance(life.request, Fetch):
                life.data_ended = True
                self.fetch_over(request_id, life)


def session(data: bytes) -> None:
    """Run the program in ``data``."""
    Run(Tape(data)).go()


def conversation(data: bytes) -> None:
    """As :func:`session`, but anything after a valid SETUP: raw bytes on a few streams."""
    tape = Tape(data)
    draft: Draft = tape.pick(_DRAFTS)
    peer = Peer(draft, client=bool(tape.byte(2)), limits=_LIMITS)
    peer.handler = lambda event: None
    streams = [
        peer.control,
        peer.new(),
        peer.new(),
        *(peer.new(unidirectional=True) for _ in range(2)),
    ]
    while not tape.ended and not peer.session.is_closed:
        stream_id, piece, fin = tape.pick(streams), tape.bytes(), tape.byte(8) == 1
        if stream_id not in peer.wire.stopped:
            peer.session.stream_data(stream_id, piece, fin)
    peer.session.closed(0, "")
    assert sum(isinstance(event, SessionClosed) for event in peer.events) == 1
    assert isinstance(peer.last, SessionClosed)


TARGETS: dict[str, Callable[[bytes], None]] = {"session": session, "conversation": conversation}


def seeds() -> list[tuple[str, bytes]]:
    """Programs to begin with: all steps in turn, for each draft and side."""
    programs = []
    for head in range(6):
        for step in range(15):
            body = bytes((step + 7 * n * (n + head)) % 256 for n in range(90))
            programs.append(("session", bytes([head % 3, head]) + body))
        programs.append(("conversation", bytes([head % 3, head, 1, 3, 3, 0, 0, 0, 2, 1, 0])))
    return programs
