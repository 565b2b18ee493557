"""4 Mbit/s of audio and video in three layers, into 2 Mbit/s: what a member gets (root)::

    PYTHONPATH=tests python -m bench.bottleneck

Streams and datagrams, by the kernel, by user space, and with forwarding switched on and off all
the time; then two members behind one bottleneck, and one beside a TCP transfer. Members with links
of their own watch audio and the base layer meanwhile. Results go to ``out/bench``:
``bottleneck.json``, ``bottleneck.md`` and, with matplotlib, ``bottleneck.png``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from bench.awake import Awake
from bench.command import run_as_command
from fastrelay.local import netns, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.topology import NODE, PodPlan
from fastrelay.quic.certificates import make_self_signed
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.layers import (
    LAYERS,
    Content,
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
LOOK_SECONDS = 0.1
PODS = ("narrow", "shared", "beside")
EVERYTHING = tuple(layer.name for layer in LAYERS)
PATHS = ("kernel", "user space", "toggling")


@dataclass(slots=True)
class Layered:
    """Groups of a layer, and seconds that its objects took."""

    whole: int
    dropped: int
    cut: int
    median: float
    late: float
    """The slowest in a hundred."""
    latest: float


@dataclass(slots=True)
class Phase:
    """``queue``: seconds of the bottleneck's rate, one look after the other; ``curves``: layer ->
    (seconds since the begin, latency) of some objects."""

    name: str
    layers: dict[str, Layered] = field(default_factory=dict)
    others: Layered | None = None
    """All of them together, audio and base layer."""
    queue: list[tuple[float, float]] = field(default_factory=list)
    share: float = 0.0
    """The kernel's, of the member's media packets."""
    used: float = 0.0
    """Of the bottleneck."""
    limits: list[tuple[float, float, float]] = field(default_factory=list)
    """Seconds, rate in bits a second, level in bands."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def queued(relay: FastRelay, pod: str) -> int:
    """Bytes that wait before the pod's link."""
    namespace = netns.path(topology.namespace_of(relay.name, NODE))
    command = ["nsenter", f"--net={namespace}", "tc", "-j", "-s", "qdisc", "show", "dev", pod]
    done = subprocess.run(command, capture_output=True, check=True)
    return int(json.loads(done.stdout)[0]["backlog"])


async def observe(relay: FastRelay, phase: Phase, rate: float, begin: float, end: float) -> None:
    pod = "narrow"
    at_status = 0.0
    while (now := time.monotonic()) < end:
        size = await asyncio.to_thread(queued, relay, pod)
        phase.queue.append((now - begin, size * 8 / rate))
        if now > at_status:
            at_status = now + 1
            bands = (await asyncio.to_thread(relay.session_of, pod)).get("bands", {})
            if bands:
                phase.limits.append((now - begin, bands["rate"] * 8, bands["level"]))
        await asyncio.sleep(LOOK_SECONDS)


