"""What a scrape finds."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastrelay.quic.counters import EndpointCounters
from fastrelay.relay.metrics import Metrics, State
from fastrelay.relay.observer import RelayObserver
from fastrelay.relay.ports import Counters

STATE = State(
    counters=Counters(),
    endpoint=EndpointCounters(),
    half_open=0,
    socket_drops=0,
    sessions={},
    upstreams={},
    draining=False,
    certificate_expires=0.0,
)


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# Drops are counted by the observer, which knows of what, and sessions by the server.
CORE_FIELDS = [f.name for f in fields(Counters) if f.name not in ("drops", "sessions")]


@pytest.mark.parametrize("field", CORE_FIELDS)
def test_every_counter_of_the_core_is_exported(field: str) -> None:
    counters = Counters()
    metrics = Metrics(lambda: replace(STATE, counters=counters))
    before = scrape(metrics)
    value = getattr(counters, field)
    setattr(counters, field, {"SOME": 7} if isinstance(value, dict) else 7)
    after = scrape(metrics)
    changed = {k: v for k, v in after.items() if before.get(k) != v and k[0][:9] == "fastrelay"}
    assert list(changed.values()) == [7.0], changed


@pytest.mark.parametrize("field", [f.name for f in fields(EndpointCounters)])
def test_every_counter_of_the_endpoint_is_exported(field: str) -> None:
    endpoint = EndpointCounters()
    setattr(endpoint, field, 7)
    values = scrape(Metrics(lambda: replace(STATE, endpoint=endpoint)))
    assert 7.0 in [value for (name, _), value in values.items() if name.startswith("fastrelay")]


def test_labels() -> None:
    metrics = Metrics(
        lambda: replace(
            STATE,
            sessions={("18", "quic"): 2},
            upstreams={"moqt://a:1": True, "moqt://b:1": False},
            draining=True,
            certificate_expires=5e9,
        )
    )
    observer = RelayObserver(metrics)
    observer.dropped("congestion", "stream")
    observer.dropped("congestion", "stream")
    observer.joined(0.003)
    metrics.sessions_closed["NO_ERROR"] += 1
    values = scrape(metrics)
    assert values["fastrelay_sessions", (("draft", "18"), ("transport", "quic"))] == 2
    assert values["fastrelay_upstream_connected", (("upstream", "moqt://a:1"),)] == 1
    assert values["fastrelay_upstream_connected", (("upstream", "moqt://b:1"),)] == 0
    assert values["fastrelay_draining", ()] == 1
    assert values["fastrelay_certificate_expiry_timestamp_seconds", ()] == 5e9
    key = (("reason", "congestion"), ("what", "stream"))
    assert values["fastrelay_drops_total", key] == 2
    assert values["fastrelay_sessions_closed_total", (("code", "NO_ERROR"),)] == 1
    assert values["fastrelay_join_seconds_count", ()] == 1
    assert values["fastrelay_join_seconds_bucket", (("le", "0.005"),)] == 1
    assert values["fastrelay_join_seconds_bucket", (("le", "0.002"),)] == 0
    assert ("process_resident_memory_bytes", ()) in values


def test_every_metric_says_what_it_is() -> None:
    for family in text_string_to_metric_families(Metrics(lambda: STATE).exposition().decode()):
        assert family.documentation.endswith("."), family.name
        if family.name.startswith("fastrelay_") and family.type == "histogram":
            assert family.name.endswith(("_seconds", "_bytes", "_ratio"))
