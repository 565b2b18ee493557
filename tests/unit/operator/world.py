"""A namespace in memory: what the operator does to it, and what happens to pods in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from fastrelay.api.node_state import object_name
from fastrelay_operator.acceptance import parse
from fastrelay_operator.objects import Object, name_of
from fastrelay_operator.observed import (
    Apply,
    Delete,
    Event,
    Observed,
    Plan,
    Refusal,
    SecretFacts,
    WriteStatus,
)
from fastrelay_operator.reconcile import reconcile
from fastrelay_operator.settings import Settings

SETTINGS = Settings(image="relay:1")
START = datetime(2026, 1, 1, tzinfo=UTC)
TLS = SecretFacts(frozenset({"tls.crt", "tls.key"}), START + timedelta(days=90))


class World:
    """One relay and what belongs to it."""

    def __init__(self, spec: str = "{}", name: str = "live") -> None:
        self.now = START
        self.settings = SETTINGS
        self.relay = relay(spec, name)
        self.relays = {name: self.relay}
        self.children: dict[tuple[str, str], Object] = {}
        self.pods: dict[str, Object] = {}
        self.states: dict[str, Object] = {}
        self.secrets: dict[str, SecretFacts | None] = {f"{name}-tls": TLS}
        self.refusals: dict[tuple[str, str], Refusal] = {}
        self.events: list[Event] = []

    def spec(self, text: str) -> None:
        """Somebody applies another spec."""
        self.relay["spec"] = yaml.safe_load(text)
        self.relay["metadata"]["generation"] += 1

    def observed(self) -> Observed:
        return Observed(
            relay=self.relay,
            parsed=parse(self.relay),
            now=self.now,
            children=dict(self.children),
            pods=tuple(self.pods.values()),
            node_states=tuple(self.states.values()),
            secrets=self.secrets,
            relays=self.relays,
            refusals=self.refusals,
        )

    def plan(self) -> Plan:
        return reconcile(self.observed(), self.settings)

    def step(self) -> Plan:
        """One look, carried out."""
        plan = self.plan()
        for action in plan.actions:
            match action:
                case Apply(kind, wanted):
                    key = (kind.name, name_of(wanted))
                    if key not in self.refusals:
                        self.children[key] = as_stored(wanted, self.children.get(key))
                case Delete(kind, name):
                    self.children.pop((kind.name, name), None)
                    self.states.pop(name, None)
                case WriteStatus(status):
                    self.relay["status"] = status
                case Event():
                    self.events.append(action)
        return plan

    def settle(self) -> None:
        """Look until there is nothing more to do."""
        for _ in range(10):
            if not self.step().actions:
                return
        raise AssertionError("it does not come to rest")

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def run_pods(self, count: int, *, ready: bool = True, attached: bool = True) -> None:
        """Pods on a node each, with an agent that says how they stand."""
        for number in range(count):
            self.pod(number, ready=ready)
            self.state(number, attached=attached)

    def pod(self, number: int, *, ready: bool = True) -> Object:
        name = f"live-relay-{number}"
        found = self.pods[name] = {
            "metadata": {"name": name, "namespace": "media", "uid": f"uid-{number}"},
            "spec": {"nodeName": f"node-{number}"},
            "status": {
                "phase": "Running",
                "hostIP": f"10.0.0.{number}",
                "startTime": text(self.now),
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
        return found

    def state(self, number: int, *, attached: bool = True, **more: Any) -> Object:
        pod = {
            "uid": f"uid-{number}",
            "name": f"live-relay-{number}",
            "state": "Attached" if attached else "Failed",
            "reason": "Attached" if attached else "LoadFailed",
            "message": "" if attached else "no room",
            "subscribers": 10,
            "tracks": 2,
            **more,
        }
        name = object_name("live", f"node-{number}")
        found = self.states[name] = {
            "metadata": {"name": name, "namespace": "media", "uid": f"state-{number}"},
            "spec": {"relay": "live", "node": f"node-{number}"},
            "status": {"heartbeat": text(self.now), "pods": [pod]},
        }
        return found

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        (found,) = [c for c in self.relay["status"]["conditions"] if c["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def child(self, kind: str) -> Object:
        return self.children[kind, "live-relay"]


def relay(spec: str = "{}", name: str = "live") -> Object:
    return {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelay",
        "metadata": {"name": name, "namespace": "media", "uid": f"{name}-uid", "generation": 1},
        "spec": yaml.safe_load(spec),
    }


def as_stored(wanted: Object, before: Object | None) -> Object:
    """With what an API server adds."""
    metadata = {"uid": f"uid-of-{wanted['kind']}", **wanted["metadata"], "creationTimestamp": "x"}
    status = (before or {}).get("status", {})
    return {**wanted, "metadata": metadata, "status": status}


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
