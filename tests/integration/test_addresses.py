"""Hosts with several addresses on one link: a relay on all of them answers from the one asked.

Server and client sockets are in network namespaces of their own, joined by a veth pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from fastrelay.local import netns
from fastrelay.quic import udp
from fastrelay.quic.options import QuicOptions, Retry
from fastrelay.quic.udp import UdpSocket
from unit.quic.peers import session_pair, write_identity

BUFFERS = {"receive_buffer": 1 << 20, "send_buffer": 1 << 20}
ADDRESSES = ("10.91.0.1", "10.91.0.2", "fd91::1", "fd91::2")
"""Of the server; both of a family are as good to answer from, so the kernel takes one always."""
SERVER_LINK_LOCAL = "fe80::91:1"


@dataclass(frozen=True)
class Hosts:
    server: str
    client: str
    client_interface: int


def configure(ipr: IPRoute, interface: str, addresses: tuple[str, ...]) -> int:
    index: int = ipr.link_lookup(ifname=interface)[0]
    for address in addresses:
        extra: dict[str, Any] = {"IFA_FLAGS": 2} if ":" in address else {}  # no detection of twins
        ipr.addr("add", index=index, address=address, prefixlen=64 if extra else 24, **extra)
    ipr.link("set", index=index, state="up")
    return index


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Two of them; what binds is on the server, what connects is on the client."""
    server, client = (f"addresses-{os.getpid()}-{name}" for name in ("server", "client"))
    with contextlib.ExitStack() as stack:
        for name in (server, client):
            netns.create(name)
            stack.callback(netns.remove, name)

        def join(ipr: IPRoute) -> None:
            peer = {"ifname": "eth0", "net_ns_fd": str(netns.path(client))}
            ipr.link("add", ifname="eth0", kind="veth", peer=peer)

        netns.netlink(server, join)
        theirs = (*ADDRESSES, SERVER_LINK_LOCAL)
        netns.netlink(server, lambda ipr: configure(ipr, "eth0", theirs))
        ours = ("10.91.0.9", "fd91::9", "fe80::91:9")
        index = netns.netlink(client, lambda ipr: configure(ipr, "eth0", ours))
        for function, name in (("bind", server), ("connect", client)):
            original = getattr(udp, function)

            def there(
                *args: Any, _name: str = name, _original: Any = original, **options: Any
            ) -> socket.socket:
                return netns.inside(_name, partial(_original, *args, **options))

            monkeypatch.setattr(udp, function, there)
        yield Hosts(server, client, index)


@pytest.mark.parametrize("retry", [Retry.NEVER, Retry.ALWAYS])
@pytest.mark.parametrize("address", ADDRESSES)
async def test_each_address_carries_sessions(
    hosts: Hosts, tmp_path: Path, address: str, retry: Retry
) -> None:
    identity = write_identity(tmp_path)
    options = QuicOptions(
        certificate=identity.certificate,
        private_key=identity.private_key,
        handshake_timeout=60,
        retry=retry,
    )
    content = bytes(range(256)) * 2000
    async with session_pair(options, "https", bind="", host=address) as pair:
        stream = pair.server.transport.open_stream(unidirectional=True)
        pair.server.transport.send(stream, content, fin=True)
        await pair.client.wait(lambda: stream in pair.client.finished)
        assert pair.client.streams[stream] == content
    if "." in address:
        async with session_pair(
            replace(options, drafts=options.drafts[:1]), bind="0.0.0.0", host=address
        ) as pair:
            assert pair.server.negotiated.peer[0] == "10.91.0.9"


async def test_link_local_addresses(hosts: Hosts) -> None:
    sock = UdpSocket(udp.bind("::", 0, **BUFFERS), asyncio.get_running_loop())
    address = (SERVER_LINK_LOCAL, sock.address[1], 0, hosts.client_interface)
    with (
        contextlib.closing(sock),
        udp.connect(socket.AF_INET6, address, **BUFFERS) as client,
    ):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"question")
        async with asyncio.timeout(60):
            asked = asyncio.Event()
            loop.add_reader(sock.fileno(), asked.set)
            await asked.wait()
            loop.remove_reader(sock.fileno())
            [(_, address, _)] = sock.receive()
            sock.send([(b"%d" % number, address) for number in range(3)])
            answers = [await loop.sock_recv(client, 100) for _ in range(3)]
        assert answers == [b"0", b"1", b"2"]
