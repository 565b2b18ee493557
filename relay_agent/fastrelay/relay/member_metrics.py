"""What Prometheus is told of subscribers.

Of all of them together: histograms that a sampler feeds, and how many are limited and by what.
Series of their own only those get that were asked for (``spec.monitoring.members``), and no more
than :data:`MAX_MEMBERS` at a time: so the number of series is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import islice
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from fastrelay.fastpath.bands import BandCounters
from fastrelay.fastpath.layout import BAND_LEVELS
from fastrelay.quic.measurements import Measurements
from fastrelay.relay.delays import DelayStatistics

if TYPE_CHECKING:
    from fastrelay.relay.peer import Peer

Block = IPv4Network | IPv6Network

MAX_MEMBERS = 50
MAX_RANK = 7
"""Of renditions: all larger ones count as this."""
LIMITS = ("hand", "path", "configured")
"""What may limit a subscriber."""

_DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_RATES = (1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 1e8)
_SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_USES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5)


@dataclass(frozen=True, slots=True)
class MemberState:
    """One subscriber that was asked for. ``rank``: of the rendition it gets, 0 the smallest."""

    address: str
    measured: Measurements
    rate: int
    level: int
    counted: BandCounters
    delay: DelayStatistics | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class MemberCounts:
    """``limited``: subscribers by what limits them; ``ranks``: those of automatic tracks by the
    rendition that they get."""

    limited: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[int, int] = field(default_factory=dict)


def count(peers: Iterable[Peer]) -> MemberCounts:
    """Over all of them."""
    limited = Counter(dict.fromkeys(LIMITS, 0))
    ranks: Counter[int] = Counter()
    for peer in peers:
        if peer.limiter.why:
            limited[peer.limiter.why] += 1
        if (rank := rank_of(peer)) is not None:
            ranks[rank] += 1
    return MemberCounts(limited, ranks)


def watched(members: Iterable[tuple[str, Peer]], blocks: Sequence[Block]) -> list[MemberState]:
    """Of these, by their addresses, those who have series of their own."""
    if not blocks:
        return []
    found = (
        _state(address, peer)
        for address, peer in members
        if (peer.subscriptions or peer.autos) and _lies_in(address, blocks)
    )
    return list(islice(found, MAX_MEMBERS))


def _lies_in(address: str, blocks: Sequence[Block]) -> bool:
    try:
        host = ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return any(host in block for block in blocks)


def _state(address: str, peer: Peer) -> MemberState:
    assert peer.measure is not None
    return MemberState(
        address=address,
        measured=peer.measure(),
        rate=peer.bands.rate,
        level=peer.bands.level,
        counted=peer.bands.counted(),
        delay=peer.feedback.delays.statistics() if peer.feedback is not None else None,
        rank=rank_of(peer),
    )


def rank_of(peer: Peer) -> int | None:
    """Of the rendition of its first automatic track; None: it gets none."""
    for auto in peer.autos:
        if auto.current is not None and auto.current.rendition in auto.ladder:
            return min(auto.ladder.index(auto.current.rendition), MAX_RANK)
    return None


class MemberHistograms:
    """Over subscribers, sampled."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"fastrelay_{name}", text, buckets=buckets, registry=registry)

        self.delivery_rate = histogram(
            "delivery_rate_bytes", "Bytes a second that arrived at each subscriber.", _RATES
        )
        self.loss = histogram(
            "loss_ratio", "Share of the bytes to each subscriber that were lost lately.", _SHARES
        )
        self.limit_use = histogram(
            "limit_use_ratio",
            "Bytes a second that arrived at each subscriber with a limit, as a share of it.",
            _USES,
        )
        self.delay = histogram(
            "one_way_delay_seconds",
            "Moving average of the one-way delay to each subscriber that gives feedback.",
            _DELAYS,
        )
        self.delay_jitter = histogram(
            "one_way_jitter_seconds",
            "Jitter of the one-way delay to each subscriber that gives feedback.",
            _DELAYS,
        )


