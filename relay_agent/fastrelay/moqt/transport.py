"""What a session needs from the transport under it, and what that tells the session.

Raw QUIC and WebTransport both provide this (draft-18 section 3.1), with their
differences gone: stream prefixes are stripped, error codes are MoQT's.
"""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """The sending half; every call only queues, the owner of the socket flushes."""

    is_client: bool
    """Whether this end opened the connection."""

    is_webtransport: bool

    low_water: int
    """Bytes of backlog: when it falls below, :meth:`Receiver.writable` is called."""

    def open_stream(self, *, unidirectional: bool) -> int:
        """A new stream's id; the peer's stream limit delays its bytes, not this call."""

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        """Queue bytes. On a stream that was reset or stopped this does nothing."""

    def reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM with a MoQT code; no effect on a finished stream."""

    def is_sending(self, stream_id: int) -> bool:
        """Whether something of a stream of ours is queued, or on its way and not acknowledged."""

    def stop(self, stream_id: int, code: int) -> None:
        """STOP_SENDING with a MoQT code; no effect on a finished stream. Nothing more of
        the stream is delivered."""

    def send_datagram(self, data: bytes) -> bool:
        """Queue one datagram; False (and nothing sent) if it is too large for the path."""

    @property
    def max_datagram_size(self) -> int:
        """Bytes that fit in one datagram after the transport's own prefix; 0: none allowed."""

    @property
    def backlog(self) -> int:
        """Bytes queued on streams and in datagrams that were never on the wire."""

    def close(self, code: int, reason: str) -> None:
        """End the MoQT session with one of its codes (WebTransport: the session, then QUIC)."""


class Receiver(Protocol):
    """The receiving half: whoever owns the connection calls this, in the order of arrival."""

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None: ...

    def stream_reset(self, stream_id: int, code: int) -> None: ...

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """STOP_SENDING arrived; the transport has already answered with a reset."""

    def datagram(self, data: bytes) -> None: ...

    def writable(self) -> None:
        """The backlog fell below the transport's low-water mark after having reached it."""

    def closed(self, code: int, reason: str) -> None:
        """The last call: the session ended, by either side, a timeout or a transport error."""
