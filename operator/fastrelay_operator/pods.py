"""The relay's pods, and what the agents of their nodes say of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastrelay.api.node_state import SILENT_SECONDS
from fastrelay_operator.objects import Object, is_true, name_of, uid_of

STARTING_SECONDS = 30
"""For so long a pod may take to find its agent, get an address and its programs."""


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that is to stay. ``state``: its agent's words; None: it has said nothing yet."""

    name: str
    node: str
    host: str
    """The node's address."""
    ready: bool
    started: datetime | None
    trouble: str
    """Why it is not ready."""
    state: Object | None
    heartbeat: datetime | None

    @property
    def attached(self) -> bool:
        return self.state is not None and self.state["state"] == "Attached"

    def silent(self, now: datetime) -> bool:
        """Whether the agent has not been heard for too long."""
        return self.heartbeat is not None and now - self.heartbeat > SILENCE

    def starting(self, now: datetime) -> bool:
        """Whether what its agent still waits for, or an agent, may well come."""
        if self.state is not None and self.state["state"] != "Waiting":
            return False
        return self.started is None or now - self.started <= timedelta(seconds=STARTING_SECONDS)


SILENCE = timedelta(seconds=SILENT_SECONDS)


def views(pods: Iterable[Object], states: Iterable[Object]) -> list[PodView]:
    """The pods that are to stay, by name."""
    said: dict[str, tuple[Object, datetime | None]] = {}
    for each in states:
        status = each.get("status") or {}
        heartbeat = time_of(status.get("heartbeat"))
        for pod in status.get("pods") or ():
            said[pod["uid"]] = (pod, heartbeat)
    stay = [pod for pod in pods if not _leaving(pod)]
    return [_view(pod, *said.get(uid_of(pod), (None, None))) for pod in sorted(stay, key=name_of)]


def _leaving(pod: Object) -> bool:
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return finished or "deletionTimestamp" in pod["metadata"]


def _view(pod: Object, state: Object | None, heartbeat: datetime | None) -> PodView:
    status = pod.get("status") or {}
    return PodView(
        name=name_of(pod),
        node=str((pod.get("spec") or {}).get("nodeName", "")),
        host=str(status.get("hostIP", "")),
        ready=is_true(pod, "Ready"),
        started=time_of(status.get("startTime")),
        trouble=_trouble(status),
        state=state,
        heartbeat=heartbeat,
    )


def _trouble(status: Object) -> str:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message", "not scheduled"))
    return str(status.get("phase", "Pending"))


def time_of(text: object) -> datetime | None:
    """A time of the API."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None
