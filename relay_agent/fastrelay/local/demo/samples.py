"""What the live view shows, gathered twice a second from outside the processes.

Frames and latency come from the viewers' digest files, bytes from the links, CPU time from
/proc, sessions from the relay's own status page.
"""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastrelay.local import http, processes, topology
from fastrelay.local.stack import Stack
from fastrelay.relay.seat import BEHIND

STALL_SECONDS = 0.5
"""A viewer that gets no frame for this long is standing still."""
RATE_SECONDS = 2.5
"""Viewers may write their digests in bursts; frame rates are means over this long."""
RECENT_FRAMES = 250
"""Latency is shown over this many frames: ten seconds at 25 a second."""


@dataclass(slots=True)
class FrameLog:
    """A digest file that is still being written."""

    path: Path
    tracks: tuple[str, ...] = ()
    """Only these count; empty: all."""
    frames: int = 0
    stalls: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_FRAMES))
    _offset: int = 0
    _last: float | None = None

    def read(self) -> None:
        """Take the whole lines that were added since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rpartition(b"\n")[0]
        if not whole:
            return
        self._offset += len(whole) + 1
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        if self.tracks and entry["track"] not in self.tracks:
            return
        received = entry.get("received", entry.get("sent"))
        self.frames += 1
        if received is not None:
            if self._last is not None and received - self._last > STALL_SECONDS:
                self.stalls += 1
            self._last = received
        if (latency := entry.get("latency")) is not None:
            self.latencies.append(latency)


def percentile(values: list[float], part: float) -> float | None:
    """The smallest value that at least ``part`` of all do not exceed (nearest rank)."""
    if not values:
        return None
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Media packets that the relay has sent to viewers so far."""

    kernel: int
    user: int

    @property
    def share(self) -> float | None:
        """The kernel's part, 0 to 1."""
        total = self.kernel + self.user
        return self.kernel / total if total else None

    def __sub__(self, other: Forwarded) -> Forwarded:
        return Forwarded(self.kernel - other.kernel, self.user - other.user)

    def __add__(self, other: Forwarded) -> Forwarded:
        return Forwarded(self.kernel + other.kernel, self.user + other.user)


def share_in_words(forwarded: Forwarded | None) -> str:
    """The kernel's part, for a table."""
    share = forwarded and forwarded.share
    return "-" if share is None else f"{share:.1%}"


@dataclass(frozen=True, slots=True)
class Session:
    """A viewer's, as the relay sees it."""

    seconds: float
    forwarded: Forwarded
    lost: int
    """Packets that the relay sent to it and that never arrived, so far."""
    subscriptions: int
    """To media."""
    falls: int
    """How often its connection took no more: then user space goes on with the group."""
    reason: str
    """Why user space still sends what it gets next; empty: the kernel does."""

    @property
    def is_slow(self) -> bool:
        """It cannot take what there is."""
        return bool(self.falls) or self.reason.endswith(BEHIND)


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod over the last interval."""

    state: str
    """``waiting``, ``running``, ``left`` or ``failed``."""
    receive_rate: float
    """Bits a second towards the pod."""
    send_rate: float
    cpu: float
    """CPU seconds a second: 1.0 is one core."""
    memory: int
    """Resident bytes of all its processes."""
    frames: int
    frame_rate: float
    p50: float | None
    """Latency in seconds from capture to the viewer's hand, over recent frames."""
    p95: float | None
    stalls: int
    session: Session | None = None
    """What the relay says of it; None while it has none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment."""

    elapsed: float
    pods: dict[str, PodSample]
    sessions: int | None
    tracks: int | None
    forwarded: Forwarded | None


