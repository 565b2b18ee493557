"""Results as JSON and as tables, with the spread over the rounds."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Rounds = list[dict[str, dict[str, float]]]
"""For each round: relay -> figure -> value. A relay that failed in a round is not in it."""

FIGURES = {
    # name: (what it says, unit, digits, whether smaller is better)
    # Per object: per object that a subscriber received.
    "cpu_us": ("CPU per object, relay's process", "µs", 1, True),
    "kernel_us": ("CPU per object, the network's softirqs", "µs", 1, True),
    "machine_us": ("CPU per object, both together", "µs", 1, True),
    "calls": ("system calls per object", "", 2, True),
    "heard": ("datagrams to the relay per object", "", 2, True),
    "pictures_cpu_us": ("CPU per packet of pictures, relay's process", "µs", 1, True),
    "pictures_kernel_us": ("CPU per packet of pictures, the network's softirqs", "µs", 1, True),
    "pictures_machine_us": ("CPU per packet of pictures, both together", "µs", 1, True),
    "pictures_calls": ("system calls per packet of pictures", "", 2, True),
    "pictures_heard": ("datagrams to the relay per packet of pictures", "", 2, True),
    "video_cpu_us": ("CPU per packet of video, relay's process", "µs", 1, True),
    "video_kernel_us": ("CPU per packet of video, the network's softirqs", "µs", 1, True),
    "video_machine_us": ("CPU per packet of video, both together", "µs", 1, True),
    "video_calls": ("system calls per packet of video", "", 2, True),
    "video_heard": ("datagrams to the relay per packet of video", "", 2, True),
    "first_p50_us": ("residence, first copy, p50", "µs", 0, True),
    "first_p90_us": ("residence, first copy, p90", "µs", 0, True),
    "first_p99_us": ("residence, first copy, p99", "µs", 0, True),
    "first_sd_us": ("residence, first copy, sd", "µs", 0, True),
    "last_p50_us": ("residence, last copy, p50", "µs", 0, True),
    "last_p99_us": ("residence, last copy, p99", "µs", 0, True),
    "thesis_median_us": ("21-byte objects 1 ms apart: residence, median", "µs", 1, True),
    "thesis_mean_us": ("21-byte objects 1 ms apart: residence, mean", "µs", 1, True),
    "thesis_sd_us": ("21-byte objects 1 ms apart: residence, sd", "µs", 1, True),
    "accepted_ms": ("join until SUBSCRIBE_OK", "ms", 2, True),
    "first_object_ms": ("join until the first object", "ms", 2, True),
    "join_cpu_ms": ("CPU per join", "ms", 2, True),
    "handshakes_per_core_second": ("handshakes per second of one core", "", 0, False),
    "kb_per_subscriber": ("memory per idle subscriber", "KB", 0, True),
}


def base_name(figure: str) -> str:
    """``cpu_us`` of ``cpu_us@50``."""
    return figure.partition("@")[0]


def title(figure: str) -> str:
    """A row's heading; the part after @ is the number of subscribers."""
    what, unit, *_ = FIGURES[base_name(figure)]
    subscribers = figure.partition("@")[2]
    of = f", {subscribers} subscribers" if subscribers else ""
    return f"{what}{of}{f' ({unit})' if unit else ''}"


def spread(values: Sequence[float], digits: int) -> str:
    """``64 (61-70)``: the median and the extremes."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(rounds: Rounds, figure: str, relay: str, reference: str) -> list[float]:
    """`relay` over `reference` within each round: what the machine does to both cancels."""
    return [
        each[relay][figure] / each[reference][figure]
        for each in rounds
        if figure in each.get(relay, {}) and each.get(reference, {}).get(figure)
    ]


def figures_in(rounds: Rounds) -> list[str]:
    """Every figure that was measured, in the order of :data:`FIGURES`."""
    found = {figure for each in rounds for values in each.values() for figure in values}
    known = [figure for figure in found if base_name(figure) in FIGURES]
    order = list(FIGURES)
    return sorted(known, key=lambda f: (order.index(base_name(f)), int(f.partition("@")[2] or 0)))


def table(rounds: Rounds, relays: Sequence[str], aioquic_us: Sequence[float]) -> Table:
    """A row a figure; beside every other relay's values, ours as a ratio to them."""
    shown = Table(title=f"{len(rounds)} rounds: median (smallest-largest)")
    shown.add_column("")
    for relay in relays:
        shown.add_column(relay, justify="right")
    ours, *others = relays
    for other in others:
        shown.add_column(f"{ours} / {other}", justify="right")
    for figure in figures_in(rounds):
        digits = FIGURES[base_name(figure)][2]
        cells = []
        for relay in relays:
            values = [each[relay][figure] for each in rounds if figure in each.get(relay, {})]
            cells.append(spread(values, digits) if values else "-")
        for other in others:
            values = ratios(rounds, figure, ours, other)
            cells.append(spread(values, 2) if values else "-")
        shown.add_row(title(figure), *cells)
    if aioquic_us:
        shown.caption = (
            f"aioquic's own server needs {spread(aioquic_us, 0)} µs to send such an object to 20"
            " connections, system calls and ACKs included (quic_cost.py)"
        )
    return shown


@dataclass(frozen=True, slots=True)
class Results:
    """What a run has found."""

    relays: dict[str, str]
    """Name: what it is, in the order of measuring."""
    rounds: Rounds
    aioquic_us: list[float]
    python: dict[str, dict[str, float]]
    """Members: what of Python's work: microseconds; see python_cost.py."""
    distributions: dict[str, list[float]]
    """RELAY@SUBSCRIBERS:first, :last and RELAY:thesis: residence in microseconds, all rounds'."""
    parameters: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=lambda: this_machine())
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @staticmethod
    def load(file: Path) -> Results:
        return Results(**json.loads(file.read_text()))

    def save(self, directory: Path) -> None:
        """Write results.json and results.txt."""
        whole = asdict(self)
        whole["distributions"] = {
            name: [round(value, 2) for value in values]
            for name, values in self.distributions.items()
        }
        (directory / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
        with (directory / "results.txt").open("w") as file:
            show(self, Console(file=file, width=200))

    def values(self, relay: str, figure: str) -> list[float]:
        """One for each round in which there is one."""
        return [each[relay][figure] for each in self.rounds if figure in each.get(relay, {})]

    def median(self, relay: str, figure: str) -> float | None:
        values = self.values(relay, figure)
        return statistics.median(values) if values else None


def show(results: Results, console: Console) -> None:
    """The machine, the parameters, and every table."""
    console.print(f"{results.when}, {results.machine}", highlight=False)
    console.print(f"{results.parameters}", highlight=False)
    if results.rounds:
        console.print(table(results.rounds, list(results.relays), results.aioquic_us))
    if results.python:
        console.print(python_table(results.python))


def python_table(costs: Mapping[str, Mapping[str, float]]) -> Table:
    shown = Table(title="Python's time for an upstream packet that the kernel has forwarded (µs)")
    shown.add_column("members", justify="right")
    parts = list(next(iter(costs.values())))
    for part in parts:
        shown.add_column(part, justify="right")
    for members, values in costs.items():
        shown.add_row(members, *(f"{values[part]:.1f}" for part in parts))
    return shown


def this_machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
