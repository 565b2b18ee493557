"""RESET_STREAM_AT, which aioquic does not know (draft-ietf-quic-reliable-stream-reset).

A sender that resets a stream with it still delivers the first ``reliable size`` bytes: the
stream's prefix, say, that tells to which session it belongs. We announce that we take such
frames, as today's WebTransport clients insist; we never send one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import FinalSizeError

from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private.sending import Sending

RESET_STREAM_AT = 0x24
_TRANSPORT_PARAMETERS = (0x1D, 0x17F7586D2CB571)
"""The identifier assigned to the draft, and the one of its earlier versions; both empty."""


@dataclass(slots=True)
class _PartialReset:
    code: int
    final_size: int
    reliable_size: int


class PartialResets(Sending):
    """A connection that holds a reset back until the reliable part of the stream is there."""

    def __init__(self, **arguments: Any) -> None:
        self._partial_resets: dict[int, _PartialReset] = {}
        super().__init__(**arguments)

    def _serialize_transport_parameters(self) -> bytes:
        empty = b"\x00"
        return super()._serialize_transport_parameters() + b"".join(
            encode_quic(identifier) + empty for identifier in _TRANSPORT_PARAMETERS
        )

    def _discard_stream(self, stream_id: int) -> None:
        self._partial_resets.pop(stream_id, None)
        super()._discard_stream(stream_id)

    def _handle_reset_stream_at_frame(self, _context: Any, frame_type: int, buf: Any) -> None:
        stream_id, code = buf.pull_uint_var(), buf.pull_uint_var()
        final_size, reliable_size = buf.pull_uint_var(), buf.pull_uint_var()
        if reliable_size > final_size:
            raise QuicConnectionError(
                QuicErrorCode.FRAME_ENCODING_ERROR,
                frame_type,
                "Reliable size beyond final size",
            )
        self._assert_stream_can_receive(frame_type, stream_id)
        stream = self._get_or_create_stream(frame_type, stream_id)
        receiver = stream.receiver
        if final_size > stream.max_stream_data_local:
            raise QuicConnectionError(
                QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit"
            )
        known = self._partial_resets.get(stream_id)
        final_sizes = {final_size, receiver._final_size, known.final_size if known else None}
        if len(final_sizes - {None}) > 1 or final_size < receiver.highest_offset:
            raise QuicConnectionError(
                QuicErrorCode.FINAL_SIZE_ERROR, frame_type, "Cannot change final size"
            )
        if known is not None and known.code != code:
            raise QuicConnectionError(
                QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Cannot change error code"
            )
        newly_received = final_size - receiver.highest_offset
        connection = self._local_max_data
        if connection.used + newly_received > connection.value:
            raise QuicConnectionError(
                QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit"
            )
        connection.used += newly_received
        receiver.highest_offset = final_size
        if receiver.is_finished:
            return
        if known is None:
            self._partial_resets[stream_id] = _PartialReset(code, final_size, reliable_size)
        else:  # it may only become less; more is an older frame that comes late
            known.reliable_size = min(known.reliable_size, reliable_size)
        self._advance_partial_reset(stream)

    def _check_partial_reset(self, frame_type: int, stream_id: int, end: int, *, fin: bool) -> None:
        """Before data of a stream is taken: it may not lie beyond the announced end."""
        reset = self._partial_resets.get(stream_id)
        if reset is not None and (end > reset.final_size or (fin and end != reset.final_size)):
            raise QuicConnectionError(
                QuicErrorCode.FINAL_SIZE_ERROR, frame_type, "Data received beyond final size"
            )

    def _advance_partial_reset(self, stream: Any) -> None:
        """Report the reset if all that had to come before it has been delivered."""
        reset = self._partial_resets.get(stream.stream_id)
        receiver = stream.receiver
        if reset is None or receiver.starting_offset() < reset.reliable_size:
            return
        del self._partial_resets[stream.stream_id]
        if receiver.is_finished:
            return
        try:
            event = receiver.handle_reset(error_code=reset.code, final_size=reset.final_size)
        except FinalSizeError as error:
            raise QuicConnectionError(
                QuicErrorCode.FINAL_SIZE_ERROR, RESET_STREAM_AT, str(error)
            ) from error
        if event is not None:
            self._events.append(event)
