"""Tables and plots of bench/quota.py's results.

    python -m bench.quota_report out/bench/quota.json docs/quota.md

Writes the tables between the document's marks (``<!-- NAME -->`` and ``<!-- end -->``), and the
plots into ``figures`` beside it; without a document, the tables are printed.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from bench.document import report, rows
from bench.found import quantile
from bench.quota_found import Floor, Found, Results, Variants

USER, TC, XDP = "user space", "kernel, TC", "kernel, XDP"
KERNEL = (TC, XDP)
SUBJECTS = {"relay": "the relay", "http3": "an HTTP/3 server"}
QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


class Compared(NamedTuple):
    """One of the paper's figures: what it says there, the change in percent, and ours."""

    what: str
    paper: str
    percent: float | None
    ours: Callable[[Found], float]


def _duration(found: Found) -> float:
    return statistics.fmean(found.during(0, found.seconds) or [float("nan")])


PAPER = (
    Compared("throughput under attack", "+30.9 %", 30.9, lambda f: f.throughput(0, f.seconds)),
    Compared("duration of a transfer under attack", "-65 %", -65.0, _duration),
    Compared(
        "CPU for a blocked packet",
        "-26.4 %, to 8 us",
        -26.4,
        lambda f: f.process_us + f.softirq_us,
    ),
    Compared("system calls for a blocked packet", "", None, lambda f: f.calls),
    Compared(
        "system calls for a transfer under attack",
        "-89 % (77 551 to 8 178 in all)",
        -89.0,
        lambda f: f.calls_for_each,
    ),
)
"""Kernel beside the control in user space."""


def change(variants: Variants, name: str, figure: Callable[[Found], float]) -> float | None:
    """In percent, from the control in user space; None: not measured, or nothing was served."""
    if not {name, USER} <= variants.keys():
        return None
    before, after = figure(variants[USER]), figure(variants[name])
    return 100 * (after / before - 1) if before and not math.isnan(after / before) else None


def paper(results: Results) -> str:
    columns = [
        (subject, name)
        for subject, variants in results.subjects.items()
        for name in KERNEL
        if name in variants
    ]
    body = []
    for each in PAPER:
        found = [change(results.subjects[s], name, each.ours) for s, name in columns]
        cells = ["-" if value is None else f"{value:+.1f} %" for value in found]
        body.append([each.what, each.paper or "-", *cells])
    cells = []
    for subject, name in columns:
        ends = [results.subjects[subject].get(variant) for variant in (USER, name)]
        words = ["-" if end is None else _recovery(end) for end in ends]
        cells.append(f"{words[1]} instead of {words[0]}")
    body.append(["recovery after the attack", "22 instead of 27, units of 5 s", *cells])
    heads = [f"{SUBJECTS[subject]}, {name}" for subject, name in columns]
    return rows(["kernel, beside user space", "the paper", *heads], body)


def _recovery(found: Found) -> str:
    return "not" if found.recovery is None else f"{found.recovery:.1f} s"


def _attack_rows(variants: Variants) -> Iterator[tuple[str, list[str]]]:
    def row(what: str, say: Callable[[Found], str]) -> tuple[str, list[str]]:
        return what, [say(found) for found in variants.values()]

    yield row("refused by", lambda f: f.hook)
    yield row("throughput before (MB/s)", lambda f: f"{f.throughput(-f.seconds, 0):.2f}")
    yield row("throughput under attack (MB/s)", lambda f: f"{f.throughput(0, f.seconds):.2f}")
    yield row("transfers that failed under attack", lambda f: str(f.failed))
    for part in QUANTILES:
        yield row(
            f"duration, p{100 * part:g}: before, under attack (ms)",
            lambda f, part=part: (
                f"{quantile(f.during(-f.seconds, 0), part) * 1e3:.0f}, "
                f"{quantile(f.during(0, f.seconds), part) * 1e3:.0f}"
            ),
        )
    yield row("recovered after", _recovery)
    yield row("system calls a second under attack", lambda f: f"{f.calls_attack:.0f}")
    yield row("system calls for a transfer then", lambda f: f"{f.calls_for_each:.0f}")
    yield row("flood alone (packets a second)", lambda f: f"{f.flood_per_second:.0f}")
    yield row("of it blocked, or received where nobody blocks", lambda f: str(f.blocked))
    yield row("CPU for each, process (us)", lambda f: f"{f.process_us:.2f}")
    yield row("CPU for each, softirqs (us)", lambda f: f"{f.softirq_us:.2f}")
    yield row("system calls for each", lambda f: f"{f.calls:.4f}")
    yield row(
        "memory: before, after the flood (MB)",
        lambda f: f"{f.idle_memory / 1e6:.1f}, {f.attack_memory / 1e6:.1f}",
    )