def counts(found: MemberCounts) -> Iterator[Metric]:
    limited = GaugeMetricFamily(
        "fastrelay_members_limited", "Subscribers with a limit, by what sets it.", labels=("by",)
    )
    for by, number in found.limited.items():
        limited.add_metric((by,), number)
    yield limited
    ranks = GaugeMetricFamily(
        "fastrelay_rendition_members",
        "Subscribers of automatic tracks, by the rendition they get: 0 is the smallest.",
        labels=("rank",),
    )
    for rank, number in found.ranks.items():
        ranks.add_metric((str(rank),), number)
    yield ranks


_GAUGES: dict[str, tuple[str, Callable[[MemberState], float | None]]] = {
    "round_trip_seconds": ("Smoothed round trip time.", lambda m: m.measured.smoothed_rtt),
    "round_trip_min_seconds": ("Smallest round trip time.", lambda m: m.measured.min_rtt),
    "round_trip_latest_seconds": ("Latest round trip time.", lambda m: m.measured.latest_rtt),
    "round_trip_variance_seconds": (
        "Mean deviation of round trip times (RFC 9002's rttvar).",
        lambda m: m.measured.rtt_variance,
    ),
    "round_trip_jitter_seconds": ("Jitter of round trip times.", lambda m: m.measured.jitter),
    "loss_ratio": ("Share of the bytes that were lost lately.", lambda m: m.measured.loss),
    "bandwidth_bytes": (
        "Bytes a second that the path carries at least.",
        lambda m: m.measured.bandwidth,
    ),
    "congestion_window_bytes": ("Congestion window.", lambda m: m.measured.congestion_window),
    "in_flight_bytes": ("Bytes in flight.", lambda m: m.measured.bytes_in_flight),
    "limit_bytes": ("Bytes a second that it may be sent, if limited.", lambda m: m.rate or None),
    "level_bands": ("Bands that are dropped, from the last up.", lambda m: m.level / BAND_LEVELS),
    "rendition_rank": ("Rendition that it gets, 0 is the smallest.", lambda m: m.rank),
}
_DELAY_GAUGES = {
    "delay_seconds": ("One-way delay of the latest object.", "latest"),
    "delay_ewma_seconds": ("One-way delay, exponentially weighted moving average.", "ewma"),
    "delay_jitter_seconds": ("Jitter of one-way delays.", "jitter"),
    "delay_average_seconds": ("One-way delay, average of 64 objects.", "average"),
    "delay_variance_seconds2": ("Variance of the one-way delays of 64 objects.", "variance"),
    "delay_deviation_seconds": (
        "Standard deviation of the one-way delays of 64 objects.",
        "deviation",
    ),
}


def families(members: Sequence[MemberState]) -> Iterator[Metric]:
    """Series of members, by address."""
    for name, (text, value_of) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"fastrelay_member_{name}", text, labels=("member",))
        for member in members:
            if (value := value_of(member)) is not None:
                gauge.add_metric((member.address,), value)
        yield gauge
    for name, (text, wanted) in _DELAY_GAUGES.items():
        gauge = GaugeMetricFamily(f"fastrelay_member_{name}", text, labels=("member",))
        for member in members:
            if member.delay is not None:
                gauge.add_metric((member.address,), getattr(member.delay, wanted))
        yield gauge
    delivered = CounterMetricFamily(
        "fastrelay_member_delivered_bytes", "Bytes that arrived.", labels=("member",)
    )
    sent = CounterMetricFamily(
        "fastrelay_member_band_bytes", "Bytes sent, by band.", labels=("member", "band")
    )
    dropped = CounterMetricFamily(
        "fastrelay_member_band_drops",
        "Streams and datagrams dropped by priority, by band.",
        labels=("member", "band"),
    )
    for member in members:
        delivered.add_metric((member.address,), member.measured.delivered)
        for family, values in ((sent, member.counted.bytes), (dropped, member.counted.dropped)):
            for band, value in enumerate(values):
                family.add_metric((member.address, str(band)), value)
    yield from (delivered, sent, dropped)