class Sampler:
    """Takes samples; keeps what is needed for rates between them."""

    def __init__(self, stack: Stack, logs: dict[str, FrameLog], started: float) -> None:
        self._stack = stack
        self._logs = logs
        self._started = started
        self._at = started
        self._bytes: dict[str, tuple[int, int]] = {}
        self._cpu: dict[processes.ProcessId, float] = {}
        self._frames: dict[str, deque[tuple[float, int]]] = {}

    def take(self, states: dict[str, str]) -> Sample:
        """``states`` is what the conductor knows of each pod."""
        now = time.monotonic()
        interval = max(now - self._at, 1e-3)
        self._at = now
        links = topology.device_counters(self._stack.state)
        usage = self._usage()
        status = self._status()
        sessions = sessions_of(status)
        pods = {}
        for name, state in states.items():
            link = links[name]
            moved = (link.to_pod_bytes, link.from_pod_bytes)
            before = self._bytes.get(name, moved)
            self._bytes[name] = moved
            log = self._logs.get(name)
            frames, latencies = 0, []
            if log:
                log.read()
                frames, latencies = log.frames, list(log.latencies)
            cpu, memory = usage[name]
            pods[name] = PodSample(
                state=state,
                receive_rate=(moved[0] - before[0]) * 8 / interval,
                send_rate=(moved[1] - before[1]) * 8 / interval,
                cpu=cpu / interval,
                memory=memory,
                frames=frames,
                frame_rate=self._frame_rate(name, now, frames),
                p50=percentile(latencies, 0.50),
                p95=percentile(latencies, 0.95),
                stalls=log.stalls if log else 0,
                session=self._session_of(name, sessions),
            )
        return Sample(
            now - self._started,
            pods,
            len(status["sessions"]) if status else None,
            len(status["tracks"]) if status else None,
            _forwarded(status),
        )

    def _session_of(self, pod: str, sessions: dict[str, Session]) -> Session | None:
        place = self._stack.state.pods[pod]
        return sessions.get(place.ipv4, sessions.get(place.ipv6))

    def _frame_rate(self, pod: str, now: float, frames: int) -> float:
        history = self._frames.setdefault(pod, deque())
        history.append((now, frames))
        while len(history) > 2 and now - history[1][0] >= RATE_SECONDS:
            history.popleft()
        since, before = history[0]
        return (frames - before) / (now - since) if now > since else 0.0

    def _usage(self) -> dict[str, tuple[float, int]]:
        """CPU seconds since the last sample and resident bytes, by pod."""
        pods = self._stack.state.pods
        found = processes.inside(*(pod.namespace for pod in pods.values()))
        usage, seen = {}, {}
        for name, pod in pods.items():
            used, memory = 0.0, 0
            for process in found[pod.namespace]:
                seconds = processes.cpu_seconds(process.pid)
                if seconds is not None:
                    seen[process] = seconds
                    used += seconds - self._cpu.get(process, seconds)
                    memory += processes.resident_bytes(process.pid) or 0
            usage[name] = (used, memory)
        self._cpu = seen
        return usage

    def _status(self) -> dict[str, Any] | None:
        """The relay's status page; None while it has none."""
        with suppress(OSError, ValueError):
            namespace = self._stack.relay.namespace
            return dict(http.get_json(namespace, self._stack.monitoring_port, "/statusz"))
        return None


def sessions_of(status: dict[str, Any] | None) -> dict[str, Session]:
    """By the peer's address."""
    found = {}
    for session in status["sessions"] if status else []:
        # Viewers read a catalog first, some of them only at first.
        media = [s for s in session["subscriptions"] if not s["track"].endswith("catalog")]
        found[session["address"].rpartition(":")[0].strip("[]")] = Session(
            session["seconds"],
            Forwarded(session["kernel_packets"], session["user_packets"]),
            session["path"]["packets_lost"],
            len(media),
            sum(subscription["falls_behind"] for subscription in media),
            _reason(media, session["backlog"]),
        )
    return found


def _reason(subscriptions: list[dict[str, Any]], backlog: int) -> str:
    if not subscriptions:
        return "it has not subscribed"
    for subscription in subscriptions:
        if subscription["fast_path"]:
            return f"{subscription['track']}: {subscription['fast_path']}"
        if subscription["open_streams"]:
            return f"{subscription['track']}: a stream that user space has begun"
    return "packets that wait in user space" if backlog else ""


def _forwarded(status: dict[str, Any] | None) -> Forwarded | None:
    fast_path = status.get("fast_path") if status else None
    return fast_path and Forwarded(fast_path["kernel_packets"], fast_path["user_packets"])
