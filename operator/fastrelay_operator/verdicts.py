"""The conditions of a relay, from what was observed: without history, which `status` adds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastrelay.api.conditions import PLAINTEXT_WARNING, REASONS, ConditionType, Reason
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.observed import Problem
from fastrelay_operator.pods import PodView, time_of

EXPIRY_WARNING = timedelta(days=7)
NAMED = 3
"""Pods or nodes that a message names at most."""

_REASONS = {(each.type, each.name): each for each in REASONS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without history."""

    reason: Reason
    message: str

    @property
    def status(self) -> str:
        return self.reason.status

    @property
    def bad(self) -> bool:
        """Whether a person should look."""
        if self.reason.type is ConditionType.DEGRADED:
            return self.status == "True"
        return self.status == "False" and self.reason.name != "Disabled"


def verdict(kind: ConditionType, name: str, message: str = "") -> Verdict:
    """With the reason's meaning where there is nothing more to say."""
    reason = _REASONS[kind, name]
    return Verdict(reason, message or reason.meaning)


def accepted(problem: Problem | None) -> Verdict:
    if problem is None:
        return verdict(ConditionType.ACCEPTED, "Valid")
    return verdict(ConditionType.ACCEPTED, problem.reason, problem.message)


def available(wanted: int | None, pods: list[PodView]) -> Verdict:
    """``wanted``: pods; None: nobody knows yet."""
    kind = ConditionType.RELAY_AVAILABLE
    if wanted is None:
        return verdict(kind, "Pending")
    if wanted == 0:
        return verdict(kind, "ScaledToZero")
    ready = sum(pod.ready for pod in pods)
    if ready >= wanted:
        return verdict(kind, "PodsReady", f"{ready}/{wanted} pods serve.")
    waiting = [f"{pod.name}: {pod.trouble}" for pod in pods if not pod.ready]
    return verdict(kind, "PodsNotReady", _few(f"{ready}/{wanted} pods serve", waiting))


def attached(relay: MoQRelay, pods: list[PodView], now: datetime) -> Verdict:
    kind = ConditionType.DATA_PATH_ATTACHED
    if relay.spec.fast_path.mode == "Disabled":
        return verdict(kind, "Disabled")
    if not pods:
        return verdict(kind, "Pending", "There are no pods.")
    summary = f"{sum(pod.attached for pod in pods)}/{len(pods)} pods"
    up = [pod for pod in pods if not pod.starting(now)]
    troubles = [f"{pod.node}: {_state(pod)}" for pod in up if pod.state and not pod.attached]
    missing = [f"{pod.node}: no agent reports" for pod in up if not pod.state]
    silent = [f"{pod.node}: silent since {pod.heartbeat}" for pod in pods if pod.silent(now)]
    if missing and len(missing) == len(pods):
        return verdict(kind, "NoAgent", _few(summary, missing))
    if troubles or missing:
        return verdict(kind, "PartlyAttached", _few(summary, troubles + missing))
    if silent:
        return verdict(kind, "AgentSilent", _few(summary, silent))
    if not up:
        return verdict(kind, "Pending", f"{summary}; waiting for the agents.")
    others = "" if len(up) == len(pods) else " The others are starting."
    return verdict(kind, "Attached", f"{summary}: the kernel forwards.{others}")


def degraded(
    relay: MoQRelay, pods: list[PodView], expires: datetime | None, now: datetime
) -> Verdict:
    """``expires``: the certificate in the Secret."""
    kind = ConditionType.DEGRADED
    states = [pod.state for pod in pods if pod.state]
    ends = [expires, *(time_of(state.get("certificateExpires")) for state in states)]
    first = min((end for end in ends if end is not None), default=None)
    findings = []
    if first is not None and first - now < EXPIRY_WARNING:
        text = "ended" if first < now else "ends"
        findings.append(("CertificateExpiring", f"The certificate {text} at {first}."))
    if down := sum(state.get("upstreamsDown", 0) for state in states):
        findings.append(("UpstreamUnreachable", f"{down} connections to upstreams are down."))
    if full := sum(bool(state.get("overloaded")) for state in states):
        findings.append(("Overloaded", f"{full} pods are at their limit of sessions."))
    if relay.spec.fast_path.encryption == "Disabled":
        findings.append(("Plaintext", PLAINTEXT_WARNING))
    if not findings:
        return verdict(kind, "AsExpected")
    return verdict(kind, findings[0][0], " ".join(message for _, message in findings))


def ready(
    relay: MoQRelay, accepted: Verdict, available: Verdict, attached: Verdict, serving: int
) -> Verdict:
    """The summary. ``serving``: pods that are ready."""
    kind = ConditionType.READY
    if accepted.status != "True":
        return verdict(kind, "NotAccepted", accepted.message)
    if available.status == "Unknown":
        return verdict(kind, "Pending", available.message)
    if available.reason.name == "ScaledToZero":
        return verdict(kind, "ScaledToZero")
    if not serving:
        return verdict(kind, "NotAvailable", available.message)
    if relay.spec.fast_path.mode == "Required":
        if attached.status == "False":
            return verdict(kind, "FastPathRequired", attached.message)
        if attached.reason.name == "Pending":
            return verdict(kind, "Pending", attached.message)
    return verdict(kind, "Serving", available.message)


def _state(pod: PodView) -> str:
    assert pod.state is not None
    return ": ".join(filter(None, (pod.state.get("reason"), pod.state.get("message"))))


def _few(summary: str, details: list[str]) -> str:
    shown = details[:NAMED]
    if len(details) > NAMED:
        shown.append(f"and {len(details) - NAMED} more")
    return "; ".join((summary, *shown))
