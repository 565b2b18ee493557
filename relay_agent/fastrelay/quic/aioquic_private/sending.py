"""1-RTT packets from the streams that have something to send.

aioquic visits every open stream several times for every packet, builds each frame through
a general packet builder, and starts one more packet only to find that nothing is left.
Here the streams with something to send are known (:mod:`.scheduling`), and a packet of ACK,
DATAGRAM and STREAM frames is written straight into a buffer. All other frames, and all
packets before the handshake is over, are left to aioquic, which is shown only the streams
with something to say beside their data (RESET_STREAM, STOP_SENDING, MAX_STREAM_DATA).

With qlog on, aioquic sends everything, since only its builder writes the log.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from aioquic._buffer import Buffer
from aioquic.buffer import size_uint_var
from aioquic.quic.connection import (
    QuicConnectionState,
    QuicNetworkPath,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, push_ack_frame
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from fastrelay.quic.aioquic_private.protection import TAG_SIZE, seal
from fastrelay.quic.aioquic_private.scheduling import Nowhere, Scheduling

_SMALLEST_PIECE = 64
"""Less room than this at a packet's end is not worth another frame."""
_BURST = 16
"""Packets that are built before the first of them is sent, when somebody else sends on the
connection too: their numbers are taken, and what he sends meanwhile overtakes them."""
_CONNECTED = QuicConnectionState.CONNECTED
_ONE_RTT = Epoch.ONE_RTT
_SHORT_HEADER = QuicPacketType.ONE_RTT
_NO_FRAMES: list[dict[str, Any]] = []


