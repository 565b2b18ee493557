"""A wildcard socket on a host with several addresses: answers come from the one that was used.

Clients have connected sockets here as everywhere, which drop what comes from another address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fastrelay.quic import pktinfo, udp
from fastrelay.quic.connection import ConnectError
from fastrelay.quic.endpoint import connect
from fastrelay.quic.options import QuicOptions, Retry
from fastrelay.quic.udp import Address, UdpSocket
from unit.quic.peers import Acceptor, Recorder, serving, session_pair

BUFFERS = {"receive_buffer": 1 << 20, "send_buffer": 1 << 20}
PLACES = pytest.mark.parametrize(
    ("bind", "host"), [("0.0.0.0", "127.0.0.2"), ("", "127.0.0.2"), ("::", "::1")]
)


@pytest.fixture
def hasty(options: QuicOptions) -> QuicOptions:
    """A handshake that gets no answers ends soon."""
    return replace(options, handshake_timeout=30)


async def transfer(sender: Recorder, receiver: Recorder) -> None:
    content = bytes(range(256)) * 400  # many packets: they leave segmented
    stream = sender.transport.open_stream(unidirectional=True)
    sender.transport.send(stream, content, fin=True)
    await receiver.wait(lambda: stream in receiver.finished)
    assert receiver.streams[stream] == content


@PLACES
@pytest.mark.parametrize("retry", [Retry.NEVER, Retry.ALWAYS])
async def test_sessions(hasty: QuicOptions, bind: str, host: str, retry: Retry) -> None:
    async with session_pair(replace(hasty, retry=retry), bind=bind, host=host) as pair:
        await transfer(pair.server, pair.client)
        await transfer(pair.client, pair.server)
        assert pair.server.negotiated.peer[0] in ("127.0.0.1", "::1")


@PLACES
async def test_refusals(hasty: QuicOptions, bind: str, host: str) -> None:
    async with serving(replace(hasty, max_connections=0), Acceptor(), bind) as endpoint:
        name = f"[{host}]" if ":" in host else host
        theirs = replace(hasty, insecure=True)
        with pytest.raises(ConnectError, match="CONNECTION_REFUSED"):
            await connect(
                f"moqt://{name}:{endpoint.address[1]}/", theirs.drafts, theirs, Acceptor()
            )


@PLACES
async def test_version_negotiation(options: QuicOptions, bind: str, host: str) -> None:
    async with serving(options, Acceptor(), bind) as endpoint:
        with client_of((host, endpoint.address[1])) as client:
            client.send(b"\xc0\x1a\x2a\x3a\x4a\x08destinat\x06source" + bytes(1180))
            loop = asyncio.get_running_loop()
            answer = await asyncio.wait_for(loop.sock_recv(client, 2000), 60)
            assert answer[1:5] == bytes(4)


async def test_a_client_whose_address_changes(options: QuicOptions) -> None:
    servers, clients = Acceptor(), Acceptor()
    async with serving(options, servers, "") as endpoint:
        with Translator(("127.0.0.2", endpoint.address[1])) as translator:
            theirs = replace(options, insecure=True)
            url = f"moqt://127.0.0.1:{translator.port}/"
            connection = await connect(url, theirs.drafts, theirs, clients)
            server, client = await servers.sessions.get(), await clients.sessions.get()
            await transfer(server, client)
            before = translator.rebind()
            await transfer(client, server)
            await transfer(server, client)
            assert translator.received_since_rebinding
            assert endpoint.connections[0].engine.get_peer_address()[1] != before
            await connection.close()


@pytest.mark.parametrize("sizes", [[700], [900, 800, 700], [900] * 70], ids=len)
@PLACES
async def test_answers_of_the_socket(bind: str, host: str, sizes: list[int]) -> None:
    loop = asyncio.get_running_loop()
    sock = UdpSocket(udp.bind(bind, 0, **BUFFERS), loop)
    with contextlib.closing(sock), client_of((host, sock.address[1])) as client:
        client.send(b"question")
        [(data, address, _)] = sock.receive()
        assert data == b"question"
        answers = [bytes([n]) * size for n, size in enumerate(sizes)]
        sock.send([(answer, address) for answer in answers])
        assert [client.recv(2000) for _ in answers] == answers
        assert sock.dropped == 0


async def test_paths_differ_in_either_address() -> None:
    sock = UdpSocket(udp.bind("0.0.0.0", 0, **BUFFERS), asyncio.get_running_loop())
    with contextlib.closing(sock), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            client.sendto(b"?", (host, sock.address[1]))
        one, two, again = (address for _, address, _ in sock.receive())
        assert one == again != two
        assert one[:2] == two[:2] == ("127.0.0.1", client.getsockname()[1])


def test_only_wildcard_sockets_ask() -> None:
    for host, asks in (("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("", True)):
        with udp.bind(host, 0, **BUFFERS) as sock:
            assert pktinfo.is_requested(sock) is asks


def test_the_interface_is_told_for_link_local_addresses_only() -> None:
    sources = pktinfo.Sources()
    index = (7).to_bytes(4, "little")
    for name, kept in (("fe80::1", index), ("fd00::1", bytes(4)), ("2001:db8::1", bytes(4))):
        packed = socket.inet_pton(socket.AF_INET6, name)
        [(_, _, data)] = sources[packed + index]
        assert data == packed + kept


def test_a_local_prefix_does_not_fill_the_memory() -> None:
    sources = pktinfo.Sources()
    for number in range(5000):
        address = number.to_bytes(4, "big")
        [(_, _, data)] = sources[bytes(4) + address + address]
        assert data == bytes(4) + address + bytes(4)
    assert len(sources) <= 1024


@contextlib.contextmanager
def client_of(address: Address) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with udp.connect(family, address, **BUFFERS) as sock:
        yield sock


class Translator:
    """Passes datagrams on between one client and a server, like a NAT that may forget."""

    def __init__(self, server: Address) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._inside = udp.bind("127.0.0.1", 0, **BUFFERS)
        self._outside = udp.connect(socket.AF_INET, server, **BUFFERS)
        self._client: Address = ()
        self.port = self._inside.getsockname()[1]
        self.received_since_rebinding = 0

    def __enter__(self) -> Translator:
        self._loop.add_reader(self._inside, self._from_client)
        self._loop.add_reader(self._outside, self._from_server)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._inside, self._outside):
            self._loop.remove_reader(sock)
            sock.close()

    def rebind(self) -> int:
        """From another port from now on; returns which it was before."""
        port: int = self._outside.getsockname()[1]
        new = udp.connect(socket.AF_INET, self._server, **BUFFERS)
        self._loop.remove_reader(self._outside)
        self._outside.close()
        self._outside = new
        self._loop.add_reader(new, self._from_server)
        self.received_since_rebinding = 0
        return port

    def _from_client(self) -> None:
        data, self._client = self._inside.recvfrom(2000)
        self._outside.send(data)

    def _from_server(self) -> None:
        self.received_since_rebinding += 1
        self._inside.sendto(self._outside.recv(2000), self._client)
