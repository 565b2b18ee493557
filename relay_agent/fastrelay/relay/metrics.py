"""Prometheus metrics of a relay process.

Nothing on the data path touches a metric object: the core counts in plain integers, and
a collector reads them when it is scraped. Histograms are fed by rare events (a join) or
by a sampler (round trip times). No label takes its values from peers, but for those members
that were asked for (:mod:`.member_metrics`), so the number of series is bounded.
"""

from __future__ import annotations

import dataclasses
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fastrelay import __version__
from fastrelay.fastpath.bands import BandCounters
from fastrelay.quic.counters import EndpointCounters
from fastrelay.relay import member_metrics
from fastrelay.relay.member_metrics import MemberCounts, MemberHistograms, MemberState
from fastrelay.relay.ports import Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

ROUND_TRIP_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
)  # fmt: skip
JOIN_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_CORE_COUNTERS = {
    "objects_in": ("objects_received", "Objects received from publishers."),
    "objects_out": ("objects_sent", "Objects given to subscribers, once for each of them."),
    "bytes_in": ("object_bytes_received", "Bytes of data streams and datagrams from publishers."),
    "bytes_out": ("object_bytes_sent", "Bytes of data streams and datagrams to subscribers."),
    "datagrams_in": ("object_datagrams_received", "Objects received as datagrams."),
    "datagrams_out": ("object_datagrams_sent", "Objects sent as datagrams."),
    "streams_in": ("data_streams_received", "Data streams opened by publishers."),
    "streams_out": ("data_streams_sent", "Data streams opened to subscribers."),
    "duplicates": ("objects_duplicate", "Objects that another publisher had brought already."),
    "cache_hits": ("cache_hits", "Fetches and joins served from the cache."),
    "cache_misses": ("cache_misses", "Fetches that had to ask upstream."),
}
_CORE_GAUGES = {
    "tracks": ("tracks", "Tracks carried now."),
    "subscriptions": ("subscriptions", "Subscriptions of subscribers now."),
    "upstream_subscriptions": ("upstream_subscriptions", "Subscriptions to publishers now."),
    "fetches": ("fetches", "Fetches under way."),
    "cache_bytes": ("cache_bytes", "Bytes in the cache."),
}
_ENDPOINT_COUNTERS = {
    "handshakes_started": ("handshakes_started", "QUIC handshakes that clients began."),
    "handshakes_completed": ("handshakes_completed", "QUIC handshakes that succeeded."),
    "retries_sent": ("retries_sent", "Clients asked to prove their address (QUIC Retry)."),
    "versions_negotiated": ("versions_negotiated", "Clients told which QUIC versions there are."),
    "connections_refused": ("connections_refused", "Connections refused for a limit or a drain."),
    "datagrams_received": ("udp_datagrams_received", "UDP datagrams received."),
    "datagrams_sent": ("udp_datagrams_sent", "UDP datagrams sent."),
    "bytes_received": ("udp_bytes_received", "UDP payload received."),
    "bytes_sent": ("udp_bytes_sent", "UDP payload sent."),
    "media_packets": ("media_packets_sent", "Packets with media that user space sent."),
    "datagrams_unroutable": ("udp_datagrams_unroutable", "UDP datagrams of no known connection."),
    "resets_sent": ("quic_resets", "Peers told that their connection was a former process's."),
}


@dataclass(frozen=True, slots=True)
class KernelCounters:
    """The kernel's part. ``refused``: copies that it did not send, by why; ``programs``: packets
    by what became of them."""

    forwarding: bool = False
    connections: int = 0
    """That it uses now."""
    upstream_packets: int = 0
    kernel_packets: int = 0
    user_packets: int = 0
    """With media, sent by user space."""
    lost_packets: int = 0
    """Of the kernel's, on their way to subscribers."""
    refused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    programs: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def status(self, state: str, reason: str) -> dict[str, Any]:
        """For the status page. ``state`` says what ``forwarding`` does, and more."""
        counters = dataclasses.asdict(self)
        del counters["forwarding"]
        return {"state": state, "reason": reason, **counters}


