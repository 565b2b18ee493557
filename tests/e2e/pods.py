"""Pods: which there are, and the sudden death of one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from e2e import release
from e2e.cluster import machines
from e2e.cluster.lifecycle import kubectl
from e2e.cluster.places import Node


@dataclass(frozen=True, slots=True)
class Pod:
    """One with a single container. ``restarts``: how often that was started again."""

    namespace: str
    name: str
    node: str
    container: str
    restarts: int


def read(namespace: str, name: str) -> Pod:
    return _pod(json.loads(kubectl("-n", namespace, "get", "pod", name, "-o", "json")))


def of_release(component: str, node: Node | None = None) -> Pod:
    """The operator, or the agent of a node."""
    options = [f"--field-selector=spec.nodeName={node.name}"] if node else []
    [found] = release.pods(component, *options)
    return _pod(found)


def kill(pod: Pod) -> None:
    """SIGKILL for its container, past the kubelet."""
    command = ["ctr", "-n", "k8s.io", "task", "kill", "--signal", "SIGKILL", pod.container]
    subprocess.run(machines.inside(pod.node, command), check=True)


def restarts(pod: Pod) -> int:
    """How often by now."""
    return read(pod.namespace, pod.name).restarts


def _pod(found: dict[str, Any]) -> Pod:
    [status] = found["status"]["containerStatuses"]
    return Pod(
        namespace=found["metadata"]["namespace"],
        name=found["metadata"]["name"],
        node=found["spec"]["nodeName"],
        container=status.get("containerID", "").rpartition("/")[2],
        restarts=status["restartCount"],
    )
