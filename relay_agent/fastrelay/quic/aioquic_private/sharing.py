"""The base of a connection whose numbers may be shared with somebody else who sends on it.

Without a lease everything is aioquic's. With one, packet numbers, stream numbers and MAX_DATA
come from the lease's counters; see :mod:`.lending` for what else it means.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Direction, Epoch

from fastrelay.quic.aioquic_private.handshakes import Handshakes
from fastrelay.quic.aioquic_private.keys import SharedKeys
from fastrelay.quic.aioquic_private.recovery import Recovery
from fastrelay.quic.lease import Lease


class Sharing(Handshakes):
    """A connection that asks its lease, if it has one, for every number that it uses."""

    def __init__(self, **arguments: Any) -> None:
        self._lease: Lease | None = None
        self._keys: SharedKeys | None = None
        """The pair of 1-RTT keys, while there is a lease."""
        self._first_secrets: dict[Direction, bytes] = {}
        super().__init__(**arguments)
        configuration = self._configuration
        self._recovery = Recovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=self._max_datagram_size,
            peer_completed_address_validation=not self._is_client,
            quic_logger=self._quic_logger,
            send_probe=self._send_probe,
            logger=self._logger,
        )
        self._loss = self._recovery

    def _update_traffic_key(
        self, direction: Direction, epoch: Epoch, cipher_suite: Any, secret: bytes
    ) -> None:
        if epoch is Epoch.ONE_RTT:
            self._first_secrets[direction] = secret
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _take_packet_number(self) -> int:
        """For a packet that is sealed and sent at once."""
        keys = self._keys
        if keys is None:
            return self._packet_number
        number = keys.take_number()
        assert self._lease is not None
        self._lease.account.own_number = number
        return number

    def _flush_builder(
        self, builder: QuicPacketBuilder, network_path: Any, peer_cid: bytes, now: float
    ) -> list[tuple[bytes, Any]]:
        """Packets of aioquic's builder got their numbers when they were sealed."""
        keys = self._keys
        if keys is not None:
            if builder._packet is not None:
                builder._end_packet()
            for packet, number in zip(builder._packets, keys.taken, strict=True):
                packet.packet_number = number
            if keys.taken:
                assert self._lease is not None
                self._lease.account.own_number = keys.taken[-1]
                builder._packet_number = keys.taken[-1] + 1
                keys.taken.clear()
        return super()._flush_builder(
            builder=builder, network_path=network_path, peer_cid=peer_cid, now=now
        )

    # -- MAX_DATA

    def _take_data(self, size: int) -> int:
        """So much of what a stream may grow by, at most ``size``."""
        if size <= 0:
            return 0
        if self._lease is not None:
            return self._lease.take_data(size)
        return min(size, self._remote_max_data - self._remote_max_data_used)

    def _use_data(self, taken: int, used: int) -> None:
        """What became of it."""
        self._remote_max_data_used += used
        if self._lease is not None and taken > used:
            self._lease.give_data(taken - used)
