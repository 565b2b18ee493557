"""Prometheus metrics of an agent, and the HTTP port that they are had at.

All relays of the node are added up: the number of series depends on what is counted, not on how
many relays there are or what they are called.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fastrelay import __version__
from fastrelay.agent import maps, syscalls
from fastrelay.agent.instance import Reason, State
from fastrelay.agent.node import Node
from fastrelay.api.addresses import format_address
from fastrelay.fastpath.inspect import counter_names
from fastrelay.relay.metrics import CONTENT_TYPE
from fastrelay.relay.pages import Page, Pages

_MEMORY = re.compile(r"^memlock:\s*(\d+)$", re.MULTILINE)


class ProgramCounters:
    """The programs' counters of all relays, also of those that are gone: so they only grow."""

    def __init__(self) -> None:
        self._last: dict[int, Counter[str]] = {}
        """By the map's id."""
        self._gone: Counter[str] = Counter()

    def total(self, directories: list[Path]) -> Counter[str]:
        """``directories``: of the maps of those that are there."""
        read = dict(filter(None, map(_counters, directories)))
        for number in self._last.keys() - read.keys():
            self._gone += self._last[number]
        self._last = read
        return sum(read.values(), Counter(self._gone))


class _Collector(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node
        self._programs = ProgramCounters()

    def collect(self) -> Iterator[Metric]:
        node, tally = self._node, self._node.tally
        yield InfoMetricFamily("fastrelay_agent_build", "Version.", {"version": __version__})
        yield from _relays(node)
        yield SummaryMetricFamily(
            "fastrelay_agent_pass_seconds",
            "Looks at all relays of the node.",
            count_value=tally.passes,
            sum_value=tally.pass_seconds,
        )
        yield SummaryMetricFamily(
            "fastrelay_agent_load_seconds",
            "Times that programs were compiled, if need be, and put into the kernel.",
            count_value=tally.loads,
            sum_value=tally.load_seconds,
        )
        for name, text, value in (
            ("load_failures", "Times that this did not succeed.", tally.load_failures),
            ("removals", "Relays whose data plane was removed.", tally.removals),
            ("erasures", "Ended relays whose keys and media were erased.", tally.erasures),
        ):
            yield CounterMetricFamily(f"fastrelay_agent_{name}", text, value)
        directories = [node.maps_of(name) for name in node.present()]
        packets = CounterMetricFamily(
            "fastrelay_agent_program_packets",
            "Packets that the programs saw, by what became of them.",
            labels=("reason",),
        )
        total = self._programs.total(directories)
        for reason in counter_names().values():
            packets.add_metric((reason.lower(),), total[reason])
        yield packets
        memory = GaugeMetricFamily(
            "fastrelay_agent_map_bytes", "Memory of the maps.", labels=("map",)
        )
        for each in maps.PINNED:
            paths = [path / each.name for path in (*directories, node.spare_maps)]
            memory.add_metric((each.name,), sum(map(_memory, paths)))
        yield memory


def _relays(node: Node) -> Iterator[Metric]:
    statuses = list(node.statuses.values())
    standing = Counter(status.reason for status in statuses)
    relays = GaugeMetricFamily(
        "fastrelay_agent_relays", "Relays of the node, by how they stand.", labels=("reason",)
    )
    for reason in Reason:
        relays.add_metric((reason.value,), standing[reason])
    yield relays
    yield GaugeMetricFamily(
        "fastrelay_agent_programs_attached",
        "Programs that see packets of relays.",
        sum(len(status.programs) for status in statuses if status.state is State.ATTACHED),
    )


def _counters(directory: Path) -> tuple[int, Counter[str]] | None:
    """The map's id and the sums over all CPUs; None: it went away this moment."""
    with suppress(OSError):
        identity, totals = maps.counters(directory)
        return identity, Counter({name: totals[i] for i, name in counter_names().items()})
    return None


def _memory(path: Path) -> int:
    """Bytes that the kernel has set aside for a map."""
    with suppress(OSError):
        fd = syscalls.get(path)
        try:
            found = _MEMORY.search(Path(f"/proc/self/fdinfo/{fd}").read_text())
            return int(found[1]) if found else 0
        finally:
            os.close(fd)
    return 0


@asynccontextmanager
async def served(node: Node, host: str, port: int) -> AsyncIterator[Pages]:
    """``/metrics``; ``/healthz``: the loop runs; ``/readyz``: it has looked at all relays once.

    :raises OSError: the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(node))
    ProcessCollector(registry=registry)
    scraping = asyncio.Lock()

    async def healthz() -> Page:
        return Page(b"ok\n")

    async def readyz() -> Page:
        if not node.tally.passes:
            return Page(b"it has not looked yet\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(b"ready\n")

    async def metrics() -> Page:
        async with scraping:
            return Page(await asyncio.to_thread(generate_latest, registry), CONTENT_TYPE)

    pages = Pages({"/healthz": healthz, "/readyz": readyz, "/metrics": metrics})
    try:
        await pages.listen(host, port)
    except OSError as error:
        error.filename = format_address(host or "*", port)
        raise
    try:
        yield pages
    finally:
        await pages.close()
