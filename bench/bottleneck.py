"""4 Mbit/s of audio and video in three layers, into 2 Mbit/s: what a member gets (root)::

    PYTHONPATH=tests python -m bench.bottleneck

Streams and datagrams, by the kernel, by user space, and with forwarding switched on and off all
the time; subscribers that others wrote; two members behind one bottleneck, and one beside a TCP
transfer. Members with links of their own watch audio and the base layer, for a while alone, then
meanwhile. Results go to ``out/bench``: ``bottleneck.json``, ``bottleneck.md`` and, with matplotlib,
the plot ``bottleneck``. ``bench/bottleneck_report.py`` writes them into the documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from bench import bottleneck_report
from bench.awake import Awake
from bench.bottleneck_found import Layered, Phase, Results
from bench.command import run_as_command
from bench.found import quantile
from bench.precedence import give_precedence, we_first
from fastrelay.local import netns, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.topology import NODE, PodPlan
from fastrelay.quic.certificates import make_self_signed
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.layers import (
    LAYERS,
    Content,
    Got,
    Published,
    Watchers,
    bulk_transfer,
    published,
    watching,
)
from integration.harness import Certificate

NARROW = 2e6
"""Bits a second."""
SHARED = 4e6
"""Of two."""
DELAY = 0.01
"""Seconds each way."""
OTHERS = 20
SETTLE_SECONDS = 10.0
ALONE_SECONDS = 10.0
"""The others, after they have settled for half as long."""
DRAIN_SECONDS = 8.0
"""Within which the last groups come, or never."""
LOOK_SECONDS = 0.1
PODS = {"narrow": NARROW, "shared": SHARED, "beside": SHARED}
EVERYTHING = tuple(layer.name for layer in LAYERS)
WANTED = ("audio", "base")
"""Of the others."""
SHARES, TCP = "two members", "beside TCP"


class Plan(NamedTuple):
    name: str
    path: str
    datagrams: bool = False
    library: str = ""


PLANS = (
    *(
        Plan(f"{kind}, {path}", path, datagrams=kind == "datagrams")
        for kind in ("streams", "datagrams")
        for path in ("kernel", "user space", "toggling")
    ),
    Plan("streams, kernel, moq-rs", "kernel", library="moqrs"),
    Plan("streams, kernel, aiomoqt", "kernel", library="aiomoqt"),
)


def queued(relay: FastRelay, pod: str) -> int:
    """Bytes that wait before the pod's link."""
    namespace = netns.path(topology.namespace_of(relay.name, NODE))
    command = ["nsenter", f"--net={namespace}", "tc", "-j", "-s", "qdisc", "show", "dev", pod]
    done = subprocess.run(command, capture_output=True, check=True)
    return sum(int(each["backlog"]) for each in json.loads(done.stdout) if each["kind"] == "tbf")


