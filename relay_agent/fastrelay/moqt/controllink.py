"""Requests, answers and cancellations on one bidirectional control stream, but for
SUBSCRIBE_NAMESPACE, which has its own: draft 16 (its sections 3.3 and 9)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from fastrelay.moqt.bodies import CLIENT_SETUP, PUBLISH_OK
from fastrelay.moqt.codec import decode, encode
from fastrelay.moqt.codes import MoqtError, RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.context import Context, StreamHandler
from fastrelay.moqt.control import RequestStream, SharedStream, close_request
from fastrelay.moqt.early import EarlyStreams
from fastrelay.moqt.messages import (
    Answer,
    Fetch,
    FetchCancel,
    FetchOk,
    GoAway,
    MaxRequestId,
    Message,
    NamespaceAdded,
    NamespaceDone,
    Publish,
    PublishDone,
    PublishNamespace,
    PublishNamespaceCancel,
    PublishNamespaceDone,
    Request,
    RequestError,
    RequestOk,
    RequestsBlocked,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    TrackStatus,
    Unsubscribe,
)
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requester import Requester
from fastrelay.moqt.requests import Phase, RequestState, RequestTable
from fastrelay.moqt.responder import Responder
from fastrelay.moqt.sequence import Sequence
from fastrelay.moqt.varint import IncompleteError

_SUBSCRIBE_NAMESPACE = 0x11

_NO_ID = -1

_CANCEL_ERRORS: dict[int, RequestErrorCode] = {
    StreamError.INTERNAL_ERROR: RequestErrorCode.INTERNAL_ERROR,
    StreamError.EXPIRED_AUTH_TOKEN: RequestErrorCode.EXPIRED_AUTH_TOKEN,
}
"""Why a namespace is no longer accepted; else we are just not interested."""

_Cancel = Unsubscribe | FetchCancel | PublishNamespaceDone | PublishNamespaceCancel


class _Blocked(NamedTuple):
    """Something to send when the peer grants more requests."""

    state: RequestState
    request_id: int
    """The id that it needs; ``_NO_ID``: none, but it must not overtake its request."""
    send: Callable[[], None]


class ControlLink:
    """See :class:`fastrelay.moqt.link.Link`.

    :param on_setup: called with the peer's SETUP.
    :param on_goaway: called with a GOAWAY.
    """

    requester: Requester
    responder: Responder

    def __init__(
        self,
        context: Context,
        early: EarlyStreams,
        table: RequestTable,
        on_setup: Callable[[Setup], None],
        on_goaway: Callable[[GoAway, RequestState | None], None],
    ) -> None:
        self._context = context
        self._early = early
        self._table = table
        self.on_setup = on_setup
        self.on_goaway = on_goaway
        self._setup: Setup | None = None
        self._control: int | None = None
        self._setup_sent = False
        self._unsent = b""
        """What a server wants to say before it can send its SETUP."""
        self._maximum = 0
        """Ids of our requests must be smaller."""
        self._blocked: deque[_Blocked] = deque()
        self._told_blocked = -1
        """The maximum for which the peer was told that we are blocked."""
        self._updates: dict[int, RequestState] = {}
        """Our unanswered updates."""
        self._sequence = Sequence(context, lambda maximum: self._write(MaxRequestId(maximum)))
        table.on_freed = self._sequence.free

    # What we send

    def start(self, setup: Setup) -> None:
        """The client opens the control stream; the server answers on it."""
        self._setup = replace(setup, max_request_id=self._sequence.maximum)
        if self._context.transport.is_client:
            self._control = self._context.transport.open_stream(unidirectional=False)
            SharedStream(self._context, self, self._control)
            self._send_setup()

    def _send_setup(self) -> None:
        assert self._setup is not None
        self._setup_sent = True
        self._write(self._setup)
        self._send(self._unsent)

    def request(self, state: RequestState) -> None:
        data = encode(state.request, self._context.draft)
        self._when_allowed(state, state.id, partial(self._send_request, state, data))

    def _send_request(self, state: RequestState, data: bytes) -> None:
        transport = self._context.transport
        if isinstance(state.request, SubscribeNamespace):
            state.stream_id = transport.open_stream(unidirectional=False)
            RequestStream(self._context, self, state.stream_id, state)
            transport.send(state.stream_id, data)
        else:
            self._send(data)

    def update(self, state: RequestState, message: RequestUpdate) -> None:
        data = encode(message, self._context.draft)
        self._updates[message.request_id] = state
        self._when_allowed(state, message.request_id, partial(self._send, data))

    def _when_allowed(self, state: RequestState, request_id: int, send: Callable[[], None]) -> None:
        if self._blocked or request_id >= self._maximum:
            self._blocked.append(_Blocked(state, request_id, send))
            self._tell_blocked()
        else:
            send()

    def _tell_blocked(self) -> None:
        """REQUESTS_BLOCKED, once for each maximum."""
        if self._context.ready and self._told_blocked != self._maximum:
            self._told_blocked = self._maximum
            self._write(RequestsBlocked(self._maximum))

    def _unblock(self) -> None:
        blocked = self._blocked
        while blocked and blocked[0].request_id < self._maximum:
            blocked.popleft().send()
        if blocked:
            self._tell_blocked()

    def send(self, state: RequestState, message: Message, *, fin: bool = False) -> None:
        answers_request = getattr(message, "request_id", state.id) == state.id
        publish_ok = answers_request and isinstance(state.request, Publish)
        data = encode(message, self._context.draft, publish_ok=publish_ok)
        if state.stream_id is None or not answers_request:
            self._send(data)
            return
        self._context.transport.send(state.stream_id, data, fin)
        if fin:
            close_request(self._context, state)

    def finish(self, state: RequestState) -> None:
        if state.stream_id is not None:
            self._context.transport.send(state.stream_id, b"", True)
            close_request(self._context, state)

    def cancel(self, state: RequestState, code: int) -> None:
        send = partial(self._cancel, state, code)
        if any(item.state is state for item in self._blocked):
            self._blocked.append(_Blocked(state, _NO_ID, send))
        else:
            send()

    def _cancel(self, state: RequestState, code: int) -> None:
        if state.stream_id is not None:
            close_request(self._context, state, code)
            return
        match state.request:
            case Subscribe() | Publish():
                self._write(Unsubscribe(state.id))
            case Fetch() if state.ours:
                self._write(FetchCancel(state.id))
            case PublishNamespace() if state.ours:
                self._write(PublishNamespaceDone(state.id))
            case PublishNamespace():
                error = _CANCEL_ERRORS.get(code, RequestErrorCode.UNINTERESTED)
                self._write(PublishNamespaceCancel(state.id, error))

    def goaway(self, message: GoAway, state: RequestState | None) -> None:
        if state is not None:
            raise ValueError(f"{self._context.draft} has no GOAWAY for a single request")
        self._write(message)

    def _write(self, message: Message) -> None:
        transport = self._context.transport
        self._send(encode(message, self._context.draft, is_client=transport.is_client))

    def _send(self, data: bytes) -> None:
        if self._setup_sent and self._control is not None:
            self._context.transport.send(self._control, data)
        else:
            self._unsent += data

    # What we receive

    def open(self, stream_id: int, data: bytes, fin: bool) -> None:
        context = self._context
        try:
            kind, _ = context.draft.varints.decode(data, 0)
        except IncompleteError:
            kind = _SUBSCRIBE_NAMESPACE
        if kind == CLIENT_SETUP and self._control is None:
            self._control = stream_id
            SharedStream(context, self, stream_id).receive(data, fin)
        elif context.ready:
            RequestStream(context, self, stream_id).receive(data, fin)
        elif kind == _SUBSCRIBE_NAMESPACE:
            self._early.hold(stream_id, data, fin)
        else:
            raise violation(f"a bidirectional stream begins with message type {kind:#x}")

    def control(self, stream_id: int) -> StreamHandler:
        raise violation("control messages on a unidirectional stream")

    def control_stopped(self, stream_id: int) -> None:
        """See :meth:`fastrelay.moqt.streamlink.StreamLink.control_stopped`."""

    def unread(self) -> None:
        self._sequence.skip(self.responder.used_ids)

    def message(self, stream: RequestStream, message_type: int, body: bytes) -> None:
        """On a stream of SUBSCRIBE_NAMESPACE."""
        message = self._decode(message_type, body)
        state = stream.state
        match message:
            case SubscribeNamespace() if state is None:
                self._take(stream, message.request_id, partial(self._receive, stream, message))
            case RequestUpdate() if state and message.existing_request_id == state.id:
                self._take(stream, message.request_id, partial(self._update, message))
            case SubscribeOk() | RequestOk() | FetchOk() | RequestError() if state and state.ours:
                self._answer(message, message_type)
            case NamespaceAdded() | NamespaceDone() if state and state.ours:
                self.requester.notification(state, message)
            case _:
                raise violation(f"{type(message).__name__} on a SUBSCRIBE_NAMESPACE stream")

    def control_message(self, stream: SharedStream, message_type: int, body: bytes) -> None:
        message = self._decode(message_type, body)
        if isinstance(message, Setup) is self._context.ready:
            raise violation(f"{type(message).__name__} at the wrong time")
        match message:
            case Setup():
                self._set_up(message)
            case GoAway():
                self.on_goaway(message, None)
            case MaxRequestId():
                if message.request_id <= self._maximum:
                    raise violation("MAX_REQUEST_ID does not grow")
                self._maximum = message.request_id
                self._unblock()
            case RequestsBlocked():
                self._sequence.grant()
            case RequestUpdate():
                self._take(stream, message.request_id, partial(self._update, message))
            case Subscribe() | Publish() | Fetch() | TrackStatus() | PublishNamespace():
                self._take(stream, message.request_id, partial(self._receive, None, message))
            case SubscribeOk() | RequestOk() | FetchOk() | RequestError():
                self._answer(message, message_type)
            case PublishDone():
                state = self._find(message.request_id)
                if state:
                    self.requester.notification(state, message)
            case Unsubscribe() | FetchCancel() | PublishNamespaceDone() | PublishNamespaceCancel():
                self._cancelled(message)
            case _:
                raise violation(f"{type(message).__name__} on the control stream")

    def _decode(self, message_type: int, body: bytes) -> Message:
        context = self._context
        return decode(
            message_type, body, context.draft, from_client=not context.transport.is_client
        )

    def _set_up(self, setup: Setup) -> None:
        if not self._context.transport.is_client:
            self._send_setup()
        self._maximum = setup.max_request_id or 0
        self.on_setup(setup)
        if not self._context.closed:
            self._unblock()

    def _take(
        self,
        stream: RequestStream | SharedStream,
        request_id: int,
        proceed: Callable[[], None],
    ) -> None:
        """Go on when it is the turn of this id; the stream is read no further before."""

        def turn() -> None:
            proceed()
            if stream.paused and not self._context.closed:
                stream.resume()

        if not self._sequence.take(self.responder.used_ids, request_id, turn):
            stream.paused = True

    def _receive(self, stream: RequestStream | None, request: Request) -> None:
        if stream is None:
            self.responder.received(request, None)
        elif self._context.bidi.get(stream.stream_id) is stream:
            stream.state = self.responder.received(request, stream.stream_id)
        else:
            # It was given up while it waited for its turn.
            self._sequence.free()

    def _update(self, message: RequestUpdate) -> None:
        existing = message.existing_request_id
        if not self._is_used(existing):
            raise violation(f"an update of request {existing}, which never was")
        state = self._table.get(existing)
        if state:
            self.responder.updated(state, message)
        else:
            self._write(
                RequestError(
                    message.request_id, RequestErrorCode.DOES_NOT_EXIST, "the request is over"
                )
            )
            self._sequence.free()

    def _find(self, request_id: int) -> RequestState | None:
        """The live request with this id; None if it is over.

        :raises MoqtError: it never was.
        """
        if not self._is_used(request_id):
            raise MoqtError(SessionError.INVALID_REQUEST_ID, f"there was no request {request_id}")
        return self._table.get(request_id)

    def _is_used(self, request_id: int) -> bool:
        return self.requester.is_used(request_id) or request_id in self.responder.used_ids

    def _answer(self, answer: Answer, message_type: int) -> None:
        updated = self._updates.pop(answer.request_id, None)
        if updated:
            if updated.phase is not Phase.ENDED:
                self.requester.update_answer(updated, answer.request_id, answer)
            return
        state = self._find(answer.request_id)
        if state is None:
            return
        if not state.ours:
            raise violation("an answer to a request of the peer")
        if isinstance(answer, RequestOk) and (message_type == PUBLISH_OK) is not isinstance(
            state.request, Publish
        ):
            raise violation(f"message type {message_type:#x} answers the wrong request")
        self.requester.answer(state, answer)

    def _cancelled(self, message: _Cancel) -> None:
        state = self._find(message.request_id)
        if state is None:
            return
        request = state.request
        match message:
            case Unsubscribe() if state.is_subscription and state.publishes:
                self.responder.cancelled(state)
            case FetchCancel() if isinstance(request, Fetch) and not state.ours:
                self.responder.cancelled(state)
            case PublishNamespaceDone() if isinstance(request, PublishNamespace) and not state.ours:
                self.responder.cancelled(state)
            case PublishNamespaceCancel() if isinstance(request, PublishNamespace) and state.ours:
                self.requester.ended(state, message.code)
            case _:
                raise violation(f"{type(message).__name__} for a {type(request).__name__}")
