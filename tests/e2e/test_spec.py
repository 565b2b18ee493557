"""Each part of a spec, on a real API server with its controllers, but without nodes: what the
operator makes of it, with the chart's rights and no more. What relays then do is tried elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e import bare, many, relays
from e2e.audit import FORBIDDEN
from e2e.bare import Bare, wait
from fastrelay.api.node_state import object_name

pytestmark = pytest.mark.timeout(900)

NAMESPACE = "spec"
Object = dict[str, Any]


class Relays:
    """Relays without pods in a namespace of their own."""

    def __init__(self, cluster: Bare) -> None:
        self.cluster = cluster

    def apply(self, name: str, spec: Object, **conditions: str) -> Object:
        """Wait until the spec has been looked at, and these conditions have these reasons; the
        relay as it is then."""
        self.cluster.apply(relays.manifest(NAMESPACE, name, spec))
        generation = self.get("moqrelay", name)["metadata"]["generation"]
        wanted = conditions or {"Accepted": "Valid"}

        def looked() -> bool:
            status = self.get("moqrelay", name).get("status", {})
            reasons = {each["type"]: each["reason"] for each in status.get("conditions", ())}
            return bool(
                status.get("observedGeneration") == generation and reasons.items() >= wanted.items()
            )

        wait(f"{name} to be {wanted}", looked)
        return self.get("moqrelay", name)

    def give_certificate(self, name: str) -> None:
        self.cluster.give_certificate(NAMESPACE, name)

    def get(self, kind: str, name: str) -> Object:
        """Empty: there is none."""
        return self.cluster.read("-n", NAMESPACE, kind, name)

    def child(self, kind: str, name: str, ready: Callable[[Object], object] = bool) -> Object:
        """A child, once it is as it should be."""
        wait(f"the {kind} of {name}", lambda: bool(ready(self.get(kind, f"{name}-relay"))))
        return self.get(kind, f"{name}-relay")

    def pod(self, name: str, workload: str = "deployment") -> Object:
        """The spec of its pods."""
        return dict(self.child(workload, name)["spec"]["template"]["spec"])

    def manifest(self, name: str) -> Object:
        """What the relay's process is told."""
        found = self.child("configmap", name)["data"]["moqrelay.json"]
        return dict(json.loads(found)["spec"])


@pytest.fixture(scope="module")
def made() -> Iterator[Relays]:
    """Nobody may be refused anything, whatever the tests do; and no right is there for nothing."""
    with bare.bare() as cluster:
        cluster.apply(CERTIFICATES)
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.kubectl("create", "namespace", NAMESPACE)
        with bare.operator(cluster):
            yield Relays(cluster)
        asked = cluster.requests()
        assert [each for each in asked if each.code == FORBIDDEN] == []
        used = {(each.verb, many.kind(each.what)) for each in asked}
        assert granted(cluster) - used == OF_NODES_THAT_ARE_GONE


def granted(cluster: Bare) -> set[tuple[str, str]]:
    """What the operator may do with which kinds. That an apply may create, and owners be referred
    to, is asked for along with other requests and has none of its own."""
    return {
        (verb, kind)
        for rule in cluster.read("clusterrole", bare.OPERATOR)["rules"]
        for verb in rule["verbs"]
        for kind in rule["resources"]
        if verb not in {"create", "update"}
    }


OF_NODES_THAT_ARE_GONE = {(verb, "moqrelaynodestates") for verb in ("get", "patch", "delete")}

