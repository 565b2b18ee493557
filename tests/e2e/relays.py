"""Relays in the cluster: make one, wait for it, ask it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import places
from e2e.cluster.lifecycle import ask, kubectl
from e2e.cluster.places import Node, made_nodes
from fastrelay.client import connect
from fastrelay.client.errors import ConnectFailedError
from fastrelay.local import netns
from fastrelay.quic.certificates import make_self_signed
from fastrelay.quic.options import QuicOptions

_SECONDS = 120
METRICS_PORT = 9464
REQUIRED: dict[str, Any] = {
    "listen": {"service": {"type": "NodePort"}},
    "fastPath": {"mode": "Required"},
}
"""A spec: reached from outside, and not ready unless the kernel forwards."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A MoQRelay by its name."""

    namespace: str
    name: str

    def condition(self, kind: str) -> dict[str, Any]:
        """One of its conditions; empty: it has none yet."""
        for each in self.read().get("status", {}).get("conditions", []):
            if each["type"] == kind:
                return dict(each)
        return {}

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self._kubectl("get", "moqrelay", self.name, "-o", "json")
        )
        return found

    def wait_for(self, *conditions: str, seconds: int = _SECONDS) -> float:
        """Wait until these conditions hold; returns for how long, in seconds.

        :raises AssertionError: they do not; the message has all that is known about the relay.
        """
        begin = time.monotonic()
        for each in conditions:
            wait = ["wait", f"--for=condition={each}", f"moqrelay/{self.name}"]
            done = ask("-n", self.namespace, *wait, f"--timeout={seconds}s")
            if done.returncode:
                raise AssertionError(f"not {each} after {seconds} s:\n{self.story()}")
        return time.monotonic() - begin

    def story(self) -> str:
        """For whoever has to find out why something is not as it should be."""
        parts = [
            ask("-n", self.namespace, "describe", "moqrelay", self.name),
            ask("-n", self.namespace, "get", "pods,moqrelaynodestates", "-o", "yaml"),
            ask("get", "pods", "-A", "-o", "wide"),
            ask("logs", "-A", "-l", "app.kubernetes.io/name=fastrelay", "--tail=40", "--prefix"),
        ]
        return "\n".join(part.stdout + part.stderr for part in parts)

    def pods(self) -> list[str]:
        """Names of its pods."""
        names = self._kubectl("get", "pods", *self._selection, "-o", "name").split()
        return [name.removeprefix("pod/") for name in names]

    def nodes(self) -> list[Node]:
        """Where its pods are."""
        path = "jsonpath={.items[*].spec.nodeName}"
        names = self._kubectl("get", "pods", *self._selection, "-o", path).split()
        return [node for node in made_nodes() if node.name in names]

    def devices(self) -> list[str]:
        """The nodes' interfaces that lead to its pods."""
        return [pod["device"] for each in self.states() for pod in each["status"]["pods"]]

    def states(self) -> list[dict[str, Any]]:
        """What the agents have written of it."""
        found = json.loads(self._kubectl("get", "moqrelaynodestates", "-o", "json"))
        return [each for each in found["items"] if each["spec"]["relay"] == self.name]

    def url(self, node: Node | None = None) -> str:
        """For clients outside: the address of a node (default: one where a pod of it is), and the
        Service's port there."""
        node = node or self.nodes()[0]
        path = "jsonpath={.spec.ports[0].nodePort}"
        port = self._kubectl("get", "service", f"{self.name}-relay", "-o", path)
        return f"moqt://{node.address}:{port}"

    def pod_url(self) -> str:
        """For clients outside that address its only pod itself."""
        [address] = self._kubectl(
            "get", "pods", *self._selection, "-o", "jsonpath={.items[*].status.podIP}"
        ).split()
        return f"moqt://{address}:4443"

    def run(self, *command: str) -> str:
        """What a command says in its only pod.

        :raises ClusterError: it fails.
        """
        [pod] = self.pods()
        return self._kubectl("exec", pod, "--", *command)

    def inner_url(self) -> str:
        """For clients in pods."""
        return f"moqt://{self.name}-relay.{self.namespace}:4443"

    def metrics(self) -> dict[str, float]:
        """Sums over its pods and all labels, by name."""
        sums: dict[str, float] = {}
        for pod in self.pods():
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{METRICS_PORT}/proxy/metrics"
            for family in text_string_to_metric_families(kubectl("get", "--raw", path)):
                for sample in family.samples:
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    @property
    def _selection(self) -> list[str]:
        return ["-l", f"fastrelay.io/relay={self.name}"]

    def _kubectl(self, *arguments: str) -> str:
        return kubectl("-n", self.namespace, *arguments)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A new one; it goes with all that is in it."""
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--timeout=180s")


def create(namespace: str, name: str, spec: dict[str, Any], scratch: Path) -> Relay:
    """A certificate in a Secret, and the resource."""
    give_certificate(namespace, name, scratch)
    apply(namespace, name, spec)
    return Relay(namespace, name)


def give_certificate(namespace: str, name: str, scratch: Path) -> bytes:
    """A new one in the Secret that a relay of that name looks for by itself; its SHA-256."""
    certificate, key = scratch / "tls.crt", scratch / "tls.key"
    host = f"{name}-relay.{namespace}"
    made = make_self_signed([host, f"{host}.svc"])
    made.write(certificate, key)
    create = ["-n", namespace, "create", "secret", "tls", f"{name}-tls"]
    files = [f"--cert={certificate}", f"--key={key}", "--dry-run=client", "-o", "json"]
    kubectl("apply", "-f", "-", stdin=kubectl(*create, *files))
    return made.sha256


def serves(url: str, sha256: bytes) -> bool:
    """Whether a client outside is shown exactly this certificate."""

    async def look() -> bool:
        try:
            async with connect(url, options=QuicOptions(certificate_sha256=sha256)):
                return True
        except ConnectFailedError:
            return False

    return netns.inside(places.NAME, lambda: asyncio.run(look()))


def apply(namespace: str, name: str, spec: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest(namespace, name, spec)))


def manifest(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelay",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
