"""What bench/bottleneck.py finds, as it is kept in bottleneck.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.found import Kept


@dataclass(slots=True)
class Layered:
    """Groups of a layer, and seconds that its objects took.

    ``cut``: groups of which a part came; ``stalled``: of these, those whose end nobody told.
    """

    whole: int
    dropped: int
    cut: int
    stalled: int
    median: float
    late: float
    """The slowest in a hundred."""
    latest: float


@dataclass(slots=True)
class Member:
    """One behind a bottleneck of its own. ``queue``: seconds of the bottleneck's rate, one look
    after the other; ``curves``: layer -> (seconds since the begin, latency) of objects."""

    layers: dict[str, Layered] = field(default_factory=dict)
    queue: list[tuple[float, float]] = field(default_factory=list)
    share: float = 0.0
    """The kernel's, of its media packets."""
    used: float = 0.0
    """Of the bottleneck, by the payload of objects."""
    limits: list[tuple[float, float, float]] = field(default_factory=list)
    """Seconds, what the path seems to carry (bits a second; 0: everything), level in bands."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    cpu: tuple[float, float] = (0.0, 0.0)
    """Seconds in a second that its process ran, and that it was ready to run and did not."""


@dataclass(slots=True)
class Phase:
    """Members of several kinds at the same time, for so many ``seconds``."""

    seconds: float
    members: dict[str, Member] = field(default_factory=dict)
    alone: Layered | None = None
    """The others, all together, before the members come."""
    beside: Layered | None = None
    """The same while they are there."""
    cpu: dict[str, tuple[float, float]] = field(default_factory=dict)
    """As of a member, of the other processes."""


@dataclass(slots=True)
class Results(Kept):
    """``shares``: our congestion controller -> bits a second of two members behind one bottleneck;
    ``tcp``: ours -> TCP's -> of a member, and of a transfer with it. Both from when they have
    settled."""

    parameters: dict[str, Any]
    phases: dict[str, Phase] = field(default_factory=dict)
    shares: dict[str, list[float]] = field(default_factory=dict)
    tcp: dict[str, dict[str, list[float]]] = field(default_factory=dict)
