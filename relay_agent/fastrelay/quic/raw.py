"""MoQT right on QUIC: streams, codes and datagrams pass as they are (draft-18 section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.transport import Receiver
from fastrelay.quic.aioquic_private import Engine, datagram_place
from fastrelay.quic.lease import Source
from fastrelay.quic.measurements import Measurements


class Carrier(Protocol):
    """The connection as a transport sees it."""

    engine: Engine
    low_water: int

    def touch(self) -> None:
        """Something was queued: flush when this batch of events is done."""

    def before_batch(self, hook: Callable[[float], None]) -> None: ...

    def handled(self, now: float) -> float: ...

    def note_backlog(self) -> None:
        """The backlog is about to shrink without anything being sent."""


class QuicTransport:
    """What raw QUIC and WebTransport have in common, and all of raw QUIC.

    ``handlers`` says who takes which event of the connection; the owner of the connection
    looks there, so that an event costs one dictionary access and one call.
    """

    is_webtransport = False
    no_error = 0
    """Of the protocol: what a connection is closed with when nobody has said more."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.engine = self._engine = carrier.engine
        """For whoever lends the connection to the kernel."""
        self.stream_prefix = b""
        """What each unidirectional stream begins with, before the first byte of the session's."""
        self.datagram_prefix = b""
        self.datagram_place: tuple[int, int] | None = None
        """While the receiver is given a datagram that has just come: packet number, and index
        among the packet's datagrams. Only known while the connection is lent."""
        self.is_client = carrier.engine.configuration.is_client
        self._receiver: Receiver | None = None
        self._stopped: set[int] = set()
        self.handlers: dict[type[events.QuicEvent], Callable[[Any], None]] = {
            events.StreamDataReceived: self._on_stream_data,
            events.StreamReset: self._on_stream_reset,
            events.StopSendingReceived: self._on_stop_sending,
            events.DatagramFrameReceived: self._on_datagram,
        }

    def attach(self, receiver: Receiver) -> None:
        """From now on the receiver hears everything; call once."""
        self._receiver = receiver

    # -- moqt.transport.Transport

    def open_stream(self, *, unidirectional: bool) -> int:
        return self._engine.open_stream(unidirectional=unidirectional)

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        if self._engine.write(stream_id, data, fin):
            self._carrier.touch()

    def reset(self, stream_id: int, code: int) -> None:
        self._carrier.note_backlog()
        self._engine.reset_stream(stream_id, self._code_to_wire(code))
        self._carrier.touch()

    def is_sending(self, stream_id: int) -> bool:
        return self._engine.is_sending(stream_id)

    def stop(self, stream_id: int, code: int) -> None:
        if self._engine.is_receiving(stream_id):
            self._engine.stop_stream(stream_id, self._code_to_wire(code))
            self._stopped.add(stream_id)
            self._carrier.touch()

    def send_datagram(self, data: bytes) -> bool:
        limit = self._engine.max_datagram_payload
        if not limit or len(data) > limit:
            return False
        self._engine.send_datagram_frame(data)
        self._carrier.touch()
        return True

    # -- streams that the kernel began; offsets are QUIC's, with ``stream_prefix``

    def adopt_stream(
        self, stream_id: int, source: Source, highest: int, *, continued: bool
    ) -> None:
        """Make it possible to send on a stream of ours that the kernel began; see
        :meth:`Engine.adopt`.

        :param continued: the kernel sends no more on it: :meth:`send` goes on at ``highest``,
            :meth:`reset` is possible. Otherwise only :meth:`send_range` is.
        """
        gone = self._code_to_wire(SessionError.INTERNAL_ERROR)
        self._engine.adopt(stream_id, source, highest, continued=continued, gone_code=gone)

    def send_range(self, stream_id: int, start: int, stop: int, fin: bool) -> None:
        """Queue bytes of the adopted stream's source, before those that were never sent."""
        self._engine.send_range(stream_id, start, stop, fin)
        self._carrier.touch()

    @property
    def max_datagram_size(self) -> int:
        return self._engine.max_datagram_payload

    @property
    def backlog(self) -> int:
        return self._engine.unsent

    @property
    def low_water(self) -> int:
        return self._carrier.low_water

    @low_water.setter
    def low_water(self, size: int) -> None:
        self._carrier.low_water = size

    def close(self, code: int, reason: str) -> None:
        self._engine.close(error_code=code, reason_phrase=reason)
        self._carrier.touch()

    def before_batch(self, hook: Callable[[float], None]) -> None:
        """Have ``hook`` called when datagrams for this connection's socket were read, before the
        first of them is handled."""
        self._carrier.before_batch(hook)

    def handled(self, now: float) -> float:
        """Before when all datagrams that came to this connection's socket have been handled, if
        it is now so late."""
        return self._carrier.handled(now)

    # -- for status pages

    def measurements(self) -> Measurements:
        """What the connection knows of its path now."""
        return self._engine.measurements()

    @property
    def media_packets(self) -> int:
        """Packets with media that the connection has sent itself: not the kernel."""
        return self._engine.media_packets

    @property
    def cipher_suite(self) -> str:
        """The name of the TLS cipher suite in use."""
        return self._engine.cipher_suite

    # -- from the connection

    def writable(self) -> None:
        if self._receiver is not None:
            self._receiver.writable()

    def terminated(self, event: events.ConnectionTerminated) -> None:
        """The connection is over: tell the receiver, with a MoQT code."""
        if event.frame_type is None:
            self._closed(event.error_code, event.reason_phrase)
        else:
            self._closed(SessionError.INTERNAL_ERROR, describe(event))

    def _closed(self, code: int, reason: str) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.closed(code, reason)

    def _on_stream_data(self, event: events.StreamDataReceived) -> None:
        stream_id = event.stream_id
        if self._stopped and stream_id in self._stopped:
            if event.end_stream:
                self._stopped.discard(stream_id)
            return
        if self._receiver is not None:
            self._receiver.stream_data(stream_id, event.data, event.end_stream)

    def _on_stream_reset(self, event: events.StreamReset) -> None:
        if event.stream_id in self._stopped:
            self._stopped.discard(event.stream_id)
        elif self._receiver is not None:
            self._receiver.stream_reset(event.stream_id, self._code_from_wire(event.error_code))

    def _on_stop_sending(self, event: events.StopSendingReceived) -> None:
        if self._receiver is not None:
            self._receiver.stream_stopped(event.stream_id, self._code_from_wire(event.error_code))

    def _on_datagram(self, event: events.DatagramFrameReceived) -> None:
        self._deliver_datagram(event, event.data)

    def _deliver_datagram(self, event: events.DatagramFrameReceived, data: bytes) -> None:
        if self._receiver is None:
            return
        self.datagram_place = datagram_place(event)
        try:
            self._receiver.datagram(data)
        finally:
            self.datagram_place = None

    # -- what WebTransport does otherwise

    def _code_to_wire(self, code: int) -> int:
        return code

    def _code_from_wire(self, code: int) -> int:
        return code


def describe(event: events.ConnectionTerminated) -> str:
    """A transport-level end in words, for logs and exceptions."""
    if event.reason_phrase:
        return event.reason_phrase
    if event.frame_type is not None:  # else it is a code of the application's
        with suppress(ValueError):
            return f"the QUIC connection ended with {QuicErrorCode(event.error_code).name}"
    return f"the QUIC connection ended with error 0x{event.error_code:x}"
