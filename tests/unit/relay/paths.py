"""Media for a member on a path, in simulated time: bands, congestion controller, limiter and
bottleneck together, each the real one but for the last."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from fastrelay.fastpath.bands import Bands, Shares, Verdict, nanoseconds
from fastrelay.fastpath.layout import BANDS
from fastrelay.relay.limits import Limiter, Look
from fastrelay.relay.watch import LOOK_SECONDS
from unit.quic.bottleneck import SEGMENT, Flow

MBIT = 125_000
FRAMES_PER_SECOND = 25


class Segment(NamedTuple):
    """In the order in which they are sent."""

    band: int
    group: int
    number: int
    at: float
    """When it came."""


@dataclass(eq=False)
class Media(Flow):
    """``bits``: a second, by band; a group of each is ``seconds`` long, and a stream; its first
    frame is ``key`` times as large as another one."""

    bits: tuple[float, ...] = (0.1e6, 1e6, 1.3e6, 1.6e6)
    seconds: float = 1.0
    key: float = 3.0
    latencies: dict[int, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Of each segment, by band: when it came here, seconds until it was acknowledged."""
    dropped: list[tuple[float, int, int]] = field(default_factory=list)
    """Streams: when, band, group."""
    levels: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = 0.0
        self.bands = Bands(Shares())
        self.limiter = Limiter(self.bands, 0, lambda: self.now)
        self._offered = [each / 8 for each in self.bits] + [0.0] * (BANDS - len(self.bits))
        self._frames = 0
        self._carried = [0.0] * len(self.bits)
        self._numbers = count()
        self._waiting: list[Segment] = []
        self._begun: dict[tuple[int, int], bool] = {}
        """By band and group, whether it is sent."""
        self._looks = 0.0
        self._acknowledged = 0
        self._is_watched = False

    def due(self, now: float) -> float:
        self.now = now
        self._produce()
        if self._waiting:
            self._is_watched = True
        if now >= self._looks:
            self._looks = now + LOOK_SECONDS
            self._look()
        while self._waiting and not self._admits(self._waiting[0]):
            heapq.heappop(self._waiting)
        if self._waiting and self.in_flight + SEGMENT <= self.rule.window:
            return now
        return min(self._frames / FRAMES_PER_SECOND, self._looks)

    def _produce(self) -> None:
        while (at := self._frames / FRAMES_PER_SECOND) <= self.now:
            each = round(self.seconds * FRAMES_PER_SECOND)
            group, frame = divmod(self._frames, each)
            for band, bits in enumerate(self.bits):
                even = bits / 8 * self.seconds / (each - 1 + self.key)
                self._carried[band] += even * (1 if frame else self.key)
                while self._carried[band] >= SEGMENT:
                    self._carried[band] -= SEGMENT
                    segment = Segment(band, group, next(self._numbers), at)
                    if self._begun.get((band, group), True):
                        heapq.heappush(self._waiting, segment)
            self._frames += 1

    def _admits(self, segment: Segment) -> bool:
        stream = segment.band, segment.group
        if stream not in self._begun:
            verdict = self.bands.judge(*stream, nanoseconds(self.now))
            self._begin(stream, verdict is Verdict.ADMITTED)
        return self._begun[stream]

    def _begin(self, stream: tuple[int, int], admitted: bool) -> None:
        self._begun[stream] = admitted
        if not admitted:
            self.dropped.append((self.now, *stream))

    def _look(self) -> None:
        if not self._is_watched:
            return
        waiting = len(self._waiting) * SEGMENT
        oldest = [0.0] * BANDS
        for segment in self._waiting:
            oldest[segment.band] = max(oldest[segment.band], self.now - segment.at)
        self.limiter.look(Look(self.now, self._acknowledged, waiting, self._offered, oldest))
        self.levels.append((self.now, self.bands.level))
        for segment in self._waiting:
            stream = segment.band, segment.group
            if stream not in self._begun and self.bands.is_beyond(*stream):
                self._begin(stream, admitted=False)
        self._waiting = [s for s in self._waiting if self._begun.get((s.band, s.group), True)]
        heapq.heapify(self._waiting)
        if self.limiter.is_idle and not self._waiting:
            self.limiter.rest()
            self._is_watched = False

    def take(self, now: float) -> Segment:
        segment = heapq.heappop(self._waiting)
        self.bands.charge(segment.band, SEGMENT, nanoseconds(now))
        return segment

    def came(self, packet: Segment, now: float) -> None:
        self._acknowledged += SEGMENT
        self.latencies[packet.band].append((packet.at, now - packet.at))

    def missed(self, packet: Segment, now: float) -> None:
        heapq.heappush(self._waiting, packet)

    def late(self, band: int, begin: float, part: float = 1.0) -> float:
        """Seconds that so many of the band's segments took no longer than."""
        found = sorted(each for at, each in self.latencies[band] if at >= begin)
        return found[round((len(found) - 1) * part)] if found else float("inf")