CERTIFICATES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "certificates.cert-manager.io"},
    "spec": {
        "group": "cert-manager.io",
        "names": {"kind": "Certificate", "plural": "certificates", "singular": "certificate"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
"""As much of cert-manager as an API server sees."""


def test_placement(made: Relays) -> None:
    made.give_certificate("placed")
    where = {
        "nodeSelector": {"media": "yes"},
        "tolerations": [{"key": "media", "operator": "Exists", "effect": "NoSchedule"}],
    }
    made.apply("placed", {"placement": {"replicas": 0, **where}})
    pod = made.pod("placed")
    assert pod["nodeSelector"] == where["nodeSelector"]
    assert pod["tolerations"] == where["tolerations"]
    assert made.child("deployment", "placed")["spec"]["replicas"] == 0
    # The other workload goes when the new one serves, which has nothing to do on no node.
    made.apply("placed", {"placement": {"workload": "DaemonSet", **where}})
    assert made.pod("placed", "daemonset")["nodeSelector"] == where["nodeSelector"]
    priority = {"placement": {"replicas": 0, "priorityClassName": "system-cluster-critical"}}
    made.apply("placed", priority)
    wait(
        "the priority",
        lambda: made.pod("placed").get("priorityClassName") == "system-cluster-critical",
    )
    wait("the DaemonSet to go", lambda: not made.get("daemonset", "placed-relay"))


def test_listen(made: Relays) -> None:
    made.give_certificate("heard")
    service = {"type": "NodePort", "nodePort": 30443, "externalTrafficPolicy": "Cluster"}
    spec: Object = {"placement": {"replicas": 0}, "listen": {"port": 443, "service": service}}
    made.apply("heard", spec)
    found = made.child("service", "heard")["spec"]
    (port,) = found["ports"]
    assert (port["port"], port["nodePort"], port["protocol"]) == (443, 30443, "UDP")
    assert (found["type"], found["externalTrafficPolicy"]) == ("NodePort", "Cluster")
    assert made.manifest("heard")["listen"]["port"] == 443
    assert made.pod("heard")["securityContext"]["sysctls"]
    ingress = made.child("networkpolicy", "heard")["spec"]["ingress"]
    assert {"ports": [{"port": 443, "protocol": "UDP"}]} in ingress
    spec["listen"]["service"] = {
        "type": "LoadBalancer",
        "loadBalancerClass": "example.com/some",
        "annotations": {"example.com/pool": "media"},
    }
    made.apply("heard", spec)
    found = made.child("service", "heard", lambda it: it["spec"]["type"] == "LoadBalancer")
    assert found["spec"]["loadBalancerClass"] == "example.com/some"
    assert found["metadata"]["annotations"]["example.com/pool"] == "media"
    address = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}}
    patch = ["patch", "service", "heard-relay", "--subresource=status", "--type=merge"]
    made.cluster.kubectl("-n", NAMESPACE, *patch, "-p", json.dumps(address))
    path = ["moqrelay", "heard"]
    wait(
        "the endpoint",
        lambda: made.get(*path)["status"]["endpoints"][0] == "198.51.100.7:443",
    )


def test_a_certificate_that_comes_later(made: Relays) -> None:
    spec = {"placement": {"replicas": 0}, "tls": {"secretName": "later-tls"}}
    made.apply("patient", spec, Accepted="CertificateMissing", Ready="NotAccepted")
    made.give_certificate("later")
    made.apply("patient", spec, Accepted="Valid", Ready="ScaledToZero")
    volumes = made.pod("patient")["volumes"]
    assert {"secretName": "later-tls", "defaultMode": 0o440} in [
        each.get("secret") for each in volumes
    ]


def test_cert_manager(made: Relays) -> None:
    issuer = {"name": "authority", "kind": "ClusterIssuer"}
    spec = {
        "placement": {"replicas": 0},
        "tls": {"issuer": issuer, "dnsNames": ["relay.example.com"]},
    }
    made.apply("issued", spec, Accepted="CertificateMissing")
    order = made.child("certificate", "issued")["spec"]
    assert order["secretName"] == "issued-tls"
    assert order["issuerRef"] == {**issuer, "group": "cert-manager.io"}
    assert order["dnsNames"][:2] == ["relay.example.com", f"issued-relay.{NAMESPACE}.svc"]
    made.give_certificate("issued")
    made.apply("issued", spec, Accepted="Valid")
    made.give_certificate("own")
    made.apply("issued", {"placement": {"replicas": 0}, "tls": {"secretName": "own-tls"}})
    wait("the order to go", lambda: not made.get("certificate", "issued-relay"))


def test_upstreams(made: Relays) -> None:
    for name in ("core", "edge"):
        made.give_certificate(name)
    upstreams = [{"relay": {"name": "core"}, "prefixes": ["live"]}, {"url": "moqt://origin:4443"}]
    edge = {"placement": {"replicas": 0}, "upstreams": upstreams}
    made.apply("edge", edge, Accepted="UpstreamMissing")
    core: Object = {"placement": {"replicas": 0}, "listen": {"port": 5000}}
    made.apply("core", core)
    made.apply("edge", edge)
    urls = [each["url"] for each in made.manifest("edge")["upstreams"]]
    assert urls == [f"moqt://core-relay.{NAMESPACE}.svc:5000", "moqt://origin:4443"]
    core["upstreams"] = [{"relay": {"name": "edge"}}]
    made.apply("core", core, Accepted="UpstreamLoop")


