"""Packets outside of any connection, and HTTP/3 on a connection."""

from __future__ import annotations

from aioquic.h3.connection import H3Connection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

from fastrelay.quic.aioquic_private.engine import Engine

CONNECTION_REFUSED = QuicErrorCode.CONNECTION_REFUSED
INVALID_TOKEN = QuicErrorCode.INVALID_TOKEN


class Http3(H3Connection):
    """HTTP/3 with WebTransport's settings on an engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, enable_webtransport=True)

    @property
    def local_streams(self) -> tuple[int, ...]:
        """The unidirectional streams HTTP/3 opened: control and QPACK."""
        streams = (
            self._local_control_stream_id,
            self._local_encoder_stream_id,
            self._local_decoder_stream_id,
        )
        return tuple(stream_id for stream_id in streams if stream_id is not None)


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
