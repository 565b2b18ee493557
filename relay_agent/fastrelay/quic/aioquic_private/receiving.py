"""1-RTT packets taken apart without the generic dispatch.

A packet that is anything but ordinary (a long header, another path or connection id, a
key update) goes through aioquic's own code from its first byte, and so does every frame
that is not ACK, STREAM or padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any, ClassVar

from aioquic._buffer import Buffer, BufferReadError
from aioquic.buffer import UINT_VAR_MAX
from aioquic.quic.connection import (
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import (
    NON_ACK_ELICITING_FRAME_TYPES,
    QuicErrorCode,
    QuicFrameType,
    QuicStreamFrame,
    pull_ack_frame,
)
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import FinalSizeError, StreamFinishedError
from aioquic.tls import Epoch

from fastrelay.quic.aioquic_private.partial_resets import RESET_STREAM_AT, PartialResets
from fastrelay.quic.aioquic_private.protection import unseal
from fastrelay.quic.aioquic_private.streams import RECEIVES_NOTHING

_CONNECTED = QuicConnectionState.CONNECTED
_ONE_RTT = Epoch.ONE_RTT
ALARM_LATENESS = 0.004
"""Seconds that a timer of ours may be late: they belong to what the peer was told (RFC 9000
section 18.2)."""
_MAX_ACK_DELAY = 0.025
"""As aioquic tells the peer."""
_DELAY_WITH_HOLES = 0.005
"""Seconds, when packets were lost lately: a sender's window may be so small that it waits for each
acknowledgement."""
SELDOM = 0x3F
"""Of how many packets one looks after what changes seldom."""
ACK_EVERY = 2
"""Ack-eliciting packets that are acknowledged at once (RFC 9000 section 13.2.2)."""

_Handler = tuple[Any, frozenset[Epoch]]


class FrameHandlers:
    """Who handles a frame, and in which epochs it may come, by frame type: one table for all
    connections of a class. aioquic has 33 sets, as many methods and as many tuples for each
    connection."""

    __slots__ = ("_connection", "_table")
    _tables: ClassVar[dict[type, dict[int, _Handler]]] = {}

    def __init__(self, connection: object, handlers: Mapping[int, _Handler]) -> None:
        self._connection = connection
        kind = type(connection)
        if kind not in self._tables:
            self._tables[kind] = {
                frame_type: (handler.__func__, epochs)
                for frame_type, (handler, epochs) in handlers.items()
            }
        self._table = self._tables[kind]

    def __getitem__(self, frame_type: int) -> _Handler:
        function, epochs = self._table[frame_type]
        return MethodType(function, self._connection), epochs

    def __setitem__(self, frame_type: int, handler: _Handler) -> None:
        method, epochs = handler
        self._table[frame_type] = method.__func__, epochs

    def get(self, frame_type: int) -> _Handler | None:
        return self[frame_type] if frame_type in self._table else None


class Receiving(PartialResets):
    """A connection with a short way through for ordinary packets."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._held_back = _MAX_ACK_DELAY - ALARM_LATENESS
        """Seconds that ack-eliciting packets in order may wait for company."""
        self._ack_every = ACK_EVERY
        self._holes_at_once = True
        self._unacknowledged = 0
        self._patience = 0.0
        """The idle timeout, as it was lately."""
        handlers = FrameHandlers(self, self._QuicConnection__frame_handlers)  # type: ignore[has-type]
        _, stream_epochs = handlers[QuicFrameType.RESET_STREAM]
        handlers[RESET_STREAM_AT] = (self._handle_reset_stream_at_frame, stream_epochs)
        self._frame_handlers = self._QuicConnection__frame_handlers = handlers

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        crypto = self._one_rtt
        if crypto is None or data[0] & 0xC0 != 0x40 or self._state is not _CONNECTED:
            self._receive_by_aioquic(data, addr, now)
            return
        path = self._network_paths[0]
        host_cid = self.host_cid
        if path.addr != addr or not path.is_validated or data[1 : 1 + len(host_cid)] != host_cid:
            self._receive_by_aioquic(data, addr, now)
            return
        opened = unseal(crypto, data, host_cid, self._application.expected_packet_number)
        if opened is None:
            self._receive_by_aioquic(data, addr, now)
        else:
            self._packet_received(*opened, now)

    def _receive_by_aioquic(self, data: bytes, addr: Any, now: float) -> None:
        super().receive_datagram(data, addr, now)

    def _packet_received(self, first: int, number: int, plain: bytes, now: float) -> None:
        """A 1-RTT packet of the peer's, on the path and with the connection id in use."""
        space = self._application
        last = space.largest_received_packet
        if number <= last and number in space.received_packets:
            return
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            spin = bool(first & 0x20)
            self._spin_bit = not spin if self._is_client else spin
            self._spin_highest_pn = number

        try:
            is_ack_eliciting = self._read_frames(plain, self._network_paths[0], now)
        except QuicConnectionError as error:
            self.close(
                error_code=error.error_code,
                frame_type=error.frame_type,
                reason_phrase=error.reason_phrase,
            )
        if self._state is not _CONNECTED or self._close_pending:
            return
        self._note(number, now)
        if is_ack_eliciting:
            self._acknowledge_soon(now, at_once=self._holes_at_once and number != last + 1)

    def _note(self, number: int, now: float) -> None:
        """A packet was read, and not before."""
        space = self._application
        if number > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = number, now
        ranges = space.ack_queue._RangeSet__ranges  # type: ignore[attr-defined]
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        if number & SELDOM and self._patience:
            space.received_packets._received.add(number)
        else:
            space.received_packets.add(number)  # and forget old ones
            self._patience = self._idle_timeout()
        self._close_at = now + self._patience
        self._ack_eliciting_sent_since_receipt = False

    def _acknowledge_soon(self, now: float, *, at_once: bool) -> None:
        space = self._application
        if space.ack_at is None:
            self._unacknowledged = 1
            at_once |= self._ack_every == 1
            delay = self._held_back
            if len(space.ack_queue) > 1 and delay > _DELAY_WITH_HOLES:
                delay = _DELAY_WITH_HOLES
            space.ack_at = now if at_once else now + delay
            return
        self._unacknowledged += 1
        if at_once or self._unacknowledged >= self._ack_every:
            space.ack_at = min(space.ack_at, now)

    def acknowledge_at_once(self, now: float) -> None:
        """What waits for an acknowledgement gets it with the next flush."""
        space = self._application
        if space.ack_at is not None and space.ack_at > now:
            space.ack_at = now

    def _read_frames(self, plain: bytes, path: QuicNetworkPath, now: float) -> bool:
        """Handle every frame; whether one of them wants an acknowledgement."""
        buf: Any = Buffer(data=plain)
        context: QuicReceiveContext | None = None
        is_ack_eliciting = False
        if not plain:
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, 0, "Packet contains no frames"
            )
        while not buf.eof():
            frame_type = -1
            try:
                frame_type = buf.pull_uint_var()
                if 0x08 <= frame_type <= 0x0F:
                    is_ack_eliciting = True
                    self._read_stream_frame(frame_type, buf)
                    continue
                if frame_type == 0x02:
                    self._read_ack_frame(frame_type, buf, now)
                    continue
                if context is None:
                    context = QuicReceiveContext(
                        _ONE_RTT, self.host_cid, path, None, now, self._version
                    )
                found = self._frame_handlers.get(frame_type)
                if found is None:
                    raise QuicConnectionError(
                        QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Unknown frame type"
                    )
                handler, epochs = found
                if _ONE_RTT not in epochs:
                    raise QuicConnectionError(
                        QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Unexpected frame type"
                    )
                if frame_type not in NON_ACK_ELICITING_FRAME_TYPES:
                    is_ack_eliciting = True
                handler(context, frame_type, buf)
            except BufferReadError:
                raise QuicConnectionError(
                    QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Failed to parse frame"
                ) from None
            except StreamFinishedError:
                continue  # the state of the stream is gone, the frame is of no interest
        return is_ack_eliciting

    def _read_ack_frame(self, frame_type: int, buf: Any, now: float) -> None:
        try:
            ranges, delay = pull_ack_frame(buf)
        except BufferReadError:
            raise
        except ValueError as error:
            raise QuicConnectionError(
                QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, str(error)
            ) from error
        loss = self._loss
        loss.peer_completed_address_validation = True
        loss.on_ack_received(
            ack_rangeset=ranges,
            ack_delay=(delay << self._remote_ack_delay_exponent) / 1_000_000,
            now=now,
            space=self._application,
        )

    def _read_stream_frame(self, frame_type: int, buf: Any) -> None:
        stream_id = buf.pull_uint_var()
        offset = buf.pull_uint_var() if frame_type & 4 else 0
        length = buf.pull_uint_var() if frame_type & 2 else buf.capacity - buf.tell()
        end = offset + length
        if end > UINT_VAR_MAX:
            raise QuicConnectionError(
                QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "Stream data beyond 2^62 - 1"
            )
        data = buf.pull_bytes(length)
        stream: Any = self._streams.get(stream_id)
        if stream is None or stream.receiver is RECEIVES_NOTHING:
            if frame_type & 1 and not offset and self._takes_whole(stream_id, length):
                self._events.append(StreamDataReceived(data, True, stream_id))
                return
            self._assert_stream_can_receive(frame_type, stream_id)
            stream = self._get_or_create_stream(frame_type, stream_id)
        receiver = stream.receiver
        frame = QuicStreamFrame(data=data, fin=bool(frame_type & 1), offset=offset)
        if self._partial_resets:
            self._check_partial_reset(frame_type, stream_id, end, fin=frame.fin)
        if end > stream.max_stream_data_local:
            raise QuicConnectionError(
                QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit"
            )
        newly_received = max(0, end - receiver.highest_offset)
        connection = self._local_max_data
        if connection.used + newly_received > connection.value:
            raise QuicConnectionError(
                QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit"
            )
        try:
            event = receiver.handle_frame(frame)
        except FinalSizeError as error:
            raise QuicConnectionError(
                QuicErrorCode.FINAL_SIZE_ERROR, frame_type, str(error)
            ) from error
        if event is not None:
            self._events.append(event)
        connection.used += newly_received
        self._after_receiving(stream)

    def _takes_whole(self, stream_id: int, length: int) -> bool:
        """Whether it is the peer's next unidirectional stream, and the peer may send so much: then
        it has come and gone, and nothing of it needs to be made. Otherwise nothing is done."""
        streams, connection = self._local_max_streams_uni, self._local_max_data
        if (
            stream_id != streams.used * 4 + 2 + self._is_client
            or streams.used >= streams.value
            or length > self._local_max_stream_data_uni
            or connection.used + length > connection.value
            or self._plain_sending
        ):
            return False
        streams.used += 1
        streams.value += 1
        connection.used += length
        return True

    def _after_receiving(self, stream: Any) -> None:
        if self._partial_resets:
            self._advance_partial_reset(stream)
        if self._plain_sending:
            return
        receiver = stream.receiver
        if receiver.is_finished:
            if stream.sender.is_finished and stream.stream_id in self._streams:
                self._discard_stream(stream.stream_id)
        elif receiver.highest_offset * 2 > stream.max_stream_data_local:
            self._control[stream.stream_id] = stream

    def _handle_stream_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        # Only reached for packets that took aioquic's way.
        if not self._plain_sending:
            self._read_stream_frame(frame_type, buf)
            return
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stream_frame(context, frame_type, buf)
        self._after_receiving(self._streams[stream_id])

    def _handle_reset_stream_at_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_reset_stream_at_frame(context, frame_type, buf)
        self._after_receiving(self._streams[stream_id])

    def _handle_reset_stream_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_reset_stream_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._after_receiving(stream)

    def get_timer(self) -> float | None:
        path = self._network_paths[0] if self._network_paths else None
        if (
            self._one_rtt is None
            or path is None
            or not path.is_validated
            or not self._handshake_confirmed
            or self._state is not _CONNECTED
        ):
            return super().get_timer()
        space, loss = self._application, self._loss
        at = self._close_at
        assert at is not None
        ack_at, pacing_at = space.ack_at, self._pacing_at
        if ack_at is not None and ack_at < at:
            at = ack_at
        if pacing_at is not None and pacing_at < at:
            at = pacing_at
        loss_at = space.loss_time
        if loss_at is None and space.ack_eliciting_in_flight:
            timeout = loss.get_probe_timeout() * 2**loss._pto_count
            loss_at = loss._time_of_last_sent_ack_eliciting_packet + timeout
        self._loss_at = loss_at
        if loss_at is not None and loss_at < at:
            at = loss_at
        return at
