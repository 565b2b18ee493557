"""The tables of bench/quota.py's results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bench.document import rows
from bench.found import quantile
from bench.quota_found import Floor, Found, Results, Variants, Window
from bench.quota_load import TRANSFER_SIZE

USER, TC, XDP = "user space", "kernel, TC", "kernel, XDP"
KERNEL = (TC, XDP)
SUBJECTS = {"relay": "the relay", "http3": "an HTTP/3 server"}
QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)
HONEST_SHARE = 0.99


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
    yield row("what its generator takes of its own CPU", lambda f: f"{f.generator_cpu:.0%}")
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


def _paced_rows(found: Found) -> Iterator[tuple[str, str]]:
    """Of one variant: calm, under attack."""
    sides = tuple(zip(*found.paced, strict=True))

    def both(say: Callable[[Sequence[Window]], str]) -> str:
        return ", ".join(map(say, sides))

    kept, error = _kept([(calm.served, flooded.served) for calm, flooded in found.paced])
    yield "throughput (MB/s)", both(lambda side: f"{mean(each.served for each in side) / 1e6:.3f}")
    yield "of it kept under attack (standard error)", f"{kept:.1%} ({error:.1%})"
    for part in QUANTILES:
        yield (
            f"duration, p{100 * part:g} (ms)",
            both(lambda side, part=part: f"{quantile(durations(side), part) * 1e3:.0f}"),  # type: ignore[misc]
        )
    yield (
        "transfers, of them failed",
        both(
            lambda side: (
                f"{sum(len(each.durations) + each.failed for each in side)} /"
                f" {sum(each.failed for each in side)}"
            )
        ),
    )
    yield "CPU of the relay's process", both(lambda side: f"{mean(each.cpu for each in side):.1%}")


def mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def durations(side: Sequence[Window]) -> list[float]:
    return [took for each in side for took in each.durations]


def _kept(turns: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of pairs calm and under attack: what is left, and its standard error."""
    calm, flooded = (statistics.fmean(each) for each in zip(*turns, strict=True))
    ratios = [flooded / calm for calm, flooded in turns if calm]
    error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return flooded / calm if calm else 0.0, error


def paced(results: Results) -> str:
    """Honest clients that do not ask for all that the machine can do."""
    variants = {
        name: dict(_paced_rows(found))
        for name, found in results.subjects.get("relay", {}).items()
        if found.paced
    }
    if not variants:
        return "Not measured in this run.\n"
    parts = next(iter(variants.values()))
    body = [[what, *(cells[what] for cells in variants.values())] for what in parts]
    return rows(["calm, under attack", *variants], body)


def run(results: Results) -> str:
    machine, given = results.machine, results.parameters
    return (
        f"{results.when}; {machine['processor']}, {machine['cpus']} CPUs, Linux"
        f" {machine['kernel']}, Python {machine['python']}; {given['seconds']:g} s before, under"
        f" and after the attack of {given['rate']:g} first packets a second;"
        f" {given['turns']} turns of {given['turn']:g} s; the paced load: {given['paced']:g}"
        f" transfers a second, {given['paced'] * TRANSFER_SIZE / 1e6:.2f} MB/s.\n"
    )


class Goal(NamedTuple):
    what: str
    aim: str
    found: str
    reached: bool | None
    """None: that has not been shown."""


def _at_least(found: float, error: float, aim: float) -> bool | None:
    """Two standard errors are taken for certain."""
    if found - 2 * error >= aim:
        return True
    return False if found + 2 * error < aim else None


def _kept_goals(found: Found, hook: str) -> Iterator[Goal]:
    """Under the paced load and under the saturating one."""
    if found.paced:
        calm, flooded = (durations(side) for side in zip(*found.paced, strict=True))
        kept, error = _kept([(calm.served, flooded.served) for calm, flooded in found.paced])
        quantiles = (
            f"p{100 * part:g} {quantile(calm, part) * 1e3:.0f} to"
            f" {quantile(flooded, part) * 1e3:.0f} ms"
            for part in (0.5, 0.99)
        )
        yield Goal(
            f"what honest clients keep under {found.paced_flood:.0f} a second, {hook}: of a paced"
            " load",
            "at least 99 %",
            f"{kept:.1%} (standard error {error:.1%}); {', '.join(quantiles)}",
            _at_least(kept, error, HONEST_SHARE),
        )
    if found.shares:
        kept, error = _kept(found.shares)
        ratios = [flooded / calm for calm, flooded in found.shares if calm]
        yield Goal(
            f"under {found.share_flood:.0f} a second, {hook}: of all that the machine can do",
            "at least 99 %",
            f"{kept:.1%} (standard error {error:.1%}); in turns {min(ratios):.1%} to"
            f" {max(ratios):.1%}",
            _at_least(kept, error, HONEST_SHARE),
        )


def _goals(results: Results) -> Iterator[Goal]:
    variants = results.subjects.get("relay", {})
    floors = {each.hook: each for found in variants.values() for each in found.floors}
    for name, most in ((XDP, 0.5), (TC, 1.0)):
        found, hook = variants.get(name), name.rpartition(" ")[2]
        what = f"CPU of a blocked first packet in {hook}"
        if found is None:
            yield Goal(what, f"at most {most} us", "-", None)
            continue
        floor = floors.get(hook, Floor())
        net = found.program_flood_us - floor.statistics_us
        words = [f"{found.program_us:.2f} us the program, {net:.2f} in the flood"]
        if floor.hook:
            words[0] += f" ({found.program_flood_us:.2f} with the statistics' own cost)"
            ways = found.softirq_us, floor.softirq_us
            words.append(f"{ways[0]:.2f} with the way to it, {ways[1]:.2f} the way alone")
        yield Goal(what, f"at most {most} us", "; ".join(words), net <= most)
        yield from _kept_goals(found, hook)
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
    words = {True: "reached", False: "**missed**", None: "not shown"}
    body = [[each.what, each.aim, each.found, words[each.reached]] for each in _goals(results)]
    return rows(["goal", "aim", "found", ""], body)


SECTIONS: dict[str, Callable[[Results], str]] = {
    "run": run,
    "goals": goals,
    "paced": paced,
    "paper": paper,
    "relay": lambda results: attack(results, "relay"),
    "http3": lambda results: attack(results, "http3"),
}
