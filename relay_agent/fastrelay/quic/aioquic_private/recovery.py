"""Loss recovery and congestion control over two senders: the engine and the kernel.

The engine's own packets stay aioquic's ``QuicSentPacket`` objects in ``space.sent_packets``;
the kernel's are rows of the connection's account (:mod:`fastrelay.quic.ledger`). Both take
their numbers from one counter and travel on one path, so one acknowledgement, one RTT, one
window and one probe timeout cover both (RFC 9002). Without a lease all of this is aioquic's.

``_cc.bytes_in_flight`` counts the engine's own packets only; :attr:`Recovery.bytes_in_flight`
counts all.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import (
    K_PACKET_THRESHOLD,
    K_TIME_THRESHOLD,
    QuicPacketRecovery,
    QuicPacketSpace,
)
from aioquic.tls import Epoch

from fastrelay.quic.lease import Heard, Lease, Row
from fastrelay.quic.measurements import Measurements, Measuring

if TYPE_CHECKING:
    from fastrelay.quic.ledger import Account, Settled

_ACKED = QuicDeliveryState.ACKED
_PROBE_MASK = 7
"""Of how many acknowledgements one tells the account the probe timeout, which moves slowly. Who is
woken a little early looks at the exact one, and tells it."""
_LEAST_PACE = 4
"""The engine's own packets are paced as if this part of the window were theirs, at least."""

Range = tuple[int, int]
"""Packet numbers from the first to the second, excluded."""