def test_authorization_and_its_secrets(made: Relays) -> None:
    made.give_certificate("guarded")
    token = {"name": "crew", "secretKeyRef": {"name": "tokens", "key": "crew"}}
    rule = {"prefix": "live", "publish": "Token", "subscribe": "Anyone", "tokens": [token]}
    spec = {"placement": {"replicas": 0}, "authorization": {"publish": "Nobody", "rules": [rule]}}
    made.apply("guarded", spec, Accepted="SecretMissing")
    secret = ["create", "secret", "generic", "tokens", "--from-literal=crew=secret"]
    made.cluster.kubectl("-n", NAMESPACE, *secret)
    made.apply("guarded", spec)
    (told,) = made.manifest("guarded")["authorization"]["rules"]
    (mount,) = [
        each
        for each in made.pod("guarded")["containers"][0]["volumeMounts"]
        if told["tokens"][0]["file"] == f"{each['mountPath']}/crew"
    ]
    assert mount["readOnly"]


def test_fast_path(made: Relays) -> None:
    made.give_certificate("fast")
    spec: Object = {
        "placement": {"replicas": 0},
        "fastPath": {"mode": "Required", "attach": "Pod", "maxMembers": 7},
        "quota": {"device": "eth0"},
    }
    made.apply("fast", spec)
    notes = made.child("deployment", "fast")["spec"]["template"]["metadata"]["annotations"]
    note = json.loads(notes["fastrelay.io/node-agent"])
    assert (note["mode"], note["attach"], note["quotaDevice"]) == ("Required", "Pod", "eth0")
    assert made.manifest("fast")["fastPath"]["maxMembers"] == 7
    assert any("hostPath" in each for each in made.pod("fast")["volumes"])
    made.apply("fast", {"placement": {"replicas": 0}, "fastPath": {"mode": "Disabled"}})
    wait("no hostPath", lambda: not any("hostPath" in each for each in made.pod("fast")["volumes"]))


def test_what_only_the_process_obeys(made: Relays) -> None:
    made.give_certificate("told")
    limit = {"connections": 10, "newPerSecond": 5, "burst": 10}
    parts: Object = {
        "cache": {"maxAgeSeconds": 3, "maxSize": "8Mi"},
        "quota": {"perAddress": limit, "total": 1000},
        "congestion": {"controller": "Delay", "limitByPath": True, "overflow": 20},
        "limits": {"sessions": 12},
        "logging": {"level": "debug"},
    }
    made.apply("told", {"placement": {"replicas": 0}, **parts})
    told = made.manifest("told")
    for name, part in parts.items():
        assert told[name].items() >= part.items(), name


def test_drain_resources_and_monitoring(made: Relays) -> None:
    made.give_certificate("leaving")
    resources = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    spec = {
        "placement": {"replicas": 0},
        "drain": {"gracePeriodSeconds": 90, "redirect": "moqt://other:4443"},
        "resources": resources,
        "monitoring": {"port": 9000},
    }
    made.apply("leaving", spec)
    pod = made.pod("leaving")
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] == 98
    assert container["resources"] == resources
    assert [each["containerPort"] for each in container["ports"]] == [4443, 9000]
    assert made.manifest("leaving")["drain"]["redirect"] == "moqt://other:4443"


def test_autoscaling_goes_through_the_scale_subresource(made: Relays) -> None:
    made.give_certificate("growing")
    scaling = {"minReplicas": 2, "maxReplicas": 9, "subscribersPerReplica": 100}
    made.apply("growing", {"autoscaling": scaling}, Accepted="Valid")
    scaler = made.child("horizontalpodautoscaler", "growing")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert scaler["scaleTargetRef"]["kind"] == "MoQRelay"
    path = f"/apis/fastrelay.io/v1alpha1/namespaces/{NAMESPACE}/moqrelays/growing/scale"

    def scale() -> Object:
        return dict(json.loads(made.cluster.kubectl("get", "--raw", path)))

    # What the autoscaler does, and a person may.
    made.cluster.kubectl("-n", NAMESPACE, "scale", "moqrelay", "growing", "--replicas=3")
    made.child("deployment", "growing", lambda it: it["spec"]["replicas"] >= 3)
    wait("its pods to be counted", lambda: scale()["status"].get("replicas", 0) >= 3)
    assert scale()["status"]["selector"] == "fastrelay.io/relay=growing"
    made.apply("growing", {"placement": {"replicas": 0}, "autoscaling": None})
    wait("no autoscaler", lambda: not made.get("horizontalpodautoscaler", "growing-relay"))
    made.cluster.kubectl("-n", NAMESPACE, "delete", "moqrelay", "growing")
    wait("its children to go", lambda: not made.get("deployment", "growing-relay"))


