"""The quota, with a relay, its agent, and clients that want more than there is."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Network

import pytest

from bpf.packets import Path, ip, packet, udp
from bpf.test_quota import initial
from fastrelay.client import Client, connect
from fastrelay.local import netns
from fastrelay.local.hostlink import NODE_DEVICE
from fastrelay.local.topology import NODE, namespace_of
from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.quic.options import QuicOptions
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import Scene, connection_of, endpoint_of, rebind, until, vanish
from integration.harness import Certificate

MANY = 4
"""Connections of one address."""
SPEC = {
    "quota": {
        "action": "Drop",
        "perAddress": {"connections": MANY, "newPerSecond": 1000, "burst": 1000},
        "perPrefix": {"connections": 100, "newPerSecond": 10, "burst": 100},
        "attemptsPerSecond": 100,
    },
    "listen": {"drafts": [18]},
}
ATTEMPTS = 2 * 100
"""First packets of a prefix at once: each of its two cells takes as many as all together may be."""
FLOOD = IPv4Network("198.18.0.0/15")
"""For measurements (RFC 2544): nobody is there."""


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    with fast_relay(certificate, tmp_path_factory.mktemp("quota"), spec=SPEC) as made:
        made.wait_for_fast_path()
        yield made


@asynccontextmanager
async def client(
    relay: FastRelay, *, ipv6: bool = False, idle: float = 60
) -> AsyncIterator[Client]:
    options = QuicOptions(insecure=True, idle_timeout=idle, handshake_timeout=60)
    url = relay.url(ipv6=ipv6)
    async with connect(url, drafts=(DRAFT_18,), options=options, connect_timeout=60) as made:
        yield made


async def refused(relay: FastRelay, *, ipv6: bool = False) -> None:
    """Nobody more comes in, nobody is told, and user space does not see who tries."""
    names = "handshakes_started", "connections_refused"
    before, seen = relay.counters(), [counted(relay, each) for each in names]
    await in_vain(
        relay,
        lambda: grown(relay, before, "C_QUOTA_ADDRESS") >= 2,  # one has been sent again
        ipv6=ipv6,
    )
    assert [counted(relay, each) for each in names] == seen
    assert grown(relay, before, "C_QUOTA_ANSWERED") == 0


async def in_vain(relay: FastRelay, enough: Callable[[], bool], *, ipv6: bool = False) -> None:
    """Somebody tries to come in until then, and does not."""

    async def come() -> None:
        async with client(relay, ipv6=ipv6):
            raise AssertionError("one too many came in")

    trying = asyncio.create_task(come())
    try:
        await until(lambda: trying.done() or enough(), "it was refused")
        assert not trying.done(), trying.exception()
    finally:
        trying.cancel()
        await asyncio.wait([trying])


def grown(relay: FastRelay, before: Mapping[str, int], name: str) -> int:
    return relay.counters().get(name, 0) - before.get(name, 0)


def counted(relay: FastRelay, name: str) -> float:
    """A counter of the relay's."""
    for line in relay.page("/metrics").decode().splitlines():
        if line.startswith(f"fastrelay_{name}_total "):
            return float(line.split()[1])
    raise AssertionError(name)


async def connections(relay: FastRelay, count: int) -> None:
    await until(
        lambda: relay.status()["quota"]["connections"] == count, f"{count} connections are counted"
    )


@asynccontextmanager
async def full_house(relay: FastRelay, *, ipv6: bool = False) -> AsyncIterator[list[Client]]:
    """As many clients as one address may have."""
    await connections(relay, 0)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(relay, ipv6=ipv6)) for _ in range(MANY)]
        await connections(relay, MANY)
        yield clients


def path_of(relay: FastRelay, made: Client) -> Path:
    sock = endpoint_of(made)._socket
    assert sock is not None
    host, port = sock.address[:2]
    pod = relay.stack
    return Path(host, pod.relay.ipv6 if ":" in host else pod.relay.ipv4, port, pod.port)


