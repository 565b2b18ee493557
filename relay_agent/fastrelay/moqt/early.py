"""Streams and datagrams that arrive before the peer's SETUP (draft-18 section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.context import Context, is_unidirectional


class EarlyStreams:
    """Keeps what cannot be understood before SETUP, up to ``SessionLimits.early_bytes``.

    :param accept: takes all that has arrived of a stream: id, data, fin.
    """

    def __init__(self, context: Context, accept: Callable[[int, bytes, bool], None]) -> None:
        self._context = context
        self._accept = accept
        self._streams: dict[int, EarlyStream] = {}
        self._datagrams: list[bytes] = []
        self._size = 0

    def hold(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Keep all that has arrived of a new stream, or refuse it."""
        context = self._context
        stream = self._streams[stream_id] = EarlyStream(self, stream_id, data, fin)
        context.read(stream_id, stream)
        self._size += len(data)
        if self._size > context.limits.early_bytes:
            self.drop(stream_id)
            if not is_unidirectional(stream_id):
                context.reset(stream_id, StreamError.EXCESSIVE_LOAD)
            context.stop(stream_id, StreamError.EXCESSIVE_LOAD)

    def more(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Further bytes: now it may be clear that the stream is the one with SETUP."""
        held = self._streams[stream_id].data
        self.drop(stream_id)
        self._accept(stream_id, held + data, fin)

    def give_up(self, stream_id: int) -> None:
        """A request that the peer gave up before it could be read."""
        self.drop(stream_id)
        self._context.stop(stream_id, StreamError.CANCELLED)

    def drop(self, stream_id: int) -> None:
        """Forget a stream."""
        self._size -= len(self._streams.pop(stream_id).data)
        self._context.forget(stream_id)

    def hold_datagram(self, data: bytes) -> None:
        """Keep a datagram, or drop it."""
        if self._size + len(data) <= self._context.limits.early_bytes:
            self._datagrams.append(data)
            self._size += len(data)

    def release(self, datagram: Callable[[bytes], None]) -> None:
        """SETUP is there: pass on everything, streams in the order of their last data."""
        for stream_id, stream in list(self._streams.items()):
            if self._context.closed:
                return
            self.drop(stream_id)
            self._accept(stream_id, stream.data, stream.fin)
        for data in self._datagrams:
            datagram(data)
        self._datagrams.clear()


class EarlyStream:
    __slots__ = ("_early", "_stream_id", "data", "fin")

    def __init__(self, early: EarlyStreams, stream_id: int, data: bytes, fin: bool) -> None:
        self._early = early
        self._stream_id = stream_id
        self.data = data
        self.fin = fin

    def receive(self, data: bytes, fin: bool) -> None:
        self._early.more(self._stream_id, data, fin)

    def reset(self, code: int) -> None:
        self._early.drop(self._stream_id)

    def stopped(self, code: int) -> None:
        self._early.give_up(self._stream_id)