class Recovery(QuicPacketRecovery):
    """aioquic's recovery, which also answers for the packets of a lease."""

    def __init__(self, *, max_datagram_size: int, **arguments: Any) -> None:
        super().__init__(max_datagram_size=max_datagram_size, **arguments)
        self._datagram_size = max_datagram_size
        self.packets_lost = 0
        """Of both senders; those that a probe timeout gave up do not count."""
        self.measuring = Measuring()
        self.is_backlogged: Callable[[], bool] = _never
        """Whether something waits to be sent; set by the owner."""
        self._largest_own_acked = -1
        self._pace_is_old = False
        self._lease: Lease | None = None
        self._account: Account | None = None
        self._lost_rows: list[Row] = []
        self._acked_rows = _packet(0, 0.0, 0)
        self._acknowledgements = 0

    def lend(self, lease: Lease | None) -> None:
        """From now on the account's rows count too; None: what is in flight is given up."""
        account = self._account
        if account is not None and (given_up := account.give_up(0, account.high)) is not None:
            self._lost_rows += given_up.rows
            self._tell_lost()
        self._lease = lease
        self._account = lease.account if lease is not None else None
        controller: Any = self._cc
        controller.account = self._account
        self.expect_probe()

    @property
    def bytes_in_flight(self) -> int:
        account = self._account
        own: int = self._cc.bytes_in_flight
        return own if account is None else own + account.bytes_in_flight

    @property
    def own_bytes_in_flight(self) -> int:
        """Without the account's."""
        own: int = self._cc.bytes_in_flight
        return own

    # -- acknowledgements

    def on_ack_received(
        self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        if self._account is None or not space.is_application_data:
            self._acknowledge_alone(ack_rangeset, ack_delay, now, space)
            return
        ranges = [(each.start, each.stop) for each in ack_rangeset]
        self.acknowledge(ranges[::-1], ack_delay, now, space)

    def _acknowledge_alone(
        self, ranges: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        """aioquic's way."""
        measuring, controller = self.measuring, self._cc
        newest = space.sent_packets.get(ranges.bounds().stop - 1)
        sent_at = newest.sent_time if newest is not None else None
        if sent_at is not None and measuring.idle:
            measuring.begin(self._oldest_own(space, sent_at))
        before, lost, rtt = controller.bytes_in_flight, measuring.lost, self._rtt_latest
        super().on_ack_received(ack_rangeset=ranges, ack_delay=ack_delay, now=now, space=space)
        size = before - controller.bytes_in_flight - (measuring.lost - lost)
        measuring.delivered += size
        if sent_at is not None:
            if rtt:
                measuring.round_trip(self._rtt_latest - rtt)
            if now >= measuring.due:
                self._measure(now, sent_at, size)

    def acknowledge(
        self, ranges: Sequence[Range], ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        """An ACK frame for a connection that is lent.

        :param ranges: the largest first.
        :raises QuicConnectionError: neither side has sent such a packet.
        """
        lease, account, controller = self._lease, self._account, self._cc
        assert lease is not None
        assert account is not None
        largest = ranges[0][1] - 1
        if largest > space.largest_acked_packet:
            if largest > account.own_number and largest >= account.high:
                self._look_again(largest, lease)
            space.largest_acked_packet = largest
        measuring = self.measuring
        is_due = now >= measuring.due
        if is_due and measuring.idle:
            oldest = account.oldest()
            measuring.begin(self._oldest_own(space, oldest[1] if oldest is not None else now))
        newly, sent_at, eliciting = -1, 0.0, False
        if space.sent_packets:
            newly, sent_at, eliciting = self._acknowledge_own(ranges, now, space)
        size, newest = 0, -1
        for start, stop in ranges:
            acked = account.acknowledge(start, stop)
            if acked is None:
                continue
            if newest < 0:
                size, newest, newest_at = acked
            else:
                size += acked[0]
        if newest >= 0:
            packet = self._acked_rows
            packet.sent_time, packet.sent_bytes = newest_at, size
            controller.bytes_in_flight += size
            controller.on_packet_acked(packet=packet, now=now)
            measuring.delivered += size
            if newest > newly:
                newly, sent_at, eliciting = newest, newest_at, True
        if newly < 0:
            return
        delay = ack_delay if largest == newly and eliciting else None
        self._acknowledged(space, now, sent_at, size, largest, delay, is_due)

    def hear(self, heard: Heard, ack_delay: float, space: QuicPacketSpace) -> None:
        """The account's rows were settled by acknowledgements that came when less than half of the
        window was in use."""
        measuring, controller = self.measuring, cast(Any, self._cc)
        if heard.largest > space.largest_acked_packet:
            space.largest_acked_packet = heard.largest
        if heard.newest < 0:
            return
        now, sent_at = heard.time, heard.newest_sent
        is_due = now >= measuring.due
        if is_due and measuring.idle:
            measuring.begin(self._oldest_own(space, heard.oldest_sent))
        controller.on_rows_acked(now=now, sent_at=sent_at, size=heard.size)
        measuring.delivered += heard.size
        # It was of many: the account is told.
        self._acknowledgements |= _PROBE_MASK
        delay = ack_delay if heard.largest == heard.newest else None
        self._acknowledged(space, now, sent_at, heard.size, heard.largest, delay, is_due)

    def _acknowledged(
        self,
        space: QuicPacketSpace,
        now: float,
        sent_at: float,
        size: int,
        largest: int,
        ack_delay: float | None,
        is_due: bool,
    ) -> None:
        """What follows from packets that were just settled, the newest of them sent at ``sent_at``.

        :param ack_delay: None where the largest was acknowledged before (RFC 9002 section 5.1).
        :param is_due: the next sample of the delivery rate.
        """
        lease, account, controller = self._lease, self._account, self._cc
        assert lease is not None
        assert account is not None
        if ack_delay is not None:
            self._sample_rtt(now - sent_at, ack_delay, now)
            controller.on_rtt_measurement(now=now, rtt=self._rtt_latest)
        if space.sent_packets or account.low < largest:
            self._detect_loss(now=now, space=space)
        else:
            space.loss_time = None
        if is_due:
            self._measure(now, sent_at, size)
        elif not account.live:
            self.measuring.idle = True
        self._acknowledgements += 1
        if self._pto_count or not self._acknowledgements & _PROBE_MASK:
            self._pto_count = 0
            self.expect_probe()
        if self._quic_logger is not None:
            self._log_metrics_updated(log_rtt=True)
        room = controller.congestion_window - controller.bytes_in_flight
        lease.window_changed(room if room > 0 else 0)

    def _oldest_own(self, space: QuicPacketSpace, otherwise: float) -> float:
        """When the oldest packet of the engine's own in flight left, or a time before that."""
        for packet in space.sent_packets.values():
            if packet.in_flight:
                assert packet.sent_time is not None
                return min(packet.sent_time, otherwise)
        return otherwise

    def _measure(self, now: float, sent_at: float, acknowledged: int) -> None:
        controller, in_flight = self._cc, self.bytes_in_flight
        # Slow start has just made the window larger by what was acknowledged.
        before = controller.congestion_window - acknowledged - self._datagram_size
        self.measuring.sample(
            now,
            sent_at,
            in_flight,
            self._rtt_smoothed,
            min_rtt=self._rtt_min if self._rtt_initialized else 0.0,
            full=in_flight + acknowledged >= before or self.is_backlogged(),
        )

    def measurements(self) -> Measurements:
        measuring = self.measuring
        return Measurements(
            min_rtt=self._rtt_min if self._rtt_initialized else 0.0,
            smoothed_rtt=self._rtt_smoothed,
            latest_rtt=self._rtt_latest,
            rtt_variance=self._rtt_variance,
            jitter=measuring.jitter,
            delivery_rate=measuring.delivery_rate,
            application_limited=measuring.application_limited,
            bandwidth=measuring.bandwidth,
            delivered=measuring.delivered,
            lost=self.packets_lost,
            loss=measuring.loss,
            bytes_in_flight=self.bytes_in_flight,
            congestion_window=self.congestion_window,
        )

    def _look_again(self, largest: int, lease: Lease) -> None:
        """An acknowledgement of what is not known to be sent."""
        lease.drain()
        if largest >= lease.next_packet_number():
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION,
                QuicFrameType.ACK,
                "Acknowledgement of a packet that was not sent",
            )

    def _acknowledge_own(
        self, ranges: Sequence[Range], now: float, space: QuicPacketSpace
    ) -> tuple[int, float, bool]:
        """Number and send time of the newest, and whether one of them was ack-eliciting."""
        newest, newest_at, eliciting = -1, 0.0, False
        sent = space.sent_packets
        numbers = list(sent)
        for start, stop in reversed(ranges):
            for number in numbers[bisect_left(numbers, start) : bisect_left(numbers, stop)]:
                packet = sent.pop(number)
                if packet.is_ack_eliciting:
                    eliciting = True
                    space.ack_eliciting_in_flight -= 1
                if packet.in_flight:
                    self._cc.on_packet_acked(packet=packet, now=now)
                    self.measuring.delivered += packet.sent_bytes
                assert packet.sent_time is not None
                newest, newest_at = number, packet.sent_time
                if number > self._largest_own_acked:
                    self._largest_own_acked = number
                for handler, arguments in packet.delivery_handlers:
                    handler(_ACKED, *arguments)
        return newest, newest_at, eliciting

    def _sample_rtt(self, rtt: float, ack_delay: float, now: float) -> None:
        """aioquic's estimator (RFC 9002 section 5)."""
        if ack_delay > self.max_ack_delay:
            ack_delay = self.max_ack_delay
        if rtt < 0.0:
            rtt = 0.0  # the kernel may have sent after this batch of ACKs was read
        latest = rtt if rtt > 0.001 else 0.001
        if latest < self._rtt_min:
            self._rtt_min = latest
        if latest > self._rtt_min + ack_delay:
            latest -= ack_delay
        self.measuring.round_trip(latest - (self._rtt_latest or latest))
        self._rtt_latest = latest
        if not self._rtt_initialized:
            self._rtt_first_sample_time = now
            self._rtt_initialized = True
            self._rtt_variance = rtt / 2
            self._rtt_smoothed = rtt
        else:
            self._rtt_variance = 0.75 * self._rtt_variance + 0.25 * abs(self._rtt_min - latest)
            self._rtt_smoothed = 0.875 * self._rtt_smoothed + 0.125 * latest
        self._pace_is_old = True

    def renew_pace(self) -> None:
        """To be called before the pacer is asked: the kernel's acknowledgements leave that to
        the next packet of the engine's own."""
        if self._pace_is_old:
            self._pace_is_old = False
            window: int = self._cc.congestion_window
            if self._account is not None:
                # What the kernel sends is paced by its publishers; the rest of the window is ours.
                left = window - self._account.bytes_in_flight
                window = max(left, window // _LEAST_PACE)
            self._pacer.update_rate(congestion_window=window, smoothed_rtt=self._rtt_smoothed)

    # -- losses

    def _detect_loss(self, *, now: float, space: QuicPacketSpace) -> None:
        """By number and by time, as RFC 9002 section 6.1 says, with one exception.

        A packet of the engine's has its number some time before it leaves, and the kernel's may
        overtake it. So only the engine's own later packets count for its packet threshold.
        """
        account = self._account
        if account is None or not space.is_application_data:
            super()._detect_loss(now=now, space=space)
            return
        longest = max(self._rtt_latest, self._rtt_smoothed)
        delay = K_TIME_THRESHOLD * (longest if self._rtt_initialized else self._rtt_initial)
        largest, sent_before = space.largest_acked_packet, now - delay
        own_threshold = self._largest_own_acked - K_PACKET_THRESHOLD
        own: list[QuicSentPacket] = []
        oldest = math.inf
        for number, packet in space.sent_packets.items():
            if number > largest:
                break
            assert packet.sent_time is not None
            if number <= own_threshold or packet.sent_time <= sent_before:
                own.append(packet)
            else:
                oldest = min(oldest, packet.sent_time)
        rows, waiting = account.detect(largest, largest - K_PACKET_THRESHOLD, sent_before)
        if waiting is not None:
            oldest = min(oldest, waiting)
        space.loss_time = oldest + delay if oldest < math.inf else None
        if own or rows is not None:
            self._lost(own, rows, now, space)

    def _lost(
        self, own: list[QuicSentPacket], rows: Settled | None, now: float, space: QuicPacketSpace
    ) -> None:
        """Of both senders; the congestion controller hears of the rows in one piece."""
        packets = own
        if rows is not None:
            self._rows_lost(rows, now)
            packets = own + [
                _packet(number, time, 0)
                for number, time in zip(rows.numbers, rows.times, strict=True)
            ]
            packets.sort(key=lambda packet: packet.packet_number)
        self._on_packets_lost(now=now, packets=own, space=space)
        if self._in_persistent_congestion(packets=packets):
            self._cc.on_persistent_congestion()
        self._pace_is_old = True
        self._tell_lost()

    def _rows_lost(self, rows: Settled, now: float) -> None:
        account, controller = self._account, self._cc
        assert account is not None
        self.packets_lost += len(rows.rows)
        self.measuring.lost += rows.size
        self._lost_rows += rows.rows
        others = account.bytes_in_flight
        controller.bytes_in_flight += others + rows.size
        controller.on_packets_lost(now=now, packets=[_packet(0, rows.times[-1], rows.size)])
        controller.bytes_in_flight -= others

    def _tell_lost(self) -> None:
        rows, self._lost_rows = self._lost_rows, []
        if rows and self._lease is not None:
            self._lease.packets_lost(rows)

    def _on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        packets: Iterable[QuicSentPacket],
        **arguments: Any,
    ) -> None:
        packets = list(packets)
        if congestion_event:
            self.measuring.lost += sum(packet.sent_bytes for packet in packets if packet.in_flight)
            self.packets_lost += sum(packet.in_flight for packet in packets)
        super()._on_packets_lost(congestion_event=congestion_event, packets=packets, **arguments)

    # -- probe timeouts

    @property
    def last_send(self) -> float:
        """When the latest ack-eliciting packet of either side left."""
        own, account = self._time_of_last_sent_ack_eliciting_packet, self._account
        return own if account is None else max(own, account.last_send)

    def expect_probe(self) -> None:
        """Tell the account when a probe is due, after anything that moves that time."""
        account = self._account
        if account is not None:
            timeout = self.get_probe_timeout() * (1 << self._pto_count)
            account.expect(timeout, self._time_of_last_sent_ack_eliciting_packet)

    def rows_due(self) -> float | None:
        """When the account's rows want a probe."""
        account = self._account
        if account is None or not account.live:
            return None
        return self.last_send + self.get_probe_timeout() * (1 << self._pto_count)

    def on_loss_detection_timeout(self, *, now: float) -> None:
        super().on_loss_detection_timeout(now=now)
        self.expect_probe()
        self.window_changed()

    def window_changed(self) -> None:
        """Tell the lease, if there is one."""
        if self._lease is not None:
            room = self._cc.congestion_window - self._cc.bytes_in_flight
            self._lease.window_changed(max(room, 0))

    def reschedule_data(self, *, now: float, speed_up_handshake: bool = False) -> None:
        """The oldest packet's data make the probe, whoever sent it (RFC 9002 section 6.2.4)."""
        account = self._account
        oldest = account.oldest() if account is not None else None
        if account is None or oldest is None:
            super().reschedule_data(now=now, speed_up_handshake=speed_up_handshake)
            return
        number, sent_at = oldest
        for space in self.spaces:
            for packet in space.sent_packets.values():
                if packet.is_ack_eliciting:
                    assert packet.sent_time is not None
                    if packet.sent_time < sent_at:
                        super().reschedule_data(now=now, speed_up_handshake=speed_up_handshake)
                        return
                    break
        self._send_probe()
        given_up = account.give_up(number, number + 1)
        assert given_up is not None
        self._lost_rows += given_up.rows
        self._tell_lost()


def _packet(number: int, sent_time: float, size: int) -> QuicSentPacket:
    """Rows, as aioquic's code knows packets."""
    return QuicSentPacket(
        Epoch.ONE_RTT, True, True, False, number, QuicPacketType.ONE_RTT, sent_time, size
    )


def _never() -> bool:
    return False