class Sending(Scheduling):
    """A connection that writes ordinary packets by itself."""

    def __init__(self, **arguments: Any) -> None:
        self._connection_ids_due = False
        self._one_rtt: CryptoPair | None = None
        self._one_rtt_crypto = QuicStream()
        self._application = QuicPacketSpace()
        self._wrote_media = False
        super().__init__(**arguments)
        self._stream_bytes_written = 0
        self._datagram_bytes_unsent = 0
        self.is_interrupted = False
        """Whether there is more to send at once, after what was built last has been sent."""
        self.media_packets = 0
        """Packets with DATAGRAM frames or frames of unidirectional streams."""
        self._scratch = Buffer(capacity=self._max_datagram_size)

    # -- what aioquic writes

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        if self._plain_sending:
            self._write_plainly(builder, network_path, now)
            return
        control = self._control
        control.update(self._stopping)
        streams, datagrams = self._streams, self._datagrams_pending
        before = list(control)
        self._streams, self._datagrams_pending = control, deque()
        self._streams_queue = list(control.values())
        try:
            super()._write_application(builder, network_path, now)
        finally:
            self._streams, self._datagrams_pending = streams, datagrams
            self._streams_queue = Nowhere()
            for stream_id in before:
                stream = control.get(stream_id)
                if stream is None:
                    self._streams.pop(stream_id, None)
                    self._stopping.pop(stream_id, None)
                elif not (
                    stream.sender.reset_pending
                    or stream.receiver.stop_pending
                    or stream.max_stream_data_local_sent != stream.max_stream_data_local
                ):
                    del control[stream_id]

    def _write_plainly(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        lease = self._lease
        if lease is None:
            super()._write_application(builder, network_path, now)
            return
        # aioquic looks at what is left of MAX_DATA and takes from it in two steps, so all of it
        # is taken before, and what is left given back.
        limit, used = self._remote_max_data, self._remote_max_data_used
        taken = lease.take_data(limit)
        self._remote_max_data = used + taken
        try:
            super()._write_application(builder, network_path, now)
        finally:
            self._remote_max_data = limit
            lease.give_data(taken - (self._remote_max_data_used - used))

    def _on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if not stream.max_stream_data_local_sent and stream.stream_id in self._streams:
            self._control[stream.stream_id] = stream

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: Any) -> None:
        # Beyond MAX_STREAMS not even the end of a stream may be said.
        if not stream.is_blocked:
            super()._write_reset_stream_frame(builder, stream)

    def _needs_aioquic(self, path: QuicNetworkPath) -> bool:
        """Whether there is anything to send that :meth:`_write_packets` does not know."""
        if (
            not self._handshake_confirmed
            or not path.is_validated
            or self._control
            or self._ping_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or path.remote_challenges
            or self._probes_due()
            or self._remote_preferred_address is not None
            or not self._one_rtt_crypto.sender.buffer_is_empty
        ):
            return True
        data = self._local_max_data
        if data.used * 2 > data.value or data.value != data.sent:
            return True
        for limit in (self._local_max_streams_uni, self._local_max_streams_bidi):
            if limit.sent - limit.used < limit.value - limit.sent:
                return True
        for stream in self._stopping.values():
            if stream.receiver.stop_pending:
                return True
        if self._connection_ids_due:
            self._connection_ids_due = not all(cid.was_sent for cid in self._host_cids)
        return self._connection_ids_due

    def _probes_due(self) -> bool:
        paths = self._network_paths
        return len(paths) > 1 and any(
            path.remote_challenges or not (path.is_validated or path.local_challenge_sent)
            for path in paths[1:]
        )

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._connection_ids_due = True

    def _on_new_connection_id_delivery(self, delivery: Any, connection_id: Any) -> None:
        super()._on_new_connection_id_delivery(delivery, connection_id)
        self._connection_ids_due = True

    # -- what is written here

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        if self._one_rtt is None and not self._start_one_rtt():
            return super().datagrams_to_send(now)
        if self._close_pending or self._state is not _CONNECTED:
            return super().datagrams_to_send(now)
        path = self._network_paths[0]
        datagrams = []
        self.is_interrupted = False
        self._pacing_at = None  # what held data back before may be gone
        if self._needs_aioquic(path):
            datagrams = super().datagrams_to_send(now)
        ack_at = self._application.ack_at
        if (
            self._urgent
            or self._ready
            or self._datagrams_pending
            or (ack_at is not None and ack_at <= now)
        ):
            self._write_packets(datagrams, path, now)
        if self._probe_pending:
            datagrams += super().datagrams_to_send(now)
        return datagrams

    def _start_one_rtt(self) -> bool:
        if self._plain_sending or not self._handshake_complete or self._state is not _CONNECTED:
            return False
        self._one_rtt = self._cryptos[Epoch.ONE_RTT]
        self._one_rtt_crypto = self._crypto_streams[Epoch.ONE_RTT]
        self._application = self._spaces[Epoch.ONE_RTT]
        # 48 KB that only handshakes fill; without session tickets TLS sends nothing more.
        self._crypto_buffers = {epoch: Buffer(capacity=64) for epoch in self._crypto_buffers}
        return True

    def _write_packets(
        self, datagrams: list[tuple[bytes, Any]], path: QuicNetworkPath, now: float
    ) -> None:
        """Append packets until there is nothing left, or no credit for it."""
        loss, space, buf = self._loss, self._application, self._scratch
        pacer: Any = loss._pacer
        controller = loss._cc
        header_size = 3 + len(self._peer_cid.cid)
        capacity = self._max_datagram_size - TAG_SIZE
        address = path.addr
        while self._urgent or self._ready or self._datagrams_pending or space.ack_at is not None:
            if self._lease is not None and len(datagrams) >= _BURST:
                self.is_interrupted = True
                break
            ack_due = space.ack_at is not None and space.ack_at <= now
            if not ack_due:
                # As in aioquic, ACKs are not held back by pacing.
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    break
            flight = controller.congestion_window - loss.bytes_in_flight
            if self._probe_pending and flight < self._max_datagram_size:
                flight = self._max_datagram_size
            if not path.is_validated:
                room = 3 * path.bytes_received - path.bytes_sent
                if room < self._max_datagram_size:
                    break
            ack_at = space.ack_at
            handlers: list[tuple[Any, Any]] = []
            buf.seek(header_size)
            in_flight = False
            if ack_at is not None:
                in_flight = self._push_ack(buf, space, now, handlers)
            start = buf.tell()
            self._wrote_media = False
            limit = min(capacity, flight - TAG_SIZE)
            if self._datagrams_pending:
                self._push_datagrams(buf, limit)
            if self._urgent:
                self._push_streams(buf, limit, self._urgent, handlers)
            if self._ready and not self._urgent:
                self._push_streams(buf, limit, self._ready, handlers)
            end = buf.tell()
            if end > start:
                in_flight = True
                self._probe_pending = False
            elif not ack_due:
                space.ack_at = ack_at  # an ACK that can wait and found no company
                break

            payload = buf.data_slice(header_size, end)
            if self._wrote_media:
                self.media_packets += 1
            number, packet = self._sealed(payload, path)
            if in_flight:
                loss.on_packet_sent(
                    packet=QuicSentPacket(
                        _ONE_RTT,
                        True,
                        True,
                        False,
                        number,
                        _SHORT_HEADER,
                        now,
                        len(packet),
                        handlers,
                        _NO_FRAMES,
                    ),
                    space=space,
                )
                if not self._ack_eliciting_sent_since_receipt:
                    self._close_at = now + self._idle_timeout()
                    self._ack_eliciting_sent_since_receipt = True
            datagrams.append((packet, address))
            pacer.update_after_send(now=now)

    def _sealed(self, payload: bytes, path: QuicNetworkPath) -> tuple[int, bytes]:
        """The next packet, and its number."""
        crypto = self._one_rtt
        assert crypto is not None
        number = self._take_packet_number()
        packet = seal(crypto, self._peer_cid.cid, number, payload, spin_bit=self._spin_bit)
        self._packet_number = number + 1
        path.bytes_sent += len(packet)
        return number, packet

    def _push_ack(
        self,
        buf: Any,
        space: QuicPacketSpace,
        now: float,
        handlers: list[tuple[Any, Any]],
    ) -> bool:
        """Whether a PING was added, so that our own list of ranges gets shorter again."""
        assert space.largest_received_time is not None
        delay = int((now - space.largest_received_time) * 1_000_000)
        buf.push_uint_var(0x02)
        room = buf.capacity - buf.tell() - TAG_SIZE
        ranges = push_ack_frame(
            buf, space.ack_queue, delay >> self._local_ack_delay_exponent, room - 1
        )
        handlers.append((self._on_ack_delivery, (space, space.largest_received_packet)))
        space.ack_at = None
        if ranges > 1 and self._packet_number % 8 == 0:
            buf.push_uint_var(0x01)
            return True
        return False

    def _push_datagrams(self, buf: Any, limit: int) -> None:
        pending = self._datagrams_pending
        while pending:
            data = pending[0]
            size = len(data)
            if buf.tell() + 1 + size_uint_var(size) + size > limit:
                break
            buf.push_uint_var(0x31)
            buf.push_uint_var(size)
            buf.push_bytes(data)
            pending.popleft()
            self._wrote_media = True
            self._datagram_bytes_unsent -= size

    def _push_streams(
        self, buf: Any, limit: int, queue: dict[int, Any], handlers: list[tuple[Any, Any]]
    ) -> None:
        """STREAM frames until the packet is full or the queue is empty."""
        while queue:
            stream_id, stream = next(iter(queue.items()))
            sender = stream.sender
            if sender.buffer_is_empty:
                del queue[stream_id]
                continue
            if stream.is_blocked:
                self._parked[stream_id] = queue.pop(stream_id)
                continue
            offset = sender.next_offset
            overhead = 3 + size_uint_var(stream_id)
            if offset:
                overhead += size_uint_var(offset)
            room = limit - buf.tell() - overhead
            if room < _SMALLEST_PIECE and room < sender._buffer_stop - offset:
                return
            highest = sender.highest_offset
            end = min(offset + room, sender._buffer_stop, stream.max_stream_data_remote)
            taken = self._take_data(end - highest)
            frame = sender.get_frame(room, highest + taken)
            if taken:
                self._use_data(taken, sender.highest_offset - highest)
            if frame is None:
                if not sender.buffer_is_empty:
                    self._parked[stream_id] = stream
                del queue[stream_id]
                continue
            if stream_id & 2:
                self._wrote_media = True
            data, offset = frame.data, frame.offset
            size = len(data)
            buf.push_uint_var(0x0A | (4 if offset else 0) | frame.fin)
            buf.push_uint_var(stream_id)
            if offset:
                buf.push_uint_var(offset)
            buf.push_uint16(size | 0x4000)
            buf.push_bytes(data)
            handlers.append((sender.on_data_delivery, (offset, offset + size, frame.fin)))
            if sender.buffer_is_empty:
                del queue[stream_id]