def waiting(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds that each process has waited for a CPU so far."""
    return {
        name: int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        for name, pid in pids.items()
    }


async def observe(relay: FastRelay, phase: Phase, begin: float, end: float) -> None:
    pod = "narrow"
    at_status = 0.0
    while (now := time.monotonic()) < end:
        size = await asyncio.to_thread(queued, relay, pod)
        phase.queue.append((now - begin, size * 8 / NARROW))
        if now > at_status:
            at_status = now + 1
            session = await asyncio.to_thread(relay.session_of, pod)
            if session:
                estimate, level = session["limit"]["estimate"] or 0, session["bands"]["level"]
                phase.limits.append((now - begin, estimate * 8, level))
        await asyncio.sleep(LOOK_SECONDS)


def layered(
    source: Published, watchers: Watchers, names: tuple[str, ...], first: int, last: int
) -> Layered:
    """Of all clients together, from one group to another."""
    there = watchers.got(source, first, last)
    found = [got for (_, name), got in there.items() if name in names]
    times = sorted(each for got in found for each in got.latencies) or [float("inf")]
    return Layered(
        *(sum(len(each) for each in kind) for kind in zip(*map(_kinds, found), strict=True)),
        times[len(times) // 2],
        times[len(times) * 99 // 100],
        times[-1],
    )


def _kinds(got: Got) -> tuple[list[int], ...]:
    return got.whole, got.dropped, got.cut, got.stalled


async def one_phase(
    relay: FastRelay, certificate: Certificate, plan: Plan, seconds: float
) -> Phase:
    content = Content(datagrams=plan.datagrams)
    phase = Phase(plan.name, seconds)
    namespace = "bottleneck/" + plan.name.replace(", ", "-").replace(" ", "-")
    async with AsyncExitStack() as stack:
        toggled = 0.3 if plan.path == "toggling" else None
        on = plan.path != "user space"
        await stack.enter_async_context(relay.forwarding(on=on, toggled=toggled))
        source = await stack.enter_async_context(published(relay, certificate, namespace, content))
        others = stack.enter_context(
            watching(relay, certificate, "others", namespace, WANTED, clients=OTHERS)
        )
        await asyncio.sleep(ALONE_SECONDS / 2)
        give_precedence(relay.name)
        alone = source.groups() + 1
        await asyncio.sleep(ALONE_SECONDS)
        joined = source.groups()
        begin = time.monotonic()
        member = stack.enter_context(
            watching(relay, certificate, "narrow", namespace, EVERYTHING, library=plan.library)
        )
        await asyncio.sleep(SETTLE_SECONDS)
        first = source.groups()
        busy = {"member": member.pid, "others": others.pid, "relay": relay.pid}
        busy["publisher"] = os.getpid()
        give_precedence(relay.name)
        before, waited = relay.session_of("narrow"), waiting(busy)
        settled = time.monotonic()
        await observe(relay, phase, begin, settled + seconds)
        took = time.monotonic() - settled
        after, now_waited = relay.session_of("narrow"), waiting(busy)
        last = source.groups() - 1
        await asyncio.sleep(DRAIN_SECONDS)
        for name in EVERYTHING:
            phase.layers[name] = layered(source, member, (name,), first, last)
        phase.alone = layered(source, others, WANTED, alone, joined - 1)
        phase.beside = layered(source, others, WANTED, joined, last)
        phase.used = sum(member.bytes(settled, settled + took).values()) * 8 / NARROW / took
        phase.waited = {who: (now_waited[who] - waited[who]) / took for who in busy}
        kernel, user = (
            after.get(f"{who}_packets", 0) - before.get(f"{who}_packets", 0)
            for who in ("kernel", "user")
        )
        phase.share = kernel / max(kernel + user, 1)
        for _, track, group, number, _, at in member.lines():
            if at:
                sent = source.times[group, content.frame_of(number)]
                phase.curves.setdefault(track, []).append((sent - begin, at - sent))
    return phase


async def two_share(relay: FastRelay, certificate: Certificate, seconds: float) -> list[float]:
    """Bits a second of two members behind one bottleneck, from 10 s on."""
    namespace = "bottleneck/shared"
    async with published(relay, certificate, namespace, Content()):
        with watching(relay, certificate, "shared", namespace, EVERYTHING, clients=2) as both:
            begin = time.monotonic() + SETTLE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS / 2)
            give_precedence(relay.name)
            await asyncio.sleep(SETTLE_SECONDS / 2 + seconds)
            found = both.bytes(begin, begin + seconds)
            return [found[place] * 8 / seconds for place in range(2)]


async def beside_tcp(
    relay: FastRelay, certificate: Certificate, seconds: float, tcp: str
) -> list[float]:
    """Bits a second of a member and of a TCP transfer with that controller, from 10 s on."""
    namespace = f"bottleneck/beside-{tcp}"
    async with published(relay, certificate, namespace, Content()):
        with (
            watching(relay, certificate, "beside", namespace, EVERYTHING) as member,
            bulk_transfer(relay, "others", "beside", tcp) as transfer,
        ):
            begin = time.monotonic() + SETTLE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS / 2)
            give_precedence(relay.name)
            await asyncio.sleep(SETTLE_SECONDS / 2 + seconds)
            end = begin + seconds
            ours = member.bytes(begin, end)[0] / seconds
            return [ours * 8, transfer.rate(begin, end) * 8]


def tcp_controllers() -> list[str]:
    """Those of interest that this kernel has."""
    there = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    return [each for each in ("cubic", "bbr") if each in there]


async def _run(
    relay: FastRelay,
    certificate: Certificate,
    wanted: argparse.Namespace,
    results: Results,
    found: Callable[[str], None],
) -> None:
    names = {plan.name for plan in PLANS}

    def is_wanted(name: str) -> bool:
        parts = wanted.only
        return not parts or any(p == name if p in names else p in name for p in parts)

    for plan in PLANS:
        if is_wanted(plan.name):
            phase = await one_phase(relay, certificate, plan, wanted.seconds)
            results.phases.append(phase)
            found(summary(phase))
    if is_wanted(SHARES):
        results.shares = await two_share(relay, certificate, wanted.seconds)
        found(f"{SHARES}: {[round(each / 1e6, 2) for each in results.shares]}")
    for tcp in tcp_controllers():
        if is_wanted(f"{TCP}, {tcp}"):
            rates = await beside_tcp(relay, certificate, wanted.seconds, tcp)
            results.tcp[tcp] = rates
            found(f"{TCP}, {tcp}: {[round(each / 1e6, 2) for each in rates]}")


def summary(phase: Phase) -> str:
    """One line of the console."""
    layers = "; ".join(
        f"{name} {each.whole}/{each.dropped}/{each.cut} {each.median * 1e3:.0f} "
        f"{each.late * 1e3:.0f} {each.latest * 1e3:.0f} ms"
        for name, each in phase.layers.items()
    )
    waits = [wait for _, wait in phase.queue]
    alone, beside = phase.alone, phase.beside
    assert alone is not None
    assert beside is not None
    return (
        f"{phase.name}: {layers}; used {phase.used:.0%}; queue {quantile(waits, 0.5) * 1e3:.0f} "
        f"{quantile(waits, 0.99) * 1e3:.0f} ms; kernel {phase.share:.0%}; others alone "
        f"{alone.whole}/{alone.dropped}/{alone.cut} {alone.late * 1e3:.0f} ms, beside "
        f"{beside.whole}/{beside.dropped}/{beside.cut} {beside.late * 1e3:.0f} ms; waited "
        + ", ".join(f"{who} {seconds:.0%}" for who, seconds in phase.waited.items())
    )


def joined(before: Results | None, results: Results) -> Results:
    """What an earlier run found of other phases, or in another time, is kept."""
    if before is None or before.parameters != results.parameters:
        return results
    phases = {(each.seconds, each.name): each for each in (*before.phases, *results.phases)}
    names = [plan.name for plan in PLANS]
    order = sorted(phases, key=lambda key: (key[0], names.index(key[1])))
    return replace(
        results,
        phases=[phases[key] for key in order],
        shares=results.shares or before.shares,
        tcp=before.tcp | results.tcp,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.bottleneck", description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="each phase")
    parser.add_argument("--controller", default="Delay", choices=("Delay", "Cubic"))
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"phases of this name, or with this in it ({SHARES}, {TCP}); others, and those of "
        "another length, keep their results",
    )
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    file = wanted.output / "bottleneck.json"
    before = Results.load(file) if wanted.only and file.exists() else None
    results = Results({"controller": wanted.controller, "shared": SHARED})

    def found(line: str) -> None:
        """Kept at once: a phase takes minutes."""
        console.print(line)
        joined(before, results).save(file)

    pods = [PodPlan(name, Shape(rate=rate, delay=DELAY)) for name, rate in PODS.items()]
    with tempfile.TemporaryDirectory() as scratch, Awake(), we_first():
        directory = Path(scratch)
        made = make_self_signed()
        paths = directory / "certificate.pem", directory / "key.pem"
        made.write(*paths)
        certificate = Certificate(*paths, made.sha256)
        with fast_relay(
            certificate,
            directory / "relay",
            drafts=(18,),
            pods=[*pods, PodPlan("others")],
            spec={"congestion": {"controller": wanted.controller, "limitByPath": True}},
        ) as relay:
            asyncio.run(_run(relay, certificate, wanted, results, found))
    whole = joined(before, results)
    tables = (table(whole) for table in bottleneck_report.SECTIONS.values())
    file.with_suffix(".md").write_text("\n".join(tables))
    bottleneck_report.draw(whole, wanted.output)


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
