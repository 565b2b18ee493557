"""Tables and plots of bench/quota.py's results.

    python -m bench.quota_report out/bench/quota.json docs/quota.md

Writes the tables between the document's marks (``<!-- NAME -->`` and ``<!-- end -->``), and the
plots into ``figures`` beside it; without a document, the tables are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.document import report
from bench.quota_found import Results
from bench.quota_tables import KERNEL, PAPER, SECTIONS, SUBJECTS, change, durations, mean


def show(results: Results, console: Console) -> None:
    for name, table in SECTIONS.items():
        console.print(f"{name}\n\n{table(results)}", highlight=False, markup=False, soft_wrap=True)


def draw(results: Results, directory: Path, endings: Sequence[str] = ("png", "svg")) -> None:
    """``quota``: throughput over time, and durations under attack; ``quota-paced``: both under the
    paced load; ``quota-paper``: changes from user space to the kernel, beside the paper's. Nothing
    without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheets = {
        "quota": _over_time(results, pyplot),
        "quota-paced": _under_pace(results, pyplot),
        "quota-paper": _beside(results, pyplot),
    }
    for name, sheet in sheets.items():
        if sheet is None:
            continue
        sheet.tight_layout()
        for ending in endings:
            sheet.savefig(directory / f"{name}.{ending}", dpi=130)
        pyplot.close(sheet)


def _over_time(results: Results, pyplot: Any) -> Any:
    subjects = {name: variants for name, variants in results.subjects.items() if variants}
    if not subjects:
        return None
    sheet, panels = pyplot.subplots(
        len(subjects), 2, figsize=(13, 4.5 * len(subjects)), squeeze=False
    )
    for (left, right), (subject, variants) in zip(panels, subjects.items(), strict=True):
        seconds = max(each.seconds for each in variants.values())
        for name, found in variants.items():
            begins = [tenth / 2 for tenth in range(int(-2 * seconds), int(4 * seconds))]
            left.plot(begins, [found.throughput(at, at + 0.5) for at in begins], label=name)
            _cumulative(right, found.during(0, found.seconds), label=name)
        left.axvspan(0, seconds, alpha=0.1)
        left.set(xlabel="seconds since the attack began", ylabel="honest clients (MB/s)")
        left.set_title(SUBJECTS[subject])
        right.set(xlabel="seconds for 256 kB under attack", ylabel="share of transfers")
        right.set_xscale("log")
        left.legend()
        for panel in (left, right):
            panel.grid(alpha=0.3)
    return sheet


def _under_pace(results: Results, pyplot: Any) -> Any:
    variants = {n: f for n, f in results.subjects.get("relay", {}).items() if f.paced}
    if not variants:
        return None
    sheet, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4.5))
    for number, (name, found) in enumerate(variants.items()):
        for side, style in zip(zip(*found.paced, strict=True), ("--", "-"), strict=True):
            under = "under attack" if style == "-" else "calm"
            if values := durations(side):
                _cumulative(left, values, label=f"{name}, {under}", ls=style, color=f"C{number}")
        served = [
            mean(each.served for each in side) / 1e6 for side in zip(*found.paced, strict=True)
        ]
        bars = right.bar([number - 0.2, number + 0.2], served, 0.4, color=f"C{number}")
        for bar, hatch in zip(bars, ("//", ""), strict=True):
            bar.set(hatch=hatch, alpha=0.8)
        right.bar_label(bars, [f"{each:.2f}" for each in served], fontsize=9)
    left.set(xlabel="seconds for 256 kB", ylabel="share of transfers")
    left.set_xscale("log")
    left.legend(fontsize=8)
    right.set_xticks(range(len(variants)), list(variants))
    right.set_ylabel("honest clients (MB/s): calm (hatched), under attack")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    return sheet


def _cumulative(panel: Any, values: Sequence[float], **style: Any) -> None:
    ordered = sorted(values)
    shares = [(number + 1) / len(ordered) for number in range(len(ordered))]
    panel.plot(ordered, shares, drawstyle="steps-post", **style)


def _beside(results: Results, pyplot: Any) -> Any:
    shown = [each for each in PAPER if each.percent is not None]
    series: dict[str, list[float | None]] = {"the paper": [each.percent for each in shown]}
    for subject, variants in results.subjects.items():
        for name in KERNEL:
            found = [change(variants, name, each.ours) for each in shown]
            if any(value is not None for value in found):
                series[f"{SUBJECTS[subject]}, {name}"] = found
    if len(series) == 1:
        return None
    sheet, panel = pyplot.subplots(figsize=(13, 4.5))
    width = 0.8 / len(series)
    for index, (label, values) in enumerate(series.items()):
        places = [at + (index - (len(series) - 1) / 2) * width for at in range(len(shown))]
        bars = panel.bar(places, [value or 0.0 for value in values], width, label=label)
        words = ["" if value is None else f"{value:+.0f}" for value in values]
        panel.bar_label(bars, words, fontsize=8)
    panel.set_xticks(range(len(shown)), [each.what for each in shown], fontsize=9)
    panel.set_ylabel("change from user space (%)")
    panel.set_yscale("symlog", linthresh=100)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.grid(axis="y", alpha=0.3)
    panel.legend(fontsize=8)
    return sheet


if __name__ == "__main__":
    sys.exit(report(__doc__, Results.load, SECTIONS, draw))
