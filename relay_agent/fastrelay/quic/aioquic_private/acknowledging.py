"""The short way of packets that hold nothing but an acknowledgement.

They are half of all that subscribers send when the kernel forwards, and there is nothing to do
for them but to settle rows: no answer, no event, no timer that becomes earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.connection import QuicConnectionError, QuicConnectionState
from aioquic.quic.recovery import MAX_ACK_RANGES

from fastrelay.quic.aioquic_private.receiving import SELDOM, Receiving
from fastrelay.quic.aioquic_private.recovery import Range
from fastrelay.quic.lease import Heard

_ACK = b"\x02"
_CONNECTED = QuicConnectionState.CONNECTED
_FEW_RANGES = 8


class Acknowledging(Receiving):
    """A connection that, while it is lent, takes acknowledgements in passing."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.is_unmoved = False
        """Whether the datagram that came last left nothing to send and no earlier timer."""
        self._lets = False
        """Whether the lease may take acknowledgements."""

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        if self._lets and self._lease is not None:
            self._lease.catch_up()
        super().receive_datagram(data, addr, now)

    def _receive_by_aioquic(self, data: bytes, addr: Any, now: float) -> None:
        self.is_unmoved = False
        super()._receive_by_aioquic(data, addr, now)

    def _packet_received(self, first: int, number: int, plain: bytes, now: float) -> None:
        self.is_unmoved = False
        keys = self._keys
        if keys is not None:
            keys.number = number
            if number < keys.phase_start:
                keys.read(number)
            if plain.startswith(_ACK) and self._acknowledged(first, number, plain, now):
                return
        super()._packet_received(first, number, plain, now)

    def _acknowledged(self, first: int, number: int, plain: bytes, now: float) -> bool:
        """False, and nothing done: it is not the one after the last packet, or not only an ACK
        of few ranges."""
        space = self._application
        ranges = space.ack_queue._RangeSet__ranges  # type: ignore[attr-defined]
        if not ranges or ranges[-1].stop != number or number <= space.largest_received_packet:
            return False
        acknowledgement = _read_ack(plain)
        if acknowledgement is None:
            return False
        acknowledged, delay = acknowledgement
        self._spin_highest_pn = number
        self._spin_bit = bool(first & 0x20) != self._is_client
        seconds = (delay << self._remote_ack_delay_exponent) * 1e-6
        try:
            self._recovery.acknowledge(acknowledged, seconds, now, space)
        except QuicConnectionError as error:
            self.close(
                error_code=error.error_code,
                frame_type=error.frame_type,
                reason_phrase=error.reason_phrase,
            )
        else:
            space.expected_packet_number = number + 1
            self._note(number, now)
            self.is_unmoved = self._let_acknowledgements() and bool(number & SELDOM)
        return True

    def take_acknowledgements(self, heard: Heard) -> None:
        """Somebody else has read them; there was nothing else in their packets."""
        self.is_unmoved = True
        if self._state is not _CONNECTED or self._close_pending:
            return
        space = self._application
        delay = (heard.delay << self._remote_ack_delay_exponent) * 1e-6
        self._recovery.hear(heard, delay, space)
        number = heard.last_number
        space.expected_packet_number = max(space.expected_packet_number, number + 1)
        if number > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = number, heard.time
        space.ack_queue.add(heard.first_number, number + 1)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        space.received_packets._received.update(range(heard.first_number, number))
        space.received_packets.add(number)  # and forget old ones
        self._patience = self._idle_timeout()
        at = heard.time + self._patience
        if self._close_at is None or at > self._close_at:
            self._close_at = at
        self._ack_eliciting_sent_since_receipt = False
        self.is_unmoved = self._let_acknowledgements()

    def _let_acknowledgements(self) -> bool:
        """Whether an acknowledgement can lead to nothing that would have to be sent: then it may
        come later than it could."""
        space = self._application
        quiet = not (
            self._one_rtt is None
            or space.sent_packets
            or self._ready
            or self._urgent
            or self._control
            or self._datagrams_pending
            or self._probe_pending
            or space.loss_time is not None
        )
        if quiet != self._lets and self._lease is not None:
            self._lets = quiet
            self._lease.let_acknowledgements(quiet)
        return quiet


def _read_ack(plain: bytes) -> tuple[Sequence[Range], int] | None:
    """Ranges, the largest first, and the encoded delay, of a payload of one ACK frame."""
    try:
        head = plain[1]
        if head < 0x40:
            largest, at = head, 2
        elif head < 0x80:
            largest, at = (head & 0x3F) << 8 | plain[2], 3
        elif head < 0xC0:
            largest, at = int.from_bytes(plain[1:5], "big") & 0x3FFFFFFF, 5
        else:
            return _read_any_ack(plain)
        delay = plain[at]
        at += 1
        if delay >= 0x40:
            if delay >= 0x80:
                return _read_any_ack(plain)
            delay = (delay & 0x3F) << 8 | plain[at]
            at += 1
        if plain[at]:
            return _read_any_ack(plain)
        # Who is never told that his ACKs came acknowledges all that ever came, in one range.
        count, size = plain[at + 1], len(plain) - at
        if count >= 0x40:
            if count < 0x80:
                count, size = (count & 0x3F) << 8 | plain[at + 2], size - 1
            elif count < 0xC0:
                count = int.from_bytes(plain[at + 1 : at + 5], "big") & 0x3FFFFFFF
                size -= 3
            else:
                return _read_any_ack(plain)
        if size == 2 and count <= largest:
            return ((largest - count, largest + 1),), delay
    except IndexError:
        return None
    return _read_any_ack(plain)


def _read_any_ack(plain: bytes) -> tuple[Sequence[Range], int] | None:
    buf: Any = Buffer(data=plain)
    pull = buf.pull_uint_var
    try:
        pull()
        stop = pull() + 1
        delay, more = pull(), pull()
        start = stop - 1 - pull()
        ranges = [(start, stop)]
        if more:
            if more > _FEW_RANGES:
                return None
            for _ in range(more):
                stop = start - pull() - 1
                start = stop - 1 - pull()
                ranges.append((start, stop))
    except BufferReadError:
        return None
    return None if start < 0 or not buf.eof() else (ranges, delay)
