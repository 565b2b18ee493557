"""What a viewer got: latency of every frame, stalls, gaps, duplicates, missing groups.

Latency is glass to glass up to the decoder: from the media time of a frame, which is Unix time
of its capture, to the arrival of its last byte. Both machines' clocks must agree.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from fastrelay.media.formats import Sample

_REMEMBERED_GROUPS = 64
"""Groups whose object ids are kept, to tell a duplicate."""


def percentile(ordered: array[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def latency_summary(latencies: array[float]) -> dict[str, float] | None:
    """Percentiles in milliseconds of latencies in seconds; None if there are none."""
    if not latencies:
        return None
    ordered = array("d", sorted(latencies))
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    summary = {name: percentile(ordered, share) for name, share in shares.items()}
    summary["mean"] = sum(ordered) / len(ordered)
    return {name: round(value * 1000, 1) for name, value in summary.items()}


@dataclass(slots=True)
class Playout:
    """A player that begins ``buffer`` seconds after its first frame arrived and stops for
    every frame that is not there in time, then goes on that much later."""

    buffer: float
    stalls: int = 0
    stalled: float = 0.0
    _delay: float | None = None

    def frame(self, latency: float) -> None:
        if self._delay is None:
            self._delay = latency + self.buffer
        elif latency > self._delay:
            self.stalls += 1
            self.stalled += latency - self._delay
            self._delay = latency


@dataclass(slots=True)
class TrackReport:
    """Counts of one track. Call :meth:`arrived` in order of arrival for every object and
    :meth:`ordered` for its samples after sorting."""

    kind: str
    playout: Playout
    frames: int = 0
    objects: int = 0
    bytes: int = 0
    gaps: int = 0
    duplicates: int = 0
    late: int = 0
    resets: int = 0
    malformed: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    _groups: int = 0
    _first_group: int | None = None
    _last_group: int = 0
    _seen: OrderedDict[int, set[int]] = field(default_factory=OrderedDict)
    _expected: int | None = None

    def arrived(self, group: int, object_id: int, size: int) -> bool:
        """Whether the object is new; a duplicate is only counted."""
        seen = self._seen.get(group)
        if seen is None:
            seen = self._seen[group] = set()
            self._groups += 1
            if self._first_group is None or group < self._first_group:
                self._first_group = group
            self._last_group = max(self._last_group, group)
            if len(self._seen) > _REMEMBERED_GROUPS:
                self._seen.popitem(last=False)
        elif object_id in seen:
            self.duplicates += 1
            return False
        seen.add(object_id)
        self.objects += 1
        self.bytes += size
        return True

    def latency(self, seconds: float) -> None:
        """One frame's, in order of arrival."""
        self.frames += 1
        self.latencies.append(seconds)
        self.playout.frame(seconds)

    def ordered(self, sample: Sample) -> None:
        """A frame whose time is not where the one before it ended counts as one gap, however
        many frames are missing; half a frame of rounding is tolerated."""
        if self._expected is not None and sample.duration:
            self.gaps += abs(sample.time - self._expected) > sample.duration // 2
        self._expected = sample.time + sample.duration

    @property
    def missing_groups(self) -> int:
        """Ids between the first and the last group of which nothing came."""
        if self._first_group is None:
            return 0
        return self._last_group - self._first_group + 1 - self._groups

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "frames": self.frames,
            "objects": self.objects,
            "bytes": self.bytes,
            "groups": self._groups,
            "missing_groups": self.missing_groups,
            "gaps": self.gaps,
            "duplicates": self.duplicates,
            "late": self.late,
            "resets": self.resets,
            "malformed": self.malformed,
            "stalls": self.playout.stalls,
            "stall_ms": round(self.playout.stalled * 1000, 1),
            "latency_ms": latency_summary(self.latencies),
        }


_SUMS = ("frames", "bytes", "gaps", "duplicates", "missing_groups", "late", "resets", "malformed")


@dataclass(slots=True)
class Report:
    """The whole of one subscription to a broadcast; ``join`` is the time in seconds from the
    start of the connection to the first frame, ``duration`` from there to the end. Where
    media time is not Unix time (``unix_time``), latencies are counted from the first frame.
    ``sessions``: how many have carried it, one after the other."""

    namespace: str
    tracks: dict[str, TrackReport] = field(default_factory=dict)
    draft: str = ""
    transport: str = ""
    join: float | None = None
    duration: float = 0.0
    sessions: int = 1
    unix_time: bool = True

    def as_json(self) -> dict[str, Any]:
        """Sums over all tracks, and stalls and latency of the video (or whatever there is)."""
        tracks = {name: track.as_json() for name, track in self.tracks.items()}
        main = next((t for t in tracks.values() if t["kind"] == "video"), None)
        main = main or next(iter(tracks.values()), None)
        return {
            "namespace": self.namespace,
            "draft": self.draft,
            "transport": self.transport,
            "join_ms": None if self.join is None else round(self.join * 1000, 1),
            "duration_s": round(self.duration, 3),
            "sessions": self.sessions,
            "unix_time": self.unix_time,
            **{name: sum(track[name] for track in tracks.values()) for name in _SUMS},
            "stalls": main["stalls"] if main else 0,
            "stall_ms": main["stall_ms"] if main else 0.0,
            "latency_ms": main["latency_ms"] if main else None,
            "tracks": tracks,
        }

    def line(self) -> str:
        """One line on how it stands."""
        parts = [self.namespace]
        for name, track in self.tracks.items():
            parts.append(f"{name}: {track.frames} frames")
            if track.latencies:
                parts.append(f"{track.latencies[-1] * 1000:.0f} ms")
            if track.gaps or track.playout.stalls:
                parts.append(f"{track.gaps} gaps, {track.playout.stalls} stalls")
        return "  ".join(parts)

    def heading(self) -> str:
        """What the table is about."""
        join = "" if self.join is None else f", first frame after {self.join * 1000:.0f} ms"
        clock = "" if self.unix_time else "; latency is relative to the first frame's"
        return f"{self.namespace} over {self.draft}, {self.transport}{join}{clock}"

    def table(self) -> Table:
        """For people: one column for each track."""
        table = Table()
        table.add_column("")
        for name in self.tracks:
            table.add_column(name, justify="right")
        columns = [self._cells(track) for track in self.tracks.values()]
        for label in _LABELS if columns else ():
            table.add_row(label, *(cells[label] for cells in columns))
        return table

    def _cells(self, track: TrackReport) -> dict[str, str]:
        latency = latency_summary(track.latencies) or {}
        rate = track.bytes * 8 / 1000 / self.duration if self.duration else 0.0
        playout = track.playout
        cells = {
            "frames": f"{track.frames}",
            "kbit/s": f"{rate:.0f}",
            "stalls": f"{playout.stalls}",
            "stalled, ms": f"{playout.stalled * 1000:.0f}",
            "gaps": f"{track.gaps}",
            "missing groups": f"{track.missing_groups}",
            "duplicates": f"{track.duplicates}",
            "reset streams": f"{track.resets}",
            "late": f"{track.late}",
            "malformed": f"{track.malformed}",
        }
        for name in ("p50", "p95", "p99", "max"):
            cells[f"latency {name}, ms"] = f"{latency[name]:.1f}" if latency else "-"
        return cells


_LABELS = (
    "frames",
    "kbit/s",
    "latency p50, ms",
    "latency p95, ms",
    "latency p99, ms",
    "latency max, ms",
    "stalls",
    "stalled, ms",
    "gaps",
    "missing groups",
    "duplicates",
    "reset streams",
    "late",
    "malformed",
)
