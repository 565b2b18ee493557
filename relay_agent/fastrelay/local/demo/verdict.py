"""The end of the demo: findings for each viewer, the contact sheet, the verdict."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fastrelay.local.demo import sheet
from fastrelay.local.demo.checks import Findings, compare, read_digests
from fastrelay.local.demo.plan import Viewer
from fastrelay.local.demo.samples import Forwarded, Sample, Session, share_in_words
from fastrelay.local.demo.sheet import Recording
from fastrelay.local.shaping import Shape

if TYPE_CHECKING:
    from fastrelay.local.demo.conductor import DemoOptions

SHEET = "contact-sheet.png"
LEAST_SHARE = 0.95
"""Of a viewer's media packets, what the kernel has to forward once it serves the viewer."""
FEWEST_PACKETS = 100
"""Fewer say nothing of that."""
SERVED_SECONDS = 10.0
"""Within which the kernel has to serve a viewer. Until then user space sends the current group
from its cache, and goes on with it to its end."""


def forwarded(history: Sequence[Sample], viewer: str) -> Forwarded | None:
    """The viewer's media packets while the kernel serves it; None: it never did.

    That begins when it has all of its subscriptions, and user space is through with what it sent
    before; and again so when the viewer fell behind. Repairs of losses are nobody's.
    """
    sessions = _sessions(history, viewer)
    most = max((session.subscriptions for session in sessions), default=0)
    counted, served = None, False
    for before, now in pairwise(sessions):
        served = served or (before.subscriptions == most and not before.reason)
        if now.falls != before.falls:
            served = False
        if served:
            new = now.forwarded - before.forwarded
            sent = Forwarded(new.kernel, max(0, new.user - (now.lost - before.lost)))
            counted = (counted or Forwarded(0, 0)) + sent
    return counted


def judge_forwarding(history: Sequence[Sample], viewer: str) -> list[str]:
    """What is wrong with the kernel's part in what the viewer got."""
    counted = forwarded(history, viewer)
    if counted is None:
        sessions = _sessions(history, viewer)
        if not sessions or sessions[-1].seconds < SERVED_SECONDS or sessions[-1].is_slow:
            return []
        return [f"the kernel never served it: {sessions[-1].reason}"]
    if counted.kernel + counted.user < FEWEST_PACKETS or (counted.share or 0) >= LEAST_SHARE:
        return []
    return [
        f"{counted.user} of {counted.kernel + counted.user} media packets came from user space "
        f"after the kernel had begun to serve it; {1 - LEAST_SHARE:.0%} may"
    ]


def _sessions(history: Sequence[Sample], viewer: str) -> list[Session]:
    return [session for sample in history if (session := sample.pods[viewer].session)]


def conclude(
    cast: Sequence[Viewer],
    options: DemoOptions,
    console: Console,
    history: Sequence[Sample],
    *,
    in_kernel: bool,
) -> bool:
    """Compare, draw, print; True if nothing is wrong.

    ``in_kernel``: the programs were attached. On links that lose packets user space has to
    repair, so there is no rule for them.
    """
    directory = options.output
    sent = {entry.place: entry for entry in read_digests(directory / "publisher.jsonl")}
    lossy = options.shape.rate is not None
    codes = json.loads((directory / "exit-codes.json").read_text())
    findings: dict[str, Findings] = {}
    counted = {viewer.name: forwarded(history, viewer.name) for viewer in cast}
    ruled = in_kernel and options.shape == Shape()
    recordings = []
    for viewer in cast:
        received = read_digests(viewer.digests(directory))
        found = findings[viewer.name] = compare(sent, received, lossy=lossy)
        if codes.get(viewer.name):
            found.faults.append(f"ended with exit code {codes[viewer.name]}")
        if ruled and viewer.in_kernel:
            found.faults += judge_forwarding(history, viewer.name)
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
    _print(cast, findings, counted, console)
    total = sum((each for each in counted.values() if each), Forwarded(0, 0))
    if total.share is not None:
        console.print(
            f"media packets since the kernel serves each viewer: {total.kernel} by the kernel, "
            f"{total.user} by user space: {total.share:.1%} kernel",
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


def _print(
    cast: Sequence[Viewer],
    findings: dict[str, Findings],
    counted: Mapping[str, Forwarded | None],
    console: Console,
) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "frames", "lost", "p50 ms", "p95 ms", "by kernel"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column("what it ran")
    for viewer in cast:
        found = findings[viewer.name]
        fault = f"\n[red]{'; '.join(found.faults)}[/red]" if found.faults else ""
        table.add_row(
            f"[red]{viewer.name}[/red]" if found.faults else f"[green]{viewer.name}[/green]",
            *(str(found.frames), str(len(found.missing))),
            *("-" if part is None else f"{part * 1e3:.0f}" for part in (found.p50, found.p95)),
            share_in_words(counted[viewer.name]),
            f"{viewer.label}{fault}",
        )
    console.print(table)


def _write_report(
    findings: dict[str, Findings],
    faults: list[str],
    counted: Mapping[str, Forwarded | None],
    passed: bool,
    directory: Path,
) -> None:
    report = {
        "passed": passed,
        "faults": faults,
        "viewers": {
            name: {**asdict(found), "media_packets": (each := counted[name]) and asdict(each)}
            for name, found in findings.items()
        },
    }
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def samples_as_json(history: Sequence[Sample]) -> str:
    """The figures of the live view, for whoever wants to draw them."""
    return json.dumps([asdict(sample) for sample in history]) + "\n"
