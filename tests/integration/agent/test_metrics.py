"""What Prometheus gets from an agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastrelay.agent.metrics import served
from fastrelay.agent.node import Node
from fastrelay.fastpath.layout import SLOT, SLOTS
from integration.agent.world import RELAY, Agent, World

Samples = dict[tuple[str, str], float]
SEEN_BY_B = "a_vlan"
"""The test's programs count at an index that this is the name of."""


async def scrape(port: int, path: str = "/metrics") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body.decode()


def samples(text: str) -> Samples:
    """By the name and the one label's value there may be."""
    return {
        (
            sample.name.removeprefix("fastrelay_agent_"),
            "".join(sample.labels.values()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@asynccontextmanager
async def observed(node: Node) -> AsyncIterator[Callable[[], asyncio.Future[Samples]]]:
    async with served(node, "127.0.0.1", 0) as pages:

        async def read() -> Samples:
            status, text = await scrape(pages.port)
            assert status == 200
            return samples(text)

        yield lambda: asyncio.ensure_future(read())


async def test_a_relay_comes_works_and_goes(world: World) -> None:
    with world.agent() as agent:
        async with observed(agent.node) as read:
            nothing = await read()
            assert nothing["relays", "Attached"] == nothing["pass_seconds_count", ""] == 0
            await asyncio.to_thread(agent.ensure)
            await asyncio.to_thread(world.exchange, 3)
            found = await read()
            assert found["relays", "Attached"] == 1
            assert found["programs_attached", ""] == 2
            assert found["pass_seconds_count", ""] == found["load_seconds_count", ""] == 1
            assert found["load_seconds_sum", ""] > 0
            assert found["program_packets_total", SEEN_BY_B] == 3
            assert found["map_bytes", "slots"] >= SLOTS * SLOT.dtype.itemsize
            await asyncio.to_thread(agent.reconcile)
            gone = await read()
            assert gone["relays", "Attached"] == gone["programs_attached", ""] == 0
            assert gone["removals_total", ""] == 1
            assert gone["map_bytes", "slots"] == 0
            assert gone["program_packets_total", SEEN_BY_B] == 3, "counters only grow"
            await asyncio.to_thread(agent.ensure)
            await asyncio.to_thread(world.exchange, 2)
            assert (await read())["program_packets_total", SEEN_BY_B] == 5


async def test_the_number_of_series_does_not_depend_on_relays(world: World) -> None:
    def both(agent: Agent) -> None:
        agent.reconcile(world.spec(), replace(world.spec(), name="relay-2", addresses=["10.9.9.9"]))

    with world.agent() as agent:
        async with observed(agent.node) as read:
            before = await read()
            await asyncio.to_thread(both, agent)
            after = await read()
            assert (after["relays", "Attached"], after["relays", "NoInterface"]) == (1, 1)
            ours = {key for key in after if not key[0].startswith("process_")}
            assert ours == {key for key in before if not key[0].startswith("process_")}
            assert not any(RELAY in value for _, value in after)


async def test_failures_are_counted(world: World) -> None:
    world.rewrite("server_ingress.c", "nonsense")
    with world.agent() as agent:
        async with observed(agent.node) as read:
            for _ in range(2):
                await asyncio.to_thread(agent.ensure)
            found = await read()
            assert found["relays", "LoadFailed"] == 1
            assert found["load_failures_total", ""] == 1, "it is not tried again at once"
            assert found["load_seconds_count", ""] == 0


async def test_readiness(world: World) -> None:
    with world.agent() as agent:
        async with served(agent.node, "127.0.0.1", 0) as pages:
            assert await scrape(pages.port, "/healthz") == (200, "ok\n")
            assert await scrape(pages.port, "/readyz") == (503, "it has not looked yet\n")
            agent.node.reconcile({})
            assert await scrape(pages.port, "/readyz") == (200, "ready\n")
            with pytest.raises(OSError, match="in use") as caught:
                async with served(agent.node, "127.0.0.1", pages.port):
                    pass
            assert caught.value.filename == f"127.0.0.1:{pages.port}"
