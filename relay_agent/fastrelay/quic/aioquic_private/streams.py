"""The sending half of a stream, and the stream of which it is a part.

These take the places of aioquic's ``QuicStreamSender`` and ``QuicStream`` and do the same.
The difference: a stream that is written once, sent once and acknowledged once, as most
streams of a relay are, keeps the very bytes object it was given and needs no range sets.
"""

from __future__ import annotations

from typing import Any, Protocol

from aioquic.quic.packet import QuicResetStreamFrame, QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStreamReceiver

_ACKED = QuicDeliveryState.ACKED

RECEIVES_NOTHING = QuicStreamReceiver(stream_id=None, readable=False)
"""The receiving half of every unidirectional stream of ours."""


class StreamOwner(Protocol):
    """Hears when a stream has something to send again, or nothing ever more."""

    def sending_wanted(self, stream_id: int, *, reset: bool) -> None: ...

    def sending_finished(self, stream_id: int) -> None: ...


class SendBuffer:
    """Bytes from the first one not acknowledged to the last one written."""

    __slots__ = (
        "_acked",
        "_acked_fin",
        "_buffer",
        "_buffer_fin",
        "_buffer_start",
        "_buffer_stop",
        "_fin_due",
        "_lost",
        "_owner",
        "_reset_error_code",
        "_stream_id",
        "buffer_is_empty",
        "highest_offset",
        "is_finished",
        "reset_pending",
    )

    def __init__(self, stream_id: int, owner: StreamOwner) -> None:
        self.buffer_is_empty = True
        self.highest_offset = 0
        self.is_finished = False
        self.reset_pending = False
        self._stream_id = stream_id
        self._owner = owner
        self._buffer: bytes | bytearray = b""
        self._buffer_start = 0
        self._buffer_stop = 0
        self._buffer_fin: int | None = None
        self._fin_due = False
        self._lost: RangeSet | None = None
        self._acked: RangeSet | None = None
        self._acked_fin = False
        self._reset_error_code: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing can be written any more."""
        return self._buffer_fin is not None or self._reset_error_code is not None

    @property
    def next_offset(self) -> int:
        """Where the next frame begins; tells how large its header is."""
        lost = self._lost
        return lost[0].start if lost is not None and len(lost) else self.highest_offset

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """
        :raises RuntimeError: after the end or a reset.
        """
        if self.is_over:
            raise RuntimeError("Cannot send data after FIN or reset")
        if data:
            self.buffer_is_empty = False
            if self._buffer_start == self._buffer_stop:
                self._buffer = data if type(data) is bytes else bytes(data)
            else:
                if type(self._buffer) is bytes:
                    self._buffer = bytearray(self._buffer)
                self._buffer += data
            self._buffer_stop += len(data)
        if end_stream:
            self.buffer_is_empty = False
            self._buffer_fin = self._buffer_stop
            self._fin_due = True

    def get_frame(self, max_size: int, max_offset: int | None = None) -> QuicStreamFrame | None:
        """The next piece of at most so many bytes, up to an offset; lost pieces come first."""
        if max_size < 0:
            return None
        lost = self._lost
        if lost is not None and len(lost):
            start, stop = lost[0].start, lost[0].stop
            if stop == self.highest_offset:
                stop = self._buffer_stop  # what was never sent follows at once
        else:
            start, stop = self.highest_offset, self._buffer_stop
            if start == stop:
                self.buffer_is_empty = True
                if self._fin_due:
                    self._fin_due = False
                    return QuicStreamFrame(fin=True, offset=start)
                return None
        if stop > start + max_size:
            stop = start + max_size
        if max_offset is not None and stop > max_offset:
            stop = max_offset
        if stop <= start:
            return None
        data, base = self._buffer, self._buffer_start
        if type(data) is not bytes or start != base or stop != self._buffer_stop:
            data = bytes(memoryview(data)[start - base : stop - base])
        if lost is not None:
            lost.subtract(start, stop)
        if stop > self.highest_offset:
            self.highest_offset = stop
        fin = stop == self._buffer_fin
        if fin:
            self._fin_due = False
        if stop == self._buffer_stop and (lost is None or not len(lost)):
            self.buffer_is_empty = True
        return QuicStreamFrame(data=data, offset=start, fin=fin)

    def on_data_delivery(
        self, delivery: QuicDeliveryState, start: int, stop: int, fin: bool
    ) -> None:
        """A frame of ours was acknowledged or lost."""
        if self._reset_error_code is not None:
            return
        if delivery is not _ACKED:
            self.buffer_is_empty = False
            if stop > start:
                if self._lost is None:
                    self._lost = RangeSet()
                self._lost.add(start, stop)
            if fin:
                self._fin_due = True
            self._owner.sending_wanted(self._stream_id, reset=False)
            return
        if stop > start:
            self._acknowledge(start, stop)
        if fin:
            self._acked_fin = True
        if self._acked_fin and self._buffer_start == self._buffer_fin:
            self.is_finished = True
            self._owner.sending_finished(self._stream_id)

    def _acknowledge(self, start: int, stop: int) -> None:
        acked = self._acked
        if start != self._buffer_start or acked is not None:
            if acked is None:
                acked = self._acked = RangeSet()
            acked.add(start, stop)
            if acked[0].start != self._buffer_start:
                return
            stop = acked.shift().stop
            if not len(acked):
                self._acked = None
        if stop == self._buffer_stop:
            self._buffer = b""
        else:
            if type(self._buffer) is bytes:
                self._buffer = bytearray(self._buffer)
            del self._buffer[: stop - self._buffer_start]  # type: ignore[union-attr]
        self._buffer_start = stop

    def reset(self, error_code: int) -> None:
        """Send RESET_STREAM instead of what is left; no effect the second time."""
        if self._reset_error_code is None and not self.is_finished:
            self._reset_error_code = error_code
            self.reset_pending = True
            self.buffer_is_empty = True
            self._buffer = b""
            self._owner.sending_wanted(self._stream_id, reset=True)

    def discard_unsent(self) -> int:
        """How many bytes a reset has thrown away; 0 when asked again."""
        unsent = self._buffer_stop - self.highest_offset
        self._buffer_stop = self.highest_offset
        return unsent

    def get_reset_frame(self) -> QuicResetStreamFrame:
        self.reset_pending = False
        assert self._reset_error_code is not None
        return QuicResetStreamFrame(
            error_code=self._reset_error_code,
            final_size=self.highest_offset,
            stream_id=self._stream_id,
        )

    def on_reset_delivery(self, delivery: QuicDeliveryState) -> None:
        """RESET_STREAM was acknowledged or lost."""
        if delivery is _ACKED:
            self.is_finished = True
            self._owner.sending_finished(self._stream_id)
        else:
            self.reset_pending = True
            self._owner.sending_wanted(self._stream_id, reset=True)


def unacknowledged(sender: Any) -> int:
    """What a sending half, of whatever kind, waits for: bytes, and one for its end or reset."""
    if sender.is_finished:
        return 0
    if sender._reset_error_code is not None:
        return 1
    written: int = sender._buffer_stop - sender._buffer_start
    return written + (sender._buffer_fin is not None)


class OwnStream:
    """A stream that this side opened."""

    __slots__ = (
        "is_blocked",
        "max_stream_data_local",
        "max_stream_data_local_sent",
        "max_stream_data_remote",
        "receiver",
        "sender",
        "stream_id",
    )

    def __init__(
        self, stream_id: int, owner: StreamOwner, max_data_local: int, max_data_remote: int
    ) -> None:
        self.stream_id = stream_id
        self.sender = SendBuffer(stream_id, owner)
        self.receiver = (
            RECEIVES_NOTHING
            if stream_id & 2
            else QuicStreamReceiver(stream_id=stream_id, readable=True)
        )
        self.is_blocked = False
        self.max_stream_data_local = max_data_local
        self.max_stream_data_local_sent = max_data_local
        self.max_stream_data_remote = max_data_remote

    @property
    def is_finished(self) -> bool:
        return self.receiver.is_finished and self.sender.is_finished