CHILDREN = (
    *("serviceaccount", "configmap", "networkpolicy", "service", "deployment"),
    "poddisruptionbudget",
)


def test_what_an_earlier_relay_of_that_name_left_is_not_taken_over(made: Relays) -> None:
    made.give_certificate("again")
    spec: Object = {"placement": {"replicas": 0}}
    made.apply("again", spec)
    before = {kind: made.child(kind, "again")["metadata"]["uid"] for kind in CHILDREN}
    delete = ["delete", "moqrelay", "again", "--cascade=orphan"]
    made.cluster.kubectl("-n", NAMESPACE, *delete)
    made.apply("again", spec)
    for kind, uid in before.items():
        made.child(kind, "again", lambda it, uid=uid: it and it["metadata"]["uid"] != uid)


def test_the_story_of_a_relay(made: Relays) -> None:
    """Pods and agents are played; what a person then sees is real."""
    made.give_certificate("live")
    made.apply("live", {"fastPath": {"mode": "Required"}}, Accepted="Valid")
    pods = ["-n", NAMESPACE, "pods", "-l", "fastrelay.io/relay=live"]
    wait("its pod", lambda: len(made.cluster.read(*pods)["items"]) == 1)
    (pod,) = made.cluster.read(*pods)["items"]
    play(made.cluster, pod, attached=False)
    relay = ["moqrelay", "live"]
    wait("the pod to be seen", lambda: made.get(*relay)["status"]["relays"] == "1/1")
    play(made.cluster, pod, attached=True)
    wait("the summary", lambda: columns(made.cluster, "live")[:4] == ["True", "1/1", "1/1", "7"])
    # Nothing that has happened so far is a reason to look.
    assert "Warning" not in made.cluster.kubectl("-n", NAMESPACE, "describe", *relay)
    waited = ["wait", "--for=condition=Ready", "moqrelay/live", "--timeout=60s"]
    made.cluster.kubectl("-n", NAMESPACE, *waited)


def play(cluster: Bare, pod: Object, *, attached: bool) -> None:
    """The pod runs, and the agent of its node says how it stands."""
    name, node, now = pod["metadata"]["name"], "node-1", bare.now()
    if "nodeName" not in pod["spec"]:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        metadata = {"name": name, "namespace": NAMESPACE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"
        if not cluster.read("-n", NAMESPACE, "pod", name)["spec"].get("nodeName"):
            cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": now}
    status = {
        "phase": "Running",
        "startTime": now,
        "hostIP": "192.0.2.1",
        "conditions": [condition],
    }
    patch = ["patch", "pod", name, "--subresource=status", "--type=merge"]
    cluster.kubectl("-n", NAMESPACE, *patch, "-p", json.dumps({"status": status}))
    relay = pod["metadata"]["labels"]["fastrelay.io/relay"]
    said = {"state": "Attached", "reason": "Attached", "device": "veth1", "mechanism": "tcx"}
    waits = {"state": "Waiting", "reason": "NoInterface", "message": "no veth leads to it"}
    word = {"uid": pod["metadata"]["uid"], "name": name, **(said if attached else waits)}
    numbers = {"subscribers": 7, "tracks": 2} if attached else {}
    state = {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelayNodeState",
        "metadata": {"name": object_name(relay, node), "namespace": NAMESPACE},
    }
    cluster.apply({**state, "spec": {"relay": relay, "node": node}})
    status = {"heartbeat": now, "pods": [word | numbers], **numbers}
    status.pop("tracks", None)
    patch = ["patch", "moqrelaynodestate", object_name(relay, node), "--subresource=status"]
    body = json.dumps({"status": status})
    cluster.kubectl("-n", NAMESPACE, *patch, "--type=merge", "-p", body)


def columns(cluster: Bare, name: str) -> list[str]:
    """What `kubectl get moqrelay` says of it, without its name."""
    return cluster.kubectl("-n", NAMESPACE, "get", "moqrelay", name, "--no-headers").split()[1:]