async def inject(packets: list[tuple[Path, bytes]]) -> None:
    """Each claims to come from there."""
    family = socket.AF_INET if packets[0][0].family == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number, (path, payload) in enumerate(packets):
            raw.sendto(ip(path, udp(path, payload)), (path.destination, 0))
            if number % 20 == 0:
                await asyncio.sleep(0)


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
async def test_the_kernel_refuses_who_has_his_fill(relay: FastRelay, ipv6: bool) -> None:
    async with full_house(relay, ipv6=ipv6) as clients:
        status = relay.status()["quota"]
        assert status["by"] == "kernel"
        assert [each["refused_seconds"] for each in status["accounts"]] == ["full", None]
        await refused(relay, ipv6=ipv6)
        assert relay.status()["quota"]["accounts"][0]["refused_packets"] >= 1
        async with client(relay, ipv6=not ipv6):  # another address
            await connections(relay, MANY + 1)
        clients[0].close()
        await connections(relay, MANY - 1)
        async with client(relay, ipv6=ipv6):
            await connections(relay, MANY)
            await refused(relay, ipv6=ipv6)


async def test_media_does_not_notice(relay: FastRelay, certificate: Certificate) -> None:
    """Under a flood of those who are refused, all bytes arrive, and by the kernel."""
    await connections(relay, 0)
    scene = Scene(relay, certificate, "flood")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written())
        members = [await stack.enter_async_context(scene.member()) for _ in range(MANY - 1)]
        await connections(relay, MANY)
        await until(lambda: all(map(scene.is_fast, members)), "the kernel serves everybody")
        path, chance = path_of(relay, publisher), random.Random(5)

        async def flooded() -> None:
            before = relay.counters()
            for _ in range(5):
                await inject([(path, initial(chance.randbytes(8)))] * 100)
                await scene.complete(2)
            assert grown(relay, before, "C_QUOTA_ADDRESS") == 500

        await scene.work_by_the_kernel(flooded, *members)


async def test_who_moves_stays_and_counts_where_he_came_in(relay: FastRelay) -> None:
    async with full_house(relay) as clients:
        for _ in range(3):
            for each in clients:
                rebind(each)
        await refused(relay)
        await connections(relay, MANY)
        assert not any(connection_of(each).engine.is_over for each in clients)


async def test_who_vanishes_is_missed_after_a_while(relay: FastRelay) -> None:
    async with client(relay, idle=3) as one:
        await connections(relay, 1)
        vanish(one)
        await connections(relay, 0)
    async with full_house(relay):
        await refused(relay)


async def test_an_id_that_is_in_use_opens_nothing(relay: FastRelay) -> None:
    """First packets with the ids of connections that there are pass, and lead to those."""
    async with full_house(relay) as clients:
        before, started = relay.counters(), counted(relay, "handshakes_started")
        for each in clients:
            engine = connection_of(each).engine
            original = engine.original_destination_connection_id
            await inject([(path_of(relay, each), initial(original))] * 5)
        await until(lambda: grown(relay, before, "C_QUOTA_KNOWN") >= 5 * MANY, "they pass")
        await refused(relay)
        await connections(relay, MANY)
        assert counted(relay, "handshakes_started") == started


async def test_a_flood_in_somebodys_name_does_not_keep_him_out(relay: FastRelay) -> None:
    await connections(relay, 0)
    async with client(relay) as one:
        path, chance = path_of(relay, one), random.Random(6)
        before = relay.counters()
        await inject([(path, initial(chance.randbytes(8))) for _ in range(3 * ATTEMPTS)])
        await until(
            lambda: grown(relay, before, "C_QUOTA_PREFIX_ATTEMPTS") >= ATTEMPTS, "it is refused"
        )
        assert relay.status()["quota"]["connections"] == 1
        async with client(relay):
            await connections(relay, 2)


async def test_a_flood_from_everywhere_fills_nothing(relay: FastRelay) -> None:
    async with full_house(relay) as clients:
        path, chance = path_of(relay, clients[0]), random.Random(7)
        hosts = [str(FLOOD[chance.randrange(FLOOD.num_addresses)]) for _ in range(3000)]
        paths = [Path(host, path.destination, 1000, path.destination_port) for host in hosts]
        before = relay.counters()
        await inject([(each, initial(chance.randbytes(8))) for each in paths])
        await until(lambda: grown(relay, before, "C_QUOTA_ATTEMPTS") >= 500, "it is refused")
        status = relay.status()["quota"]
        assert status["connections"] == MANY
        assert status["subjects"] == 2
        await refused(relay)


