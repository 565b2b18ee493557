"""Kubernetes objects as plain mappings, and the kinds that the operator deals with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastrelay.api import node_state, spec

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object. ``group``: empty for the core group."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "") -> str:
        """Of the objects of a namespace, or of one of them, on the API server. ``namespace``:
        empty for what is in none."""
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"namespaces/{namespace}/" if namespace else ""
        objects = f"{root}/{self.version}/{place}{self.plural}"
        return f"{objects}/{name}" if name else objects


RELAY = Kind(spec.KIND, spec.GROUP, spec.VERSION, spec.PLURAL)
NODE_STATE = Kind(node_state.KIND, spec.GROUP, spec.VERSION, node_state.PLURAL)
POD = Kind("Pod", "", "v1", "pods")
NODE = Kind("Node", "", "v1", "nodes")
SECRET = Kind("Secret", "", "v1", "secrets")
EVENT = Kind("Event", "", "v1", "events")

SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
SERVICE = Kind("Service", "", "v1", "services")
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
DAEMON_SET = Kind("DaemonSet", "apps", "v1", "daemonsets")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
CERTIFICATE = Kind("Certificate", "cert-manager.io", "v1", "certificates")

CHILDREN = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    NETWORK_POLICY,
    SERVICE,
    CERTIFICATE,
    DEPLOYMENT,
    DAEMON_SET,
    DISRUPTION_BUDGET,
    AUTOSCALER,
)
"""What is made for a relay, in the order in which it is made."""

KINDS = {kind.name: kind for kind in (RELAY, NODE_STATE, POD, *CHILDREN)}


def name_of(each: Object) -> str:
    return str(each["metadata"]["name"])


def namespace_of(each: Object) -> str:
    return str(each["metadata"]["namespace"])


def uid_of(each: Object) -> str:
    return str(each["metadata"].get("uid", ""))


def label(each: Object, key: str) -> str:
    return str((each["metadata"].get("labels") or {}).get(key, ""))


def controller_uid(each: Object) -> str:
    """The UID of the object that this one belongs to."""
    for owner in each["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def is_true(each: Object, condition: str) -> bool:
    """Whether a condition of its status holds."""
    conditions = (each.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == condition and c.get("status") == "True" for c in conditions)
