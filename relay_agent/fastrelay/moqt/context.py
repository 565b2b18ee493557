"""What the parts of one session share: its transport, draft, limits, streams and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fastrelay.moqt.deadlines import Deadlines
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import Event
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.transport import Transport


class StreamHandler(Protocol):
    """Who reads a stream. Methods may raise ``MoqtError``, which closes the session."""

    def receive(self, data: bytes, fin: bool) -> None: ...

    def reset(self, code: int) -> None:
        """The peer gave up sending; ``code`` is draft 18's number, as everywhere inside."""


class BidirectionalHandler(StreamHandler, Protocol):
    """Who reads a bidirectional stream."""

    def stopped(self, code: int) -> None:
        """The peer gave up reading what we send on it."""


def is_unidirectional(stream_id: int) -> bool:
    """RFC 9000 section 2.1; WebTransport keeps QUIC's stream ids."""
    return bool(stream_id & 2)


def is_from_client(stream_id: int) -> bool:
    """Whether the client opened the stream (RFC 9000 section 2.1)."""
    return not stream_id & 1


@dataclass(slots=True, eq=False)
class Context:
    """``uni`` and ``bidi`` hold every stream on which the peer may still send, by id."""

    transport: Transport
    draft: Draft
    limits: SessionLimits
    emit: Callable[[Event], None]
    deadlines: Deadlines = field(default_factory=Deadlines)
    uni: dict[int, StreamHandler] = field(default_factory=dict)
    bidi: dict[int, BidirectionalHandler] = field(default_factory=dict)
    ready: bool = False
    """The peer's SETUP has been processed."""
    closed: bool = False

    def reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM with one of our codes, written as the draft numbers it."""
        self.transport.reset(stream_id, self.draft.stream_error_to_wire(code))

    def stop(self, stream_id: int, code: int) -> None:
        """STOP_SENDING likewise; the transport brings nothing more of the stream."""
        self.transport.stop(stream_id, self.draft.stream_error_to_wire(code))
        self.forget(stream_id)

    def ignore(self, stream_id: int) -> None:
        """Drop what arrives on a stream until its end."""
        self.read(stream_id, Ignored(self, stream_id))

    def read(self, stream_id: int, reader: BidirectionalHandler) -> None:
        """``reader`` reads a stream of either kind from now on."""
        if is_unidirectional(stream_id):
            self.uni[stream_id] = reader
        else:
            self.bidi[stream_id] = reader

    def forget(self, stream_id: int) -> None:
        """The peer sends no more on a stream."""
        if is_unidirectional(stream_id):
            self.uni.pop(stream_id, None)
        else:
            self.bidi.pop(stream_id, None)


class Ignored:
    """A stream nobody reads: padding."""

    __slots__ = ("_context", "_stream_id")

    def __init__(self, context: Context, stream_id: int) -> None:
        self._context = context
        self._stream_id = stream_id

    def receive(self, data: bytes, fin: bool) -> None:
        if fin:
            self._context.forget(self._stream_id)

    def reset(self, code: int) -> None:
        self._context.forget(self._stream_id)

    def stopped(self, code: int) -> None:
        return
