"""Copies pass the node's stack as the relay's own packets do: routing, NAT, policy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from fastrelay.moqt.drafts import DRAFT_18, DRAFT_22
from integration.fastpath.broadcast import Broadcast
from integration.fastpath.harness import FastRelay
from integration.harness import Certificate

GROUPS = 10


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
