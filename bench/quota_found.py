"""What bench/quota.py finds, as it is kept in quota.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.found import Kept
from bench.quota_load import TRANSFER_SIZE

RECOVERED = 0.9
"""Part of what was transferred before the attack."""


@dataclass(slots=True)
class Floor:
    """A program in our program's place that refuses everything: what the way to it costs."""

    hook: str = ""
    softirq_us: float = 0.0
    """For each packet."""
    statistics_us: float = 0.0
    """That program under the flood, by the kernel's statistics: what they cost themselves."""


@dataclass(slots=True)
class Window:
    """A while under a paced load."""

    served: float
    """Bytes a second."""
    durations: list[float]
    """Of transfers that began then."""
    failed: int
    """Of those."""
    cpu: float
    """What the server's process had of one."""


@dataclass(slots=True)
class Found:
    """What was measured of one variant. Transfers: seconds since the attack's begin, and how long
    they took."""

    hook: str = ""
    transfers: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    """Of each third: before, during, after the attack."""
    failed: int = 0
    """Transfers during the attack."""
    calls_attack: float = 0.0
    """System calls a second while it is under attack and serves."""

    paced: list[tuple[Window, Window]] = field(default_factory=list)
    """Calm and under the flood, one after the other."""
    paced_flood: float = 0.0
    """That flood's packets a second."""

    flood_per_second: float = 0.0
    generator_cpu: float = 0.0
    """What the attackers' process had of its own."""
    blocked: int = 0
    """Or, without a quota, datagrams that came to the relay. Of the flood alone."""
    process_us: float = 0.0
    softirq_us: float = 0.0
    """For each of those."""
    calls: float = 0.0
    idle_memory: int = 0
    attack_memory: int = 0

    program_us: float = 0.0
    """The program alone that refuses, for each packet, by its test runs."""
    program_flood_us: float = 0.0
    """The same under the flood, by the kernel's statistics."""
    floors: list[Floor] = field(default_factory=list)

    shares: list[tuple[float, float]] = field(default_factory=list)
    """Bytes a second of honest clients: calm and under the flood, one after the other."""
    share_flood: float = 0.0
    """That flood's packets a second."""
    media_us: list[tuple[list[float], list[float]]] = field(default_factory=list)
    """Residence times: calm and under the flood, one after the other."""
    media_flood: float = 0.0
    refused_others: int = 0
    """Packets that were refused for another reason than the attackers' addresses."""

    def during(self, first: float, last: float) -> list[float]:
        """Durations of transfers that ended then."""
        return [took for begun, took in self.transfers if first <= begun + took < last]

    def throughput(self, first: float, last: float) -> float:
        """Megabytes a second."""
        return len(self.during(first, last)) * TRANSFER_SIZE / (last - first) / 1e6

    @property
    def calls_for_each(self) -> float:
        """System calls for each transfer under attack."""
        return self.calls_attack * self.seconds / max(len(self.during(0, self.seconds)), 1)

    @property
    def recovery(self) -> float | None:
        """Seconds after the attack until a second has as much as one before it."""
        calm = self.throughput(-self.seconds, 0)
        for tenth in range(int(10 * (self.seconds - 1))):
            begin = self.seconds + tenth / 10
            if self.throughput(begin, begin + 1) >= RECOVERED * calm:
                return tenth / 10
        return None


def served(transfers: Iterable[tuple[float, float]], first: float, last: float) -> float:
    """Bytes a second between these moments, of transfers that began then and took so long: those of
    each spread over its time, so that it counts for nothing which of them ended just before."""
    parts = (
        max(0.0, min(begun + took, last) - max(begun, first)) / took for begun, took in transfers
    )
    return sum(parts) * TRANSFER_SIZE / (last - first)


Variants = dict[str, Found]


@dataclass(slots=True)
class Results(Kept):
    """``subjects``: relay and http3, each with what was found of its variants."""

    subjects: dict[str, Variants]
    parameters: dict[str, Any]
