"""4 Mbit/s of audio and video in three layers, into 2 Mbit/s: what a member gets (root)::

    PYTHONPATH=tests python -m bench.bottleneck

A phase by the kernel, one by user space, one with forwarding switched on and off all the time, one
as it is by default. In each, at the same time, members of several kinds, each behind a bottleneck
of its own: streams and datagrams, and subscribers that others wrote. Members without a bottleneck
watch audio and the base layer, for a while alone, then meanwhile. Then, with either controller, two
members behind one bottleneck, and one beside a TCP transfer. Results go to ``out/bench``:
``bottleneck.json``, ``bottleneck.md`` and, with matplotlib, the plot ``bottleneck``.
``bench/bottleneck_report.py`` writes them into the documentation.
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
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from bench import bottleneck_report
from bench.awake import Awake
from bench.bottleneck_found import Layered, Member, Phase, Results
from bench.command import run_as_command
from bench.found import quantile
from bench.precedence import give_precedence, we_first
from fastrelay.local import netns, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.topology import NODE, PodPlan
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
from integration.harness import Certificate, becomes_so

NARROW = 2e6
"""Bits a second."""
SHARED = 4e6
"""Of two."""
DELAY = 0.01
"""Seconds each way."""
OTHERS = 20
"""Half of them with streams, half with datagrams."""
SETTLE_SECONDS = 10.0
ALONE_SECONDS = 10.0
"""The others, after they have settled for half as long."""
DRAIN_SECONDS = 8.0
"""Within which the last groups come, or never."""
LOOK_SECONDS = 0.1
EVERYTHING = tuple(layer.name for layer in LAYERS)
WANTED = ("audio", "base")
"""Of the others."""
SHARES = "shares"
CONTROLLERS = "Delay", "Cubic"
MOST_SHARED = 60.0
"""Seconds that they are measured for."""
OTHERS_PODS = {False: "others", True: "othersd"}
"""By whether they get datagrams."""


class Kind(NamedTuple):
    """Of a member."""

    name: str
    pod: str
    datagrams: bool = False
    library: str = ""


KINDS = (
    Kind("streams", "streams"),
    Kind("datagrams", "dgrams", datagrams=True),
    Kind("streams, moq-rs", "moqrs", library="moqrs"),
    Kind("streams, aiomoqt", "aiomoqt", library="aiomoqt"),
    Kind("datagrams, aiomoqt", "aiomoqtd", datagrams=True, library="aiomoqt"),
)


class Plan(NamedTuple):
    """A phase. ``congestion``: of the relay's specification."""

    congestion: dict[str, Any]
    on: bool = True
    toggled: float | None = None


MEDIA = {"controller": "Delay", "limitByPath": True}
PLANS = {
    "kernel": Plan(MEDIA),
    "user space": Plan(MEDIA, on=False),
    "toggling": Plan(MEDIA, toggled=0.3),
    "by default": Plan({}),
}


def queued(relay: FastRelay) -> dict[str, int]:
    """Bytes that wait before each pod's link."""
    namespace = netns.path(topology.namespace_of(relay.name, NODE))
    command = ["nsenter", f"--net={namespace}", "tc", "-j", "-s", "qdisc", "show"]
    done = subprocess.run(command, capture_output=True, check=True)
    shown = json.loads(done.stdout)
    return {each["dev"]: int(each["backlog"]) for each in shown if each["kind"] == "tbf"}


