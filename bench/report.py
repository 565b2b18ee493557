"""Results as JSON, as a table and as a plot, with the spread over the rounds."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Rounds = list[dict[str, dict[str, float]]]
"""For each round: relay -> figure -> value. A relay that failed in a round is not in it."""

FIGURES = {
    # name: (what it says, unit, digits, whether smaller is better)
    "cpu_us": ("CPU per delivered object, relay's process", "µs", 1, True),
    "machine_us": ("CPU per delivered object, machine less the load's processes", "µs", 1, True),
    "calls": ("system calls per delivered object", "", 2, True),
    "first_p50_us": ("residence, first copy, p50", "µs", 0, True),
    "first_p90_us": ("residence, first copy, p90", "µs", 0, True),
    "first_p99_us": ("residence, first copy, p99", "µs", 0, True),
    "first_sd_us": ("residence, first copy, sd", "µs", 0, True),
    "last_p50_us": ("residence, last copy, p50", "µs", 0, True),
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


def save(
    directory: Path,
    rounds: Rounds,
    relays: Mapping[str, str],
    aioquic_us: Sequence[float],
    parameters: Mapping[str, Any],
) -> None:
    """Write results.json, results.txt and, with matplotlib at hand, results.png."""
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"kernel": platform.release(), "processor": _processor()},
        "parameters": dict(parameters),
        "relays": dict(relays),
        "aioquic_send_us": list(aioquic_us),
        "rounds": rounds,
    }
    (directory / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    with (directory / "results.txt").open("w") as file:
        Console(file=file, width=160).print(table(rounds, list(relays), aioquic_us))
    plot(directory / "results.png", rounds, list(relays))


def plot(target: Path, rounds: Rounds, relays: Sequence[str]) -> None:
    """A panel a figure, a bar a relay, the spread as a line on it."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = figures_in(rounds)
    columns = 3
    rows = -(-len(figures) // columns)
    sheet, panels = pyplot.subplots(rows, columns, figsize=(4 * columns, 2.6 * rows), squeeze=False)
    for panel, figure in zip(panels.flat, figures, strict=False):
        for index, relay in enumerate(relays):
            values = [each[relay][figure] for each in rounds if figure in each.get(relay, {})]
            if values:
                middle = statistics.median(values)
                reach = [[middle - min(values)], [max(values) - middle]]
                panel.bar(index, middle, yerr=reach, capsize=4, color=f"C{index}")
        panel.set_xticks(range(len(relays)), relays)
        panel.set_title(title(figure), fontsize=8)
        panel.tick_params(labelsize=8)
    for panel in list(panels.flat)[len(figures) :]:
        panel.axis("off")
    sheet.tight_layout()
    sheet.savefig(target, dpi=120)
    pyplot.close(sheet)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