@dataclass(frozen=True, slots=True)
class QuotaCounters:
    """``connections``: that count now. ``refused``: first packets and connections, by why."""

    connections: int = 0
    refused: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """What the collector looks at. ``sessions``: live ones by draft and transport."""

    counters: Counters
    endpoint: EndpointCounters
    half_open: int
    socket_drops: int
    sessions: Mapping[tuple[str, ...], int]
    upstreams: Mapping[str, bool]
    """Whether each configured upstream is connected, by its address in the spec."""
    draining: bool
    certificate_expires: float
    """Unix time."""
    kernel: KernelCounters = KernelCounters()
    quota: QuotaCounters = QuotaCounters()
    bands: BandCounters = dataclasses.field(default_factory=BandCounters)
    counts: MemberCounts = dataclasses.field(default_factory=MemberCounts)
    members: Sequence[MemberState] = ()
    """Those that have series of their own."""


class Metrics:
    """Implements the counting half of :class:`fastrelay.relay.ports.Observer`."""

    def __init__(self, state: Callable[[], State]) -> None:
        self.registry = CollectorRegistry()
        self.drops: Tally[tuple[str, ...]] = Tally()
        self.sessions_opened: Tally[tuple[str, ...]] = Tally()
        self.sessions_closed: Tally[str] = Tally()
        self.packets_lost = 0
        self.join_seconds = self._histogram(
            "join_seconds", "From a SUBSCRIBE to its first object.", JOIN_BUCKETS
        )
        self.round_trip_seconds = self._histogram(
            "round_trip_seconds",
            "Smoothed round trip time of each connection, sampled.",
            ROUND_TRIP_BUCKETS,
        )
        self.jitter_seconds = self._histogram(
            "round_trip_jitter_seconds",
            "Jitter of round trip times (RFC 3550) of each connection, sampled.",
            ROUND_TRIP_BUCKETS,
        )
        self.loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop runs its timers.", LAG_BUCKETS
        )
        self.garbage_seconds = self._histogram(
            "garbage_collection_seconds", "Pauses of Python's garbage collector.", LAG_BUCKETS
        )
        self.members = MemberHistograms(self.registry)
        self.registry.register(_Collector(self, state))
        ProcessCollector(registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"fastrelay_{name}", text, buckets=buckets, registry=self.registry)

    def exposition(self) -> bytes:
        """Everything, in the text format of :data:`CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _Collector(Collector):
    def __init__(self, metrics: Metrics, state: Callable[[], State]) -> None:
        self._metrics, self._state = metrics, state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        metrics, state = self._metrics, self._state()
        yield InfoMetricFamily("fastrelay_build", "Version.", {"version": __version__})
        yield from _fields(state.counters, _CORE_COUNTERS, CounterMetricFamily)
        yield from _fields(state.counters, _CORE_GAUGES, GaugeMetricFamily)
        yield from _fields(state.endpoint, _ENDPOINT_COUNTERS, CounterMetricFamily)
        yield from _single(state, metrics)
        yield _labelled(
            GaugeMetricFamily, "sessions", "Sessions now.", ("draft", "transport"), state.sessions
        )
        yield _labelled(
            CounterMetricFamily,
            "sessions_opened",
            "Sessions since the start.",
            ("draft", "transport"),
            metrics.sessions_opened,
        )
        yield _labelled(
            CounterMetricFamily,
            "sessions_closed",
            "Sessions that ended, by the name of their code.",
            ("code",),
            {(code,): count for code, count in metrics.sessions_closed.items()},
        )
        yield _labelled(
            CounterMetricFamily,
            "drops",
            "What subscribers did not get, and why.",
            ("reason", "what"),
            metrics.drops,
        )
        yield _labelled(
            CounterMetricFamily,
            "requests_rejected",
            "Requests refused, by the name of the code.",
            ("code",),
            {(code,): count for code, count in state.counters.requests_rejected.items()},
        )
        yield _labelled(
            CounterMetricFamily,
            "rendition_switches",
            "Changes of the rendition that subscribers of automatic tracks get.",
            ("direction",),
            {(direction,): n for direction, n in state.counters.rendition_switches.items()},
        )
        yield _labelled(
            GaugeMetricFamily,
            "upstream_connected",
            "Whether an upstream is connected.",
            ("upstream",),
            {(url,): int(connected) for url, connected in state.upstreams.items()},
        )
        yield from _kernel(state.kernel)
        yield from _quota(state.quota)
        yield from _bands(state.bands)
        yield from member_metrics.counts(state.counts)
        yield from member_metrics.families(state.members)


def _bands(bands: BandCounters) -> Iterator[Metric]:
    for name, text, values in (
        ("band_bytes", "Bytes sent to subscribers, by band.", bands.bytes),
        ("band_drops", "Streams and datagrams dropped by priority, by band.", bands.dropped),
    ):
        by_band: dict[tuple[str, ...], int] = {
            (str(band),): value for band, value in enumerate(values)
        }
        yield _labelled(CounterMetricFamily, name, text, ("band",), by_band)


def _quota(quota: QuotaCounters) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "fastrelay_quota_connections", "Connections that the quota counts.", quota.connections
    )
    yield _labelled(
        CounterMetricFamily,
        "quota_refused",
        "First packets and connections that the quota refused, by why.",
        ("reason",),
        {(reason,): count for reason, count in quota.refused.items()},
    )


def _kernel(kernel: KernelCounters) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "fastrelay_kernel_forwarding", "1 while the kernel forwards.", int(kernel.forwarding)
    )
    yield GaugeMetricFamily(
        "fastrelay_kernel_connections", "Connections that the kernel uses.", kernel.connections
    )
    yield CounterMetricFamily(
        "fastrelay_kernel_upstream_packets",
        "Packets of publishers that the kernel forwarded.",
        kernel.upstream_packets,
    )
    yield CounterMetricFamily(
        "fastrelay_kernel_packets_sent",
        "Packets that the kernel sent to subscribers.",
        kernel.kernel_packets,
    )
    yield CounterMetricFamily(
        "fastrelay_kernel_packets_lost",
        "Packets of the kernel's found lost on the way.",
        kernel.lost_packets,
    )
    yield _labelled(
        CounterMetricFamily,
        "kernel_refused",
        "Copies that user space had to send instead of the kernel.",
        ("reason",),
        {(reason,): count for reason, count in kernel.refused.items()},
    )
    yield _labelled(
        CounterMetricFamily,
        "kernel_program_packets",
        "Packets that the programs saw, by what became of them.",
        ("reason",),
        {(reason,): count for reason, count in kernel.programs.items()},
    )


def _single(state: State, metrics: Metrics) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "fastrelay_handshakes_unfinished", "Handshakes under way.", state.half_open
    )
    yield CounterMetricFamily(
        "fastrelay_udp_datagrams_dropped",
        "UDP datagrams that the kernel did not take.",
        state.socket_drops,
    )
    yield CounterMetricFamily(
        "fastrelay_packets_lost", "QUIC packets found lost on the way.", metrics.packets_lost
    )
    yield GaugeMetricFamily("fastrelay_draining", "1 while the relay leaves.", int(state.draining))
    yield GaugeMetricFamily(
        "fastrelay_certificate_expiry_timestamp_seconds",
        "When the certificate in use ends.",
        state.certificate_expires,
    )


def _fields(
    source: object,
    names: Mapping[str, tuple[str, str]],
    family: type[CounterMetricFamily | GaugeMetricFamily],
) -> Iterator[Metric]:
    for field, (name, text) in names.items():
        yield family(f"fastrelay_{name}", text, getattr(source, field))


def _labelled(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str, ...], int],
) -> Metric:
    metric = family(f"fastrelay_{name}", text, labels=labels)
    for key, value in values.items():
        metric.add_metric(key, value)
    return metric