def cpu(pids: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Seconds that each process has run so far, and has waited for a CPU."""
    found = {}
    for name, pid in pids.items():
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        found[name] = int(ran) / 1e9, int(waited) / 1e9
    return found


async def observe(relay: FastRelay, members: dict[str, Member], begin: float, end: float) -> None:
    at_status = 0.0
    while (now := time.monotonic()) < end:
        sizes = await asyncio.to_thread(queued, relay)
        for kind in KINDS:
            members[kind.name].queue.append((now - begin, sizes[kind.pod] * 8 / NARROW))
        if now > at_status:
            at_status = now + 1
            for kind in KINDS:
                session = await asyncio.to_thread(relay.session_of, kind.pod)
                if session:
                    estimate, level = session["limit"]["estimate"] or 0, session["bands"]["level"]
                    members[kind.name].limits.append((now - begin, estimate * 8, level))
        await asyncio.sleep(LOOK_SECONDS)


def layered(
    watched: list[tuple[Published, Watchers]], names: tuple[str, ...], first: int, last: int
) -> Layered:
    """Of all clients together, from one group to another."""
    found = [
        got
        for source, watchers in watched
        for (_, name), got in watchers.got(source, first, last).items()
        if name in names
    ]
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
    phase = Phase(seconds, {kind.name: Member() for kind in KINDS})
    namespaces = {False: "bottleneck/streams", True: "bottleneck/datagrams"}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(relay.forwarding(on=plan.on, toggled=plan.toggled))
        sources = {}
        for datagrams, namespace in namespaces.items():
            publishing = published(relay, certificate, namespace, Content(datagrams=datagrams))
            sources[datagrams] = await stack.enter_async_context(publishing)

        def groups() -> int:
            """Begun so far, of streams; those of datagrams are as many or fewer by one or two."""
            return sources[False].groups()

        others = [
            (
                source,
                stack.enter_context(
                    watching(
                        relay,
                        certificate,
                        OTHERS_PODS[datagrams],
                        namespaces[datagrams],
                        WANTED,
                        clients=OTHERS // 2,
                    )
                ),
            )
            for datagrams, source in sources.items()
        ]
        await becomes_so(lambda: _have_begun(others))
        await asyncio.sleep(ALONE_SECONDS / 2)
        give_precedence(relay.name)
        alone = groups() + 1
        await asyncio.sleep(ALONE_SECONDS)
        joined = groups() - 2
        begin = time.monotonic()
        there = {
            kind.name: stack.enter_context(
                watching(
                    relay,
                    certificate,
                    kind.pod,
                    namespaces[kind.datagrams],
                    EVERYTHING,
                    library=kind.library,
                )
            )
            for kind in KINDS
        }
        await asyncio.sleep(SETTLE_SECONDS)
        first = groups()
        busy = {name: watchers.pid for name, watchers in there.items()}
        busy |= {f"others, {watchers.pod}": watchers.pid for _, watchers in others}
        busy |= {"relay": relay.pid, "publisher": os.getpid()}
        give_precedence(relay.name)
        before = {kind.name: relay.session_of(kind.pod) for kind in KINDS}
        spent = cpu(busy)
        settled = time.monotonic()
        await observe(relay, phase.members, begin, settled + seconds)
        took = time.monotonic() - settled
        after = {kind.name: relay.session_of(kind.pod) for kind in KINDS}
        now_spent = cpu(busy)
        last = groups() - 3
        await asyncio.sleep(DRAIN_SECONDS)
        part = {
            who: ((now_spent[who][0] - ran) / took, (now_spent[who][1] - waited) / took)
            for who, (ran, waited) in spent.items()
        }
        phase.cpu = {who: each for who, each in part.items() if who not in there}
        phase.alone = layered(others, WANTED, alone, joined - 1)
        phase.beside = layered(others, WANTED, joined, last)
        for kind in KINDS:
            member, watchers = phase.members[kind.name], there[kind.name]
            source = sources[kind.datagrams]
            for name in EVERYTHING:
                member.layers[name] = layered([(source, watchers)], (name,), first, last)
            member.used = sum(watchers.bytes(settled, settled + took).values()) * 8 / NARROW / took
            member.cpu = part[kind.name]
            kernel, user = (
                after[kind.name].get(f"{who}_packets", 0)
                - before[kind.name].get(f"{who}_packets", 0)
                for who in ("kernel", "user")
            )
            member.share = kernel / max(kernel + user, 1)
            for _, track, group, number, _, at in watchers.lines():
                if at:
                    sent = source.times[group, source.content.frame_of(number)]
                    member.curves.setdefault(track, []).append((sent - begin, at - sent))
    return phase


async def _have_begun(others: list[tuple[Published, Watchers]]) -> str:
    """Each of them has got something of each track."""
    await asyncio.sleep(0.2)
    lines = (line for _, watchers in others for line in watchers.lines())
    begun = len({(line[0], line[1]) for line in lines})
    wanted = OTHERS // 2 * len(WANTED)
    return "" if begun == wanted else f"{begun} of {wanted} tracks of the others have begun"


async def two_share(relay: FastRelay, certificate: Certificate, seconds: float) -> list[float]:
    """Bits a second of two members behind one bottleneck, from 10 s on."""
    with watching(relay, certificate, "shared", SHARES, EVERYTHING, clients=2) as both:
        begin = time.monotonic() + SETTLE_SECONDS
        await asyncio.sleep(SETTLE_SECONDS + seconds)
        found = both.bytes(begin, begin + seconds)
        return [found[place] * 8 / seconds for place in range(2)]


async def beside_tcp(
    relay: FastRelay, certificate: Certificate, seconds: float, tcp: str
) -> list[float]:
    """Bits a second of a member and of a TCP transfer with that controller, from 10 s on."""
    with (
        watching(relay, certificate, tcp, SHARES, EVERYTHING) as member,
        bulk_transfer(relay, f"from{tcp}", tcp, tcp) as transfer,
    ):
        begin = time.monotonic() + SETTLE_SECONDS
        await asyncio.sleep(SETTLE_SECONDS + seconds)
        ours = member.bytes(begin, begin + seconds)[0] / seconds
        return [ours * 8, transfer.rate(begin, begin + seconds) * 8]


async def shares(
    relay: FastRelay, certificate: Certificate, seconds: float
) -> tuple[list[float], dict[str, list[float]]]:
    """Of two members, and beside TCP with each of its controllers: all at once, each behind a
    bottleneck of its own."""

    async def first() -> None:
        await asyncio.sleep(SETTLE_SECONDS / 2)
        give_precedence(relay.name)

    controllers = tcp_controllers()
    async with published(relay, certificate, SHARES, Content()):
        _, both, *beside = await asyncio.gather(
            first(),
            two_share(relay, certificate, seconds),
            *(beside_tcp(relay, certificate, seconds, tcp) for tcp in controllers),
        )
    return both, dict(zip(controllers, beside, strict=True))


def tcp_controllers() -> list[str]:
    """Those of interest that this kernel has."""
    there = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    return [each for each in ("cubic", "bbr") if each in there]


@contextmanager
def relay_with(
    congestion: dict[str, Any], pods: list[PodPlan]
) -> Iterator[tuple[FastRelay, Certificate]]:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        certificate = Certificate.make(directory)
        with fast_relay(
            certificate,
            directory / "relay",
            drafts=(18,),
            pods=pods,
            spec={"congestion": congestion},
        ) as relay:
            yield relay, certificate


def summary(name: str, phase: Phase) -> Iterator[str]:
    """Lines of the console."""
    for kind, member in phase.members.items():
        layers = "; ".join(
            f"{layer} {each.whole}/{each.dropped}/{each.cut}/{each.stalled} "
            f"{each.median * 1e3:.0f} {each.late * 1e3:.0f} {each.latest * 1e3:.0f} ms"
            for layer, each in member.layers.items()
        )
        waits = [wait for _, wait in member.queue]
        yield (
            f"{name}, {kind}: {layers}; used {member.used:.0%}; queue "
            f"{quantile(waits, 0.5) * 1e3:.0f} {quantile(waits, 0.99) * 1e3:.0f} ms; "
            f"kernel {member.share:.0%}; ran {member.cpu[0]:.0%}, waited {member.cpu[1]:.0%}"
        )
    for when, each in (("before", phase.alone), ("meanwhile", phase.beside)):
        assert each is not None
        yield (
            f"{name}, others {when}: {each.whole}/{each.dropped}/{each.cut} "
            f"{each.median * 1e3:.0f} {each.late * 1e3:.0f} {each.latest * 1e3:.0f} ms"
        )
    yield "; ".join(
        f"{who} ran {ran:.0%}, waited {waited:.0%}" for who, (ran, waited) in phase.cpu.items()
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.bottleneck", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="each phase")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[*PLANS, SHARES],
        choices=[*PLANS, SHARES],
        metavar="NAME",
        help=f"these phases ({', '.join(PLANS)}; {SHARES}); the others keep their results",
    )
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    file = wanted.output / "bottleneck.json"
    results = Results({"shared": SHARED})
    if file.exists():
        before = Results.load(file)
        results = replace(results, phases=before.phases, shares=before.shares, tcp=before.tcp)
    narrow = [PodPlan(kind.pod, Shape(rate=NARROW, delay=DELAY)) for kind in KINDS]
    others = [PodPlan(pod) for pod in OTHERS_PODS.values()]
    shared = [PodPlan("shared", Shape(rate=SHARED, delay=DELAY))]
    for tcp in tcp_controllers():
        shared += [PodPlan(tcp, Shape(rate=SHARED, delay=DELAY)), PodPlan(f"from{tcp}")]
    with Awake(), we_first():
        for name in wanted.only:
            if name in PLANS:
                plan = PLANS[name]
                with relay_with(plan.congestion, narrow + others) as there:
                    phase = asyncio.run(one_phase(*there, plan, wanted.seconds))
                known = results.phases | {name: phase}
                results.phases = {each: known[each] for each in PLANS if each in known}
                console.print("\n".join(summary(name, phase)))
            else:
                for controller in CONTROLLERS:
                    congestion = {"controller": controller, "limitByPath": True}
                    with relay_with(congestion, shared) as there:
                        found = asyncio.run(shares(*there, min(wanted.seconds, MOST_SHARED)))
                    results.shares[controller], results.tcp[controller] = found
                    console.print(f"{controller}: {found}")
            results.save(file)  # at once: the next one takes minutes
    tables = (table(results) for table in bottleneck_report.SECTIONS.values())
    file.with_suffix(".md").write_text("\n".join(tables))
    bottleneck_report.draw(results, wanted.output)


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
