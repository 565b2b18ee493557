"""Tables and plots of bench/bottleneck.py's results.

    python -m bench.bottleneck_report out/bench/bottleneck.json docs/congestion.md

Writes the tables between the document's marks (``<!-- NAME -->`` and ``<!-- end -->``), and the
plot into ``figures`` beside it; without a document, the tables are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.bottleneck_found import Layered, Phase, Results
from bench.document import report, rows
from bench.found import quantile

FAIR = 0.2
"""Two members' shares may differ by this part of the larger one."""
LONG = 60.0
"""Seconds: longer phases have a table of their own."""
STARVED = 0.1
"""Who gets less of a link that two use is starved."""


def run(results: Results) -> str:
    machine, given = results.machine, results.parameters
    return (
        f"{results.when}; {machine['processor']}, {machine['cpus']} CPUs, Linux"
        f" {machine['kernel']}, Python {machine['python']}; controller {given['controller']}.\n"
    )


def _times(each: Layered) -> str:
    return " / ".join(f"{value * 1e3:.0f}" for value in (each.median, each.late, each.latest))


def _groups(each: Layered) -> str:
    return f"{each.whole} / {each.dropped} / {each.cut}"


def _phase_rows(phases: Sequence[Phase]) -> Iterator[tuple[str, list[str]]]:
    def row(what: str, say: Callable[[Phase], str]) -> tuple[str, list[str]]:
        return what, [say(phase) for phase in phases]

    yield row("seconds", lambda p: f"{p.seconds:g}")
    for name in phases[0].layers:
        yield row(f"{name}: groups whole / dropped / cut", lambda p, n=name: _groups(p.layers[n]))
        yield row(
            f"{name}: p50 / p99 / latest (ms)",
            lambda p, n=name: _times(p.layers[n]) if p.layers[n].whole else "-",
        )
    yield row(
        "streams that stopped without an end",
        lambda p: (
            str(sum(each.stalled for each in p.layers.values())) if "streams" in p.name else "-"
        ),
    )
    yield row("link used, by payload", lambda p: f"{p.used:.0%}")
    yield row(
        "queue at the bottleneck: p50 / p99 (ms)",
        lambda p: " / ".join(
            f"{quantile([wait for _, wait in p.queue], part) * 1e3:.0f}" for part in (0.5, 0.99)
        ),
    )
    yield row("the member's packets, by the kernel", lambda p: f"{p.share:.0%}")
    for what, say in (("whole / dropped / cut", _groups), ("p50 / p99 / latest (ms)", _times)):
        yield row(
            f"others: {what}, before",
            lambda p, say=say: say(p.alone) if p.alone else "-",
        )
        yield row(
            f"others: {what}, meanwhile",
            lambda p, say=say: say(p.beside) if p.beside else "-",
        )
    yield row(
        "waited for a CPU (ms/s): member, others, relay",
        lambda p: " / ".join(
            f"{p.waited.get(who, 0.0) * 1e3:.0f}" for who in ("member", "others", "relay")
        ),
    )


def _table(found: Sequence[Phase]) -> str:
    if not found:
        return "Not measured in this run.\n"
    body = [[what, *cells] for what, cells in _phase_rows(found)]
    return rows(["", *(phase.name for phase in found)], body)


def phases(results: Results) -> str:
    return _table([phase for phase in results.phases if phase.seconds < LONG])


def long(results: Results) -> str:
    return _table([phase for phase in results.phases if phase.seconds >= LONG])


def shares(results: Results) -> str:
    lines = []
    total = results.parameters["shared"] / 1e6
    if results.shares:
        rates = [each / 1e6 for each in results.shares]
        apart = 1 - min(rates) / max(rates)
        words = " and ".join(f"{rate:.2f}" for rate in rates)
        verdict = "reached" if apart <= FAIR else "**missed**"
        lines.append(
            [f"two members behind {total:g} Mbit/s", words, f"{apart:.0%} apart, {verdict}"]
        )
    for name, found in results.tcp.items():
        rates = [each / 1e6 for each in found]
        least = min(rates) / sum(rates)
        verdict = "reached" if least >= STARVED else "**missed**"
        words = f"{rates[0]:.2f} for the member, {rates[1]:.2f} for TCP"
        lines.append(
            [
                f"one and a TCP transfer ({name.upper()}) behind {total:g} Mbit/s",
                words,
                f"nobody starves: {verdict}",
            ]
        )
    return rows(["Mbit/s, from 10 s on", "", ""], lines) if lines else "Not measured in this run.\n"


SECTIONS: dict[str, Callable[[Results], str]] = {
    "run": run,
    "phases": phases,
    "long": long,
    "shares": shares,
}


def draw(results: Results, directory: Path, endings: Sequence[str] = ("png", "svg")) -> None:
    """Latency of what came, layer by layer, what is in force, and the queue; nothing without
    matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    drawn = [phase for phase in results.phases if phase.seconds < LONG] or results.phases
    if not drawn:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheet, axes = pyplot.subplots(
        3,
        len(drawn),
        figsize=(3.6 * len(drawn), 7.5),
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, phase in enumerate(drawn):
        _draw_phase(axes[:, column], phase)
    for row, label in enumerate(("objects' latency (s)", "limits in force", "queue (s)")):
        axes[row, 0].set(ylabel=label)
    axes[0, 0].legend(markerscale=5, fontsize=8)
    axes[1, 0].legend(fontsize=8)
    sheet.tight_layout()
    for ending in endings:
        sheet.savefig(directory / f"bottleneck.{ending}", dpi=80)
    pyplot.close(sheet)


def _draw_phase(panels: Any, phase: Phase) -> None:
    upper, middle, lower = panels
    for name, curve in phase.curves.items():
        upper.plot(*zip(*curve, strict=True), ".", markersize=1.5, label=name, rasterized=True)
    upper.set(title=phase.name, yscale="log", ylim=(0.005, 20))
    times = [at for at, _, _ in phase.limits]
    middle.plot(times, [rate / 1e6 for _, rate, _ in phase.limits], label="estimate (Mbit/s)")
    middle.plot(times, [level for _, _, level in phase.limits], label="level (bands dropped)")
    middle.set(ylim=(0, 4))
    lower.plot(*zip(*phase.queue, strict=True), linewidth=0.8)
    lower.set(xlabel="seconds", ylim=(0, 0.25))
    for panel in panels:
        panel.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(report(__doc__, Results.load, SECTIONS, draw))
