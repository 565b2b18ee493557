"""The operator's own metrics, and the conditions of all relays, for alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fastrelay_operator.objects import Object, name_of, namespace_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("True", "False", "Unknown")
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """``relays``: every MoQRelay, as the watches have shown it."""

    def __init__(self, relays: Callable[[], Iterable[Object]], waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Conditions(relays))
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "fastrelay_operator_api_requests",
            "Requests to the API server, watches left out.",
            ("verb", "kind", "code"),
            registry=self.registry,
        )
        self._reconciled = Counter(
            "fastrelay_operator_reconciliations",
            "Looks at a relay, by how they ended.",
            ("result",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "fastrelay_operator_reconcile_seconds",
            "Time that a look at a relay took, requests included.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "fastrelay_operator_leader",
            "1 in the one operator that works.",
            registry=self.registry,
        )
        depth = Gauge(
            "fastrelay_operator_queue_depth",
            "Relays that wait to be looked at.",
            registry=self.registry,
        )
        depth.set_function(lambda: float(waiting()))

    def requested(self, verb: str, kind: str, code: int) -> None:
        self._requests.labels(verb, kind, str(code)).inc()

    def reconciled(self, result: str, seconds: float) -> None:
        self._reconciled.labels(result).inc()
        self._seconds.observe(seconds)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


class _Conditions(Collector):
    def __init__(self, relays: Callable[[], Iterable[Object]]) -> None:
        self._relays = relays

    def collect(self) -> Iterator[Metric]:
        conditions = GaugeMetricFamily(
            "fastrelay_relay_condition",
            "Conditions of each MoQRelay: 1 for the status that holds.",
            labels=("namespace", "name", "type", "status"),
        )
        total = 0
        for relay in self._relays():
            total += 1
            for each in (relay.get("status") or {}).get("conditions") or ():
                for status in STATUSES:
                    labels = (namespace_of(relay), name_of(relay), each["type"], status)
                    conditions.add_metric(labels, float(each["status"] == status))
        yield conditions
        yield GaugeMetricFamily("fastrelay_operator_relays", "MoQRelays.", value=total)
