"""Unidirectional streams of the peer: objects, padding, and its control stream.

Every stream begins with a type (draft-18 section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastrelay.moqt.codes import MalformedTrackError, SessionError, StreamError
from fastrelay.moqt.context import Context, StreamHandler
from fastrelay.moqt.early import EarlyStreams
from fastrelay.moqt.events import (
    DataStreamReset,
    FetchData,
    FetchOpened,
    SubgroupData,
    SubgroupOpened,
    SubgroupRefused,
    TrackMalformed,
)
from fastrelay.moqt.fetches import FetchParser, decode_fetch_header
from fastrelay.moqt.objects import (
    CONTROL_STREAM,
    FETCH_HEADER,
    PADDING_STREAM,
    SubgroupParser,
    decode_subgroup_header,
    is_subgroup_type,
)
from fastrelay.moqt.reader import violation
from fastrelay.moqt.varint import IncompleteError


class Fetches(Protocol):
    """Who knows which fetch streams are expected."""

    def fetch_opened(self, request_id: int, stream_id: int) -> bool | None:
        """Whether the objects come in descending order; None: nobody wants them any more.

        :raises MoqtError: there was never such a request, or it has its stream already.
        """

    def fetch_ended(self, request_id: int) -> None:
        """The stream has brought all it will."""


class Incoming:
    """Finds out what a new unidirectional stream is, and gives it a reader.

    :param control: takes the id of the peer's control stream, unless the draft has none.
    """

    def __init__(
        self,
        context: Context,
        early: EarlyStreams,
        fetches: Fetches,
        control: Callable[[int], StreamHandler],
    ) -> None:
        self._context = context
        self._early = early
        self._fetches = fetches
        self._control = control

    def open(self, stream_id: int, data: bytes, fin: bool) -> None:
        """All that has arrived of a new stream.

        :raises MoqtError: an unknown type, or a stream that ends within its header.
        """
        context = self._context
        try:
            kind, _ = context.draft.varints.decode(data, 0)
            if context.ready and is_subgroup_type(kind, context.draft):
                self._subgroup(stream_id, data, fin)
            else:
                self._other(kind, stream_id, data, fin)
        except IncompleteError:
            if fin:
                raise violation("a stream ends within its header") from None
            context.uni[stream_id] = UnreadableStream(self, context, stream_id, data)

    def _subgroup(self, stream_id: int, data: bytes, fin: bool) -> None:
        context = self._context
        header, end = decode_subgroup_header(data, context.draft)
        if len(context.uni) >= context.limits.data_streams:
            context.stop(stream_id, StreamError.EXCESSIVE_LOAD)
            context.emit(SubgroupRefused(stream_id, header))
            return
        stream = SubgroupStream(context, stream_id, SubgroupParser(header, context.draft))
        context.uni[stream_id] = stream
        context.emit(SubgroupOpened(stream_id, header))
        # The owner may have stopped the stream, or closed the session.
        if (end < len(data) or fin) and context.uni.get(stream_id) is stream:
            stream.receive(data, fin, end)

    def _other(self, kind: int, stream_id: int, data: bytes, fin: bool) -> None:
        context = self._context
        if kind == CONTROL_STREAM:
            self._control(stream_id).receive(data, fin)
        elif kind == PADDING_STREAM and context.draft.padding:
            if not fin:
                context.ignore(stream_id)
        elif kind != FETCH_HEADER and not is_subgroup_type(kind, context.draft):
            raise violation(f"unknown stream type {kind:#x}")
        elif not context.ready:
            self._early.hold(stream_id, data, fin)
        else:
            self._fetch(stream_id, data, fin)

    def _fetch(self, stream_id: int, data: bytes, fin: bool) -> None:
        context = self._context
        request_id, end = decode_fetch_header(data, context.draft)
        if len(context.uni) >= context.limits.data_streams:
            context.stop(stream_id, StreamError.EXCESSIVE_LOAD)
            return
        descending = self._fetches.fetch_opened(request_id, stream_id)
        if descending is None:
            context.stop(stream_id, StreamError.CANCELLED)
            return
        parser = FetchParser(context.draft, descending)
        stream = FetchStream(context, stream_id, parser, request_id, self._fetches)
        context.uni[stream_id] = stream
        context.emit(FetchOpened(stream_id, request_id))
        if (end < len(data) or fin) and context.uni.get(stream_id) is stream:
            stream.receive(data, fin, end)


class UnreadableStream:
    """A stream whose header is not complete."""

    __slots__ = ("_context", "_data", "_incoming", "_stream_id")

    def __init__(self, incoming: Incoming, context: Context, stream_id: int, data: bytes) -> None:
        self._incoming = incoming
        self._context = context
        self._stream_id = stream_id
        self._data = data
        context.deadlines.start(
            stream_id,
            context.limits.message_timeout,
            SessionError.DATA_STREAM_TIMEOUT,
            "the header of a stream did not come",
        )

    def receive(self, data: bytes, fin: bool) -> None:
        del self._context.uni[self._stream_id]
        self._incoming.open(self._stream_id, self._data + data, fin)
        if not isinstance(self._context.uni.get(self._stream_id), UnreadableStream):
            self._context.deadlines.stop(self._stream_id)

    def reset(self, code: int) -> None:
        del self._context.uni[self._stream_id]
        self._context.deadlines.stop(self._stream_id)


class SubgroupStream:
    """Objects of a subgroup; one call of the parser and one event for each piece of data."""

    __slots__ = ("_context", "_feed", "_stream_id")

    def __init__(self, context: Context, stream_id: int, parser: SubgroupParser) -> None:
        self._context = context
        self._stream_id = stream_id
        self._feed = parser.feed

    def receive(self, data: bytes, fin: bool, start: int = 0) -> None:
        try:
            body, objects = self._feed(data, fin, start)
        except MalformedTrackError as error:
            _malformed(self._context, self._stream_id, error)
            return
        if fin:
            del self._context.uni[self._stream_id]
        elif not body:
            return
        self._context.emit(SubgroupData(self._stream_id, body, objects, fin))

    def reset(self, code: int) -> None:
        del self._context.uni[self._stream_id]
        self._context.emit(DataStreamReset(self._stream_id, code))


class FetchStream:
    """Objects that answer a FETCH of ours, or fill a subscription."""

    __slots__ = ("_context", "_feed", "_fetches", "_request_id", "_stream_id")

    def __init__(
        self,
        context: Context,
        stream_id: int,
        parser: FetchParser,
        request_id: int,
        fetches: Fetches,
    ) -> None:
        self._context = context
        self._stream_id = stream_id
        self._feed = parser.feed
        self._request_id = request_id
        self._fetches = fetches

    def receive(self, data: bytes, fin: bool, start: int = 0) -> None:
        try:
            body, objects = self._feed(data, fin, start)
        except MalformedTrackError as error:
            _malformed(self._context, self._stream_id, error)
            return
        if fin:
            del self._context.uni[self._stream_id]
        elif not body:
            return
        self._context.emit(FetchData(self._stream_id, body, objects, fin))
        if fin:
            self._fetches.fetch_ended(self._request_id)

    def reset(self, code: int) -> None:
        del self._context.uni[self._stream_id]
        self._context.emit(DataStreamReset(self._stream_id, code))
        self._fetches.fetch_ended(self._request_id)


def _malformed(context: Context, stream_id: int, error: MalformedTrackError) -> None:
    context.stop(stream_id, StreamError.MALFORMED_TRACK)
    context.emit(TrackMalformed(stream_id, str(error)))
