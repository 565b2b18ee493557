"""The status of a relay: verdicts with their history, numbers, and where clients reach it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fastrelay.api.addresses import format_address
from fastrelay.api.objects import RELAY_LABEL, child_name, service_host, timestamp
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.objects import SERVICE, Object
from fastrelay_operator.observed import Event, Observed
from fastrelay_operator.pods import PodView
from fastrelay_operator.verdicts import Verdict

MAX_MESSAGE = 4096
MAX_ENDPOINTS = 16
_AT_FIRST = ("PodsNotReady", "NotAvailable", "ScaledToZero")
"""Reasons that are no news of a relay that has just been made."""


def conditions(verdicts: Iterable[Verdict], relay: Object, now: datetime) -> list[Object]:
    """As the API wants them: the time of transition stays while the status does."""
    before = _before(relay)
    result = []
    for each in verdicts:
        kind = each.reason.type.value
        known = before.get(kind, {})
        same = known.get("status") == each.status
        result.append(
            {
                "type": kind,
                "status": each.status,
                "reason": each.reason.name,
                "message": each.message[:MAX_MESSAGE],
                "lastTransitionTime": known["lastTransitionTime"] if same else timestamp(now),
                "observedGeneration": relay["metadata"].get("generation", 0),
            }
        )
    return result


def events(verdicts: Iterable[Verdict], relay: Object) -> list[Event]:
    """What changed since the last status, as far as it is known and more than a number. The
    summary, which comes first, is left out where another one says the same."""
    before = _before(relay)
    news: list[Event] = []
    for each in reversed(list(verdicts)):
        known = before.get(each.reason.type.value, {})
        changed = (known.get("status"), known.get("reason")) != (each.status, each.reason.name)
        begins = known.get("status", "Unknown") == "Unknown"
        expected = (not known and not each.bad) or (begins and each.reason.name in _AT_FIRST)
        said = any(event.message == each.message for event in news)
        if changed and not expected and not said and each.status != "Unknown":
            news.append(Event("Warning" if each.bad else "Normal", each.reason.name, each.message))
    return news[::-1]


def numbers(relay: MoQRelay, pods: list[PodView], wanted: int | None) -> Object:
    """What the printer's columns show, and the scale subresource. ``wanted``: pods; None: nobody
    knows yet."""
    placement = relay.spec.placement
    if wanted is None:
        wanted = placement.replicas if placement.workload == "Deployment" else len(pods)
    ready = sum(pod.ready for pod in pods)
    states = [pod.state for pod in pods if pod.state]
    off = relay.spec.fast_path.mode == "Disabled"
    by_node: dict[str, bool] = {}
    for pod in pods:
        by_node[pod.node] = by_node.get(pod.node, True) and pod.attached
    return {
        "replicas": len(pods),
        "readyReplicas": ready,
        "relays": f"{ready}/{wanted}",
        "fastPath": "off" if off else f"{sum(pod.attached for pod in pods)}/{len(pods)}",
        "nodesAttached": sum(by_node.values()),
        "subscribers": sum(state.get("subscribers", 0) for state in states),
        "tracks": sum(state.get("tracks", 0) for state in states),
        "selector": f"{RELAY_LABEL}={relay.metadata.name}",
    }


def endpoints(relay: MoQRelay, observed: Observed, pods: list[PodView]) -> list[str]:
    """From outside first, if it is reached from there. None without a Service."""
    name, namespace = relay.metadata.name, relay.metadata.namespace
    port = relay.spec.listen.port
    service = observed.children.get((SERVICE.name, child_name(name)))
    if service is None:
        return []
    spec, status = service.get("spec") or {}, service.get("status") or {}
    found: list[str] = []
    for each in (status.get("loadBalancer") or {}).get("ingress") or ():
        found.append(format_address(each.get("hostname") or each.get("ip", ""), port))
    ports = spec.get("ports") or [{}]
    if spec.get("type") == "NodePort" and (node_port := ports[0].get("nodePort")):
        hosts = sorted({pod.host for pod in pods if pod.ready and pod.host})
        found += [format_address(host, node_port) for host in hosts]
    return [*found[: MAX_ENDPOINTS - 1], format_address(service_host(name, namespace), port)]


def _before(relay: Object) -> dict[str, Object]:
    status = relay.get("status") or {}
    return {each["type"]: each for each in status.get("conditions") or ()}
