"""A connection that is lent: the kernel sends on it too, or reads what comes on it.

The engine stays the owner. Before anything changes that a packet depends on (keys, connection
ids, the path) the lease is suspended, and resumed when it has changed; what the peer grants and
what the window allows is told as it changes. See :class:`fastrelay.quic.lease.Lease`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aioquic.quic import events
from aioquic.quic.connection import END_STATES, QuicConnectionState
from aioquic.quic.crypto import CryptoPair
from aioquic.tls import CipherSuite, Direction, Epoch

from fastrelay.quic.aioquic_private.keys import SharedKeys, header_protection, key_sets, packet_keys
from fastrelay.quic.aioquic_private.quiet import Quiet
from fastrelay.quic.lease import Credit, Heard, Lease, ReceiveState, SendState

_ONE_RTT = Epoch.ONE_RTT


HostAndPort = tuple[str, int]


def _remote_only(address: Any) -> tuple[HostAndPort, HostAndPort]:
    return ("", 0), address[:2]


class Lending(Quiet):
    """The engine's side of a lease."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.on_due: Callable[[float], None] = self.handle_timer
        """What to call when the lease's packets want a probe; the owner flushes afterwards."""
        self.on_acknowledgements: Callable[[Heard], None] = self.take_acknowledgements
        """What to call when the lease tells of some; the owner flushes afterwards."""
        self.ends_of_path: Callable[[Any], tuple[HostAndPort, HostAndPort]] = _remote_only
        """Our own and the peer's end of a path; set by the owner of the socket."""
        self._lease_over = False
        self._lent_path: tuple[Any, bool, bytes] | None = None
        self._datagram_number = -1
        self._datagram_index = 0

    # -- the lease

    @property
    def fast_reason(self) -> str:
        """Why the connection cannot be lent (now); empty if it can."""
        if self._close_pending or self._state in END_STATES:
            return "the connection is over"
        if not self._handshake_confirmed:
            return "the handshake is not confirmed"
        if self._cryptos[_ONE_RTT].send.cipher_suite is not CipherSuite.CHACHA20_POLY1305_SHA256:
            return "the cipher suite is not ChaCha20-Poly1305"
        if not self._network_paths[0].is_validated:
            return "the peer's new address is not validated"
        return ""

    def lend(self, lease: Lease | None) -> None:
        """From now on all numbers come from the lease's counters, which were set by
        :meth:`credit`; None takes them back.

        :raises ValueError: there is a lease, or none; or :attr:`fast_reason` says why not.
        """
        if lease is None:
            self._take_back()
            return
        if self._lease is not None or self.fast_reason:
            raise ValueError(self.fast_reason or "the connection is lent already")
        self._lease = lease
        lease.account.own_number = self._packet_number - 1
        lease.account.on_due = self._on_due
        self._use_keys(SharedKeys(self._cryptos[_ONE_RTT], lease))
        self._recovery.lend(lease)
        self._lent_path = self._path()
        self._search_path_size()

    def _take_back(self) -> None:
        lease, keys = self._lease, self._keys
        if lease is None or keys is None:
            raise ValueError("the connection is not lent")
        if not self._lease_over:
            lease.suspend()
        lease.catch_up()
        self._recovery.lend(None)
        self._packet_number = lease.next_packet_number()
        self._local_next_stream_id_uni = (
            lease.next_stream_number() * 4 + self._local_next_stream_id_uni % 4
        )
        # What the kernel used of MAX_DATA was never written to a stream of the engine's.
        left = lease.take_data(self._remote_max_data)
        kernels = self._remote_max_data - left - self._remote_max_data_used
        self._remote_max_data_used += kernels
        self._stream_bytes_written += kernels
        pair = CryptoPair()
        pair.recv, pair.send = keys.recv, keys.send
        pair._update_key_requested = keys._update_key_requested
        self._lease = self._keys = None
        self._lets = False
        self._lent_path = None
        self._lease_over = False
        self._use_keys(pair)

    def _use_keys(self, pair: CryptoPair) -> None:
        self._cryptos[_ONE_RTT] = pair
        if self._one_rtt is not None:
            self._one_rtt = pair
        self._keys = pair if isinstance(pair, SharedKeys) else None

    def _on_due(self, now: float) -> None:
        self.on_due(now)

    def _end_lease(self) -> None:
        """The connection closes: suspended for ever."""
        if self._lease is not None and not self._lease_over:
            self._lease_over = True
            self._lease.suspend()

    @contextmanager
    def _suspended(self) -> Iterator[None]:
        lease = self._lease
        if lease is None or self._lease_over:
            yield
            return
        lease.suspend()
        try:
            yield
        finally:
            if not self._lease_over:
                lease.resume()

    # -- what the kernel has to know

    def send_state(self) -> SendState | None:
        """None: the kernel may not send, see :attr:`fast_reason`."""
        if self.fast_reason:
            return None
        pair, path = self._cryptos[_ONE_RTT], self._network_paths[0]
        assert pair.send.version is not None
        local, remote = self.ends_of_path(path.addr)
        return SendState(
            dcid=self._peer_cid.cid,
            keys=packet_keys(pair.send),
            hp=header_protection(self._first_secrets[Direction.ENCRYPT], pair.send.version),
            phase=pair.send.key_phase,
            local=local,
            remote=remote,
            packet_size=self._path_size,
            datagram_limit=self._remote_max_datagram_frame_size or 0,
            stream_bits=self._local_next_stream_id_uni % 4,
            stream_data_limit=self._remote_max_stream_data_uni,
        )

    def receive_state(self) -> ReceiveState | None:
        """None: the kernel may not read."""
        if self.fast_reason:
            return None
        pair = self._cryptos[_ONE_RTT]
        assert pair.recv.version is not None
        current, following, previous = key_sets(pair)
        return ReceiveState(
            cids=tuple(cid.cid for cid in self._host_cids),
            cid=self.host_cid,
            hp=header_protection(self._first_secrets[Direction.DECRYPT], pair.recv.version),
            phase=pair.recv.key_phase,
            current=current,
            following=following,
            previous=previous,
            phase_start=self._keys.phase_start if self._keys is not None else 0,
            largest=self.largest_received,
            stream_next=self._local_max_streams_uni.used,
        )

    @property
    def largest_received(self) -> int:
        """Packet number of the peer's; 0, too, if there was none."""
        return max(0, self._spaces[_ONE_RTT].largest_received_packet)

    def credit(self) -> Credit:
        loss = self._recovery
        return Credit(
            next_packet_number=self._packet_number,
            next_stream_number=self._local_next_stream_id_uni >> 2,
            data_used=self._remote_max_data_used,
            data_limit=self._remote_max_data,
            stream_number_limit=self._remote_max_streams_uni,
            congestion_window=loss.congestion_window,
            own_in_flight=loss.own_bytes_in_flight,
            packet_size=self._path_size,
        )

    # -- what changes

    def close(
        self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        super().close(error_code, frame_type, reason_phrase)
        if self._close_pending:
            self._end_lease()

    def _set_state(self, state: QuicConnectionState) -> None:
        if state in END_STATES and self._lease is not None:
            self._end_lease()
            self._lease.account.expect(math.inf, 0.0)
        super()._set_state(state)

    def _consume_peer_cid(self) -> None:
        with self._suspended():
            super()._consume_peer_cid()

    def _use_reserved_peer_cid(self, network_path: Any) -> None:
        with self._suspended():
            super()._use_reserved_peer_cid(network_path)

    def _replenish_connection_ids(self) -> None:
        before = self._host_cid_seq
        super()._replenish_connection_ids()
        if self._host_cid_seq != before:
            with self._suspended():
                pass

    def _path(self) -> tuple[Any, bool, bytes]:
        path = self._network_paths[0]
        return path.addr, path.is_validated, self.host_cid

    def _notice_path(self) -> None:
        """After anything that may have made another path the active one, or validated it, or
        after which the peer uses another id of ours."""
        if self._lent_path is None or self._lease_over or self._lent_path == self._path():
            return
        moved = self._lent_path[0] != self._path()[0]
        with self._suspended():
            self._lent_path = self._path()
            if moved:
                self._search_path_size()

    def _receive_by_aioquic(self, data: bytes, addr: Any, now: float) -> None:
        super()._receive_by_aioquic(data, addr, now)
        self._notice_path()

    def handle_timer(self, now: float) -> None:
        if self._lease is not None and not self._lease_over:
            self._lease.catch_up()
            self.get_timer()  # the one that was set may be older than the latest ACK
            rows_at = self._recovery.rows_due()
            if rows_at is not None and (self._loss_at is None or rows_at < self._loss_at):
                self._loss_at = rows_at
        super().handle_timer(now)
        if self._lease is not None and not self._lease_over:
            self._recovery.expect_probe()
            self._notice_path()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        if self._is_quiet():
            if not self._lets and not self._lease_over:
                self._let_acknowledgements()
            return self._acknowledge(now)
        if self._lease is None:
            return super().datagrams_to_send(now)
        before = self._recovery.own_bytes_in_flight
        self._recovery.renew_pace()
        datagrams = super().datagrams_to_send(now)
        if self._control and not self._plain_sending:
            datagrams += super().datagrams_to_send(now)  # a source's bytes are gone
        if self._recovery.own_bytes_in_flight != before:
            self._recovery.window_changed()
        if not self._lease_over:
            self._let_acknowledgements()
        return datagrams

    def _handle_max_data_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        self._credit_changed()

    def _handle_max_streams_uni_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        super()._handle_max_streams_uni_frame(context, frame_type, buf)
        self._credit_changed()

    def _on_path_probe_delivery(self, delivery: Any, size: int, path: Any) -> None:
        super()._on_path_probe_delivery(delivery, size, path)
        self._credit_changed()

    def _credit_changed(self) -> None:
        if self._lease is not None and not self._lease_over:
            self._lease.credit_changed()

    # -- datagrams

    def _handle_datagram_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        """The event says where the datagram came: ``place``, see :func:`datagram_place`."""
        super()._handle_datagram_frame(context, frame_type, buf)
        keys = self._keys
        if keys is None:
            return
        if keys.number == self._datagram_number:
            self._datagram_index += 1
        else:
            self._datagram_number, self._datagram_index = keys.number, 0
        event: Any = self._events[-1]
        event.place = (self._datagram_number, self._datagram_index)


def datagram_place(event: events.DatagramFrameReceived) -> tuple[int, int] | None:
    """Packet number, and index among the packet's DATAGRAM frames; None: it is not known."""
    place: tuple[int, int] | None = getattr(event, "place", None)
    return place
