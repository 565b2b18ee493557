"""Our congestion controllers as aioquic's: of the packets of both senders."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aioquic.quic.congestion.base import (
    QuicCongestionControl,
    QuicRttMonitor,
    register_congestion_control,
)
from aioquic.quic.packet_builder import QuicSentPacket

from fastrelay.quic.congestion import CONTROLLERS, Cubic

if TYPE_CHECKING:
    from fastrelay.quic.ledger import Account

_PREFIX = "fastrelay-"
_FREE = 48
"""Packets: a smaller window grows whether or not it is used, so that a peer may acknowledge one
packet of ten (:mod:`.frequency`), and a key frame finds room."""


def registered(name: str) -> str:
    """aioquic's name for one of ``CONTROLLERS``: it has a CUBIC of its own."""
    return _PREFIX + name


class Controller(QuicCongestionControl):
    """``bytes_in_flight`` counts the engine's own packets only; ``account`` knows the others."""

    def __init__(self, kind: type[Cubic], *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.account: Account | None = None
        self._rule = kind(max_datagram_size)
        self._free = _FREE * max_datagram_size
        self._monitor = QuicRttMonitor()
        self._used = False

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        account, size = self.account, packet.sent_bytes
        flight = self.bytes_in_flight
        self.bytes_in_flight = flight - size
        if account is not None:
            flight += account.bytes_in_flight
        # Half of it: what is acknowledged together was in flight together.
        assert packet.sent_time is not None
        self._acknowledged(size, packet.sent_time, now, 2 * flight >= self.congestion_window)

    def on_rows_acked(self, *, now: float, sent_at: float, size: int) -> None:
        """The account's, when less than half of the window was in use each time."""
        self._acknowledged(size, sent_at, now, used=False)

    def _acknowledged(self, size: int, sent_at: float, now: float, used: bool) -> None:
        self._used = used
        free = self.congestion_window < self._free
        self._rule.acknowledged(size, sent_at, now, used=used or free)
        self.congestion_window = self._rule.window

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        self.bytes_in_flight += packet.sent_bytes

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        self.bytes_in_flight -= sum(packet.sent_bytes for packet in packets)

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        newest = 0.0
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            assert packet.sent_time is not None
            newest = max(newest, packet.sent_time)
        self._rule.lost(newest, now)
        self._tell()

    def on_persistent_congestion(self) -> None:
        self._rule.persistent()
        self._tell()

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """After the packet was acknowledged. The times of a path that is hardly used tell nothing
        of its queues (RFC 9002 section 7.8)."""
        used = self._used
        self._rule.round_trip(rtt, now, used=used)
        if self.ssthresh is None and used and self._monitor.is_rtt_increasing(now=now, rtt=rtt):
            self._rule.end_slow_start()
        self._tell()

    def _tell(self) -> None:
        threshold = self._rule.threshold
        self.ssthresh = None if threshold is None else int(threshold)
        self.congestion_window = self._rule.window

    def get_log_data(self) -> dict[str, Any]:
        return {**super().get_log_data(), "controller": type(self._rule).__name__}


for _name, _kind in CONTROLLERS.items():
    register_congestion_control(registered(_name), partial(Controller, _kind))
