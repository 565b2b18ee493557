"""A connection that takes up streams which the kernel began (see :mod:`.adopted`)."""

from __future__ import annotations

from typing import Any

from fastrelay.quic.aioquic_private.adopted import AdoptedStream
from fastrelay.quic.aioquic_private.frequency import AckFrequency
from fastrelay.quic.lease import Source


class Adopting(AckFrequency):
    """What the peer says of the kernel's streams goes to the lease, or to the objects."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._gone_codes: dict[int, int] = {}
        """Of adopted streams: what to reset them with when their bytes are gone."""

    def adopt(
        self, stream_id: int, source: Source, highest: int, *, continued: bool, gone_code: int = 0
    ) -> None:
        """Make an object for a stream that the kernel began, or renew it.

        :param highest: the kernel has sent up to there, or will have been told to; offsets above
            are only written when it is ``continued``.
        :param continued: the kernel sends no more on it; said once, when that is so. From then on
            the stream is there until its end is acknowledged. Otherwise only :meth:`send_range`
            may be called, and the object is gone when all of that is acknowledged.
        :param gone_code: to reset with when the source has lost bytes that are due.
        :raises ValueError: it is not a stream of the kernel's.
        """
        lease, limit = self._lease, self._remote_max_stream_data_uni
        if lease is not None:
            limit = lease.stream_limit(stream_id)
        stream: Any = self._streams.get(stream_id)
        if stream is None:
            if not self._is_kernels(stream_id):
                raise ValueError(f"stream {stream_id} was not begun by the kernel")
            stream = AdoptedStream(stream_id, self, source, highest, limit)
            self._streams[stream_id] = stream
            if self._plain_sending:
                self._streams_queue.append(stream)
        elif not isinstance(stream, AdoptedStream):
            raise ValueError(f"stream {stream_id} was not begun by the kernel")
        stream.max_stream_data_remote = max(stream.max_stream_data_remote, limit)
        stream.sender.adopt_again(source, highest, continued=continued)
        self._gone_codes[stream_id] = gone_code

    def send_range(self, stream_id: int, start: int, stop: int, fin: bool) -> None:
        """Send bytes of an adopted stream's source, as soon as may be, like lost ones.

        :raises ValueError: the stream is not adopted, or it has another length.
        """
        stream: Any = self._streams.get(stream_id)
        if not isinstance(stream, AdoptedStream):
            raise ValueError(f"stream {stream_id} is not adopted")
        self._stream_bytes_written += stream.sender.send_range(start, stop, fin)
        self.sending_wanted(stream_id, reset=False)

    def source_gone(self, stream_id: int) -> None:
        stream: Any = self._streams[stream_id]
        code = self._gone_codes[stream_id]
        if self._lease is not None and not stream.sender.continued:
            self._lease.stream_stopped(stream_id, code)
        else:
            stream.sender.continued = True
            self.reset_stream(stream_id, code)

    def _discard_stream(self, stream_id: int) -> None:
        super()._discard_stream(stream_id)
        self._gone_codes.pop(stream_id, None)

    def _is_kernels(self, stream_id: int) -> bool:
        """Whether it may be one that the kernel began and still sends on."""
        if stream_id & 3 != self._local_next_stream_id_uni & 3:
            return False
        stream: Any = self._streams.get(stream_id)
        if stream is None:
            lease, following = self._lease, self._local_next_stream_id_uni >> 2
            return stream_id >> 2 < (following if lease is None else lease.next_stream_number())
        return isinstance(stream, AdoptedStream) and not stream.sender.continued

    def _handle_max_stream_data_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        start = buf.tell()
        stream_id, limit = buf.pull_uint_var(), buf.pull_uint_var()
        if self._lease is not None and self._is_kernels(stream_id):
            self._lease.stream_limit_raised(stream_id, limit)
            if stream_id not in self._streams:
                return
        buf.seek(start)
        super()._handle_max_stream_data_frame(context, frame_type, buf)

    def _handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        start = buf.tell()
        stream_id, code = buf.pull_uint_var(), buf.pull_uint_var()
        if self._lease is not None and self._is_kernels(stream_id):
            self._lease.stream_stopped(stream_id, code)
            return
        buf.seek(start)
        super()._handle_stop_sending_frame(context, frame_type, buf)
