"""Which streams have something to send.

aioquic looks at all of them to find out. Here every event that gives a stream something to
send puts it into one of these, in order:

``_urgent``    bidirectional streams (requests and control), and data that was lost
``_ready``     unidirectional streams with data
``_parked``    streams that flow control or the limit on streams holds back
``_control``   streams with a frame to send that only aioquic writes
``_stopping``  streams whose STOP_SENDING may have to be repeated
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import stream_is_client_initiated

from fastrelay.quic.aioquic_private.sharing import Sharing
from fastrelay.quic.aioquic_private.streams import OwnStream, SendBuffer


class Nowhere(list[Any]):
    """aioquic's list of streams to serve, which nobody reads."""

    def append(self, _stream: Any) -> None: ...


class Scheduling(Sharing):
    """A connection that knows its streams with something to send, and discards the others.

    With qlog on (``_plain_sending``) all of this is aioquic's business.
    """

    def __init__(self, **arguments: Any) -> None:
        self._urgent: dict[int, Any] = {}
        self._ready: dict[int, Any] = {}
        self._parked: dict[int, Any] = {}
        self._control: dict[int, Any] = {}
        self._stopping: dict[int, Any] = {}
        super().__init__(**arguments)
        self._plain_sending = self._quic_logger is not None
        if not self._plain_sending:
            self._streams_queue = Nowhere()

    # -- streams.StreamOwner

    def sending_wanted(self, stream_id: int, *, reset: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not self._plain_sending:
            (self._control if reset else self._urgent)[stream_id] = stream

    def sending_finished(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.receiver.is_finished:
            self._discard_stream(stream_id)

    def _discard_stream(self, stream_id: int) -> None:
        """Both halves are over. What a stream of the peer's frees, it may open again."""
        if self._plain_sending:
            return
        del self._streams[stream_id]
        for waiting in (self._control, self._stopping, self._parked):
            waiting.pop(stream_id, None)
        if stream_is_client_initiated(stream_id) != self._is_client:
            self._stream_limit(stream_id).value += 1

    # -- opening

    def open_stream(self, *, unidirectional: bool) -> int:
        """Open a stream without writing to it; two calls give two streams."""
        if unidirectional:
            stream_id = self._local_next_stream_id_uni
            if self._lease is not None:
                stream_id = self._lease.take_stream_number() * 4 + stream_id % 4
            self._local_next_stream_id_uni = stream_id + 4
            stream = OwnStream(stream_id, self, 0, self._remote_max_stream_data_uni)
            limit, blocked = self._remote_max_streams_uni, self._streams_blocked_uni
        else:
            stream_id = self._local_next_stream_id_bidi
            self._local_next_stream_id_bidi = stream_id + 4
            stream = OwnStream(
                stream_id,
                self,
                self._local_max_stream_data_bidi_local,
                self._remote_max_stream_data_bidi_remote,
            )
            limit, blocked = self._remote_max_streams_bidi, self._streams_blocked_bidi
        self._streams[stream_id] = stream  # type: ignore[assignment]
        if self._plain_sending:
            self._streams_queue.append(stream)  # type: ignore[arg-type]
        if stream_id // 4 >= limit:
            stream.is_blocked = True
            blocked.append(stream)  # type: ignore[arg-type]
            self._streams_blocked_pending = True
        return stream_id

    def _get_or_create_stream_for_send(self, stream_id: int) -> Any:
        stream = self._streams.get(stream_id)
        if stream is None and stream_id in (
            self._local_next_stream_id_uni,
            self._local_next_stream_id_bidi,
        ):
            self.open_stream(unidirectional=bool(stream_id & 2))
            stream = self._streams[stream_id]
        return stream or super()._get_or_create_stream_for_send(stream_id)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> Any:
        known = self._streams.get(stream_id)
        if known is not None:
            return known
        opened = self._stream_limit(stream_id).used
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if not stream_id & 2:
            for new_id in range(opened * 4 + stream_id % 4, stream_id + 4, 4):
                self._streams[new_id].sender = SendBuffer(new_id, self)  # type: ignore[assignment]
        return stream

    def _unblock_streams(self, is_unidirectional: bool) -> None:
        super()._unblock_streams(is_unidirectional)
        self._unpark()

    def _handle_max_data_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        self._unpark()

    def _handle_max_stream_data_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        self._unpark()

    def _unpark(self) -> None:
        if self._parked:
            self._parked.update(self._ready)
            self._ready, self._parked = self._parked, {}