async def at_device(relay: FastRelay, device: str, said: str) -> None:
    """The spec names it, and the relay says so."""
    await asyncio.to_thread(relay.want_device, device)
    await until(lambda: relay.status()["quota"]["by"] == said, f"{said} at {device or 'none'}")


async def test_a_device_whose_driver_has_no_xdp_refuses(relay: FastRelay) -> None:
    """Frames that come in where the kernel has made a packet of each before the program runs."""
    node = namespace_of(relay.name, NODE)
    netns.netlink(node, lambda ipr: ipr.link("set", ifname="lo", state="up"))
    try:
        await at_device(relay, "lo", "kernel, generic XDP")
        async with full_house(relay) as clients:
            path, before = path_of(relay, clients[0]), relay.counters()
            with netns.inside(
                node, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            ) as raw:
                raw.bind(("lo", 0))
                for number in range(20):
                    raw.send(packet(path, initial(bytes([number] * 8))))
            names = "C_QUOTA_AT_DEVICE", "C_QUOTA_ADDRESS"
            await until(
                lambda: all(grown(relay, before, name) >= 20 for name in names),
                "they were refused at the device",
            )
    finally:
        await asyncio.to_thread(relay.want_device, "")
        netns.netlink(node, lambda ipr: ipr.link("set", ifname="lo", state="down"))


async def test_a_device_of_the_node_refuses_first(relay: FastRelay) -> None:
    """With and without an agent, until the spec does not name it any more."""
    said = "kernel, native XDP"
    try:
        await at_device(relay, NODE_DEVICE, said)
        async with full_house(relay):
            before = relay.counters()
            await refused(relay)
            await asyncio.to_thread(relay.kill_agent)
            await refused(relay)
            await asyncio.to_thread(relay.start_agent)
            await refused(relay)
            names = "C_QUOTA_AT_DEVICE", "C_QUOTA_ADDRESS"
            await until(
                lambda: len({grown(relay, before, each) for each in names}) == 1,
                "all were refused at the device",
            )
            assert relay.status()["quota"]["by"] == said
            # Those that come otherwise meet the veth.
            before = relay.counters()
            await at_device(relay, "", "kernel")
            await refused(relay)
            assert grown(relay, before, "C_QUOTA_AT_DEVICE") == 0
    finally:
        await asyncio.to_thread(relay.want_device, "")


async def test_without_the_agent_nothing_changes(relay: FastRelay) -> None:
    async with full_house(relay):
        await asyncio.to_thread(relay.kill_agent)
        await refused(relay)
        await asyncio.to_thread(relay.start_agent)
        await refused(relay)
        await connections(relay, MANY)
    await connections(relay, 0)


async def test_another_relay_counts_from_nothing(relay: FastRelay) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MANY):
            one = await stack.enter_async_context(client(relay))
            stack.callback(vanish, one)
        await connections(relay, MANY)
        relay.process.kill()
        await asyncio.to_thread(relay.process.wait, 10)
    relay.process = await asyncio.to_thread(relay.stack.start_relay, grace=0)
    await asyncio.to_thread(relay.wait_for_fast_path)
    async with full_house(relay):
        await refused(relay)


async def test_without_programs_user_space_refuses(relay: FastRelay) -> None:
    """And programs that come know what was before them."""
    async with full_house(relay):
        await asyncio.to_thread(relay.take_away)
        await asyncio.to_thread(relay.wait_for_fast_path, on=False)
        assert relay.status()["quota"]["by"] == "user space"
        await in_vain(
            relay, lambda: relay.status()["quota"]["refusals"]["address_connections"] >= 1
        )
        await asyncio.to_thread(relay.give_back)
        await asyncio.to_thread(relay.wait_for_fast_path)
        await refused(relay)
        await connections(relay, MANY)
