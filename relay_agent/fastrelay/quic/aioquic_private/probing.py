"""How large a packet the path carries: RFC 8899 in its simplest form.

The kernel's copies may be a little larger than what the publisher sent (a longer connection
id, a larger frame header), so packets of more than the 1200 bytes that every path carries are
wanted. A probe is PING and PADDING, outside of congestion control: its loss says nothing about
the path but this.
"""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import QuicPacketType, pull_quic_transport_parameters
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.tls import Epoch

from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private.acknowledging import Acknowledging
from fastrelay.quic.aioquic_private.protection import TAG_SIZE, seal

BASE_SIZE = 1200
"""RFC 9000 section 14.1: every path carries it."""
_MAX_UDP_PAYLOAD_SIZE = 0x03
"""The transport parameter."""
_SIZES = (1232, 1280, 1360, 1452)
_ATTEMPTS = 3


class Probing(Acknowledging):
    """A connection that finds out what its path carries, while it is lent."""

    def __init__(self, *, max_udp_payload_size: int | None, **arguments: Any) -> None:
        """``max_udp_payload_size``: what the peer is asked not to exceed."""
        super().__init__(**arguments)
        self._max_udp_payload_size = max_udp_payload_size
        self._path_size = BASE_SIZE
        self._path_size_limit = _SIZES[-1]
        self._path_probe: int | None = None
        """The size to be probed next; None: a probe is under way, or the search is over."""
        self._path_probe_losses = 0

    def _serialize_transport_parameters(self) -> bytes:
        parameters = super()._serialize_transport_parameters()
        if self._max_udp_payload_size is not None:
            size = encode_quic(self._max_udp_payload_size)
            parameters += encode_quic(_MAX_UDP_PAYLOAD_SIZE) + encode_quic(len(size)) + size
        return parameters

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        limit = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if limit is not None:
            self._path_size_limit = limit

    def _search_path_size(self) -> None:
        """Begin anew: the path is another one, or has changed."""
        self._path_size = BASE_SIZE
        self._path_probe_losses = 0
        self._next_path_probe()

    def _next_path_probe(self) -> None:
        larger = (size for size in _SIZES if self._path_size < size <= self._path_size_limit)
        self._path_probe = next(larger, None)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        datagrams = super().datagrams_to_send(now)
        if self._path_probe is not None and self._lease is not None and self._may_write_alone():
            datagrams.append(self._write_path_probe(self._path_probe, now))
            self._path_probe = None
        return datagrams

    def _may_write_alone(self) -> bool:
        return (
            self._handshake_confirmed
            and self._state is QuicConnectionState.CONNECTED
            and not self._close_pending
            and self._network_paths[0].is_validated
        )

    def _write_path_probe(self, size: int, now: float) -> tuple[bytes, Any]:
        tag_size = 0 if self.is_plaintext else TAG_SIZE
        payload = b"\x01" + bytes(size - 3 - len(self._peer_cid.cid) - tag_size - 1)
        handler = (self._on_path_probe_delivery, (size, self._network_paths[0]))
        # In flight, it would arm the probe timeout.
        return self._write_alone(payload, now, handler, in_flight=False)

    def _write_alone(
        self, payload: bytes, now: float, handler: tuple[Any, Any], *, in_flight: bool
    ) -> tuple[bytes, Any]:
        """A packet with frames that aioquic does not write."""
        path = self._network_paths[0]
        number = self._take_packet_number()
        packet = seal(
            self._cryptos[Epoch.ONE_RTT],
            self._peer_cid.cid,
            number,
            payload,
            spin_bit=self._spin_bit,
        )
        self._packet_number = number + 1
        self._loss.on_packet_sent(
            packet=QuicSentPacket(
                Epoch.ONE_RTT,
                in_flight,
                in_flight,
                False,
                number,
                QuicPacketType.ONE_RTT,
                now,
                len(packet),
                [handler],
            ),
            space=self._spaces[Epoch.ONE_RTT],
        )
        path.bytes_sent += len(packet)
        return packet, path.addr

    def _on_path_probe_delivery(self, delivery: QuicDeliveryState, size: int, path: Any) -> None:
        if path is not self._network_paths[0] or size <= self._path_size:
            return
        if delivery is QuicDeliveryState.ACKED:
            self._path_size = size
            self._path_probe_losses = 0
            self._next_path_probe()
            return
        self._path_probe_losses += 1
        if self._path_probe_losses < _ATTEMPTS:
            self._path_probe = size
