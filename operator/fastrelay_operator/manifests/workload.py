"""The relay pods. They start before, after or without a node agent."""

from __future__ import annotations

from fastrelay.api.objects import (
    CONFIG_ANNOTATION,
    NODE_ANNOTATION,
    RELAY_UID,
    SOCKET,
    SOCKETS,
    PodNote,
    child_name,
)
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.manifests.common import child, labels, selector
from fastrelay_operator.objects import DAEMON_SET, DEPLOYMENT, Object
from fastrelay_operator.projection import (
    CONFIG_PATH,
    MANIFEST,
    SECRETS_PATH,
    TLS_PATH,
    Projection,
    certificate_secret,
)
from fastrelay_operator.settings import Settings

AGENT_PATH = "/run/fastrelay"
"""In the pod: where the agent of the node is found by this pod, and by no other."""

CONTROL_PATH = "/run/fastrelay-control"
"""In the pod: where who may exec into it finds the relay's control socket."""

LEAVE_SECONDS = 3
"""Between a pod's end being decided and its SIGTERM: until no node sends it new clients."""
CLOSE_SECONDS = 5
"""For closing what is left when the grace period is over."""
LOWEST_OPEN_PORT = 1024
"""Below it a process needs a right, or a pod a sysctl, which belongs to its namespace alone."""


def workload(relay: MoQRelay, uid: str, projection: Projection, settings: Settings) -> Object:
    """The Deployment or DaemonSet. ``uid``: the MoQRelay's."""
    template = {
        "metadata": {"labels": labels(relay), "annotations": _annotations(relay, uid, projection)},
        "spec": _pod(relay, projection, settings),
    }
    spec: Object = {"selector": {"matchLabels": selector(relay)}, "template": template}
    rolling: Object = {"maxUnavailable": 1}
    if relay.spec.placement.workload == "DaemonSet":
        spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        return child(DAEMON_SET, relay, spec=spec)
    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    spec["replicas"] = relay.spec.placement.replicas
    template["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(relay)},
        }
    ]
    return child(DEPLOYMENT, relay, spec=spec)


def _annotations(relay: MoQRelay, uid: str, projection: Projection) -> dict[str, str]:
    note = PodNote(
        relay_uid=uid,
        mode=relay.spec.fast_path.mode,
        attach=relay.spec.fast_path.attach,
        quota_device=relay.spec.quota.hook,
        monitoring_port=relay.spec.monitoring.port,
        listen_port=relay.spec.listen.port,
    )
    return {NODE_ANNOTATION: note.model_dump_json(), CONFIG_ANNOTATION: projection.digest}


def _pod(relay: MoQRelay, projection: Projection, settings: Settings) -> Object:
    placement = relay.spec.placement
    pod: Object = {
        "serviceAccountName": child_name(relay.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": (
            LEAVE_SECONDS + relay.spec.drain.grace_period_seconds + CLOSE_SECONDS
        ),
        "securityContext": _security(relay),
        "containers": [_container(relay, projection, settings)],
        "volumes": _volumes(relay, projection),
    }
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if priority := placement.priority_class_name or settings.priority_class:
        pod["priorityClassName"] = priority
    if placement.node_selector:
        pod["nodeSelector"] = dict(placement.node_selector)
    if placement.tolerations:
        pod["tolerations"] = [
            each.model_dump(mode="json", exclude_none=True) for each in placement.tolerations
        ]
    return pod


def _security(relay: MoQRelay) -> Object:
    context: Object = {
        "runAsNonRoot": True,
        "runAsUser": RELAY_UID,
        "runAsGroup": RELAY_UID,
        "fsGroup": RELAY_UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if relay.spec.listen.port < LOWEST_OPEN_PORT:
        sysctl = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
        context["sysctls"] = [sysctl]
    return context


def _container(relay: MoQRelay, projection: Projection, settings: Settings) -> Object:
    spec = relay.spec
    control = f"{CONTROL_PATH}/control.sock"
    command = ["fastrelay", "relay", "-f", f"{CONFIG_PATH}/{MANIFEST}", "--control", control]
    if spec.fast_path.mode != "Disabled":
        command += ["--fast-path", f"{AGENT_PATH}/{SOCKET}"]
    if spec.fast_path.encryption == "Disabled":
        command.append("--insecure-no-encryption")
    ports = [{"name": "quic", "containerPort": spec.listen.port, "protocol": "UDP"}]
    container: Object = {
        "name": "relay",
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": command,
        "ports": ports,
        "resources": spec.resources.model_dump(mode="json"),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        "env": [{"name": "FASTRELAY_RELAY", "value": control}],
        "volumeMounts": _mounts(relay, projection),
    }
    if spec.fast_path.mode != "Disabled":
        uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
        container["env"].append({"name": "POD_UID", "valueFrom": uid})
    if spec.monitoring.port:
        ports.append({"name": "metrics", "containerPort": spec.monitoring.port, "protocol": "TCP"})
        # Many that start at once on a busy node may take minutes; none is killed for that.
        container["startupProbe"] = _probe("/healthz", seconds=1, failures=300)
        container["readinessProbe"] = _probe("/servingz", seconds=2, failures=3)
        container["livenessProbe"] = _probe("/healthz", seconds=10, failures=6)
    return container


def _probe(path: str, *, seconds: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": seconds,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _volumes(relay: MoQRelay, projection: Projection) -> list[Object]:
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": child_name(relay.metadata.name)}},
        {"name": "tls", "secret": {"secretName": certificate_secret(relay), "defaultMode": 0o440}},
        {"name": "control", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    for number, (name, keys) in enumerate(projection.secrets.items()):
        items = [{"key": key, "path": key} for key in keys]
        secret = {"secretName": name, "defaultMode": 0o440, "items": items}
        volumes.append({"name": f"secret-{number}", "secret": secret})
    if relay.spec.fast_path.mode != "Disabled":
        path = {"path": SOCKETS, "type": "DirectoryOrCreate"}
        volumes.append({"name": "agent", "hostPath": path})
    return volumes


def _mounts(relay: MoQRelay, projection: Projection) -> list[Object]:
    mounts: list[Object] = [
        {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
        {"name": "tls", "mountPath": TLS_PATH, "readOnly": True},
        {"name": "control", "mountPath": CONTROL_PATH},
    ]
    for number, name in enumerate(projection.secrets):
        path = f"{SECRETS_PATH}/{name}"
        mounts.append({"name": f"secret-{number}", "mountPath": path, "readOnly": True})
    if relay.spec.fast_path.mode != "Disabled":
        # The pod's own directory: relays of others on the node run under the same user.
        own = {"name": "agent", "mountPath": AGENT_PATH, "subPathExpr": "$(POD_UID)"}
        mounts.append({**own, "readOnly": True})
    return mounts
