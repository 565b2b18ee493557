"""A member's link goes 8, 2, 1, 6 Mbit/s: the relay's choice of renditions beside a subscriber that
stays with the largest one (root)::

    PYTHONPATH=tests python -m bench.adaptation

Each has a pod and a link of its own, with the same steps at the same moments. Results go to
``out/bench``: ``adaptation.json``, ``adaptation.md`` and, with matplotlib, ``adaptation.png``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.awake import Awake
from bench.command import run_as_command
from fastrelay.local.shaping import Shape
from fastrelay.local.topology import PodPlan
from fastrelay.relay.renditions import AUTO
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.layers import RESET
from integration.fastpath.renditions import Ladder, Watcher, published, set_rate, watching
from integration.harness import Certificate

BITS = {"180p": 400_000, "360p": 1_000_000, "720p": 2_200_000, "1080p": 4_500_000}
LARGEST = list(BITS)[-1]
STEPS = (8, 2, 1, 6)
"""Mbit/s."""
DELAY = 0.01
"""Seconds each way."""
TOGETHER_SECONDS = 0.1
"""Stalls that are no further apart are one."""
WARM_SECONDS = 20.0
"""Before the steps, on a link of the first rate: a viewer that has been there for a while."""
MEMBERS = {"adapting": AUTO.decode(), "fixed": LARGEST}


@dataclass(slots=True)
class Frame:
    """Times in seconds since the first step; ``arrived`` with all that come before it."""

    published: float
    arrived: float
    group: int
    name: str


@dataclass(slots=True)
class Found:
    """What a member got. ``stalls``: when, and for how long, a player with that buffer stops."""

    frames: list[Frame] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    missing: int = 0
    """Groups of which it did not get everything."""
    kernel_share: float = 0.0

    def within(self, begin: float, end: float) -> list[tuple[float, float]]:
        return [stall for stall in self.stalls if begin <= stall[0] < end]


def frames_of(
    watcher: Watcher, times: dict[tuple[int, int], float], begin: float
) -> tuple[list[Frame], int]:
    """In the order in which they are shown, and how many groups are not whole."""
    arrived: dict[tuple[int, int], tuple[float, str]] = {}
    for _, name, group, number, size, at in watcher.watchers.lines():
        if size != RESET:
            arrived[group, number] = at, name
    groups = sorted({group for group, _ in arrived})
    frames: list[Frame] = []
    latest = 0.0
    missing = 0
    for group in groups[1:-1]:
        numbers = [n for n in range(watcher.ladder.frames) if (group, n) in arrived]
        missing += len(numbers) < watcher.ladder.frames
        for number in numbers:
            at, name = arrived[group, number]
            latest = max(latest, at)
            frames.append(Frame(times[group, number] - begin, latest - begin, group, name))
    if groups:
        missing += len(set(range(groups[0], groups[-1])) - set(groups))
    return frames, missing


def stalls_of(frames: list[Frame], buffer: float) -> list[tuple[float, float]]:
    """A player begins that long after its first frame, and stops for each that is not there."""
    stalls: list[tuple[float, float]] = []
    delay: float | None = None
    for frame in frames:
        latency = frame.arrived - frame.published
        if delay is None:
            delay = latency + buffer
        elif latency > delay:
            begin, length = frame.published + delay, latency - delay
            if stalls and begin - sum(stalls[-1]) < TOGETHER_SECONDS:
                stalls[-1] = stalls[-1][0], stalls[-1][1] + length
            else:
                stalls.append((begin, length))
            delay = latency
    return stalls


async def _run(
    relay: FastRelay, certificate: Certificate, wanted: argparse.Namespace, console: Console
) -> dict[str, Found]:
    ladder = Ladder(BITS, wanted.group)
    namespace = (b"bench", b"adaptation")
    results: dict[str, Found] = {}
    async with published(relay, certificate, namespace, ladder) as times:
        with (
            watching(
                relay, certificate, "adapting", "bench/adaptation", MEMBERS["adapting"], ladder
            ) as adapting,
            watching(
                relay, certificate, "fixed", "bench/adaptation", MEMBERS["fixed"], ladder
            ) as fixed,
        ):
            await asyncio.sleep(WARM_SECONDS)
            begin = time.monotonic()
            for step, rate in enumerate(STEPS):
                for pod in MEMBERS:
                    set_rate(relay, pod, rate * 1e6)
                console.print(f"{time.monotonic() - begin:5.1f} s: {rate} Mbit/s")
                await asyncio.sleep(max(0, begin + (step + 1) * wanted.seconds - time.monotonic()))
            sessions = relay.status()["sessions"]
            for name, watcher in (("adapting", adapting), ("fixed", fixed)):
                frames, missing = frames_of(watcher, times, begin)
                found = Found(frames, stalls_of(frames, wanted.buffer), missing)
                address = relay.stack.state.pods[name].ipv4
                for session in sessions:
                    if str(session["address"]).startswith(address):
                        kernel, user = session["kernel_packets"], session["user_packets"]
                        found.kernel_share = kernel / max(1, kernel + user)
                results[name] = found
            # Whatever became of it: the fixed one may have been given up.
            fixed.watchers.must_live = False
    return results


def report(results: dict[str, Found], wanted: argparse.Namespace, console: Console) -> str:
    """The table, on the console and as Markdown."""
    head = ["link (Mbit/s)", *(f"{name}: {what}" for name in results for what in _WHAT)]
    table = Table(*head)
    rows = []
    for step, rate in enumerate(STEPS):
        begin, end = step * wanted.seconds, (step + 1) * wanted.seconds
        cells = [str(rate)]
        for found in results.values():
            middle = (begin + end) / 2
            second = {f.name for f in found.frames if middle <= f.published < end}
            shown = sorted(second, key=list(BITS).index)
            stalls = found.within(begin, end)
            longest = max((length for _, length in stalls), default=0.0)
            total = sum(length for _, length in stalls)
            cells += [", ".join(shown) or "nothing"]
            cells += [
                f"{len(stalls)}, {longest * 1000:.0f} ms, {total:.1f} s" if stalls else "none"
            ]
        rows.append(cells)
        table.add_row(*cells)
    console.print(table)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    for name, found in results.items():
        line = f"{name}: {found.missing} groups not whole, {found.kernel_share:.0%} by the kernel"
        console.print(line)
        lines += ["", line]
    return "\n".join(lines) + "\n"


_WHAT = ("second half of the step", "stalls (number, longest, sum)")


def draw(results: dict[str, Found], wanted: argparse.Namespace, directory: Path) -> None:
    """Renditions over time against the link, and how late frames are; nothing without
    matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheet, (upper, lower) = pyplot.subplots(2, 1, figsize=(10, 6.5), sharex=True)
    end = len(STEPS) * wanted.seconds
    upper.step(
        [-WARM_SECONDS, *(step * wanted.seconds for step in range(len(STEPS))), end],
        [STEPS[0], *STEPS, STEPS[-1]],
        where="post",
        color="black",
        label="link",
    )
    for name, found in results.items():
        style: dict[str, Any] = {"label": name, "alpha": 0.8}
        firsts = {frame.group: frame for frame in reversed(found.frames)}
        ordered = [firsts[group] for group in sorted(firsts)]
        upper.step(
            [frame.published for frame in ordered],
            [BITS[frame.name] / 1e6 for frame in ordered],
            where="post",
            **style,
        )
        lower.plot(
            [frame.published for frame in found.frames],
            [frame.arrived - frame.published for frame in found.frames],
            **style,
        )
    lower.axhline(wanted.buffer, color="grey", linestyle=":", label="the player's buffer")
    upper.set(ylabel="Mbit/s", ylim=(0, 9))
    lower.set(xlabel="seconds", ylabel="frames' latency (s)", yscale="log")
    upper.legend(loc="upper right")
    lower.legend(loc="upper left")
    sheet.tight_layout()
    sheet.savefig(directory / "adaptation.png", dpi=110)
    pyplot.close(sheet)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.adaptation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="each rate")
    parser.add_argument("--group", type=float, default=0.5, help="seconds of video in a group")
    parser.add_argument("--buffer", type=float, default=1.0, help="seconds that a player buffers")
    parser.add_argument("--controller", choices=("Cubic", "Delay"), default="Delay")
    parser.add_argument("--user-space", action="store_true", help="without the kernel")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    shape = Shape(rate=STEPS[0] * 1e6, delay=DELAY)
    with tempfile.TemporaryDirectory() as scratch, Awake():
        directory = Path(scratch)
        certificate = Certificate.make(directory)
        pods = [PodPlan(name, shape) for name in MEMBERS]
        with fast_relay(
            certificate,
            directory / "relay",
            pods=pods,
            spec={"congestion": {"controller": wanted.controller}},
            fast_path=not wanted.user_space,
        ) as relay:
            results = asyncio.run(_run(relay, certificate, wanted, console))
    text = report(results, wanted, console)
    (wanted.output / "adaptation.md").write_text(text)
    document = {name: asdict(found) for name, found in results.items()}
    (wanted.output / "adaptation.json").write_text(json.dumps(document) + "\n")
    draw(results, wanted, wanted.output)


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
