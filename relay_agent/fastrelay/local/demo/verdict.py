"""The end of the demo: findings for each viewer, the contact sheet, the verdict."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fastrelay.local.demo import sheet
from fastrelay.local.demo.checks import Findings, compare, read_digests
from fastrelay.local.demo.plan import Viewer
from fastrelay.local.demo.samples import Forwarded, Sample
from fastrelay.local.demo.sheet import Recording
from fastrelay.local.shaping import Shape

if TYPE_CHECKING:
    from fastrelay.local.demo.conductor import DemoOptions

SHEET = "contact-sheet.png"
SETTLING_SECONDS = 1.0
FIRST_PACKETS = 10
"""So many media packets, and the first second of media has begun."""
LEAST_SHARE = 0.75
"""Of the media packets after the first second, what the kernel has to have forwarded. In the demo
viewers come and go all the time, and user space sends each its first group."""
RULE_SECONDS = 15.0
"""In a shorter run first groups are most of what there is."""


def forwarded(history: Sequence[Sample]) -> Forwarded | None:
    """Media packets from the end of the first second of media on; None if nobody counted."""
    known = [(sample.elapsed, sample.forwarded) for sample in history if sample.forwarded]
    begun = [at for at, counted in known if counted.kernel + counted.user >= FIRST_PACKETS]
    if not begun:
        return None
    settled = [counted for at, counted in known if at >= begun[0] + SETTLING_SECONDS]
    return settled[-1] - settled[0] if settled else None


def judge_forwarding(counted: Forwarded | None, options: DemoOptions) -> list[str]:
    """What is wrong with the kernel's part, if it was to forward.

    On links that lose packets user space has to repair, so there is no rule for them.
    """
    if counted is None or counted.share is None:
        return ["nobody knows what the kernel forwarded"]
    ruled = options.shape == Shape() and options.seconds >= RULE_SECONDS
    if ruled and counted.share < LEAST_SHARE:
        return [
            f"the kernel forwarded {counted.share * 100:.1f} % of the media packets after the "
            f"first second; {LEAST_SHARE * 100:.0f} % are expected"
        ]
    return []


def conclude(
    cast: Sequence[Viewer],
    options: DemoOptions,
    console: Console,
    history: Sequence[Sample],
    *,
    in_kernel: bool,
) -> bool:
    """Compare, draw, print; True if nothing is wrong.

    ``in_kernel``: the programs were attached.
    """
    directory = options.output
    sent = {entry.place: entry for entry in read_digests(directory / "publisher.jsonl")}
    lossy = options.shape.rate is not None
    codes = json.loads((directory / "exit-codes.json").read_text())
    findings: dict[str, Findings] = {}
    recordings = []
    for viewer in cast:
        received = read_digests(viewer.digests(directory))
        found = findings[viewer.name] = compare(sent, received, lossy=lossy)
        if codes.get(viewer.name):
            found.faults.append(f"ended with exit code {codes[viewer.name]}")
        label = "\n".join([viewer.name, *viewer.label.split(" · ")])
        recordings.append(Recording(label, viewer.recording(directory), sheet.playable(received)))
    faults = [
        f"the {name} ended with exit code {codes[name]}"
        for name in ("relay", "publisher")
        if codes.get(name)
    ]
    times = [entry.time for entry in sent.values() if entry.time is not None]
    if times:
        faults += _draw(cast, recordings, findings, min(times), directory)
    else:
        faults.append("the publisher sent nothing")
    counted = forwarded(history)
    if in_kernel and all(viewer.in_kernel for viewer in cast):
        faults += judge_forwarding(counted, options)
    _print(cast, findings, console)
    if counted is not None and counted.share is not None:
        console.print(
            f"media packets after the first second: {counted.kernel} by the kernel, "
            f"{counted.user} by user space: {counted.share * 100:.1f} % kernel",
            highlight=False,
        )
    passed = not faults and not any(found.faults for found in findings.values())
    _write_report(findings, faults, counted, passed, directory)
    for fault in faults:
        console.print(f"[red]{fault}[/red]", highlight=False)
    console.print(f"contact sheet: {directory / SHEET}", highlight=False)
    words = "[bold green]PASSED" if passed else "[bold red]FAILED"
    console.print(
        f"{words}[/]: every frame that a viewer has is the publisher's"
        if passed
        else f"{words}[/]: see above, and the logs in {directory}",
        highlight=False,
    )
    return passed


def _draw(
    cast: Sequence[Viewer],
    recordings: Sequence[Recording],
    findings: dict[str, Findings],
    begin: float,
    directory: Path,
) -> list[str]:
    """Decode everything and compose the sheet; returns faults that are nobody's own."""
    watched = [each.frames for each in recordings if each.frames]
    firsts = [frames[0].time or begin for frames in watched]
    lasts = [frames[-1].time or begin for frames in watched]
    # From the moment on when half of them have a picture.
    columns = sheet.moments(sorted(firsts)[len(firsts) // 2], max(lasts)) if watched else []
    with tempfile.TemporaryDirectory() as scratch:
        cells = [Path(scratch, viewer.name) for viewer in cast]
        for viewer, recording, cell in zip(cast, recordings, cells, strict=True):
            if recording.frames and recording.path.exists():
                findings[viewer.name].faults += sheet.decode(recording, cell, columns)
            elif recording.frames:
                findings[viewer.name].faults.append("left no recording")
        try:
            sheet.compose(recordings, cells, columns, begin, directory / SHEET)
        except RuntimeError as error:
            return [str(error)]
    unequal = sheet.unequal_pictures(recordings)
    return [f"{len(unequal)} frames look different to different viewers"] if unequal else []


def _print(cast: Sequence[Viewer], findings: dict[str, Findings], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "frames", "lost", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column("what it ran")
    for viewer in cast:
        found = findings[viewer.name]
        fault = f"\n[red]{'; '.join(found.faults)}[/red]" if found.faults else ""
        table.add_row(
            f"[red]{viewer.name}[/red]" if found.faults else f"[green]{viewer.name}[/green]",
            *(str(found.frames), str(len(found.missing))),
            *("-" if part is None else f"{part * 1e3:.0f}" for part in (found.p50, found.p95)),
            f"{viewer.label}{fault}",
        )
    console.print(table)


def _write_report(
    findings: dict[str, Findings],
    faults: list[str],
    counted: Forwarded | None,
    passed: bool,
    directory: Path,
) -> None:
    report = {
        "passed": passed,
        "faults": faults,
        "media_packets": counted and asdict(counted),
        "viewers": {name: asdict(found) for name, found in findings.items()},
    }
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def samples_as_json(history: Sequence[Sample]) -> str:
    """The figures of the live view, for whoever wants to draw them."""
    return json.dumps([asdict(sample) for sample in history]) + "\n"
