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

from bench.bottleneck_found import Layered, Member, Phase, Results
from bench.document import report, rows
from bench.found import quantile

FAIR = 0.2
"""Two members' shares may differ by this part of the larger one."""
DRAWN = "streams", "datagrams"
INFINITE = float("inf")
NOTHING = "Not measured in this run.\n"
STARVED = 0.1
"""Who gets less of a link that two use is starved."""


def run(results: Results) -> str:
    machine = results.machine
    return (
        f"{results.when}; {machine['processor']}, {machine['cpus']} CPUs, Linux"
        f" {machine['kernel']}, Python {machine['python']}.\n"
    )


def _times(each: Layered) -> str:
    return " / ".join(f"{value * 1e3:.0f}" for value in (each.median, each.late, each.latest))


def _groups(each: Layered) -> str:
    return f"{each.whole} / {each.dropped} / {each.cut}"


def _cpu(seconds: tuple[float, float]) -> str:
    return " / ".join(f"{each * 1e3:.0f}" for each in seconds)


def _stalled(kind: str, member: Member) -> str:
    """Nobody says of datagrams that they do not come."""
    stalled = sum(each.stalled for each in member.layers.values())
    return str(stalled) if kind.startswith("streams") else "-"


def _member_rows(members: dict[str, Member]) -> Iterator[list[str]]:
    def row(what: str, say: Callable[[Member], str]) -> list[str]:
        return [what, *(say(member) for member in members.values())]

    for name in next(iter(members.values())).layers:
        yield row(f"{name}: groups whole / dropped / cut", lambda m, n=name: _groups(m.layers[n]))
        yield row(
            f"{name}: p50 / p99 / latest (ms)",
            lambda m, n=name: _times(m.layers[n]) if m.layers[n].median < INFINITE else "-",
        )
    yield [
        "streams that stopped without an end",
        *(_stalled(kind, member) for kind, member in members.items()),
    ]
    yield row("link used, by payload", lambda m: f"{m.used:.0%}")
    yield row(
        "queue at the bottleneck: p50 / p99 (ms)",
        lambda m: " / ".join(
            f"{quantile([wait for _, wait in m.queue], part) * 1e3:.0f}" for part in (0.5, 0.99)
        ),
    )
    yield row("packets by the kernel", lambda m: f"{m.share:.0%}")
    yield row("its CPU: ran / waited (ms/s)", lambda m: _cpu(m.cpu))


def phase(name: str) -> Callable[[Results], str]:
    """The table of a phase's members."""

    def table(results: Results) -> str:
        found = results.phases.get(name)
        if found is None:
            return NOTHING
        head = [f"{name}, {found.seconds:g} s", *found.members]
        return rows(head, list(_member_rows(found.members)))

    return table


def others(results: Results) -> str:
    """Who has no bottleneck, phase by phase."""
    found = results.phases
    if not found:
        return NOTHING
    body = [
        [f"{what}, {when}", *(say(each(p)) for p in found.values())]
        for what, say in (
            ("groups whole / dropped / cut", _groups),
            ("p50 / p99 / latest (ms)", _times),
        )
        for when, each in (("before", _alone), ("meanwhile", _beside))
    ]
    for who in next(iter(found.values())).cpu:
        cpu = (_cpu(p.cpu[who]) for p in found.values())
        body.append([f"CPU of {who}: ran / waited (ms/s)", *cpu])
    return rows(["", *found], body)


def _alone(phase: Phase) -> Layered:
    assert phase.alone is not None
    return phase.alone


def _beside(phase: Phase) -> Layered:
    assert phase.beside is not None
    return phase.beside


def shares(results: Results) -> str:
    lines = []
    total = results.parameters["shared"] / 1e6
    for controller, found in results.shares.items():
        rates = [each / 1e6 for each in found]
        apart = 1 - min(rates) / max(rates)
        words = " and ".join(f"{rate:.2f}" for rate in rates)
        verdict = "reached" if apart <= FAIR else "**missed**"
        lines.append(
            [
                f"two members behind {total:g} Mbit/s, {controller}",
                words,
                f"{apart:.0%} apart, {verdict}",
            ]
        )
    for controller, by_tcp in results.tcp.items():
        for name, found in by_tcp.items():
            rates = [each / 1e6 for each in found]
            least = min(rates) / sum(rates)
            verdict = "reached" if least >= STARVED else "**missed**"
            words = f"{rates[0]:.2f} for the member, {rates[1]:.2f} for TCP"
            lines.append(
                [
                    f"one, {controller}, and a TCP transfer, {name.upper()}",
                    words,
                    f"nobody starves: {verdict}",
                ]
            )
    return rows(["Mbit/s, from 10 s on", "", ""], lines) if lines else NOTHING


SECTIONS: dict[str, Callable[[Results], str]] = {
    "run": run,
    "kernel": phase("kernel"),
    "user": phase("user space"),
    "toggling": phase("toggling"),
    "default": phase("by default"),
    "others": others,
    "shares": shares,
}


def draw(results: Results, directory: Path, endings: Sequence[str] = ("png", "svg")) -> None:
    """Of our own subscribers: latency of what came, layer by layer, what is in force, and the
    queue; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    drawn = {
        f"{kind}, {name}": phase.members[kind]
        for name, phase in results.phases.items()
        for kind in DRAWN
    }
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
    for column, (name, member) in enumerate(drawn.items()):
        _draw_member(axes[:, column], name, member)
    for row, label in enumerate(("objects' latency (s)", "limits in force", "queue (s)")):
        axes[row, 0].set(ylabel=label)
    axes[0, 0].legend(markerscale=5, fontsize=8)
    axes[1, 0].legend(fontsize=8)
    sheet.tight_layout()
    for ending in endings:
        sheet.savefig(directory / f"bottleneck.{ending}", dpi=80)
    pyplot.close(sheet)


def _draw_member(panels: Any, name: str, member: Member) -> None:
    upper, middle, lower = panels
    for layer, curve in member.curves.items():
        upper.plot(*zip(*curve, strict=True), ".", markersize=1.5, label=layer, rasterized=True)
    upper.set(title=name, yscale="log", ylim=(0.005, 20))
    times = [at for at, _, _ in member.limits]
    middle.plot(times, [rate / 1e6 for _, rate, _ in member.limits], label="estimate (Mbit/s)")
    middle.plot(times, [level for _, _, level in member.limits], label="level (bands dropped)")
    middle.set(ylim=(0, 4))
    lower.plot(*zip(*member.queue, strict=True), linewidth=0.8)
    lower.set(xlabel="seconds", ylim=(0, 0.25))
    for panel in panels:
        panel.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(report(__doc__, Results.load, SECTIONS, draw))
