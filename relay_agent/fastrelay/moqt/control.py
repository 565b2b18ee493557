"""Streams of control messages: what they hold, and what their end means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fastrelay.moqt.codec import split
from fastrelay.moqt.codes import MoqtError, SessionError, StreamError
from fastrelay.moqt.context import Context
from fastrelay.moqt.link import Link
from fastrelay.moqt.messages import (
    Fetch,
    Publish,
    PublishNamespace,
    SubscribeNamespace,
    SubscribeTracks,
)
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requests import Phase, RequestState

_OUTLAST_FIN = (Fetch, Publish, PublishNamespace)
"""Requests of ours that go on when the peer has answered and finished its side: a fetch has
its data stream, and what we publish stays accepted."""


class MessageBuffer:
    """Collects bytes until messages are complete."""

    __slots__ = ("_context", "_data", "_key", "_position")

    def __init__(self, context: Context, stream_id: int) -> None:
        self._context = context
        self._key = ("message", stream_id)
        self._data = b""
        self._position = 0

    def __len__(self) -> int:
        """Bytes that have not been read."""
        return len(self._data) - self._position

    def add(self, data: bytes) -> None:
        self._data = self._data[self._position :] + data
        self._position = 0

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Type and body of each complete message; what the caller does not take stays.

        A message that has begun must be complete within ``SessionLimits.message_timeout``.
        """
        context = self._context
        while len(self):
            message = split(self._data, self._position, context.draft)
            if message is None:
                context.deadlines.start(
                    self._key,
                    context.limits.message_timeout,
                    SessionError.CONTROL_MESSAGE_TIMEOUT,
                    "the rest of a control message did not come",
                )
                return
            message_type, body, self._position = message
            context.deadlines.stop(self._key)
            yield message_type, body

    def clear(self) -> None:
        """Nobody reads this stream any more."""
        self._data = b""
        self._position = 0
        self._context.deadlines.stop(self._key)


def close_request(context: Context, state: RequestState, code: int | None = None) -> None:
    """Our last word on a request's own stream has been sent, or is this reset."""
    assert state.stream_id is not None
    if code is not None:
        context.reset(state.stream_id, code)
    stream = context.bidi.get(state.stream_id)
    if isinstance(stream, RequestStream):
        stream.release()
    if code is not None:
        context.stop(state.stream_id, code)


class MessageHandler(Link, Protocol):
    """A link that reads requests from streams."""

    def message(self, stream: RequestStream, message_type: int, body: bytes) -> None:
        """A message on a request's stream; ``stream.state`` is None for the first."""


class RequestStream:
    """A bidirectional stream that carries one request: its messages, and its end.

    :param state: the request, if it is ours.
    """

    __slots__ = ("_buffer", "_context", "_handler", "fin", "paused", "state", "stream_id")

    def __init__(
        self,
        context: Context,
        handler: MessageHandler,
        stream_id: int,
        state: RequestState | None = None,
    ) -> None:
        self._context = context
        self._handler = handler
        self._buffer = MessageBuffer(context, stream_id)
        self.stream_id = stream_id
        self.state = state
        self.paused = False
        """Set by the handler: read no further until :meth:`resume`."""
        self.fin = False
        """The peer has sent its last byte."""
        context.bidi[stream_id] = self

    def receive(self, data: bytes, fin: bool) -> None:
        self.fin = fin
        if not self._over():
            self._buffer.add(data)
            if not self.paused:
                self.resume()
                return
            if len(self._buffer) > self._context.limits.early_bytes:
                raise MoqtError(SessionError.INVALID_REQUEST_ID, "an earlier request is missing")
        elif fin:
            self._forget()

    def resume(self) -> None:
        """Read what has arrived."""
        self.paused = False
        for message_type, body in self._buffer.messages():
            self._handler.message(self, message_type, body)
            if self.paused:
                return
            if self._context.closed:
                return
            if self._over():
                self._buffer.clear()
                break
        if self.fin:
            self._finished()

    def release(self) -> None:
        """We have said our last word; the stream is forgotten when the peer has, too."""
        self._buffer.clear()
        if self.fin:
            self._forget()

    def _over(self) -> bool:
        return self.state is not None and self.state.phase is Phase.ENDED

    def _forget(self) -> None:
        self._context.bidi.pop(self.stream_id, None)

    def _finished(self) -> None:
        """FIN: the peer says no more on this request, which ends only some of them."""
        state = self.state
        if len(self._buffer) or state is None:
            raise violation("a request stream ends within a message")
        if self._over():
            self._forget()
            return
        request = state.request
        if not state.ours:
            discovery = isinstance(request, SubscribeNamespace | SubscribeTracks)
            if isinstance(request, Publish) or (
                discovery and self._context.draft.fin_cancels_discovery
            ):
                self._forget()
                self._context.transport.send(self.stream_id, b"", True)
                self._handler.responder.cancelled(state)
        elif state.phase is Phase.PENDING or not isinstance(request, _OUTLAST_FIN):
            self._forget()
            self._context.transport.send(self.stream_id, b"", True)
            self._handler.requester.ended(state, StreamError.INTERNAL_ERROR)

    def reset(self, code: int) -> None:
        """The peer gave up the request, or its side of it: the same."""
        self._forget()
        self._buffer.clear()
        if not self._over():
            self._context.reset(self.stream_id, StreamError.CANCELLED)
            self._given_up(code)

    def stopped(self, code: int) -> None:
        """Likewise; the transport has reset our side already."""
        if self._over():
            return
        self._context.stop(self.stream_id, StreamError.CANCELLED)
        self._buffer.clear()
        self._given_up(code)

    def _given_up(self, code: int) -> None:
        state = self.state
        if state is None:
            if not self.paused:
                self._handler.unread()
        elif state.ours:
            self._handler.requester.ended(state, code)
        else:
            self._handler.responder.cancelled(state)


class SharedHandler(Protocol):
    """A link that reads requests from the control stream."""

    def control_message(self, stream: SharedStream, message_type: int, body: bytes) -> None: ...


class SharedStream:
    """Draft 16: the one control stream, which carries all requests; its end is the session's."""

    __slots__ = ("_buffer", "_context", "_link", "paused")

    def __init__(self, context: Context, link: SharedHandler, stream_id: int) -> None:
        self._context = context
        self._link = link
        self._buffer = MessageBuffer(context, stream_id)
        self.paused = False
        """An earlier request is missing: read no further."""
        context.bidi[stream_id] = self

    def receive(self, data: bytes, fin: bool) -> None:
        self._buffer.add(data)
        if not self.paused:
            self.resume()
        elif len(self._buffer) > self._context.limits.early_bytes:
            raise MoqtError(SessionError.INVALID_REQUEST_ID, "an earlier request is missing")
        if fin and not self._context.closed:
            raise violation("the control stream was closed")

    def resume(self) -> None:
        """Read what has arrived."""
        self.paused = False
        for message_type, body in self._buffer.messages():
            self._link.control_message(self, message_type, body)
            if self.paused or self._context.closed:
                return

    def reset(self, code: int) -> None:
        raise violation("the control stream was reset")

    def stopped(self, code: int) -> None:
        raise violation("the control stream was stopped")
