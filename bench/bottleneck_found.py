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
class Phase:
    """One member behind the bottleneck, for so many ``seconds``. ``queue``: seconds of the
    bottleneck's rate, one look after the other; ``curves``: layer -> (seconds since the begin,
    latency) of objects."""

    name: str
    seconds: float
    layers: dict[str, Layered] = field(default_factory=dict)
    alone: Layered | None = None
    """The others, all together, before the member comes."""
    beside: Layered | None = None
    """The same while it is there."""
    queue: list[tuple[float, float]] = field(default_factory=list)
    share: float = 0.0
    """The kernel's, of the member's media packets."""
    used: float = 0.0
    """Of the bottleneck, by the payload of objects."""
    limits: list[tuple[float, float, float]] = field(default_factory=list)
    """Seconds, what the path seems to carry (bits a second; 0: everything), level in bands."""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    """Process -> seconds in a second that it was ready to run and did not get a CPU."""


@dataclass(slots=True)
class Results(Kept):
    """``shares``: bits a second of members behind one bottleneck; ``tcp``: congestion controller ->
    of a member, and of a transfer with it. Both from when they have settled."""

    parameters: dict[str, Any]
    phases: list[Phase] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    tcp: dict[str, list[float]] = field(default_factory=dict)
