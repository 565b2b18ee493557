"""A peer that writes what it likes on a MoQT connection, and remembers what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastrelay.moqt import codec
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import Setup
from fastrelay.moqt.transport import Receiver
from fastrelay.quic.endpoint import connect
from fastrelay.quic.options import Negotiated, QuicOptions
from fastrelay.quic.raw import QuicTransport
from fastrelay.quic.webtransport import WebTransport


class Hostile:
    """The receiving side records; the sending side is the transport itself."""

    def __init__(self, draft: Draft, transport: QuicTransport) -> None:
        self.draft = draft
        self.transport = transport
        self.received: dict[int, bytearray] = {}
        self.resets: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self._closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    # -- sending

    def uni(self, data: bytes, fin: bool = False) -> int:
        stream_id = self.transport.open_stream(unidirectional=True)
        self.transport.send(stream_id, data, fin)
        return stream_id

    def bidi(self, data: bytes, fin: bool = False) -> int:
        stream_id = self.transport.open_stream(unidirectional=False)
        self.transport.send(stream_id, data, fin)
        return stream_id

    def encoder_stream(self, data: bytes) -> None:
        """Bytes on QPACK's encoder stream, which HTTP/3 has opened on WebTransport."""
        transport = self.transport
        assert isinstance(transport, WebTransport)
        stream_id = transport._http._local_encoder_stream_id
        assert stream_id is not None
        transport._engine.write(stream_id, data, False)
        transport._carrier.touch()

    def setup(self, setup: Setup | None = None) -> int:
        """A proper SETUP on a proper control stream; returns the stream's id."""
        setup = setup or Setup(max_request_id=100 if not self.draft.request_streams else None)
        data = codec.encode(setup, self.draft, is_client=True)
        return self.uni(data) if self.draft.request_streams else self.bidi(data)

    def message(self, message_type: int, body: bytes, length: int | None = None) -> bytes:
        """A control message with any body, and a length that may lie."""
        size = len(body) if length is None else length
        return self.draft.varints.encode(message_type) + size.to_bytes(2) + body

    # -- what the relay does

    async def closed(self) -> int:
        """Wait for the end of the session; its code."""
        async with asyncio.timeout(60):
            code, _ = await asyncio.shield(self._closed)
        return code

    async def until(self, stream_id: int, length: int) -> bytes:
        """Wait for so many bytes on a stream."""
        async with asyncio.timeout(60):
            while len(self.received.get(stream_id, b"")) < length:
                self._changed.clear()
                await self._changed.wait()
        return bytes(self.received[stream_id])

    # -- Receiver

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        self.received.setdefault(stream_id, bytearray()).extend(data)
        self._changed.set()

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.resets[stream_id] = code
        self._changed.set()

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self.stopped[stream_id] = code
        self._changed.set()

    def datagram(self, data: bytes) -> None:
        pass

    def writable(self) -> None:
        pass

    def closed_(self, code: int, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result((code, reason))
        self._changed.set()


class _Ears:
    """The Receiver of a hostile peer; its ``closed`` is an event, not the peer's wait."""

    def __init__(self, peer: Hostile) -> None:
        self.stream_data = peer.stream_data
        self.stream_reset = peer.stream_reset
        self.stream_stopped = peer.stream_stopped
        self.datagram = peer.datagram
        self.writable = peer.writable
        self.closed = peer.closed_


@asynccontextmanager
async def hostile(url: str, draft: Draft, options: QuicOptions) -> AsyncIterator[Hostile]:
    """A connection on which nothing was sent yet but what QUIC and HTTP need."""
    peers: list[Hostile] = []

    def accept(negotiated: Negotiated, transport: QuicTransport) -> Receiver:
        peers.append(Hostile(negotiated.draft, transport))
        return _Ears(peers[-1])

    connection = await connect(url, (draft,), options, accept)
    try:
        yield peers[0]
    finally:
        connection.abort("", 0)
        await connection.wait_closed()
