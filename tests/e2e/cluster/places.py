"""Names, folders and addresses of the cluster.

Everything lies in network namespaces of its own; that of the machine gets no link and no route.

* ``fastrelay-e2e``: control plane, a bridge 172.30.0.1/24, and whoever uses the cluster.
* ``fastrelay-e2e-nodeN``: node N, 172.30.0.(10+N), with pods in 10.244.N.0/24.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = os.environ.get("FASTRELAY_CLUSTER") or "fastrelay-e2e"
"""Two clusters of different names can stand side by side; none may begin with another's."""
CONTROL_PLANE = "control-plane"
ADDRESS = "172.30.0.1"
SERVER = f"https://{ADDRESS}:6443"
POD_RANGE, SERVICE_RANGE = "10.244.0.0/16", "10.96.0.0/16"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
DOMAIN = "cluster.local"
MOST_NODES = 9

_CACHE = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
CACHE = Path(os.environ.get("FASTRELAY_CACHE") or Path(_CACHE, "fastrelay")).resolve() / "cluster"
"""What was downloaded and compiled; stays."""
BINARIES, DEBIAN, IMAGES = CACHE / "bin", CACHE / "debian", CACHE / "images"
STATE = Path("/var/tmp", NAME)
"""The running cluster; goes with it. Nodes have a /run, a /var/lib and a /var/log of their own."""
ADMIN = STATE / "admin.kubeconfig"
PKI, LOGS, RUNNING, LOADED = (STATE / each for each in ("pki", "log", "running", "images"))

PAUSE, COREDNS = "localhost/pause:1", "localhost/coredns:1"


@dataclass(frozen=True, slots=True)
class Node:
    """One node; ``number``: 1 to :data:`MOST_NODES`."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def namespace(self) -> str:
        """Its network namespace, and the name of its cgroups."""
        return f"{NAME}-{self.name}"

    @property
    def address(self) -> str:
        return f"172.30.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        """Its disk: survives its power being cut."""
        return STATE / self.name


def made_nodes() -> list[Node]:
    """Every node of this cluster, running or not."""
    nodes = map(Node, range(1, MOST_NODES + 1))
    return [node for node in nodes if node.folder.exists()]
