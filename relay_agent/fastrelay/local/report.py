"""How a stack stands: what the node agent, the relay's status page and the maps say of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrelay.agent.maps import counters
from fastrelay.api.load import SpecError, load_file
from fastrelay.fastpath.layout import Outcome, Reason
from fastrelay.local import http, processes
from fastrelay.local.node import Node
from fastrelay.local.projection import MANIFEST
from fastrelay.local.stack import RELAY
from fastrelay.local.state import Pod, State, Store
from fastrelay.local.topology import NODE


@dataclass(frozen=True, slots=True)
class RelayReport:
    """One relay. What nobody could say is None."""

    name: str
    url: str
    running: bool
    fast_path: str
    """``Attached``, ``Waiting``, ``Failed``, ``Off``, or ``Unattended``: attached, but the node
    agent has ended."""
    reason: str
    attach: str | None
    """``Host`` or ``Pod``: which end of the veth."""
    device: str | None
    programs: dict[str, int]
    sessions: int | None
    subscribers: int | None
    forwarded: int | None
    """Packets of publishers that the kernel has forwarded."""
    copies: int | None
    """Packets that it has sent to subscribers."""


def relay_report(store: Store, state: State) -> RelayReport | None:
    """None: there is no relay yet."""
    pod = state.pods.get(RELAY)
    if pod is None or pod.process is None:
        return None
    node = Node(store, state, Path())
    agent = node.report(RELAY) if state.node and state.node.process else None
    fast_path, reason = _fast_path(state, agent)
    page = status_page(store, state)
    forwarded, copies = counted(node.maps_of(RELAY)) if agent else (None, None)
    return RelayReport(
        name=RELAY,
        url=state.url,
        running=processes.is_running(pod.process),
        fast_path=fast_path,
        reason=reason,
        attach=agent.get("attach") if agent else None,
        device=agent.get("device") if agent else None,
        programs=(agent.get("programs") or {}) if agent else {},
        sessions=len(page["sessions"]) if page else None,
        subscribers=sum(track["subscribers"] for track in page["tracks"]) if page else None,
        forwarded=forwarded,
        copies=copies,
    )


def places(state: State) -> Iterator[tuple[str, Pod]]:
    """Everything that has a namespace, the node last."""
    yield from state.pods.items()
    if state.node is not None:
        yield NODE, state.node


def process_of(pod: Pod) -> str:
    """The process id, ``ended`` or ``-``."""
    if pod.process is None:
        return "-"
    return str(pod.process.pid) if processes.is_running(pod.process) else "ended"


def counted(maps: Path) -> tuple[int | None, int | None]:
    """What the kernel has forwarded, of the counters below ``maps``: packets and copies."""
    try:
        _, totals = counters(maps)
    except OSError:
        return None, None
    return totals[Reason.A_FORWARDED], totals[Reason.B_OUTCOME + Outcome.SENT]


def _fast_path(state: State, agent: dict[str, Any] | None) -> tuple[str, str]:
    if state.node is None or state.node.process is None:
        return "Off", ""
    attended = processes.is_running(state.node.process)
    if agent is None:
        return ("Waiting", "") if attended else ("Failed", "the node agent has ended")
    if agent["state"] == "Attached" and not attended:
        return "Unattended", "the node agent has ended; the kernel goes on forwarding"
    stands, said = agent["state"], agent
    if stands == "Attached" and not agent["relay"]["forwarding"]:
        stands, said = "Waiting", agent["relay"]
    reason, message = said["reason"], said["message"]
    if reason == stands:
        return stands, message
    return stands, f"{reason}: {message}" if message else reason


def status_page(store: Store, state: State) -> dict[str, Any] | None:
    """The relay's ``/statusz``; None: it does not answer.

    :raises PermissionError: we are not root.
    """
    try:
        resource = load_file(store.workspace(state.name) / RELAY / MANIFEST)
        namespace = state.pods[RELAY].namespace
        return dict(http.get_json(namespace, resource.spec.monitoring.port, "/statusz"))
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SpecError):
        return None
