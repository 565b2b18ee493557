"""The decision: from what is wanted and what is there to what has to be done. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from fastrelay.api.conditions import ConditionType
from fastrelay.api.objects import child_name
from fastrelay.api.spec import MoQRelay
from fastrelay_operator import acceptance, status, verdicts
from fastrelay_operator.drift import differs
from fastrelay_operator.manifests import certificate_request, children
from fastrelay_operator.objects import (
    CERTIFICATE,
    DAEMON_SET,
    DEPLOYMENT,
    KINDS,
    Kind,
    Object,
    controller_uid,
    name_of,
    uid_of,
)
from fastrelay_operator.observed import (
    Action,
    Apply,
    Delete,
    Observed,
    Plan,
    Problem,
    WriteStatus,
)
from fastrelay_operator.pods import SILENCE, STARTING_SECONDS, PodView, time_of, views
from fastrelay_operator.projection import certificate_secret, project
from fastrelay_operator.settings import Settings

RESYNC_SECONDS = 3600.0
"""Everything is looked at so often without any news."""
RETRY_SECONDS = (2.0, 60.0)
"""Between looks at what is missing: first, and at most; in between, a quarter of the time that
it has been missing."""

_WORKLOADS = (DEPLOYMENT.name, DAEMON_SET.name)


def reconcile(observed: Observed, settings: Settings) -> Plan:
    """What has to be done for one relay."""
    if "deletionTimestamp" in observed.relay["metadata"]:
        return Plan((), RESYNC_SECONDS)  # what it owns goes with it
    parsed = observed.parsed
    if isinstance(parsed, Problem):
        return _refuse(observed, parsed)
    pods = views(observed.pods, observed.node_states)
    problem = acceptance.problem(parsed, observed, settings)
    if is_new(observed.relay):  # an answer first, then the work
        return Plan(tuple(_status(parsed, observed, problem, pods)), recheck=0.0)
    actions: list[Action] = list(_certificate(parsed, observed))
    if problem is None:
        actions += _children(parsed, observed, settings)
    problem = problem or acceptance.refusal(observed)
    actions += _status(parsed, observed, problem, pods)
    return Plan(tuple(actions), _recheck(observed, problem, pods))


def is_new(relay: Object) -> bool:
    """Whether nobody has said anything about it yet."""
    return not (relay.get("status") or {}).get("conditions")


def _refuse(observed: Observed, problem: Problem) -> Plan:
    """Nothing of the spec can be understood; what runs stays as it is."""
    accepted = verdicts.accepted(problem)
    not_ready = verdicts.verdict(ConditionType.READY, "NotAccepted", problem.message)
    before = observed.relay.get("status") or {}
    known = {each["type"] for each in before.get("conditions") or ()}
    found = [
        not_ready,
        accepted,
        *(
            verdicts.verdict(kind, "Pending")
            for kind in ConditionType
            if kind not in (ConditionType.READY, ConditionType.ACCEPTED) and kind not in known
        ),
    ]
    conditions = status.conditions(found, observed.relay, observed.now)
    fresh = {each["type"] for each in conditions}
    conditions += [each for each in before.get("conditions") or () if each["type"] not in fresh]
    generation = observed.relay["metadata"].get("generation", 0)
    new = {**before, "observedGeneration": generation, "conditions": conditions}
    actions: list[Action] = [*status.events(found, observed.relay)]
    if new != before:
        actions.append(WriteStatus(new))
    return Plan(tuple(actions), RESYNC_SECONDS)


def _certificate(relay: MoQRelay, observed: Observed) -> Iterator[Action]:
    """Comes first: the Secret that everything waits for is made from it."""
    uid = uid_of(observed.relay)
    wanted = certificate_request(relay, uid)
    if wanted is not None:
        yield from _ensure(CERTIFICATE, wanted, observed)


def _children(relay: MoQRelay, observed: Observed, settings: Settings) -> Iterator[Action]:
    projection = project(relay, acceptance.listen_ports(observed.relays))
    wanted = children(relay, uid_of(observed.relay), projection, settings)
    for each in wanted:
        yield from _ensure(KINDS[each["kind"]], each, observed)
    yield from _leftovers(relay, observed, {each["kind"] for each in wanted})


def _ensure(kind: Kind, wanted: Object, observed: Observed) -> Iterator[Action]:
    found = observed.children.get((kind.name, name_of(wanted)))
    if found is None:
        yield Apply(kind, wanted, new=True)
    elif "deletionTimestamp" in found["metadata"]:
        return  # made anew when it is gone
    elif controller_uid(found) != uid_of(observed.relay):
        # Of an earlier relay of this name; nobody has collected it yet.
        yield Delete(kind, name_of(wanted), uid_of(found))
    elif differs(wanted, found):
        yield Apply(kind, wanted, new=False)


def _leftovers(relay: MoQRelay, observed: Observed, wanted: set[str]) -> Iterator[Action]:
    """Children that are not wanted any more. The other kind of workload goes last."""
    if relay.spec.tls.issuer is not None:
        wanted.add(CERTIFICATE.name)
    for (kind, name), found in observed.children.items():
        if kind in wanted and name == child_name(relay.metadata.name):
            continue
        if "deletionTimestamp" in found["metadata"]:
            continue
        if kind in _WORKLOADS and not _replaced(relay, observed):
            continue
        yield Delete(KINDS[kind], name, uid_of(found))


def _replaced(relay: MoQRelay, observed: Observed) -> bool:
    """Whether the wanted workload serves, so that the other one may go."""
    kind = relay.spec.placement.workload
    workload = observed.children.get((kind, child_name(relay.metadata.name)))
    if workload is None:
        return False
    found = workload.get("status") or {}
    wanted = _wanted(relay, observed)
    return wanted == 0 or bool(found.get("readyReplicas") or found.get("numberReady"))


def _wanted(relay: MoQRelay, observed: Observed) -> int | None:
    """Pods; None: not known yet."""
    kind = relay.spec.placement.workload
    workload = observed.children.get((kind, child_name(relay.metadata.name)))
    if workload is None:
        return None
    if kind == "Deployment":
        return relay.spec.placement.replicas
    number = (workload.get("status") or {}).get("desiredNumberScheduled")
    return None if number is None else int(number)


def _status(
    relay: MoQRelay, observed: Observed, problem: Problem | None, pods: list[PodView]
) -> Iterator[Action]:
    now = observed.now
    wanted = _wanted(relay, observed)
    secret = observed.secrets.get(certificate_secret(relay))
    accepted = verdicts.accepted(problem)
    available = verdicts.available(wanted, pods)
    attached = verdicts.attached(relay, pods, now)
    degraded = verdicts.degraded(relay, pods, secret.certificate_expires if secret else None, now)
    serving = sum(pod.ready for pod in pods)
    ready = verdicts.ready(relay, accepted, available, attached, serving)
    found = (ready, accepted, available, attached, degraded)
    new = {
        "observedGeneration": observed.relay["metadata"].get("generation", 0),
        "conditions": status.conditions(found, observed.relay, now),
        **status.numbers(relay, pods, wanted),
        "endpoints": status.endpoints(relay, observed, pods),
    }
    if new != observed.relay.get("status"):
        yield from status.events(found, observed.relay)
        yield WriteStatus(new)


def _recheck(observed: Observed, problem: Problem | None, pods: list[PodView]) -> float:
    """Seconds until time alone may have changed something."""
    now = observed.now
    moments = [now + timedelta(seconds=RESYNC_SECONDS)]
    if problem is not None and problem.waits:
        moments.append(now + timedelta(seconds=_retry(observed, problem)))
    for pod in pods:
        if pod.heartbeat is not None and not pod.silent(now):
            moments.append(pod.heartbeat + SILENCE)
        if pod.started is not None and pod.starting(now):
            moments.append(pod.started + timedelta(seconds=STARTING_SECONDS))
    # A little later, so that what was waited for is true then.
    return max(0.0, (min(moments) - now).total_seconds()) + 1.0


def _retry(observed: Observed, problem: Problem) -> float:
    conditions = (observed.relay.get("status") or {}).get("conditions") or ()
    for each in conditions:
        since = time_of(each.get("lastTransitionTime"))
        if (each["type"], each["reason"]) == ("Accepted", problem.reason) and since:
            missing = (observed.now - since).total_seconds()
            return min(max(missing / 4, RETRY_SECONDS[0]), RETRY_SECONDS[1])
    return RETRY_SECONDS[0]
