"""aioquic's connection as the rest of the project sees it."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, QuicConnectionState
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from cryptography.hazmat.primitives.serialization import Encoding

from fastrelay.quic.aioquic_private.lending import Lending
from fastrelay.quic.aioquic_private.protection import TAG_SIZE
from fastrelay.quic.aioquic_private.streams import unacknowledged
from fastrelay.quic.measurements import Measurements
from fastrelay.quic.resets import Resets, is_reset

_DATAGRAM_FRAME_OVERHEAD = 3
"""Type, and a length of two bytes."""


class _Silent:
    """Stands in for a logger that would drop every line anyway, at a tenth of the cost."""

    def debug(self, *_args: object) -> None: ...

    info = warning = error = debug


class Engine(Lending):
    """A connection with what a relay needs beside aioquic's public interface."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        max_streams_unidirectional: int,
        max_streams_bidirectional: int,
        max_udp_payload_size: int | None = None,
        encryption: bool = True,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        resets: Resets | None = None,
    ) -> None:
        self._resets = resets
        self.has_new_media = False
        """Whether somebody wrote to a unidirectional stream, or a datagram; reset by who asks."""
        super().__init__(
            configuration=configuration,
            max_udp_payload_size=max_udp_payload_size,
            encryption=encryption,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        if resets is not None:
            (first,) = self._host_cids
            first.stateless_reset_token = resets.token(first.cid)
        self._recovery.is_backlogged = self._is_backlogged
        if not logging.getLogger("quic").isEnabledFor(logging.DEBUG):
            silent: Any = _Silent()
            self._logger = self._loss._logger = silent
        for limit, value in (
            (self._local_max_streams_uni, max_streams_unidirectional),
            (self._local_max_streams_bidi, max_streams_bidirectional),
        ):
            limit.value = limit.sent = value

    # -- streams

    def write(self, stream_id: int, data: bytes | memoryview, fin: bool) -> bool:
        """Queue bytes; False, and nothing done, on a stream that is over."""
        stream: Any = self._streams.get(stream_id)
        if stream is None:
            return False
        sender = stream.sender
        if sender._buffer_fin is not None or sender._reset_error_code is not None:
            return False
        sender.write(data, fin)
        self._stream_bytes_written += len(data)
        if stream_id & 2:
            self.has_new_media = True
        if not self._plain_sending:
            (self._ready if stream_id & 2 else self._urgent)[stream_id] = stream
        return True

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """aioquic's own interface, for HTTP/3: opens the stream if it is the next one."""
        self._get_or_create_stream_for_send(stream_id)
        self.write(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Reset the sending part, if it is not over; what it still held counts as gone."""
        stream: Any = self._streams.get(stream_id)
        if stream is not None and self._stream_can_send(stream_id):
            stream.sender.reset(error_code)
            if stream.sender.reset_pending:
                self._stream_bytes_written -= stream.sender.discard_unsent()

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending; no effect when it is done already."""
        if self.is_receiving(stream_id):
            stream = self._streams[stream_id]
            stream.receiver.stop(error_code)
            self._stopping[stream_id] = stream

    def is_sending(self, stream_id: int) -> bool:
        """Whether something of the stream is due or in flight: of ours, not of the kernel's."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.sender.is_finished

    def is_receiving(self, stream_id: int) -> bool:
        """Whether more may come on the stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.receiver.is_finished

    def _handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stop_sending_frame(context, frame_type, buf)
        stream: Any = self._streams.get(stream_id)
        if stream is not None and stream.sender.reset_pending:
            self._stream_bytes_written -= stream.sender.discard_unsent()

    @property
    def unsent(self) -> int:
        """Bytes given to streams and datagrams that were never in a packet. O(1)."""
        return self._stream_bytes_written - self._remote_max_data_used + self._datagram_bytes_unsent

    def _is_backlogged(self) -> bool:
        return self.unsent > 0

    @property
    def undelivered(self) -> int:
        """Bytes and ends of streams that the peer has not acknowledged, and bytes of datagrams
        never sent. Packets in flight say less: what was lost is in none while pacing delays its
        repetition, and a PING may be. O(streams)."""
        return self._datagram_bytes_unsent + sum(
            unacknowledged(stream.sender) for stream in self._streams.values()
        )

    # -- datagrams

    @property
    def max_datagram_payload(self) -> int:
        """What fits into one DATAGRAM frame of one packet; 0 if the peer takes none."""
        limit = self._remote_max_datagram_frame_size
        if not limit:
            return 0
        header = 3 + len(self._peer_cid.cid)
        room = min(self._max_datagram_size - header - TAG_SIZE, limit)
        return max(0, room - _DATAGRAM_FRAME_OVERHEAD)

    def send_datagram_frame(self, data: bytes) -> None:
        """The caller has checked ``max_datagram_payload``: a larger one would block all."""
        self._datagrams_pending.append(data)
        self._datagram_bytes_unsent += len(data)
        self.has_new_media = True

    def _write_datagram_frame(self, builder: Any, data: bytes, frame_type: Any) -> bool:
        super()._write_datagram_frame(builder, data, frame_type)
        self._datagram_bytes_unsent -= len(data)
        return True

    # -- the connection

    @property
    def pending_events(self) -> deque[events.QuicEvent]:
        """The queue behind ``next_event``, to be emptied by the owner."""
        return self._events

    @property
    def termination(self) -> events.ConnectionTerminated | None:
        """Set as soon as either side closed; the event follows when the draining is over."""
        return self._close_event

    @property
    def is_over(self) -> bool:
        """Closing, draining or terminated: nothing more will be sent or read."""
        return self._close_pending or self._state in END_STATES

    @property
    def idle_timeout(self) -> float:
        """Seconds of silence that end the connection: the smaller of what both sides have said
        (RFC 9000 section 10.1), once the peer's is known."""
        return self._idle_timeout()

    @property
    def is_drained(self) -> bool:
        """The peer has closed, and sends nothing more. What it sent before and comes late is
        answered by a stateless reset at most (RFC 9000 section 10.2), and cannot be taken for a new
        client's first packet: there is nothing to wait for."""
        return self._state is QuicConnectionState.DRAINING and self._handshake_confirmed

    def terminate(self) -> None:
        """Skip what is left of closing or draining; ends the qlog file."""
        if self._state is not QuicConnectionState.TERMINATED:
            self._close_end()

    def end_if_reset(self, data: bytes) -> bool:
        """Whether a datagram says that the peer has lost this connection: it is over then."""
        known = (self._peer_cid, *self._peer_cid_available)
        if self.is_over or not any(is_reset(data, each.stateless_reset_token) for each in known):
            return False
        self._close_event = events.ConnectionTerminated(
            error_code=QuicErrorCode.INTERNAL_ERROR,
            frame_type=QuicFrameType.PADDING,
            reason_phrase="the peer has lost the connection",
        )
        self._close_end()
        return True

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        if self._resets is not None:
            for each in self._host_cids:
                if not each.was_sent:
                    each.stateless_reset_token = self._resets.token(each.cid)

    @property
    def heard_peer(self) -> bool:
        """Whether any packet of the peer was authentic."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def peer_certificate_sha256(self) -> bytes | None:
        """SHA-256 of the DER of the certificate the server showed."""
        certificate = self.tls._peer_certificate
        if certificate is None:
            return None
        return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()

    @property
    def cipher_suite(self) -> str:
        """The name of the cipher suite in use; empty before it is agreed upon. ``NONE``: nothing
        but the handshake is encrypted."""
        if self.is_plaintext:
            return "NONE"
        schedule = self.tls.key_schedule
        return schedule.cipher_suite.name if schedule is not None else ""

    def measurements(self) -> Measurements:
        """What the connection knows of its path now."""
        if self._lease is not None:
            self._lease.catch_up()
        return self._recovery.measurements()