def layered(source: Published, watchers: Watchers, names: tuple[str, ...], last: int) -> Layered:
    """Of all clients together, from when they have settled."""
    first = round(SETTLE_SECONDS / source.content.group_seconds)
    found = [got for (_, name), got in watchers.got(source, first, last).items() if name in names]
    times = sorted(each for got in found for each in got.latencies) or [float("inf")]
    return Layered(
        sum(len(got.whole) for got in found),
        sum(len(got.dropped) for got in found),
        sum(len(got.cut) for got in found),
        times[len(times) // 2],
        times[len(times) * 99 // 100],
        times[-1],
    )


async def one_phase(
    relay: FastRelay, certificate: Certificate, path: str, datagrams: bool, seconds: float
) -> Phase:
    content = Content(datagrams=datagrams)
    kind = "datagrams" if datagrams else "streams"
    phase = Phase(f"{kind}, {path}")
    namespace = f"bottleneck/{kind}-{path.replace(' ', '-')}"
    async with AsyncExitStack() as stack:
        toggled = 0.3 if path == "toggling" else None
        await stack.enter_async_context(relay.forwarding(on=path != "user space", toggled=toggled))
        source = await stack.enter_async_context(published(relay, certificate, namespace, content))
        begin = time.monotonic()
        narrow = stack.enter_context(watching(relay, certificate, "narrow", namespace, EVERYTHING))
        others = stack.enter_context(
            watching(relay, certificate, "others", namespace, ("audio", "base"), clients=OTHERS)
        )
        await asyncio.sleep(SETTLE_SECONDS)
        before = relay.session_of("narrow")
        await observe(relay, phase, NARROW, begin, begin + seconds)
        after = relay.session_of("narrow")
        last = source.groups() - 2
        for name in EVERYTHING:
            phase.layers[name] = layered(source, narrow, (name,), last)
        phase.others = layered(source, others, ("audio", "base"), last)
        phase.used = sum(narrow.bytes(begin + SETTLE_SECONDS, begin + seconds).values()) * 8
        phase.used /= NARROW * (seconds - SETTLE_SECONDS)
        kernel, user = (
            after.get(f"{who}_packets", 0) - before.get(f"{who}_packets", 0)
            for who in ("kernel", "user")
        )
        phase.share = kernel / max(kernel + user, 1)
        for _, track, group, number, _, at in narrow.lines():
            if at:
                sent = source.times[group, content.frame_of(number)]
                phase.curves.setdefault(track, []).append((sent - begin, at - sent))
    return phase


async def two_share(relay: FastRelay, certificate: Certificate, seconds: float) -> list[float]:
    """Bytes a second of two members behind one bottleneck, from 10 s on."""
    namespace = "bottleneck/shared"
    async with published(relay, certificate, namespace, Content()):
        with watching(relay, certificate, "shared", namespace, EVERYTHING, clients=2) as both:
            begin = time.monotonic() + SETTLE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS + seconds)
            found = both.bytes(begin, begin + seconds)
            return [found[place] / seconds for place in range(2)]


async def beside_tcp(
    relay: FastRelay, certificate: Certificate, seconds: float
) -> tuple[float, float]:
    """Bytes a second of a member and of a TCP transfer, from 10 s on."""
    namespace = "bottleneck/beside"
    async with published(relay, certificate, namespace, Content()):
        with (
            watching(relay, certificate, "beside", namespace, EVERYTHING) as member,
            bulk_transfer(relay, "others", "beside") as notes,
        ):
            begin = time.monotonic() + SETTLE_SECONDS
            await asyncio.sleep(SETTLE_SECONDS + seconds)
            ours = member.bytes(begin, begin + seconds)[0] / seconds
            lines = [line.split() for line in notes.read_text().splitlines()]
            there = [(float(at), int(size)) for at, size in lines if begin <= float(at)]
            theirs = (there[-1][1] - there[0][1]) / (there[-1][0] - there[0][0])
            return ours, theirs


@dataclass(slots=True)
class Results:
    phases: list[Phase] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    beside: tuple[float, float] = (0.0, 0.0)


async def _run(
    relay: FastRelay, certificate: Certificate, wanted: argparse.Namespace, console: Console
) -> Results:
    results = Results()
    for datagrams in (False, True):
        for path in PATHS:
            if wanted.only not in f"{'datagrams' if datagrams else 'streams'}, {path}":
                continue
            phase = await one_phase(relay, certificate, path, datagrams, wanted.seconds)
            results.phases.append(phase)
            console.print(summary(phase))
    if not wanted.only:
        results.shares = await two_share(relay, certificate, wanted.seconds)
        console.print(f"two behind one: {[round(each * 8 / 1e6, 2) for each in results.shares]}")
        results.beside = await beside_tcp(relay, certificate, 2 * wanted.seconds)
        console.print(f"beside TCP: {[round(each * 8 / 1e6, 2) for each in results.beside]}")
    return results


def summary(phase: Phase) -> str:
    queue = sorted(wait for _, wait in phase.queue)
    layers = "; ".join(
        f"{name} {each.whole}/{each.dropped}/{each.cut} {each.median * 1e3:.0f} "
        f"{each.late * 1e3:.0f} {each.latest * 1e3:.0f} ms"
        for name, each in phase.layers.items()
    )
    others = phase.others
    assert others is not None
    return (
        f"{phase.name}: {layers}; used {phase.used:.0%}; queue {queue[len(queue) // 2] * 1e3:.0f} "
        f"{queue[len(queue) * 99 // 100] * 1e3:.0f} ms; kernel {phase.share:.0%}; others "
        f"{others.whole}/{others.dropped}/{others.cut} {others.late * 1e3:.0f} ms"
    )


def report(results: Results) -> str:
    """Markdown."""
    head = [
        "phase",
        *(f"{layer.name}: whole / dropped / cut, median / 99 % / max ms" for layer in LAYERS),
        "link used",
        "queue: median / 99 % ms",
        "by the kernel",
        f"{OTHERS} others: whole / dropped / cut, 99 % ms",
    ]
    rows = []
    for phase in results.phases:
        queue = sorted(wait for _, wait in phase.queue)
        cells = [phase.name]
        for each in phase.layers.values():
            times = " / ".join(
                f"{seconds * 1e3:.0f}" for seconds in (each.median, each.late, each.latest)
            )
            cells.append(f"{each.whole} / {each.dropped} / {each.cut}, {times}")
        others = phase.others
        assert others is not None
        cells += [
            f"{phase.used:.0%}",
            f"{queue[len(queue) // 2] * 1e3:.0f} / {queue[len(queue) * 99 // 100] * 1e3:.0f}",
            f"{phase.share:.0%}",
            f"{others.whole} / {others.dropped} / {others.cut}, {others.late * 1e3:.0f}",
        ]
        rows.append(cells)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    if results.shares:
        rates = " and ".join(f"{each * 8 / 1e6:.2f}" for each in results.shares)
        lines += ["", f"Two members behind {SHARED / 1e6:.0f} Mbit/s: {rates} Mbit/s."]
    if results.beside[1]:
        ours, theirs = (each * 8 / 1e6 for each in results.beside)
        lines += [
            "",
            f"Beside a TCP transfer behind {SHARED / 1e6:.0f} Mbit/s: {ours:.2f} Mbit/s for the "
            f"member, {theirs:.2f} for TCP.",
        ]
    return "\n".join(lines) + "\n"


def draw(results: Results, directory: Path) -> None:
    """Latency of what came, layer by layer, what is in force and the queue; nothing without
    matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    sheet, axes = pyplot.subplots(
        3, len(results.phases), figsize=(4 * len(results.phases), 8), sharex="col", squeeze=False
    )
    for column, phase in enumerate(results.phases):
        upper, middle, lower = axes[:, column]
        for name, curve in phase.curves.items():
            upper.plot(*zip(*curve, strict=True), ".", markersize=1.5, label=name)
        upper.set(title=phase.name, yscale="log", ylim=(0.005, 20))
        times = [at for at, _, _ in phase.limits]
        middle.plot(times, [rate / 1e6 for _, rate, _ in phase.limits], label="rate (Mbit/s)")
        middle.plot(times, [level for _, _, level in phase.limits], label="level (bands dropped)")
        middle.set(ylim=(0, 4))
        lower.plot(*zip(*phase.queue, strict=True))
        lower.set(xlabel="seconds", ylim=(0, 0.25))
    axes[0, 0].set(ylabel="latency of objects (s)")
    axes[1, 0].set(ylabel="limits in force")
    axes[2, 0].set(ylabel="queue (s)")
    axes[0, 0].legend(markerscale=5)
    axes[1, 0].legend()
    sheet.tight_layout()
    sheet.savefig(directory / "bottleneck.png", dpi=80)
    pyplot.close(sheet)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.bottleneck", description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="each phase")
    parser.add_argument("--controller", default="Delay", choices=("Delay", "Cubic"))
    parser.add_argument("--only", default="", help="phases with this in their names")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    rates = {"narrow": NARROW, "shared": SHARED, "beside": SHARED}
    pods = [PodPlan(name, Shape(rate=rates[name], delay=DELAY)) for name in PODS]
    with tempfile.TemporaryDirectory() as scratch, Awake():
        directory = Path(scratch)
        made = make_self_signed()
        paths = directory / "certificate.pem", directory / "key.pem"
        made.write(*paths)
        certificate = Certificate(*paths, made.sha256)
        with fast_relay(
            certificate,
            directory / "relay",
            pods=[*pods, PodPlan("others")],
            spec={"congestion": {"controller": wanted.controller, "limitByPath": True}},
        ) as relay:
            results = asyncio.run(_run(relay, certificate, wanted, console))
    text = report(results)
    (wanted.output / "bottleneck.md").write_text(text)
    (wanted.output / "bottleneck.json").write_text(json.dumps(asdict(results)) + "\n")
    draw(results, wanted.output)


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
