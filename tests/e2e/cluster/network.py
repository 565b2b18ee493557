"""The cluster's network: a bridge, a cable to each node, routes to every node's pods."""

from __future__ import annotations

import subprocess
from subprocess import DEVNULL

from e2e.cluster.places import ADDRESS, NAME, SERVICE_RANGE, Node, made_nodes
from fastrelay.local import netns

BRIDGE = "bridge"


def create() -> None:
    """The control plane's network namespace with the bridge; there already: nothing."""
    if netns.path(NAME).exists():
        return
    netns.create(NAME)
    _ip(NAME, "link", "set", "lo", "up")
    _ip(NAME, "link", "add", BRIDGE, "type", "bridge")
    _ip(NAME, "addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
    _ip(NAME, "link", "set", BRIDGE, "up")
    netns.set_sysctls(NAME, {"ipv4/ip_forward": "1"})


def connect(node: Node) -> None:
    """A new network namespace for a node, on the bridge, in everybody's routes."""
    # What is left of a cable would go with its namespace, but some time after that.
    subprocess.run(["ip", "-n", NAME, "link", "del", node.name], stderr=DEVNULL, check=False)
    netns.remove(node.namespace)
    netns.create(node.namespace)
    port = ["type", "veth", "peer", "name", "eth0", "netns", node.namespace]
    _ip(NAME, "link", "add", node.name, *port)
    _ip(NAME, "link", "set", node.name, "master", BRIDGE, "up")
    _ip(node.namespace, "link", "set", "lo", "up")
    _ip(node.namespace, "addr", "add", f"{node.address}/24", "dev", "eth0")
    _ip(node.namespace, "link", "set", "eth0", "up")
    _ip(node.namespace, "route", "add", "default", "via", ADDRESS)
    _ip(NAME, "route", "replace", node.pods, "via", node.address)
    for other in made_nodes():
        if other != node and netns.path(other.namespace).exists():
            _ip(node.namespace, "route", "replace", other.pods, "via", other.address)
            _ip(other.namespace, "route", "replace", node.pods, "via", node.address)
    if node.number == 1:  # from the control plane's namespace, services are reached through it
        _ip(NAME, "route", "replace", SERVICE_RANGE, "via", node.address)


def remove() -> None:
    """All network namespaces of the cluster."""
    for namespace in netns.existing(NAME):
        netns.remove(namespace)


def _ip(namespace: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", namespace, *arguments], check=True)
