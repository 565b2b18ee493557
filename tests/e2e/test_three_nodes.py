"""What takes several nodes: a chain of relays, and the end of a node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e import broadcast, relays, video
from e2e.broadcast import Broadcast, Tell
from e2e.cluster import lifecycle, node
from e2e.cluster.lifecycle import ask, kubectl, wait
from e2e.cluster.places import Node, made_nodes
from e2e.relays import Relay
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def place(three_nodes: None, installed: None) -> Iterator[str]:
    """A namespace for relays."""
    with relays.namespace("three-nodes") as name:
        yield name


def test_two_relays_in_a_chain(place: str, viewers: Audience, tmp_path: Path, tell: Tell) -> None:
    _, second, third = made_nodes()
    core = relays.create(place, "core", relays.REQUIRED | _placed(second), tmp_path)
    authority = {"name": "core-tls", "key": "tls.crt"}
    upstream = {"upstreams": [{"relay": {"name": "core"}, "caSecretKeyRef": authority}]}
    edge = relays.create(place, "edge", relays.REQUIRED | _placed(third) | upstream, tmp_path)
    for each in (core, edge):
        each.wait_for("Ready")
    publisher = viewers.publish(core.url())
    watching = [viewers.watch("at-core", core.url()), viewers.watch("at-edge", edge.url())]
    viewers.see(watching, video.FIRST_FRAMES)
    sent = [
        video.mostly_in_kernel(each, viewers, watching, broadcast.FRAMES) for each in (core, edge)
    ]
    seen = video.end(watching, publisher)
    tell("core and edge on two of three nodes", *sent, *seen)
    assert not any(each.findings.faults for each in seen)


def test_node_drained(place: str, viewers: Audience, tmp_path: Path, tell: Tell) -> None:
    """The relay moves to another node: who is connected gets GOAWAY, and finds it there."""
    relay = relays.create(place, "demo", broadcast.SPEC, tmp_path)
    relay.wait_for("Ready")
    [where] = relay.nodes()
    watched = Broadcast.begin(relay, viewers)
    try:
        options = ["--pod-selector=fastrelay.io/relay", "--delete-emptydir-data", "--timeout=120s"]
        kubectl("drain", where.name, *options)
        wait("the relay elsewhere", lambda: relay.nodes() not in ([], [where]))
        watched.see()
        seen = watched.end()
    finally:
        ask("uncordon", where.name)
    tell("node drained", *seen)
    assert not any(each.findings.wrong for each in seen)


def test_power_of_a_node_cut(place: str, viewers: Audience, tmp_path: Path, tell: Tell) -> None:
    """The relay is made anew on another node. When the node is back, nothing is left there."""
    *others, falls = made_nodes()
    with _avoided(*others):
        relay = relays.create(place, "demo", broadcast.SPEC | IMPATIENT, tmp_path)
        relay.wait_for("Ready")
    with _avoided(falls):
        watched = Broadcast.begin(relay, viewers)
        with _without_power(falls):
            wait("the relay elsewhere", lambda: set(relay.nodes()) - {falls})
            watched.see()
            seen = watched.end()
        wait("the old pod to go", lambda: falls not in relay.nodes())
        wait("what the old pod had to go", lambda: falls.name not in _told_by(relay))
    tell("a node's power cut", *seen)
    assert not any(each.findings.wrong for each in seen)


IMPATIENT: dict[str, Any] = {
    "placement": {
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 5,
            }
            for taint in ("not-ready", "unreachable")
        ]
    }
}
"""Without it, Kubernetes waits for five minutes until it gives up a node."""


@contextlib.contextmanager
def _without_power(fallen: Node) -> Iterator[None]:
    """It comes back in any case: all others need it."""
    node.stop(fallen)
    try:
        yield
    finally:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        node.start(fallen)
        lifecycle.await_node(fallen, moment)


@contextlib.contextmanager
def _avoided(*avoided: Node) -> Iterator[None]:
    """No new pod comes to these nodes."""
    names = [each.name for each in avoided]
    try:
        kubectl("cordon", *names)
        yield
    finally:
        ask("uncordon", *names)


def _told_by(relay: Relay) -> list[str]:
    return [each["spec"]["node"] for each in relay.states()]


def _placed(where: Node) -> dict[str, Any]:
    return {"placement": {"nodeSelector": {"kubernetes.io/hostname": where.name}}}
