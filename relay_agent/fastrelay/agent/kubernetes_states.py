"""What the agent has to say of this node, as `MoQRelayNodeState` objects. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastrelay.agent.instance import State, Status
from fastrelay.agent.kubernetes_pods import RelayPod
from fastrelay.api import node_state
from fastrelay.api.node_state import HEARTBEAT_SECONDS, NodeStateStatus, PodState
from fastrelay.api.spec import API_VERSION, KIND

NUMBERS_SECONDS = 10.0
"""Numbers alone are written no more often than that."""
CHANGE_SECONDS = 1.0
"""Nothing is."""
NUMBERS = ("subscribers", "tracks", "kernel_connections", "user_connections")
MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """What a relay tells of itself."""

    subscribers: int = 0
    tracks: int = 0
    certificate_expires: str | None = None
    upstreams_down: int = 0
    overloaded: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One relay on this node. ``owner``: the MoQRelay's UID. The heartbeat is left empty."""

    namespace: str
    relay: str
    owner: str
    status: NodeStateStatus

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.relay

    def without_numbers(self) -> Report:
        """What is worth telling at once."""
        pods = [each.model_copy(update=dict.fromkeys(NUMBERS, 0)) for each in self.status.pods]
        status = self.status.model_copy(update={"pods": pods, "subscribers": 0})
        return replace(self, status=status)


def reports(
    pods: Iterable[RelayPod],
    statuses: Mapping[str, Status],
    figures: Mapping[str, Figures],
    agent: str,
    kernel: str,
) -> list[Report]:
    """One for each relay. ``statuses``, ``figures``: by the pods' UIDs."""
    relays: dict[tuple[str, str], list[RelayPod]] = {}
    for pod in sorted(pods, key=lambda pod: pod.name):
        relays.setdefault((pod.namespace, pod.relay), []).append(pod)
    result = []
    for (namespace, relay), group in relays.items():
        states = [_state(pod, statuses.get(pod.uid), figures.get(pod.uid)) for pod in group]
        attached = sum(each.state == "Attached" for each in states)
        troubles = [f"{each.name}: {each.reason}" for each in states if each.message]
        status = NodeStateStatus(
            heartbeat="",
            agent=agent,
            kernel=kernel,
            pods=states,
            fast_path=f"{attached}/{len(states)}",
            subscribers=sum(each.subscribers for each in states),
            message="; ".join(troubles)[:MAX_TEXT],
        )
        result.append(Report(namespace, relay, group[-1].note.relay_uid, status))
    return result


def _state(pod: RelayPod, status: Status | None, figures: Figures | None) -> PodState:
    numbers = figures or Figures()
    common: dict[str, Any] = {
        "uid": pod.uid,
        "name": pod.name,
        "subscribers": numbers.subscribers,
        "tracks": numbers.tracks,
        "certificate_expires": numbers.certificate_expires,
        "upstreams_down": numbers.upstreams_down,
        "overloaded": numbers.overloaded,
    }
    if not pod.served:
        return PodState(**common, state="Disabled", reason="Disabled")
    if status is None:
        return PodState(**common, state="Waiting", reason="Pending")
    attached = status.state is State.ATTACHED
    state, reason, message = status.whole()
    return PodState(
        **common,
        state=state.value,
        reason=reason,
        message=message[:MAX_TEXT],
        kernel_connections=status.relay.kernel,
        user_connections=status.relay.user,
        device=status.device,
        mechanism=status.mechanism.value if status.mechanism and attached else "",
        programs=status.generation[:63],
        quota_device=status.quota.device if status.quota.mode else "",
        quota_mode=status.quota.mode.value if status.quota.mode else "",
    )


class Writing:
    """Which reports have to be written now. ``written``: what was, and when (monotonic)."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, str], tuple[Report, float]] = {}

    def due(self, report: Report, now: float) -> bool:
        known = self._written.get(report.key)
        if known is None:
            return True
        before, then = known
        if report.without_numbers() != before.without_numbers():
            return now - then >= CHANGE_SECONDS
        return now - then >= (NUMBERS_SECONDS if report != before else HEARTBEAT_SECONDS)

    def done(self, report: Report, now: float) -> None:
        self._written[report.key] = (report, now)

    def forget(self, key: tuple[str, str]) -> None:
        self._written.pop(key, None)


def document(report: Report, node: str, heartbeat: str | None) -> dict[str, Any]:
    """The object as it is applied: with the status alone, or (``heartbeat`` None) without."""
    found: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": node_state.KIND,
        "metadata": {
            "name": node_state.object_name(report.relay, node),
            "namespace": report.namespace,
        },
    }
    if heartbeat is not None:
        status = report.status.model_copy(update={"heartbeat": heartbeat})
        return {**found, "status": status.model_dump(mode="json", exclude_none=True)}
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": report.relay, "uid": report.owner}
    found["metadata"]["ownerReferences"] = [owner]
    found["metadata"]["finalizers"] = [node_state.FINALIZER]
    found["spec"] = {"relay": report.relay, "node": node}
    return found


def without_finalizer(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """A merge patch that takes our finalizer off an object; None: it has none."""
    finalizers = found["metadata"].get("finalizers") or ()
    if node_state.FINALIZER not in finalizers:
        return None
    left = [each for each in finalizers if each != node_state.FINALIZER]
    version = found["metadata"]["resourceVersion"]
    return {"metadata": {"finalizers": left, "resourceVersion": version}}
