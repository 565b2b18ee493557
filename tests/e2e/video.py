"""Real video through a relay of the cluster, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from e2e.relays import Relay
from e2e.watching import TRACK, Audience, Client
from fastrelay.local.demo.checks import Entry, Findings, compare

FIRST_FRAMES = 60
"""After so many, a viewer's first seconds are over, and what user space sends to begin with."""
LEAST_SHARE = 0.95
"""Of the media packets, what the kernel has to have sent."""
_SECONDS = 240.0
_SENT_BY_KERNEL = "fastrelay_kernel_packets_sent_total"
_SENT_BY_USER_SPACE = "fastrelay_media_packets_sent_total"


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets with media that a relay's pods sent."""

    kernel: int
    user: int

    @property
    def share(self) -> float:
        """The kernel's part, 0 to 1."""
        total = self.kernel + self.user
        return self.kernel / total if total else 0.0

    def since(self, begin: Packets) -> Packets:
        return Packets(self.kernel - begin.kernel, self.user - begin.user)

    def __str__(self) -> str:
        return f"{self.kernel} by the kernel, {self.user} by user space: {self.share:.1%} kernel"


def packets(relay: Relay) -> Packets:
    """Since its pods began."""
    found = relay.metrics()
    return Packets(int(found[_SENT_BY_KERNEL]), int(found[_SENT_BY_USER_SPACE]))


@dataclass(frozen=True, slots=True)
class Seen:
    """What one viewer got of the broadcast. ``pause``: the longest between two frames, seconds;
    ``begun``: how many had come before it. ``late``: the longest that a frame took, seconds."""

    name: str
    findings: Findings
    pause: float
    begun: int
    late: float

    def __str__(self) -> str:
        found = self.findings
        lost = f"{len(found.missing)} lost, {len(found.doubled)} twice, {len(found.wrong)} wrong"
        pause = f"longest pause {self.pause:.2f} s after {self.begun} frames"
        return f"{self.name}: {found.frames} frames, {lost}, {pause}, latest {self.late:.2f} s"


def mostly_in_kernel(
    relay: Relay, audience: Audience, watching: Sequence[Client], frames: int
) -> Packets:
    """Until the kernel has had its share of what was sent while everybody saw so many frames."""
    deadline = time.monotonic() + _SECONDS
    while True:
        begin = packets(relay)
        audience.see(watching, frames)
        found = packets(relay).since(begin)
        if found.share >= LEAST_SHARE:
            return found
        assert time.monotonic() < deadline, f"{found}\n{relay.metrics()}"


def end(viewers: Sequence[Client], publisher: Client) -> list[Seen]:
    """End all of them, and hold what came against what was sent.

    :raises AssertionError: a client ends badly.
    """
    received: dict[str, list[Entry]] = {}
    for each in [*viewers, publisher]:
        each.end()
        received[each.name] = each.received()
    sent = {entry.place: entry for entry in received.pop(publisher.name)}
    seen = []
    for name, entries in received.items():
        pictures = [each for each in entries if each.place.track == TRACK]
        found = compare(sent, pictures, lossy=False)
        latencies = [each.latency for each in pictures if each.latency is not None]
        seen.append(Seen(name, found, *_pause(pictures), max(latencies, default=0.0)))
    return seen


def both_ways(audience: Audience, inside: str, outside: str) -> tuple[Client, list[Client]]:
    """A publisher in a pod, and viewers in a pod and outside, ours and others'.

    :return: them, when all see the picture.
    """
    publisher = audience.publish_from_pod(inside)
    viewers = [
        audience.watch_from_pod("viewer-pod", inside),
        audience.watch("viewer-18", outside),
        audience.watch("viewer-22", outside, draft=22),
        audience.watch_with("moqrs", outside, 18),
        audience.watch_with("aiomoqt", outside, 22),
    ]
    audience.see(viewers, FIRST_FRAMES)
    return publisher, viewers


def _pause(entries: Sequence[Entry]) -> tuple[float, int]:
    """The longest time between frames arriving, and how many had; 0 where a viewer does not say
    when they did."""
    moments = sorted(
        each.time + each.latency
        for each in entries
        if each.time is not None and each.latency is not None
    )
    pauses = [(after - before, at) for at, (before, after) in enumerate(pairwise(moments), 1)]
    return max(pauses, default=(0.0, 0))
