"""Write the tables of docs/results.md from a run.

    python -m bench.document out/bench/results.json [docs/results.md]

With a document, what stands between its marks ``<!-- NAME -->`` and ``<!-- end -->`` is replaced;
without, the tables are printed.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bench import thesis
from bench.report import FIGURES, Results, base_name, figures_in, spread, title

Found = TypeVar("Found")
"""Results of some benchmark."""

_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run(results: Results) -> str:
    machine, given = results.machine, results.parameters
    rates = ", ".join(f"{rate:g} ({count})" for count, rate in given["rates"].items())
    lines = [
        f"{results.when}; {machine['processor']}, {machine['cpus']} CPUs, Linux"
        f" {machine['kernel']}, Python {machine['python']}. Rounds: {len(results.rounds)};"
        f" {given['seconds']:g} s for each measurement; objects a second (subscribers): {rates}.",
        "Median of the rounds (smallest-largest).",
    ]
    return "\n".join(lines) + "\n"


def _figures(results: Results, wanted: Callable[[str], bool]) -> str:
    body = []
    for figure in figures_in(results.rounds):
        if not wanted(base_name(figure)):
            continue
        digits = FIGURES[base_name(figure)][2]
        cells = []
        for relay in results.relays:
            values = results.values(relay, figure)
            cells.append(spread(values, digits) if values else "-")
        body.append([title(figure), *cells])
    return rows(["", *results.relays], body) if body else "Not measured in this run.\n"


def residence(results: Results) -> str:
    return _figures(results, lambda name: name.startswith(("first_", "last_")) and "_us" in name)


def costs(results: Results) -> str:
    names = ("cpu_us", "machine_us", "kernel_us", "calls", "heard")
    return _figures(
        results, lambda name: name.removeprefix("pictures_").removeprefix("video_") in names
    )


def sessions(results: Results) -> str:
    wanted = ("accepted_ms", "first_object_ms", "join_cpu_ms", "kb_per_subscriber")
    return _figures(results, lambda n: n in wanted or n.startswith("handshakes"))


def thesis_table(results: Results) -> str:
    def cells(relay: str) -> list[str]:
        names = ("thesis_median_us", "thesis_mean_us", "thesis_sd_us")
        found = [results.values(relay, name) for name in names]
        return [spread(values, 1) if values else "-" for values in found]

    there = (("kernel", thesis.KERNEL), ("user space", thesis.USER))
    body = [
        [
            f"thesis, {name}",
            f"{values['median']:.1f}, less netem's 10 ms: {values['median'] - thesis.NETEM:.1f}",
            "-",
            f"{values['sd']:.1f}",
        ]
        for name, values in there
    ]
    body += [[f"here, {relay}", *cells(relay)] for relay in ("kernel", "user", "floor")]
    return rows(["delay (µs)", "median", "mean", "sd"], body)


def python(results: Results) -> str:
    if not results.python:
        return "Not measured in this run.\n"
    parts = list(next(iter(results.python.values())))
    body = [[m, *(f"{v[part]:.1f}" for part in parts)] for m, v in results.python.items()]
    return rows(["members", *parts], body)


def goals(results: Results) -> str:
    """Each goal: what was aimed at, what was found, in how many rounds it was reached."""
    body: list[list[str]] = []

    def goal(
        what: str, found: Sequence[float], limits: Sequence[float], unit: str, digits: int = 0
    ) -> None:
        """`found` and `limits`: a value for each round."""
        if not found:
            body.append([what, "-", "-", "not measured"])
            return
        limit = limits if len(set(limits)) > 1 else limits[:1]
        aim, seen = (f"{spread(values, digits)} {unit}".strip() for values in (limit, found))
        over = [value / limit for value, limit in zip(found, limits, strict=True)]
        reached = sum(each <= 1 for each in over)
        if reached == len(over):
            verdict = "reached"
        else:
            part = f" in {len(over) - reached} of {len(over)} rounds" if reached else ""
            verdict = f"**missed**{part}, {spread(over, 2)} x"
        body.append([what, f"at most {aim}", seen, verdict])

    def fixed(what: str, figure: str, limit: float, unit: str, digits: int) -> None:
        found = results.values("kernel", figure)
        goal(what, found, [limit] * len(found), unit, digits)

    def against_the_floor(what: str, figure: str, factor: float = 1.0) -> None:
        both = [
            (each["kernel"][figure], each["floor"][figure] * factor)
            for each in results.rounds
            if all(figure in each.get(relay, {}) for relay in ("kernel", "floor"))
        ]
        goal(what, [found for found, _ in both], [limit for _, limit in both], "µs")

    for quantile in ("p50", "p99"):
        what = f"residence of the first copy, {quantile}, 1 subscriber: the floor's"
        against_the_floor(what, f"first_{quantile}_us@1")
    against_the_floor("last of 50 copies, p50: 0.8 x the floor's", "last_p50_us@50", 0.8)
    for count in (50, 200):
        what = f"kernel's CPU for a delivered packet, {count} subscribers"
        fixed(what, f"kernel_us@{count}", 6, "µs", 1)
    fixed("the same, of video of 14 packets a picture, 50", "video_kernel_us@50", 6, "µs", 1)
    fixed("user space's CPU for a delivered packet, 50", "cpu_us@50", 8, "µs", 1)
    fixed("the same, of pictures of 5 packets, 50", "pictures_cpu_us@50", 8, "µs", 1)
    for count in (10, 50):
        what = f"the same, of video of 14 packets a picture, {count}"
        fixed(what, f"video_cpu_us@{count}", 8, "µs", 1)
    fixed("system calls for a delivered packet, 50", "calls@50", 0.6, "", 2)
    if results.python:
        for part in ("together", "with reports"):
            costs = [values[part] for values in results.python.values()]
            what = f"Python's time for an upstream packet ({part}), most over fewest members"
            goal(what, [costs[-1] / costs[0]], [1.5], "", 2)
    return rows(["goal", "aim", "found", ""], body)


def ratios(results: Results) -> str:
    """The kernel path over every other relay, within each round."""
    ours, *others = results.relays
    names = (
        *("first_p50_us", "first_p99_us", "last_p50_us", "machine_us", "calls"),
        *("pictures_machine_us", "pictures_calls"),
        *("video_machine_us", "video_calls"),
    )
    body = []
    for figure in figures_in(results.rounds):
        if base_name(figure) not in names:
            continue
        cells = []
        for other in others:
            pairs = [
                each[ours][figure] / each[other][figure]
                for each in results.rounds
                if figure in each.get(ours, {}) and each.get(other, {}).get(figure)
            ]
            cells.append(f"{statistics.median(pairs):.2f}" if pairs else "-")
        body.append([title(figure), *cells])
    return rows(["", *(f"{ours} / {other}" for other in others)], body)


SECTIONS: dict[str, Callable[[Results], str]] = {
    "run": run,
    "residence": residence,
    "costs": costs,
    "ratios": ratios,
    "thesis": thesis_table,
    "python": python,
    "sessions": sessions,
    "goals": goals,
}


def fill_in(text: str, tables: Mapping[str, str]) -> str:
    """The document with these tables between its marks.

    :raises KeyError: it has a mark of an unknown name.
    """
    return _MARKED.sub(lambda m: f"{m[1]}\n{tables[m[2]]}\n{m[3]}", text)


def report(
    usage: str | None,
    load: Callable[[Path], Found],
    sections: Mapping[str, Callable[[Found], str]],
    draw: Callable[[Found, Path, Sequence[str]], None] | None = None,
) -> int:
    """A command whose arguments are results and the document that they are written into, with its
    plots in ``figures`` beside it; without a document, the tables are printed."""
    if len(sys.argv) not in (2, 3):
        print(usage, file=sys.stderr)
        return 2
    results = load(Path(sys.argv[1]))
    tables = {name: table(results) for name, table in sections.items()}
    if len(sys.argv) == 2:
        print("\n".join(f"## {name}\n\n{table}" for name, table in tables.items()))
        return 0
    document = Path(sys.argv[2])
    document.write_text(fill_in(document.read_text(), tables))
    if draw is not None:
        figures = document.parent / "figures"
        figures.mkdir(exist_ok=True)
        draw(results, figures, ["png"])
    return 0


if __name__ == "__main__":
    sys.exit(report(__doc__, Results.load, SECTIONS))
