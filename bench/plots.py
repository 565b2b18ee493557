"""The figures as PNG and SVG: residence as distributions, costs as bars, Python's time as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.report import Results

COSTS = (
    ("machine_us", "process and softirqs (µs)"),
    ("cpu_us", "the relay's process (µs)"),
    ("kernel_us", "softirqs (µs)"),
    ("calls", "system calls"),
)


def draw(results: Results, directory: Path) -> None:
    """Every plot for which there are values; none without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheets = {
        "residence": _residence(results, pyplot),
        "costs": _costs(results, pyplot),
        "thesis": _thesis(results, pyplot),
        "python": _python(results, pyplot),
    }
    for name, sheet in sheets.items():
        if sheet is None:
            continue
        sheet.tight_layout()
        for ending in ("png", "svg"):
            sheet.savefig(directory / f"{name}.{ending}", dpi=130)
        pyplot.close(sheet)


def _color(results: Results, relay: str) -> str:
    """One relay has one colour in all plots."""
    return f"C{list(results.relays).index(relay)}"


def _cumulative(panel: Any, values: list[float], **style: Any) -> None:
    ordered = sorted(values)
    shares = [(number + 1) / len(ordered) for number in range(len(ordered))]
    panel.plot(ordered, shares, drawstyle="steps-post", **style)


def _residence(results: Results, pyplot: Any) -> Any:
    counts = [n for n in (1, 50) if any(f"@{n}:" in name for name in results.distributions)]
    if not counts:
        return None
    sheet, panels = pyplot.subplots(1, len(counts), figsize=(6.5 * len(counts), 4.5), squeeze=False)
    for panel, count in zip(panels.flat, counts, strict=True):
        for relay in results.relays:
            for which, line in (("first", "-"), ("last", "--")):
                values = results.distributions.get(f"{relay}@{count}:{which}")
                if values and (which == "first" or count > 1):
                    label = relay if count == 1 else f"{relay}, {which} copy"
                    style = {"color": _color(results, relay), "linestyle": line, "label": label}
                    _cumulative(panel, values, **style)
        panel.set_xscale("log")
        panel.set_xlabel("residence in the node (µs, logarithmic)")
        panel.set_ylabel("share of objects")
        panel.set_title(f"Residence time, {count} subscriber{'s' * (count > 1)}")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return sheet


def _costs(results: Results, pyplot: Any) -> Any:
    counts = results.parameters["subscribers"]
    if not any(results.values(r, f"cpu_us@{n}") for r in results.relays for n in counts):
        return None
    sheet, panels = pyplot.subplots(1, len(COSTS), figsize=(4.2 * len(COSTS), 4.2))
    width = 0.8 / len(results.relays)
    for panel, (figure, what) in zip(panels, COSTS, strict=True):
        for index, relay in enumerate(results.relays):
            for place, count in enumerate(counts):
                values = results.values(relay, f"{figure}@{count}")
                if not values:
                    continue
                middle = results.median(relay, f"{figure}@{count}") or 0.0
                reach = [[middle - min(values)], [max(values) - middle]]
                at = place + (index - (len(results.relays) - 1) / 2) * width
                color = _color(results, relay)
                label = relay if place == 0 else None
                panel.bar(at, middle, width, yerr=reach, capsize=2, color=color, label=label)
        panel.set_xticks(range(len(counts)), counts)
        panel.set_xlabel("subscribers")
        panel.set_ylabel("per delivered object")
        panel.set_title(what, fontsize=10)
        panel.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=8)
    sheet.suptitle("Costs of a delivered object; lines: smallest and largest round")
    return sheet


def _thesis(results: Results, pyplot: Any) -> Any:
    found = [relay for relay in results.relays if f"{relay}:thesis" in results.distributions]
    if not found:
        return None
    sheet, panel = pyplot.subplots(figsize=(7, 4.5))
    for relay in found:
        values = results.distributions[f"{relay}:thesis"]
        _cumulative(panel, values, color=_color(results, relay), label=relay)
    panel.set_xscale("log")
    panel.set_xlabel("residence in the node (µs, logarithmic)")
    panel.set_ylabel("share of objects")
    panel.set_title("1024 objects of 21 bytes, 1 ms apart, one subscriber")
    panel.grid(alpha=0.3)
    panel.legend()
    return sheet


def _python(results: Results, pyplot: Any) -> Any:
    if not results.python:
        return None
    sheet, panel = pyplot.subplots(figsize=(7, 4.5))
    members = [int(count) for count in results.python]
    for part in next(iter(results.python.values())):
        values = [costs[part] for costs in results.python.values()]
        panel.plot(members, values, marker="o", label=part)
    panel.set_xscale("log")
    panel.set_ylim(bottom=0)
    panel.set_xlabel("members (logarithmic)")
    panel.set_ylabel("process time per upstream packet (µs)")
    panel.set_title("Python's time for a packet that the kernel forwards")
    panel.grid(alpha=0.3)
    panel.legend()
    return sheet
