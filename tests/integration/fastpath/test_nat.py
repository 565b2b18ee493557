"""Copies pass the node's stack as the relay's own packets do: routing, NAT, policy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent

from fastrelay.moqt import codec
from fastrelay.moqt.drafts import DRAFT_18, DRAFT_22
from fastrelay.moqt.messages import Setup
from integration.fastpath.broadcast import Broadcast
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import until
from integration.harness import Certificate

GROUPS = 10
OFFICE, AT_ONCE = 500, 50
"""Clients behind one address; handshakes at a time."""
KEEP_ALIVE = 5.0


def masquerade(relay: FastRelay) -> str:
    """The relay's clients seem to be the node itself."""
    return f"""
        table inet nat {{
            chain out {{
                type nat hook postrouting priority srcnat;
                oifname "relay" udp dport {relay.stack.port} masquerade
            }}
        }}
    """


def service(relay: FastRelay) -> str:
    """A service address in front of the relay, as kube-proxy makes it."""
    node4, node6 = relay.node_addresses
    pod, port = relay.stack.relay, relay.stack.port
    return f"""
        table ip service {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip daddr {node4} udp dport 30443 dnat to {pod.ipv4}:{port}
            }}
        }}
        table ip6 service {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip6 daddr {node6} udp dport 30443 dnat to [{pod.ipv6}]:{port}
            }}
        }}
    """


def policy(relay: FastRelay) -> str:
    """Only what belongs to a known flow, or opens one to the relay, is forwarded."""
    return f"""
        table inet guard {{
            chain forward {{
                type filter hook forward priority filter; policy drop;
                ct state invalid drop
                ct state established,related accept
                oifname "relay" udp dport {relay.stack.port} accept
            }}
        }}
    """


@pytest.fixture
def relay(shared_fast_relay: FastRelay) -> Iterator[FastRelay]:
    """Without rules before and after; flows of before are of other ports."""
    yield shared_fast_relay
    shared_fast_relay.filter("flush ruleset")
    shared_fast_relay.address = None


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    "rules",
    [(masquerade,), (service,), (service, masquerade), (policy,), (service, policy)],
    ids=lambda rules: "+".join(rule.__name__ for rule in rules),
)
async def test_every_byte_arrives(
    relay: FastRelay, certificate: Certificate, rules: tuple, ipv6: bool
) -> None:
    name = "-".join(rule.__name__ for rule in rules) + f"-{ipv6}"
    for rule in rules:
        relay.filter(rule(relay))
    broadcast = Broadcast(name, relay, certificate)
    if service in rules:
        node4, node6 = relay.node_addresses
        relay.address = (f"[{node6}]" if ipv6 else node4, 30443)
    elif ipv6:
        relay.address = (f"[{relay.stack.relay.ipv6}]", relay.stack.port)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(broadcast.published(DRAFT_22))
        watchers = [
            await stack.enter_async_context(broadcast.watched(DRAFT_18, webtransport=webtransport))
            for webtransport in (False, True, False)
        ]
        await asyncio.gather(*(watcher.complete(3) for watcher in watchers))
        await relay.mostly_in_kernel(
            lambda: asyncio.gather(*(watcher.complete(GROUPS) for watcher in watchers))
        )


class Terse(QuicConnectionProtocol):
    """A client that says its SETUP and nothing else."""

    def set_up(self) -> None:
        stream = self._quic.get_next_available_stream_id(is_unidirectional=True)
        setup = codec.encode(Setup(), DRAFT_18, is_client=True)
        self._quic.send_stream_data(stream, setup)
        self.keep_alive()

    def keep_alive(self) -> None:
        self._quic.send_ping(0)
        self.transmit()
        self._loop.call_later(KEEP_ALIVE, self.keep_alive)

    def quic_event_received(self, event: QuicEvent) -> None: ...


@pytest.mark.quiet  # a thousand handshakes, both ends counted
async def test_an_office_behind_one_address(relay: FastRelay) -> None:
    """500 clients with a real handshake each, all as one address: by default nobody is refused."""
    relay.filter(masquerade(relay))
    before, loop = relay.counters(), asyncio.get_running_loop()
    clients: list[tuple[asyncio.DatagramTransport, Terse]] = []
    turns = asyncio.Semaphore(AT_ONCE)
    configuration = QuicConfiguration(
        alpn_protocols=[DRAFT_18.alpn],
        server_name="localhost",
        verify_mode=ssl.CERT_NONE,
        idle_timeout=600.0,
    )

    async def come() -> None:
        async with turns:
            connection = QuicConnection(configuration=configuration)
            made = await loop.create_datagram_endpoint(
                lambda: Terse(connection), family=socket.AF_INET, local_addr=("0.0.0.0", 0)
            )
            clients.append(made)
            made[1].connect((relay.stack.relay.ipv4, relay.stack.port))
            await made[1].wait_connected()
            made[1].set_up()

    def office() -> list[dict[str, Any]]:
        """Address and prefix with all these connections."""
        accounts = relay.status()["quota"]["accounts"]
        return [each for each in accounts if each["connections"] == OFFICE]

    try:
        async with asyncio.timeout(300):
            await asyncio.gather(*(come() for _ in range(OFFICE)))
        await until(lambda: len(office()) == 2, "all are counted, as one address")
        assert [each["refused_seconds"] for each in office()] == [None, None]
    finally:
        for transport, client in clients:
            client.close()
            transport.close()
    await until(lambda: relay.status()["quota"]["connections"] == 0, "nobody is left")
    after = relay.counters()
    for reason in ("ADDRESS", "PREFIX", "TOTAL"):
        name = f"C_QUOTA_{reason}"
        assert after.get(name, 0) == before.get(name, 0), name
