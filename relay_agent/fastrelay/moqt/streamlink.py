"""Requests on bidirectional streams of their own, and one unidirectional control stream in
each direction: drafts 17 on (draft-18 section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.moqt.codec import decode, encode
from fastrelay.moqt.context import Context
from fastrelay.moqt.control import MessageBuffer, RequestStream, close_request
from fastrelay.moqt.early import EarlyStreams
from fastrelay.moqt.messages import (
    Answer,
    GoAway,
    Message,
    Notification,
    Publish,
    Request,
    RequestUpdate,
    Setup,
)
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requester import Requester
from fastrelay.moqt.requests import Phase, RequestState
from fastrelay.moqt.responder import Responder


class StreamLink:
    """See :class:`fastrelay.moqt.link.Link`.

    :param on_setup: called with the peer's SETUP.
    :param on_goaway: called with a GOAWAY, for one request or for the session.
    """

    requester: Requester
    responder: Responder

    def __init__(
        self,
        context: Context,
        early: EarlyStreams,
        on_setup: Callable[[Setup], None],
        on_goaway: Callable[[GoAway, RequestState | None], None],
    ) -> None:
        self._context = context
        self._early = early
        self.on_setup = on_setup
        self.on_goaway = on_goaway
        self._control: int | None = None
        self._has_peer_control = False

    # What we send

    def start(self, setup: Setup) -> None:
        self._control = self._context.transport.open_stream(unidirectional=True)
        self._write(self._control, setup)

    def request(self, state: RequestState) -> None:
        transport = self._context.transport
        data = encode(state.request, self._context.draft)
        state.stream_id = transport.open_stream(unidirectional=False)
        RequestStream(self._context, self, state.stream_id, state)
        transport.send(state.stream_id, data)

    def update(self, state: RequestState, message: RequestUpdate) -> None:
        self._write(state.stream_id, message)

    def send(self, state: RequestState, message: Message, *, fin: bool = False) -> None:
        answers_request = getattr(message, "request_id", state.id) == state.id
        publish_ok = answers_request and isinstance(state.request, Publish)
        assert state.stream_id is not None
        data = encode(message, self._context.draft, publish_ok=publish_ok)
        self._context.transport.send(state.stream_id, data, fin)
        if fin:
            close_request(self._context, state)

    def finish(self, state: RequestState) -> None:
        assert state.stream_id is not None
        self._context.transport.send(state.stream_id, b"", True)
        close_request(self._context, state)

    def cancel(self, state: RequestState, code: int) -> None:
        close_request(self._context, state, code)

    def goaway(self, message: GoAway, state: RequestState | None) -> None:
        self._write(state.stream_id if state else self._control, message)

    def _write(self, stream_id: int | None, message: Message) -> None:
        assert stream_id is not None
        transport = self._context.transport
        data = encode(message, self._context.draft, is_client=transport.is_client)
        transport.send(stream_id, data)

    # What we receive

    def open(self, stream_id: int, data: bytes, fin: bool) -> None:
        if self._context.ready:
            RequestStream(self._context, self, stream_id).receive(data, fin)
        else:
            self._early.hold(stream_id, data, fin)

    def control(self, stream_id: int) -> ControlStream:
        if self._has_peer_control:
            raise violation("a second control stream")
        self._has_peer_control = True
        return ControlStream(self._context, self, stream_id)

    def control_stopped(self, stream_id: int) -> None:
        """STOP_SENDING for a unidirectional stream of ours.

        :raises MoqtError: it is our control stream.
        """
        if stream_id == self._control:
            raise violation("the control stream was stopped")

    def message(self, stream: RequestStream, message_type: int, body: bytes) -> None:
        context = self._context
        state = stream.state
        message = decode(
            message_type,
            body,
            context.draft,
            request_id=state.id if state else 0,
            from_client=not context.transport.is_client,
        )
        if state is None:
            if not isinstance(message, Request):
                raise violation(f"a request stream begins with {type(message).__name__}")
            self.responder.use_id(message.request_id)
            stream.state = self.responder.received(message, stream.stream_id)
        elif isinstance(message, RequestUpdate):
            self.responder.use_id(message.request_id)
            self.responder.updated(state, message)
        elif isinstance(message, Answer):
            self._answer(state, message)
        elif isinstance(message, Notification):
            self.requester.notification(state, message)
        elif isinstance(message, GoAway) and message.request_id is None:
            self.on_goaway(message, state)
        else:
            raise violation(f"{type(message).__name__} on a request stream")

    def _answer(self, state: RequestState, answer: Answer) -> None:
        """Answers come in order, that of the request first."""
        if state.ours and (state.phase is Phase.PENDING or not state.updates_sent):
            self.requester.answer(state, answer)
        elif state.updates_sent:
            self.requester.update_answer(state, next(iter(state.updates_sent)), answer)
        else:
            raise violation(f"{type(answer).__name__} for a request of the peer")

    def unread(self) -> None:
        return


class ControlStream:
    """The peer's control stream: SETUP, then GOAWAY at most, and no end."""

    __slots__ = ("_buffer", "_context", "_link")

    def __init__(self, context: Context, link: StreamLink, stream_id: int) -> None:
        self._context = context
        self._link = link
        self._buffer = MessageBuffer(context, stream_id)
        context.uni[stream_id] = self

    def receive(self, data: bytes, fin: bool) -> None:
        context = self._context
        self._buffer.add(data)
        for message_type, body in self._buffer.messages():
            message = decode(
                message_type, body, context.draft, from_client=not context.transport.is_client
            )
            if isinstance(message, Setup) and not context.ready:
                self._link.on_setup(message)
            elif isinstance(message, GoAway):
                self._link.on_goaway(message, None)
            else:
                raise violation(f"{type(message).__name__} on the control stream")
            if context.closed:
                return
        if fin:
            raise violation("the control stream was closed")

    def reset(self, code: int) -> None:
        raise violation("the control stream was reset")
