"""Relay pods as the API server shows them, and what the agent makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fastrelay.agent import pins
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import RelaySpec
from fastrelay.api.objects import NODE_ANNOTATION, RELAY_LABEL, RELAY_UID, PodNote

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RelayPod:
    """A relay pod of this node whose containers may be running."""

    uid: str
    name: str
    namespace: str
    relay: str
    note: PodNote
    addresses: tuple[str, ...] = ()

    @property
    def served(self) -> bool:
        """Whether the kernel is to forward for it."""
        return self.note.mode != "Disabled"


def read(pod: Object) -> RelayPod | None:
    """None: it is none, or it has ended, or nobody of ours made it."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    try:
        note = PodNote.model_validate_json((metadata.get("annotations") or {})[NODE_ANNOTATION])
        uid = pins.check_name(metadata["uid"])
        relay = metadata["labels"][RELAY_LABEL]
    except (KeyError, ValueError, ValidationError):
        return None
    addresses = tuple(each["ip"] for each in status.get("podIPs") or () if each.get("ip"))
    return RelayPod(uid, metadata["name"], metadata["namespace"], relay, note, addresses)


def specs(pods: Iterable[RelayPod]) -> dict[str, RelaySpec]:
    """What the node is to have, by the pods' UIDs. Before a pod has an address its maps are
    made, so that little is left to do when it has one."""
    return {
        pod.uid: RelaySpec(
            pod.uid, RELAY_UID, pod.addresses, End(pod.note.attach), pod.note.quota_device
        )
        for pod in pods
        if pod.served
    }
