"""aioquic's private parts: this module alone touches them.

aioquic 1.7.2 has no public way to ask how much was queued but never sent, what the path
looks like, which certificate the peer showed, or to open a stream without writing to it.
Everything of that kind is here, behind :class:`Engine`, and ``tests/contract`` checks
every name used, so that an upgrade of aioquic fails there and not in production.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic.h3.connection import H3Connection
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, QuicConnection, QuicConnectionState
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from cryptography.hazmat.primitives.serialization import Encoding

_AEAD_TAG = 16
_DATAGRAM_FRAME_OVERHEAD = 3
"""Type, and a length of two bytes."""


@dataclass(frozen=True, slots=True)
class PathStatistics:
    """Times in seconds, sizes in bytes."""

    rtt_latest: float
    rtt_smoothed: float
    rtt_min: float
    congestion_window: int
    bytes_in_flight: int
    packets_lost: int


class _Silent:
    """Stands in for a logger that would drop every line anyway, at a tenth of the cost."""

    def debug(self, *_args: object) -> None: ...

    info = warning = error = debug


class Engine(QuicConnection):
    """aioquic's connection with what a relay needs beside its public interface."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        max_streams_unidirectional: int,
        max_streams_bidirectional: int,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        if not logging.getLogger("quic").isEnabledFor(logging.DEBUG):
            self._logger = self._loss._logger = _Silent()
        for limit, value in (
            (self._local_max_streams_uni, max_streams_unidirectional),
            (self._local_max_streams_bidi, max_streams_bidirectional),
        ):
            limit.value = limit.sent = value
        self._stream_bytes_written = 0
        self._datagram_bytes_unsent = 0
        self._packets_lost = 0
        self._count_losses()

    def _count_losses(self) -> None:
        controller = self._loss._cc
        on_packets_lost: Callable[..., None] = controller.on_packets_lost

        def counted(*, now: float, packets: list[Any]) -> None:
            self._packets_lost += len(packets)
            on_packets_lost(now=now, packets=packets)

        controller.on_packets_lost = counted

    # -- streams

    def open_stream(self, *, unidirectional: bool) -> int:
        """Open a stream without writing to it; two calls give two streams."""
        stream_id = self.get_next_available_stream_id(is_unidirectional=unidirectional)
        self._get_or_create_stream_for_send(stream_id)
        return stream_id

    def write(self, stream_id: int, data: bytes | memoryview, fin: bool) -> bool:
        """Queue bytes; False, and nothing done, on a stream that is over."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        sender = stream.sender
        if sender._reset_error_code is not None or sender._buffer_fin is not None:
            return False
        sender.write(data, fin)
        self._stream_bytes_written += len(data)
        return True

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        super().send_stream_data(stream_id, data, end_stream)
        self._stream_bytes_written += len(data)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Reset the sending part, if it is not over; what it still held counts as gone."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        sender = stream.sender
        if sender._reset_error_code is None and not sender.is_finished:
            sender.reset(error_code)
            self._forget_unsent(sender)

    def stop_stream(self, stream_id: int, error_code: int) -> bool:
        """Ask the peer to stop sending; False if it is done already."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return False
        stream.receiver.stop(error_code)
        return True

    def _handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        pending = len(self._events)
        super()._handle_stop_sending_frame(context, frame_type, buf)
        for event in list(self._events)[pending:]:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self._forget_unsent(stream.sender)

    def _forget_unsent(self, sender: Any) -> None:
        # Once per stream: afterwards nothing is left between the two offsets.
        self._stream_bytes_written -= sender._buffer_stop - sender.highest_offset
        sender._buffer_stop = sender.highest_offset

    @property
    def unsent(self) -> int:
        """Bytes given to streams and datagrams that were never in a packet. O(1)."""
        return self._stream_bytes_written - self._remote_max_data_used + self._datagram_bytes_unsent

    # -- datagrams

    @property
    def max_datagram_payload(self) -> int:
        """What fits into one DATAGRAM frame of one packet; 0 if the peer takes none."""
        limit = self._remote_max_datagram_frame_size
        if not limit:
            return 0
        header = 3 + len(self._peer_cid.cid)
        room = min(self._max_datagram_size - header - _AEAD_TAG, limit)
        return int(max(0, room - _DATAGRAM_FRAME_OVERHEAD))

    def send_datagram_frame(self, data: bytes) -> None:
        """The caller has checked ``max_datagram_payload``: a larger one would block all."""
        self._datagrams_pending.append(data)
        self._datagram_bytes_unsent += len(data)

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
        return self._state in END_STATES

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
        """The name of the cipher suite in use, once there are keys."""
        return str(self.tls.key_schedule.cipher_suite.name)

    @property
    def path_statistics(self) -> PathStatistics:
        loss = self._loss
        return PathStatistics(
            rtt_latest=loss._rtt_latest,
            rtt_smoothed=loss._rtt_smoothed,
            rtt_min=loss._rtt_min if loss._rtt_initialized else 0.0,
            congestion_window=loss.congestion_window,
            bytes_in_flight=loss.bytes_in_flight,
            packets_lost=self._packets_lost,
        )


class Http3(H3Connection):
    """HTTP/3 with WebTransport's settings on an engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, enable_webtransport=True)

    @property
    def local_streams(self) -> tuple[int, ...]:
        """The unidirectional streams HTTP/3 opened: control and QPACK."""
        return (
            self._local_control_stream_id,
            self._local_encoder_stream_id,
            self._local_decoder_stream_id,
        )


def refuse(version: int, client_destination: bytes, client_source: bytes, code: int) -> bytes:
    """A server's Initial packet that closes a connection it keeps no state of.

    :param client_destination: the connection id the client chose for the server; its
        Initial keys come from it.
    """
    crypto = CryptoPair()
    crypto.setup_initial(cid=client_destination, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=client_destination,
        is_client=False,
        max_datagram_size=1200,
        peer_cid=client_source,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=32)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)
    datagrams, _ = builder.flush()
    return bytes(datagrams[0])


CONNECTION_REFUSED = QuicErrorCode.CONNECTION_REFUSED
INVALID_TOKEN = QuicErrorCode.INVALID_TOKEN
