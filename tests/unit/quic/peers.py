"""A receiver that writes down what it hears, and pairs of connected endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastrelay.moqt.transport import Receiver, Transport
from fastrelay.quic.certificates import SelfSigned, make_self_signed
from fastrelay.quic.connection import Connection
from fastrelay.quic.endpoint import Endpoint, connect
from fastrelay.quic.options import Negotiated, QuicOptions


@dataclass
class Recorder:
    """Implements Receiver; ``wait`` returns when what is asked for has happened."""

    negotiated: Negotiated
    transport: Transport
    streams: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    stops: dict[int, int] = field(default_factory=dict)
    datagrams: list[bytes] = field(default_factory=list)
    writable_calls: int = 0
    end: tuple[int, str] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        assert stream_id not in self.finished
        self.streams.setdefault(stream_id, bytearray()).extend(data)
        if fin:
            self.finished.add(stream_id)
        self._changed.set()

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.resets[stream_id] = code
        self._changed.set()

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self.stops[stream_id] = code
        self._changed.set()

    def datagram(self, data: bytes) -> None:
        self.datagrams.append(data)
        self._changed.set()

    def writable(self) -> None:
        self.writable_calls += 1
        self._changed.set()

    def closed(self, code: int, reason: str) -> None:
        assert self.end is None
        self.end = (code, reason)
        self._changed.set()

    async def wait(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@dataclass
class Pair:
    """A server and one client with a session between them."""

    endpoint: Endpoint
    connection: Connection
    server: Recorder
    client: Recorder
    options: QuicOptions


class Acceptor:
    """Gives every session a recorder."""

    def __init__(self) -> None:
        self.sessions: asyncio.Queue[Recorder] = asyncio.Queue()

    def __call__(self, negotiated: Negotiated, transport: Transport) -> Receiver:
        recorder = Recorder(negotiated, transport)
        self.sessions.put_nowait(recorder)
        return recorder


@dataclass(frozen=True)
class Identity:
    certificate: Path
    private_key: Path
    made: SelfSigned


def write_identity(directory: Path, name: str = "server") -> Identity:
    made = make_self_signed()
    identity = Identity(directory / f"{name}.pem", directory / f"{name}.key", made)
    made.write(identity.certificate, identity.private_key)
    return identity


@contextlib.asynccontextmanager
async def serving(
    options: QuicOptions, accept: Callable[..., Receiver], host: str = "127.0.0.1"
) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(options, accept)
    await endpoint.listen(host, 0)
    try:
        yield endpoint
    finally:
        await endpoint.close()


@contextlib.asynccontextmanager
async def session_pair(
    options: QuicOptions,
    scheme: str = "moqt",
    *,
    host: str = "127.0.0.1",
    bind: str = "127.0.0.1",
    path: str = "/live?x=1",
    client: dict[str, Any] | None = None,
) -> AsyncIterator[Pair]:
    servers, clients = Acceptor(), Acceptor()
    async with serving(options, servers, bind) as endpoint:
        authority = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{authority}:{endpoint.address[1]}{path}"
        theirs = replace(options, insecure=True, **(client or {}))
        connection = await connect(url, theirs.drafts, theirs, clients)
        server = await asyncio.wait_for(servers.sessions.get(), 60)
        yield Pair(endpoint, connection, server, clients.sessions.get_nowait(), options)
        await connection.close()
