"""How often a peer acknowledges (draft-ietf-quic-ack-frequency).

To a peer that the kernel sends to, its acknowledgements are nearly all of user space's work. Who
says that he can is asked for fewer, as long as that leaves the congestion window room enough: a
quarter of it may wait. What he holds back, and for how long, is what he may hold back anyway
(max_ack_delay); only the second packet does not end the wait any more.

Both ends say that they can: to picoquic, such a frame is an error unless both have said so.
"""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState

from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private.probing import BASE_SIZE, Probing
from fastrelay.quic.aioquic_private.receiving import ACK_EVERY, ALARM_LATENESS

MIN_ACK_DELAY = 0xFF04DE1B
"""The transport parameter: microseconds."""
ACK_FREQUENCY = 0xAF
IMMEDIATE_ACK = 0x1F
_IMMEDIATE_ACK_BEFORE = 0xAC
"""In earlier versions of the draft."""
_OUR_MIN_ACK_DELAY = 1000
"""Microseconds: what the event loop's timers can do."""
_MAX_ACK_DELAY = 0x0B
_DEFAULT_MAX_ACK_DELAY = 25
"""Milliseconds, of a peer that does not say (RFC 9000 section 18.2)."""
_STEPS = ((40, 10), (16, 4))
"""From a window of so many packets on, one of so many packets is acknowledged."""
_ROOM = 64
"""Bytes that a packet with such a frame has at most."""


class AckFrequency(Probing):
    """A connection that asks for fewer acknowledgements while it is lent, and sends fewer when it
    is asked to."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._peers_min_ack_delay: int | None = None
        """None: the peer does not know what to do with such frames."""
        self._asked_every = ACK_EVERY
        """The peer was asked for one acknowledgement of so many packets; 0: that was lost."""
        self._frequencies_sent = 0
        self._frequency_received = -1
        _, epochs = self._frame_handlers[QuicFrameType.HANDSHAKE_DONE]
        self._frame_handlers[ACK_FREQUENCY] = (self._handle_ack_frequency_frame, epochs)
        for frame_type in (IMMEDIATE_ACK, _IMMEDIATE_ACK_BEFORE):
            self._frame_handlers[frame_type] = (self._handle_immediate_ack_frame, epochs)

    # -- transport parameters

    def _serialize_transport_parameters(self) -> bytes:
        parameters = super()._serialize_transport_parameters()
        delay = encode_quic(_OUR_MIN_ACK_DELAY)
        return parameters + encode_quic(MIN_ACK_DELAY) + encode_quic(len(delay)) + delay

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        if from_session_ticket:
            return
        found = _integers(data, (MIN_ACK_DELAY, _MAX_ACK_DELAY))
        smallest = found.get(MIN_ACK_DELAY)
        if smallest is None:
            return
        if smallest > found.get(_MAX_ACK_DELAY, _DEFAULT_MAX_ACK_DELAY) * 1000:
            raise QuicConnectionError(
                QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                QuicFrameType.CRYPTO,
                "min_ack_delay is larger than max_ack_delay",
            )
        self._peers_min_ack_delay = smallest

    # -- asking

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        datagrams = super().datagrams_to_send(now)
        if self._peers_min_ack_delay is None:
            return datagrams
        every = self._wanted()
        loss = self._loss
        if (
            every != self._asked_every
            and self._may_write_alone()
            and loss.bytes_in_flight + _ROOM <= loss.congestion_window
        ):
            self._asked_every = every
            datagrams.append(self._ask(every, now))
        return datagrams

    def _wanted(self) -> int:
        if self._lease is not None:
            packets = self._loss.congestion_window // BASE_SIZE
            for window, every in _STEPS:
                if packets >= window:
                    return every
        return ACK_EVERY

    def _ask(self, every: int, now: float) -> tuple[bytes, Any]:
        sequence = self._frequencies_sent
        self._frequencies_sent += 1
        # Packets that may stay unacknowledged; the delay as it is; a hole is told at once.
        fields = (sequence, every - 1, round(self._loss.max_ack_delay * 1e6), 1)
        payload = b"".join(encode_quic(field) for field in (ACK_FREQUENCY, *fields))
        handler = (self._on_frequency_delivery, (sequence,))
        return self._write_alone(payload, now, handler, in_flight=True)

    def _on_frequency_delivery(self, delivery: QuicDeliveryState, sequence: int) -> None:
        if delivery is not QuicDeliveryState.ACKED and sequence == self._frequencies_sent - 1:
            self._asked_every = 0

    # -- being asked

    def _handle_ack_frequency_frame(self, _context: Any, frame_type: int, buf: Any) -> None:
        sequence, threshold = buf.pull_uint_var(), buf.pull_uint_var()
        delay, reordering = buf.pull_uint_var(), buf.pull_uint_var()
        if delay < _OUR_MIN_ACK_DELAY:
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Less than min_ack_delay"
            )
        if sequence <= self._frequency_received:
            return
        self._frequency_received = sequence
        self._ack_every = threshold + 1
        self._holes_at_once = reordering > 0
        self._held_back = max(delay / 1e6 - ALARM_LATENESS, delay / 2e6)

    def _handle_immediate_ack_frame(self, context: Any, _frame_type: int, _buf: Any) -> None:
        space = self._spaces[context.epoch]
        space.ack_at = context.time if space.ack_at is None else min(space.ack_at, context.time)


def _integers(data: bytes, wanted: tuple[int, ...]) -> dict[int, int]:
    """Transport parameters that were parsed once already, those of them that are integers."""
    buf: Any = Buffer(data=data)
    found = {}
    while not buf.eof():
        identifier, size = buf.pull_uint_var(), buf.pull_uint_var()
        content = buf.pull_bytes(size)
        if identifier in wanted:
            value: Any = Buffer(data=content)
            found[identifier] = value.pull_uint_var()
    return found