def attack(results: Results, subject: str) -> str:
    variants = results.subjects.get(subject)
    if not variants:
        return "Not measured in this run.\n"
    return rows(["", *variants], [[what, *cells] for what, cells in _attack_rows(variants)])


def run(results: Results) -> str:
    machine, given = results.machine, results.parameters
    return (
        f"{results.when}; {machine['processor']}, {machine['cpus']} CPUs, Linux"
        f" {machine['kernel']}, Python {machine['python']}; {given['seconds']:g} s before, under"
        f" and after the attack of {given['rate']:g} first packets a second;"
        f" {given['turns']} turns of {given['turn']:g} s.\n"
    )


class Goal(NamedTuple):
    what: str
    aim: str
    found: str
    reached: bool | None


def _goals(results: Results) -> Iterator[Goal]:
    variants = results.subjects.get("relay", {})
    floors = {each.hook: each for found in variants.values() for each in found.floors}
    for name, most in ((XDP, 0.5), (TC, 1.0)):
        found, hook = variants.get(name), name.rpartition(" ")[2]
        what = f"CPU of a blocked first packet in {hook}"
        if found is None:
            yield Goal(what, f"at most {most} us", "not measured", None)
            continue
        floor = floors.get(hook, Floor())
        net = found.program_flood_us - floor.statistics_us
        words = [f"{found.program_us:.2f} us the program, {net:.2f} in the flood"]
        if floor.hook:
            words[0] += f" ({found.program_flood_us:.2f} with the statistics' own cost)"
            ways = found.softirq_us, floor.softirq_us
            words.append(f"{ways[0]:.2f} with the way to it, {ways[1]:.2f} the way alone")
        yield Goal(what, f"at most {most} us", "; ".join(words), net <= most)
        ratios = [flooded / calm for calm, flooded in found.shares if calm]
        if ratios:
            calm, flooded = (statistics.fmean(each) for each in zip(*found.shares, strict=True))
            error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
            yield Goal(
                f"what honest clients keep under {found.share_flood:.0f} a second, {hook}",
                "at least 99 %",
                f"{flooded / calm:.1%} (standard error {error:.1%}); in turns {min(ratios):.1%} to"
                f" {max(ratios):.1%}",
                flooded / calm >= 0.99,
            )
        calm_us, flooded_us = (
            [value for turn in found.media_us for value in turn[which]] for which in (0, 1)
        )
        if calm_us and flooded_us:
            ends = quantile(calm_us, 0.99), quantile(flooded_us, 0.99)
            middles = quantile(calm_us, 0.5), quantile(flooded_us, 0.5)
            changes = [
                quantile(under_attack, 0.99) / quantile(before, 0.99) - 1
                for before, under_attack in found.media_us
                if before and under_attack
            ]
            yield Goal(
                f"media's p99 residence under {found.media_flood:.0f} a second, {hook}",
                "less than +10 %",
                f"{ends[1] / ends[0] - 1:+.0%}: {ends[0]:.0f} to {ends[1]:.0f} us"
                f" (p50: {middles[0]:.0f} to {middles[1]:.0f}); in turns {min(changes):+.0%} to"
                f" {max(changes):+.0%}",
                ends[1] < 1.1 * ends[0],
            )
        yield Goal(
            f"packets of others refused, {hook}",
            "none",
            str(found.refused_others),
            found.refused_others == 0,
        )


def goals(results: Results) -> str:
    words = {True: "reached", False: "**missed**", None: "-"}
    body = [[each.what, each.aim, each.found, words[each.reached]] for each in _goals(results)]
    return rows(["goal", "aim", "found", ""], body)


SECTIONS: dict[str, Callable[[Results], str]] = {
    "run": run,
    "goals": goals,
    "paper": paper,
    "relay": lambda results: attack(results, "relay"),
    "http3": lambda results: attack(results, "http3"),
}


def show(results: Results, console: Console) -> None:
    for name, table in SECTIONS.items():
        console.print(f"{name}\n\n{table(results)}", highlight=False, markup=False, soft_wrap=True)


def draw(results: Results, directory: Path, endings: Sequence[str] = ("png", "svg")) -> None:
    """``quota``: throughput over time, and durations under attack; ``quota-paper``: changes from
    user space to the kernel, beside the paper's. Nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheets = {"quota": _over_time(results, pyplot), "quota-paper": _beside(results, pyplot)}
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
