"""A path with one bottleneck, in simulated time: a queue that drops at its end, round trips of
given length, senders that always have something to send, each with a congestion controller."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from fastrelay.quic.congestion import Cubic

SEGMENT = 1200


@dataclass(eq=False)
class Flow:
    """``round_trip``: seconds without any queue; ``rate``: bytes a second that it has to send."""

    rule: Cubic
    round_trip: float = 0.04
    begin: float = 0.0
    rate: float | None = None
    end: float = float("inf")
    in_flight: int = 0
    delivered: list[tuple[float, float]] = field(default_factory=list)
    """Of each packet that arrived: when it was acknowledged, its round trip time."""
    lost: int = 0
    wakes: float = -1.0

    def throughput(self, begin: float, end: float) -> float:
        """Bytes a second in this time."""
        return sum(begin <= at < end for at, _ in self.delivered) * SEGMENT / (end - begin)

    def queueing(self, begin: float, end: float) -> list[float]:
        """Seconds that packets waited, smallest first."""
        return sorted(rtt - self.round_trip for at, rtt in self.delivered if begin <= at < end)


@dataclass
class Bottleneck:
    """``rate``: bytes a second; ``buffer``: seconds; ``loss``: part of packets, at random."""

    rate: float
    buffer: float
    loss: float = 0.0
    seed: int = 1

    def run(self, flows: Sequence[Flow], seconds: float) -> None:
        chance, order = Random(self.seed), count()
        events: list[tuple[float, int, Flow, float, bool]] = []
        free = 0.0
        """When the queue is empty."""

        def wake(flow: Flow, at: float) -> None:
            flow.wakes = at
            heapq.heappush(events, (at, next(order), flow, -1.0, False))

        for flow in flows:
            wake(flow, flow.begin)
        sent = dict.fromkeys(flows, 0)
        while events:
            now, _, flow, sent_at, arrived = heapq.heappop(events)
            if now > seconds:
                break
            if sent_at >= 0:
                flow.in_flight -= SEGMENT
                if arrived:
                    used = 2 * (flow.in_flight + SEGMENT) >= flow.rule.window
                    flow.delivered.append((now, now - sent_at))
                    flow.rule.acknowledged(SEGMENT, sent_at, now, used=used)
                    flow.rule.round_trip(now - sent_at, now, used=used)
                else:
                    flow.lost += 1
                    flow.rule.lost(sent_at, now)
            while flow.begin <= now < flow.end and flow.in_flight + SEGMENT <= flow.rule.window:
                if flow.rate is not None:
                    due = flow.begin + sent[flow] * SEGMENT / flow.rate
                    if due > now:
                        if flow.wakes <= now:
                            wake(flow, due)
                        break
                sent[flow] += 1
                flow.in_flight += SEGMENT
                waits = max(free - now, 0.0)
                dropped = waits > self.buffer or chance.random() < self.loss
                if not dropped:
                    free = max(free, now) + SEGMENT / self.rate
                back = now + waits + SEGMENT / self.rate + flow.round_trip
                heapq.heappush(events, (back, next(order), flow, now, not dropped))
