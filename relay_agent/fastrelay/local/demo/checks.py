"""Whether what each viewer received is what the publisher sent: by digest, object for object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fastrelay.local.demo.samples import percentile


class Place(NamedTuple):
    """Where an object is; in the order in which a track is played."""

    track: str
    group: int
    object: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a digest file."""

    place: Place
    sha256: str
    time: float | None
    """When the picture was taken, in seconds since 1970."""
    latency: float | None
    """Seconds from then until the viewer had the whole object."""


def read_digests(path: Path) -> list[Entry]:
    """Every whole line, in the order of writing; a missing file has none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            break  # the last line of a process that was killed
        place = Place(item["track"], item["group"], item["object"])
        entries.append(Entry(place, item["sha256"], item.get("time"), item.get("latency")))
    return entries


@dataclass(slots=True)
class Findings:
    """What is to be said of one viewer."""

    frames: int = 0
    groups: int = 0
    wrong: list[Place] = field(default_factory=list)
    """Received with other bytes than the publisher sent, or never sent at all."""
    doubled: list[Place] = field(default_factory=list)
    missing: list[Place] = field(default_factory=list)
    """Sent by the publisher between the first and the last that this viewer received."""
    p50: float | None = None
    p95: float | None = None
    faults: list[str] = field(default_factory=list)
    """In words, for the verdict; empty: all is well."""


def compare(sent: Mapping[Place, Entry], received: Iterable[Entry], *, lossy: bool) -> Findings:
    """Hold a viewer's digests against the publisher's.

    ``lossy``: the link is worse than the video needs, so a relay may leave out whole groups'
    ends; then missing objects are counted but are no fault.
    """
    found = Findings()
    seen: dict[Place, Entry] = {}
    latencies = []
    for entry in received:
        original = sent.get(entry.place)
        if original is None or original.sha256 != entry.sha256:
            found.wrong.append(entry.place)
        if entry.place in seen:
            found.doubled.append(entry.place)
        seen[entry.place] = entry
        if entry.latency is not None:
            latencies.append(entry.latency)
    found.frames = len(seen)
    found.groups = len({place.group for place in seen})
    found.p50, found.p95 = percentile(latencies, 0.5), percentile(latencies, 0.95)
    if seen:
        first, last = min(seen), max(seen)
        found.missing = sorted(
            place for place in sent if first < place < last and place not in seen
        )
    _judge(found, lossy)
    return found


def _judge(found: Findings, lossy: bool) -> None:
    if not found.frames:
        found.faults.append("received nothing")
    if found.wrong:
        found.faults.append(f"{len(found.wrong)} objects differ from the publisher's")
    if found.doubled:
        found.faults.append(f"{len(found.doubled)} objects came twice")
    if found.missing and not lossy:
        found.faults.append(f"{len(found.missing)} objects are missing")
