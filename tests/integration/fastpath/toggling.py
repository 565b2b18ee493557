"""What is done to a crowd: the fast path goes and comes, agents die, programs and keys change.

Everything happens so many ticks after something else, never after a time.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

from fastrelay.local import topology
from fastrelay.local.topology import NODE
from integration.fastpath.crowd import Crowd
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import connection_of, engine_of
from integration.fastpath.scripted import NEW_KEYS

_OTHER_VERSION = """
import sys
from fastrelay.agent import versions
from fastrelay.cli import main
suffix, version_of = sys.argv.pop(1), versions.version_of
versions.version_of = lambda *what: version_of(*what) + suffix
main()
"""


class Troubles:
    """``say``: is told what was done."""

    def __init__(
        self, crowd: Crowd, seed: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.done = Counter[str]()
        self._crowd = crowd
        self._relay = crowd.relay
        self._random = random.Random(seed)
        self._say = say
        self._version = 0

    async def run(self, *, switches: int, agents: int, keys: int) -> None:
        """All at the same time, each so many times; forwarding is on at the end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._switch(switches))
            group.create_task(self._replace(agents))
            group.create_task(self._renew_keys(keys))

    async def _switch(self, times: int) -> None:
        for _ in range(times):
            await self._wait(1, 12)
            self._relay.switch(False)
            await self._wait(1, 6)
            self._relay.switch(True)
            self._note("switch")

    async def _replace(self, times: int) -> None:
        """The agent is killed; the next one has other programs for the same maps."""
        for _ in range(times):
            await self._wait(5, 30)
            before = self._generation()
            self._relay.kill_agent()
            self._note("kill")
            await self._wait(5, 30)
            self._version += 1
            await asyncio.to_thread(start_other_agent, self._relay, self._version)
            assert self._generation() != before
            self._note("replace")

    async def _renew_keys(self, times: int) -> None:
        for number in range(times):
            await self._wait(10, 40)
            for client in (*self._crowd.publishers, *self._random.sample(self._crowd.clients, 5)):
                engine_of(client).request_key_update()
                connection_of(client).touch()
            if number % 2 == 0:  # at once on both sides; else some time after
                await self._wait(3, 6)
            self._relay.process.send_signal(NEW_KEYS)
            self._note("keys")

    def _generation(self) -> str:
        node = self._relay.stack.node
        assert node is not None
        report = node.report("relay")
        assert report is not None
        return str(report["generation"])

    async def _wait(self, least: int, most: int) -> None:
        await self._crowd.writer.pass_by(self._random.randint(least, most))

    def _note(self, what: str) -> None:
        self.done[what] += 1
        self._say(f"tick {self._crowd.writer.ticks}: {what} {self.done[what]}")


def start_other_agent(relay: FastRelay, version: int) -> None:
    """An agent whose programs have another name, as after an update; returns when they forward."""
    relay.start_agent(lambda *words: [sys.executable, "-c", _OTHER_VERSION, f"-{version}", *words])


def spread_over_cpus(relay: FastRelay, cpus: int = 0b11) -> None:
    """The copies, as they come from the relay's link, go to these CPUs (RPS)."""
    namespace = topology.namespace_of(relay.name, NODE)
    write = f"echo {cpus:x} >/sys/class/net/relay/queues/rx-0/rps_cpus"
    subprocess.run(["ip", "netns", "exec", namespace, "sh", "-c", write], check=True)
