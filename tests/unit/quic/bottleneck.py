"""A path with one bottleneck, in simulated time: a queue that drops at its end, round trips of
given length, receivers that stand still, senders with congestion controllers."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from fastrelay.quic.congestion import Cubic

SEGMENT = 1200
HELD = 100
"""Packets that wait for a receiver that does nothing; the next ones are lost."""
Packet = Any
"""What a flow knows it by."""


@dataclass(eq=False)
class Flow:
    """``round_trip``: seconds without any queue; ``rate``: bytes a second that it has to send,
    None: as much as goes. ``pauses``: from when until when its receiver does nothing; ``away``: the
    sender, which then finds with their times what acknowledgements came."""

    rule: Cubic
    round_trip: float = 0.04
    begin: float = 0.0
    rate: float | None = None
    end: float = float("inf")
    pauses: Sequence[tuple[float, float]] = ()
    away: Sequence[tuple[float, float]] = ()
    in_flight: int = 0
    sent: int = 0
    delivered: list[tuple[float, float]] = field(default_factory=list)
    """Of each packet that arrived: when it was acknowledged, its round trip time."""
    lost: int = 0
    wakes: float = -1.0
    latest: float = 0.0
    """When the last one is acknowledged that is under way."""
    held: dict[float, int] = field(default_factory=dict)
    """Packets that a receiver finds at the end of a pause."""

    def served(self, at: float) -> float:
        """When the sender does what it should at this time."""
        place = bisect_right(self.away, (at, float("inf"))) - 1
        return max(at, self.away[place][1]) if place >= 0 else at

    def due(self, now: float) -> float:
        """When it has a packet to send; up to ``now``: it has one."""
        return now if self.rate is None else self.begin + self.sent * SEGMENT / self.rate

    def take(self, now: float) -> Packet:
        """It is sent."""
        return None

    def came(self, packet: Packet, now: float) -> None:
        """It is acknowledged."""

    def missed(self, packet: Packet, now: float) -> None:
        """It is lost."""

    def throughput(self, begin: float, end: float) -> float:
        """Bytes a second in this time."""
        return sum(begin <= at < end for at, _ in self.delivered) * SEGMENT / (end - begin)

    def queueing(self, begin: float, end: float) -> list[float]:
        """Seconds that packets waited, smallest first."""
        return sorted(rtt - self.round_trip for at, rtt in self.delivered if begin <= at < end)


@dataclass
class Bottleneck:
    """``rate``: bytes a second; ``buffer``: seconds; ``loss``: part of packets, at random;
    ``jitter``: seconds that a packet takes longer, at random, but none overtakes another."""

    rate: float
    buffer: float
    loss: float = 0.0
    jitter: float = 0.0
    seed: int = 1

    def run(self, flows: Sequence[Flow], seconds: float) -> None:
        chance, order = Random(self.seed), count()
        events: list[tuple[float, int, Flow, Packet, float, float, bool]] = []
        free = 0.0
        """When the queue is empty."""

        def wake(flow: Flow, at: float) -> None:
            flow.wakes = flow.served(at)
            heapq.heappush(events, (flow.wakes, next(order), flow, None, -1.0, at, False))

        for flow in flows:
            wake(flow, flow.begin)
        while events:
            now, _, flow, packet, sent_at, came, arrived = heapq.heappop(events)
            if now > seconds:
                break
            if sent_at >= 0:
                flow.in_flight -= SEGMENT
                if arrived:
                    used = 2 * (flow.in_flight + SEGMENT) >= flow.rule.window
                    flow.delivered.append((came, came - sent_at))
                    flow.rule.acknowledged(SEGMENT, sent_at, came, used=used)
                    flow.rule.round_trip(came - sent_at, came, used=used)
                    flow.came(packet, now)
                else:
                    flow.lost += 1
                    flow.rule.lost(sent_at, now)
                    flow.missed(packet, now)
            while flow.begin <= now < flow.end:
                due = flow.due(now)
                if due > now:
                    if flow.wakes <= now:
                        wake(flow, due)
                    break
                if flow.in_flight + SEGMENT > flow.rule.window:
                    break
                packet = flow.take(now)
                flow.sent += 1
                flow.in_flight += SEGMENT
                waits = max(free - now, 0.0)
                dropped = waits > self.buffer or chance.random() < self.loss
                if not dropped:
                    free = max(free, now) + SEGMENT / self.rate
                back = now + waits + SEGMENT / self.rate + flow.round_trip
                if self.jitter:
                    back += chance.random() * self.jitter
                for begin, end in flow.pauses:
                    if begin <= back < end:
                        back = end
                        flow.held[end] = flow.held.get(end, 0) + 1
                        dropped |= flow.held[end] > HELD
                flow.latest = back = max(back, flow.latest)
                at = flow.served(back)
                heapq.heappush(events, (at, next(order), flow, packet, now, back, not dropped))
