"""Packets outside of any connection, and HTTP/3 on a connection."""

from __future__ import annotations

from aioquic._buffer import Buffer
from aioquic.h3.connection import H3Connection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicHeader, QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder

from fastrelay.quic.aioquic_private.engine import Engine

_WT_ENABLED = 0x2C7CF000
"""SETTINGS_WT_ENABLED: what clients of draft-ietf-webtrans-http3-15 and later look for;
aioquic sends the setting of draft 02, which browsers know."""


class Http3(H3Connection):
    """HTTP/3 with WebTransport's settings on an engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, enable_webtransport=True)

    def _get_local_settings(self) -> dict[int, int]:
        return super()._get_local_settings() | {_WT_ENABLED: 1}

    @property
    def local_streams(self) -> tuple[int, ...]:
        """The unidirectional streams HTTP/3 opened: control and QPACK."""
        streams = (
            self._local_control_stream_id,
            self._local_encoder_stream_id,
            self._local_decoder_stream_id,
        )
        return tuple(stream_id for stream_id in streams if stream_id is not None)


def parse_long_header(data: bytes, connection_id_length: int) -> QuicHeader | None:
    """The header of a datagram's first packet; None if it is not valid."""
    try:
        return pull_quic_header(Buffer(data=data), connection_id_length)
    except ValueError:
        return None


def encode_refusal(header: QuicHeader, code: int) -> bytes:
    """A server's Initial packet that closes a connection it keeps no state of.

    :param header: of the client's Initial packet; the keys come from its destination.
    """
    assert header.version is not None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=1200,
        peer_cid=header.source_cid,
        version=header.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=32)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)
    datagrams, _ = builder.flush()
    return datagrams[0]
