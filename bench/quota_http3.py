"""A plain HTTP/3 server on aioquic behind the same quota, and its clients: the paper's subject.

``python -m bench.quota_http3 MANIFEST HOST PORT CERTIFICATE KEY [SOCKET]`` serves 256 kB for each
GET, with the quota of the MoQRelay in the file, in the kernel where the node agent's socket is
named; ``/statusz`` (of the relay's form) says who is counted.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent
from aioquic.quic.packet import QuicErrorCode

from fastrelay.api.load import load_file
from fastrelay.fastpath.handing import Cause, Offer, Statement
from fastrelay.fastpath.maps import Maps, MapsError
from fastrelay.fastpath.reception import Reception
from fastrelay.quic.connection import Connection
from fastrelay.quic.door import Door, OpenDoor, Verdict
from fastrelay.relay.configuration import quota_options
from fastrelay.relay.doorkeeper import Doorkeeper

SIZE = 256 * 1024
"""Of an answer, as in the paper."""
ID_LENGTH = 8
LONG_HEADER = 0x80
LOOK_SECONDS = 0.5
SO_RCVBUFFORCE, RECEIVE_BUFFER = 33, 1 << 22


class Visitor(QuicConnectionProtocol):
    """A server's connection. Counts from the end of its handshake until it is gone."""

    def __init__(self, *arguments: Any, door: Door, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._door = door
        self._http: H3Connection | None = None

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        super().datagram_received(data, addr)
        if self._quic._close_event is not None:  # aioquic says so later: when nothing more comes
            self._door.leave(cast(Connection, self), self._loop.time())

    def quic_event_received(self, event: QuicEvent) -> None:
        now = self._loop.time()
        if isinstance(event, HandshakeCompleted):
            address = self._quic._network_paths[0].addr
            if self._door.enter(cast(Connection, self), address, now):
                self._http = H3Connection(self._quic)
            else:
                self.close(QuicErrorCode.CONNECTION_REFUSED)
        elif isinstance(event, ConnectionTerminated):
            self._door.leave(cast(Connection, self), now)
        for each in self._http.handle_event(event) if self._http else ():
            self._answer(each)

    def _answer(self, event: H3Event) -> None:
        assert self._http
        if isinstance(event, HeadersReceived):
            self._http.send_headers(event.stream_id, [(b":status", b"200")])
            self._http.send_data(event.stream_id, bytes(SIZE), end_stream=True)


class Server(QuicServer):
    """Asks the door about each packet that would open a connection."""

    def __init__(self, configuration: QuicConfiguration, door: Door) -> None:
        super().__init__(
            configuration=configuration,
            create_protocol=lambda *a, **options: Visitor(*a, door=door, **options),
        )
        self._door = door

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        packet = cast(bytes, data)
        if not packet or not packet[0] & LONG_HEADER or len(packet) < 6 + ID_LENGTH:
            super().datagram_received(data, addr)
            return
        destination = packet[6 : 6 + packet[5]]
        if destination in self._protocols:
            super().datagram_received(data, addr)
        elif self._door.judge(addr, self._loop.time()) is Verdict.ADMIT:
            super().datagram_received(data, addr)
            made = self._protocols.get(destination)
            if made is not None:
                ids = destination, made._quic.host_cid
                self._door.begin(cast(Connection, made), ids)


class Guest:
    """Has the door's quota refused in the kernel, as soon as there are maps."""

    def __init__(self, path: Path, door: Doorkeeper, port: int) -> None:
        self._door, self._port = door, port
        self._maps: Maps | None = None
        self._number = 0
        self._reception = Reception(path, self)

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            if not self._reception.connected:
                with suppress(OSError):  # it is not there yet
                    self._reception.connect()
            if self._maps is not None:
                self._maps.shared.rows[0]["heartbeat"] = time.monotonic_ns()
            self._say()
            await asyncio.sleep(LOOK_SECONDS)

    def _say(self) -> None:
        self._reception.say(
            Statement(maps=self._number, wants=self._maps is None, reason=Cause.NO_MAPS)
        )

    def offered(self, offer: Offer, maps: Maps | None) -> None:
        if maps is not None:
            self._maps, self._number = maps, offer.maps
            self._door.attach(maps, self._port, time.monotonic())

    def unusable(self, offer: Offer, error: MapsError) -> None:
        raise RuntimeError(f"the maps cannot be used: {error}")

    def lost(self, why: str) -> None: ...


class Getter(QuicConnectionProtocol):
    """A client's connection, for one GET."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = H3Connection(self._quic)
        self.received = 0
        self._done: asyncio.Future[None] | None = None

    async def get(self, host: str) -> None:
        stream = self._quic.get_next_available_stream_id()
        headers = {":method": "GET", ":scheme": "https", ":authority": host, ":path": "/"}
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._http.send_headers(stream, fields, end_stream=True)
        self._done = self._loop.create_future()
        self.transmit()
        await self._done

    def quic_event_received(self, event: QuicEvent) -> None:
        done = self._done if self._done is not None and not self._done.done() else None
        if isinstance(event, ConnectionTerminated) and done:
            done.set_exception(ConnectionError(event.reason_phrase))
        for each in self._http.handle_event(event):
            if isinstance(each, DataReceived):
                self.received += len(each.data)
                if each.stream_ended and done:
                    done.set_result(None)


def bound(host: str, port: int) -> socket.socket:
    """With room for what comes while Python does something else."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    made.bind((host, port))
    return made


@asynccontextmanager
async def connected(host: str, port: int, address: str = "") -> AsyncIterator[Getter]:
    """:raises ConnectionError: refused, or nobody answered."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    sock = bound(address, 0)
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Getter(QuicConnection(configuration=configuration)), sock=sock
    )
    try:
        client.connect((host, port))
        await client.wait_connected()
        yield client
    finally:
        client.close()
        transport.close()


async def serve(
    manifest: Path, host: str, port: int, certificate: Path, key: Path, path: Path | None
) -> None:
    spec = load_file(manifest).spec
    options = quota_options(spec.quota)
    door = Doorkeeper(options) if options is not None else None
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=False, connection_id_length=ID_LENGTH
    )
    configuration.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(
        lambda: Server(configuration, door or OpenDoor()), sock=bound(host, port)
    )

    async def page(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = {"quota": door.status(loop.time()) if door is not None else None}
        body = json.dumps(status).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    await asyncio.start_server(page, None, spec.monitoring.port)
    if path is not None and door is not None:
        await Guest(path, door, port).look()
    await asyncio.Event().wait()


def main() -> None:
    manifest, host, port, certificate, key, *rest = sys.argv[1:]
    path = Path(rest[-1]) if rest else None
    asyncio.run(serve(Path(manifest), host, int(port), Path(certificate), Path(key), path))


if __name__ == "__main__":
    main()
