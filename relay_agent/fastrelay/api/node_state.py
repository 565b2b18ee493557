"""The resource `MoQRelayNodeState`: how one relay stands on one node, as that node's agent says.

One object for each relay and node, owned by the relay; so no two agents write to one object.
The operator folds them into the conditions of the `MoQRelay`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from fastrelay.api.model import Check, Label, Model, ObjectName, RelayName, unique_by
from fastrelay.api.status import Count

KIND = "MoQRelayNodeState"
PLURAL = "moqrelaynodestates"
FINALIZER = "fastrelay.io/node-agent"
"""The agent takes it off when nothing is left on the node of what the object tells of."""

Text = Annotated[str, Field(max_length=1024)]
Time = Annotated[str, Field(max_length=64)]

HEARTBEAT_SECONDS = 60
"""At least so often an agent writes the heartbeat of each of its objects."""
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
"""After so long without one, nobody knows how the relay stands there."""


class PodState(Model):
    """One relay pod of the node."""

    uid: Label
    """The pod's metadata.uid; its maps are pinned under it."""

    name: ObjectName
    """The pod's name."""

    state: Literal["Attached", "Waiting", "Failed", "Disabled"]
    """Whether the kernel forwards for it."""

    reason: Label
    """Why, as one word for programs: the agent's, or what the relay itself says."""

    message: Text = ""
    """Why, in words; empty where all is well."""

    device: Label = ""
    """The network interface of the node that leads to the pod."""

    mechanism: Label = ""
    """How the programs are attached: tcx or clsact."""

    programs: Label = ""
    """The version of the programs."""

    quota_device: Label = ""
    """The network interface of the node at which its quota refuses, before the one that leads to
    the pod; empty: there alone."""

    quota_mode: Label = ""
    """How it refuses there: native or generic XDP."""

    subscribers: Count = 0
    """Subscriptions."""

    tracks: Count = 0
    """Tracks that it carries."""

    kernel_connections: Count = 0
    """Connections that the kernel serves."""

    user_connections: Count = 0
    """Connections that user space serves alone."""

    certificate_expires: Time | None = None
    """When the certificate that it uses ends."""

    upstreams_down: Count = 0
    """Upstreams that it does not reach."""

    overloaded: bool = False
    """It refuses sessions because a limit is reached."""


class NodeStateSpec(Model):
    """Which relay, on which node."""

    relay: RelayName
    """The name of the MoQRelay, in the same Kubernetes namespace."""

    node: ObjectName
    """The name of the node."""


class NodeStateStatus(Model):
    """What the agent of the node found."""

    heartbeat: Time
    """When the agent wrote last (RFC 3339)."""

    agent: Text = ""
    """The agent's version."""

    kernel: Text = ""
    """The node's kernel."""

    pods: list[PodState] = Field(default=[], max_length=256, json_schema_extra=unique_by("uid"))
    """The relay's pods on the node."""

    fast_path: Label = ""
    """Pods for which the kernel forwards, of all: like 2/2."""

    subscribers: Count = 0
    """Subscriptions of all pods together."""

    message: Text = ""
    """What is not as it should be."""


class NodeStateMetadata(Model):
    """The part of the metadata that matters here."""

    model_config = ConfigDict(extra="ignore")

    name: ObjectName
    """RELAY.NODE."""

    namespace: Label
    """The relay's Kubernetes namespace."""


class MoQRelayNodeState(Model):
    """How a MoQRelay stands on one node, written by that node's agent."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.metadata.name == self.spec.relay + '.' + self.spec.node",
            "metadata.name does not fit; write the relay, a dot and the node",
        ),
        Check("self.spec == oldSelf.spec", "spec does not change; make another object"),
    )

    api_version: Literal["fastrelay.io/v1alpha1"]
    """Always fastrelay.io/v1alpha1."""

    kind: Literal["MoQRelayNodeState"]
    """Always MoQRelayNodeState."""

    metadata: NodeStateMetadata
    """The object's name."""

    spec: NodeStateSpec
    """Which relay, on which node."""

    status: NodeStateStatus | None = None
    """What the agent found."""


def object_name(relay: str, node: str) -> str:
    """``metadata.name`` of the state of a relay on a node."""
    return f"{relay}.{node}"
