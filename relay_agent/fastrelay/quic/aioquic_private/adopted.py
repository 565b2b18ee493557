"""Streams that the kernel began: objects made just in time, when user space has to send on one.

Such an object knows where the stream's bytes are (:class:`fastrelay.quic.lease.Source`) and
reads them when a frame is built, so that a range that was lost costs no copy. It is gone as
soon as nothing of it is due or in flight, unless the stream is user space's from now on.
"""

from __future__ import annotations

from typing import Protocol

from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet

from fastrelay.quic.aioquic_private.streams import OwnStream, SendBuffer, StreamOwner
from fastrelay.quic.lease import Source

_ACKED = QuicDeliveryState.ACKED


class AdoptedOwner(StreamOwner, Protocol):
    """Hears also when bytes that are due cannot be had."""

    def source_gone(self, stream_id: int) -> None: ...


class AdoptedSender(SendBuffer):
    """Below ``_buffer_start``, or where that was at first, bytes are the source's; above, they
    are written as to any stream. ``_patches`` is what is due of the source's."""

    __slots__ = ("_base", "_frames", "_gone", "_patches", "_source", "continued")

    def __init__(self, stream_id: int, owner: AdoptedOwner, source: Source, highest: int) -> None:
        super().__init__(stream_id, owner)
        self._gone = owner.source_gone
        self._source = source
        self._patches = RangeSet()
        self._frames = 0
        """In flight."""
        self._move(highest)
        self.continued = False
        """The kernel sends no more on the stream: it is user space's until its end."""

    def adopt_again(self, source: Source, highest: int, *, continued: bool) -> None:
        self._source = source
        self.continued |= continued
        if not self.is_over:
            self.is_finished = False
        if highest > self.highest_offset and self._buffer_start == self._buffer_stop:
            self._move(max(highest, self._buffer_stop))

    def _move(self, highest: int) -> None:
        self._base = self._buffer_start = self._buffer_stop = self.highest_offset = highest

    def send_range(self, start: int, stop: int, fin: bool) -> int:
        """Queue bytes of the source's; how many of them nobody has sent or queued before.

        :raises ValueError: it contradicts what is known of the stream's length.
        """
        if self._reset_error_code is not None:
            return 0
        known_end = self._buffer_fin
        if known_end is not None and (stop > known_end or (fin and stop != known_end)):
            raise ValueError(f"stream {self._stream_id} ends at {known_end}, not {stop}")
        growth = max(0, stop - self._buffer_stop)
        if growth and self._buffer_stop != self._base:
            raise ValueError(f"stream {self._stream_id}: bytes were written at {self._base}")
        if growth:
            self._base = self._buffer_start = self._buffer_stop = stop
        if stop > start:
            self._patches.add(start, stop)
        if fin and not self._acked_fin:
            self._buffer_fin = stop
            self._fin_due = True
        self.is_finished = False
        self.buffer_is_empty = False
        return growth

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """
        :raises RuntimeError: the kernel may still be sending; or as for every stream.
        """
        if not self.continued:
            raise RuntimeError("The stream was not taken over")
        super().write(data, end_stream)

    @property
    def next_offset(self) -> int:
        patches = self._patches
        return patches[0].start if len(patches) else super().next_offset

    def get_frame(self, max_size: int, max_offset: int | None = None) -> QuicStreamFrame | None:
        frame = self._patch(max_size, max_offset) if len(self._patches) else None
        if frame is None and not len(self._patches):
            frame = super().get_frame(max_size, max_offset)
        if frame is not None:
            self._frames += 1
        return frame

    def _patch(self, max_size: int, max_offset: int | None) -> QuicStreamFrame | None:
        start, stop = self._patches[0].start, self._patches[0].stop
        stop = min(stop, start + max_size)
        if max_offset is not None:
            stop = min(stop, max(max_offset, self.highest_offset))
        if stop <= start:
            return None
        data = self._source.read(start, stop)
        if data is None:
            self._patches = RangeSet()
            self.buffer_is_empty = True
            self._gone(self._stream_id)
            return None
        self._patches.subtract(start, stop)
        self.highest_offset = max(self.highest_offset, stop)
        fin = stop == self._buffer_fin
        if fin:
            self._fin_due = False
        self.buffer_is_empty = (
            not len(self._patches)
            and self.highest_offset == self._buffer_stop
            and not self._fin_due
            and not (self._lost is not None and len(self._lost))
        )
        return QuicStreamFrame(data=data, offset=start, fin=fin)

    def on_data_delivery(
        self, delivery: QuicDeliveryState, start: int, stop: int, fin: bool
    ) -> None:
        self._frames -= 1
        if self._reset_error_code is not None:
            return
        if delivery is _ACKED:
            if stop > max(start, self._base):
                self._acknowledge(start, stop)
            self._acked_fin |= fin
            self._finish()
        elif stop > start and start < self._base:
            self._patches.add(start, stop)
            self._fin_due |= fin
            self.buffer_is_empty = False
            self._owner.sending_wanted(self._stream_id, reset=False)
        else:
            super().on_data_delivery(delivery, start, stop, fin)

    def _finish(self) -> None:
        """Nothing is due or in flight: the object has served its purpose."""
        if (
            not self._frames
            and not len(self._patches)
            and self._buffer_start == self._buffer_stop
            and (self._acked_fin or not (self.continued or self._fin_due))
        ):
            self.buffer_is_empty = True
            self.is_finished = True
            self._owner.sending_finished(self._stream_id)

    def reset(self, error_code: int) -> None:
        """
        :raises RuntimeError: the kernel may still be sending, so the final size is not known.
        """
        if not self.continued:
            raise RuntimeError("The stream was not taken over")
        self._patches = RangeSet()
        super().reset(error_code)


class AdoptedStream(OwnStream):
    """A stream with such a sender."""

    __slots__ = ()

    sender: AdoptedSender

    def __init__(
        self, stream_id: int, owner: AdoptedOwner, source: Source, highest: int, limit: int
    ) -> None:
        super().__init__(stream_id, owner, 0, limit)
        self.sender = AdoptedSender(stream_id, owner, source, highest)
