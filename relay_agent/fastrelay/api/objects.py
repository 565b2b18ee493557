"""Names by which operator, node agent and relay pods know each other in a cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fastrelay.api.model import Label, Model, Port

RELAY_LABEL = "fastrelay.io/relay"
"""On each object that belongs to a MoQRelay: its name. Agents watch pods by it."""

NODE_ANNOTATION = "fastrelay.io/node-agent"
"""On relay pods: a :class:`PodNote` as JSON."""

CONFIG_ANNOTATION = "fastrelay.io/config"
"""On relay pods: which configuration they were started with."""

RELAY_UID = 65534
"""User and group of every relay process; agents hand maps over to nobody else."""

SOCKETS = "/run/fastrelay/relays"
"""On each node: the agent's socket for a pod lies in a directory named after the pod's UID."""

SOCKET = "agent.sock"
"""Its name there."""

OPERATOR = "fastrelay-operator"
"""Field manager, source of events, and value of the managed-by label."""

AGENT = "fastrelay-agent"
"""Field manager of the node agents."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"


class PodNote(Model):
    """What the agent of the node has to know of a relay pod."""

    relay_uid: Label
    """The MoQRelay's metadata.uid."""

    mode: Literal["Auto", "Required", "Disabled"]
    """spec.fastPath.mode."""

    attach: Literal["Host", "Pod"]
    """spec.fastPath.attach."""

    quota_device: Annotated[str, Field(max_length=15)] = ""
    """spec.quota.device, if the kernel is to refuse there."""

    monitoring_port: Annotated[int, Field(ge=0, le=65535)]
    """Where the relay tells of itself; 0: nowhere."""

    listen_port: Port
    """The UDP port."""


def child_name(relay: str) -> str:
    """The name of everything that the operator makes for a relay."""
    return f"{relay}-relay"


def timestamp(moment: datetime) -> str:
    """As the API writes times: RFC 3339, whole seconds. ``moment``: in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def service_host(relay: str, namespace: str) -> str:
    """The DNS name of a relay within its cluster."""
    return f"{child_name(relay)}.{namespace}.svc"
