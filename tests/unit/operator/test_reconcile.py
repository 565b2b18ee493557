"""The decision, step by step, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fastrelay.api.conditions import REASONS
from fastrelay.api.load import validate
from fastrelay.api.objects import NODE_ANNOTATION, PodNote
from fastrelay.api.status import RelayStatus
from fastrelay_operator.objects import CHILDREN
from fastrelay_operator.observed import Apply, Delete, Refusal, SecretFacts, WriteStatus
from unit.operator.world import START, World, relay, text

KINDS = [
    "ServiceAccount",
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
]


def made(world: World) -> list[str]:
    return [each.kind.name for each in world.plan().actions if isinstance(each, Apply)]


def told(world: World) -> list[tuple[str, str]]:
    return [(event.type, event.reason) for event in world.events]


def test_an_empty_spec_becomes_everything() -> None:
    world = World()
    world.step()
    assert made(world) == KINDS
    for action in world.plan().actions:
        if isinstance(action, Apply):
            metadata = action.object["metadata"]
            assert (metadata["name"], metadata["namespace"]) == ("live-relay", "media")
            assert metadata["labels"]["fastrelay.io/relay"] == "live"
            (owner,) = metadata["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == (
                "MoQRelay",
                "live-uid",
                True,
            )
            assert action.new


def test_all_conditions_are_there_at_first_sight() -> None:
    world = World()
    world.step()
    status = world.relay["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "Unknown",
        "Accepted": "True",
        "RelayAvailable": "Unknown",
        "DataPathAttached": "Unknown",
        "Degraded": "False",
    }
    assert status["observedGeneration"] == 1


def test_a_relay_that_serves() -> None:
    world = World("{placement: {replicas: 2}}")
    world.step()
    world.run_pods(2)
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("RelayAvailable") == ("True", "PodsReady", "2/2 pods serve.")
    assert world.condition("DataPathAttached")[:2] == ("True", "Attached")
    status = world.relay["status"]
    assert (status["relays"], status["fastPath"]) == ("2/2", "2/2")
    assert (status["subscribers"], status["tracks"], status["nodesAttached"]) == (20, 4, 2)
    assert (status["replicas"], status["selector"]) == (2, "fastrelay.io/relay=live")
    assert status["endpoints"] == ["live-relay.media.svc:4443"]
    assert ("Normal", "PodsReady") in told(world)
    assert ("Normal", "Attached") in told(world)
    RelayStatus.model_validate(status, by_alias=True, by_name=False)


def test_at_rest_there_is_nothing_to_do() -> None:
    world = World()
    world.run_pods(1)
    world.settle()
    world.later(seconds=50)
    assert world.plan().actions == ()


def test_the_first_thing_is_an_answer() -> None:
    """Before anything is made: whoever applies many relays at once hears of each soon."""
    world = World()
    plan = world.step()
    assert [type(each) for each in plan.actions] == [WriteStatus]
    assert plan.recheck == 0
    assert world.condition("Accepted")[0] == "True"
    world.spec("{placement: {replicas: 2}}")
    assert made(world) == KINDS, "not so when the spec has changed"


def test_what_is_not_accepted_is_told_once_in_the_words_that_help() -> None:
    world = World()
    world.secrets["live-tls"] = None
    world.settle()
    assert told(world) == [("Warning", "CertificateMissing")]
    status = world.relay["status"]
    assert (status["relays"], status["endpoints"]) == ("0/1", []), "wanted, and not to be reached"


def test_transition_times_move_only_when_a_status_flips() -> None:
    world = World("{placement: {replicas: 2}}")
    world.run_pods(1)
    world.settle()

    def since(kind: str) -> str:
        (found,) = [c for c in world.relay["status"]["conditions"] if c["type"] == kind]
        return str(found["lastTransitionTime"])

    world.later(minutes=1)
    world.pod(1, ready=False)
    world.settle()
    assert since("RelayAvailable") == text(START)
    assert world.condition("RelayAvailable")[1] == "PodsNotReady"
    world.pod(1)
    world.state(1)
    world.settle()
    assert since("RelayAvailable") == text(world.now)
    assert since("Ready") == text(START)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deleted_comes_back(kind: str) -> None:
    world = World()
    world.settle()
    del world.children[kind, "live-relay"]
    assert made(world) == [kind]


def test_what_is_edited_is_put_back() -> None:
    world = World()
    world.settle()
    world.child("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = "bad"
    (action,) = world.plan().actions
    assert isinstance(action, Apply)
    assert not action.new


def test_what_others_add_stays() -> None:
    world = World()
    world.settle()
    world.child("Deployment")["metadata"]["annotations"] = {
        "deployment.kubernetes.io/revision": "1"
    }
    world.child("Service")["spec"]["clusterIP"] = "10.1.2.3"
    assert world.plan().actions == ()


def test_children_of_an_earlier_relay_go_first() -> None:
    world = World()
    world.settle()
    world.relay["metadata"]["uid"] = "another"
    deleted = [each for each in world.plan().actions if isinstance(each, Delete)]
    assert [each.kind.name for each in deleted] == KINDS
    assert not made(world)


def test_a_relay_that_goes_is_left_alone() -> None:
    world = World()
    world.relay["metadata"]["deletionTimestamp"] = text(START)
    assert world.plan().actions == ()


def test_the_other_workload_goes_when_the_new_one_serves() -> None:
    world = World()
    world.run_pods(1)
    world.settle()
    world.spec("{placement: {workload: DaemonSet}}")
    world.step()
    assert {"Deployment", "DaemonSet"} <= {kind for kind, _ in world.children}
    world.child("DaemonSet")["status"] = {"desiredNumberScheduled": 1, "numberReady": 1}
    world.settle()
    assert "Deployment" not in {kind for kind, _ in world.children}
    assert world.relay["status"]["relays"] == "1/1"


def test_an_autoscaler_comes_and_goes() -> None:
    world = World("{autoscaling: {maxReplicas: 5, subscribersPerReplica: 100}}")
    world.settle()
    spec = world.child("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["kind"] == "MoQRelay"
    assert spec["metrics"][0]["pods"]["target"]["averageValue"] == "100"
    world.spec("{}")
    world.settle()
    assert "HorizontalPodAutoscaler" not in {kind for kind, _ in world.children}


def test_scaled_to_zero() -> None:
    world = World("{placement: {replicas: 0}}")
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "ScaledToZero")
    assert world.relay["status"]["relays"] == "0/0"


@pytest.mark.parametrize(
    ("spec", "secrets", "reason", "says"),
    [
        ("{}", {"live-tls": None}, "CertificateMissing", "kubectl create secret tls live-tls"),
        ("{tls: {secretName: x}}", {"x": None}, "CertificateMissing", "Secret x"),
        ("{}", {"live-tls": SecretFacts(frozenset({"tls.crt"}))}, "CertificateMissing", "tls.key"),
        (
            "{upstreams: [{url: 'moqt://a:1', token: {secretKeyRef: {name: t}}}]}",
            {"t": None},
            "SecretMissing",
            "there is no Secret t",
        ),
        (
            "{upstreams: [{url: 'moqt://a:1', token: {secretKeyRef: {name: t}}}]}",
            {"t": SecretFacts(frozenset({"other"}))},
            "SecretMissing",
            "no key token",
        ),
        ("{upstreams: [{relay: {name: core}}]}", {}, "UpstreamMissing", "core"),
        ("{upstreams: [{relay: {name: live}}]}", {}, "UpstreamLoop", "live -> live"),
        (
            "{fastPath: {encryption: Disabled, insecureLaboratory: true}}",
            {},
            "PlaintextRefused",
            "write fastPath.encryption: Enabled",
        ),
        ("{listen: {port: 0}}", {}, "Invalid", "spec.listen.port"),
    ],
)
def test_what_cannot_be_carried_out(
    spec: str, secrets: dict[str, Any], reason: str, says: str
) -> None:
    world = World(spec)
    world.secrets |= secrets
    world.settle()
    status, found, message = world.condition("Accepted")
    assert (status, found) == ("False", reason)
    assert says in message
    assert world.condition("Ready")[:2] == ("False", "NotAccepted")
    assert world.children == {}
    assert ("Warning", reason) in told(world)
    assert len(told(world)) == len(set(told(world))), "each is told once"
    assert len(world.relay["status"]["conditions"]) == 5


def test_what_is_not_accepted_leaves_what_runs() -> None:
    world = World()
    world.run_pods(1)
    world.settle()
    before = dict(world.children)
    world.spec("{listen: {port: 5000}}")
    world.secrets["live-tls"] = None
    world.settle()
    assert world.children == before
    assert world.relay["status"]["subscribers"] == 10
    world.spec("{listen: {port: -1}}")
    world.settle()
    assert world.children == before
    assert world.condition("RelayAvailable")[0] == "True"


def test_fields_of_a_newer_definition_change_nothing() -> None:
    """The definition comes first, with defaults in every relay, and then its operator."""
    world = World("{fastPath: {mode: Auto}}")
    world.run_pods(1)
    world.settle()
    before, status = dict(world.children), world.relay["status"]["conditions"]
    world.spec("{newPart: {size: 3}, fastPath: {mode: Auto, newField: true}}")
    world.settle()
    assert world.children == before
    assert [each["status"] for each in world.relay["status"]["conditions"]] == [
        each["status"] for each in status
    ]


def test_what_is_missing_is_looked_for_ever_less_often() -> None:
    world = World()
    world.secrets["live-tls"] = None
    world.settle()
    assert world.plan().recheck == 3
    world.later(seconds=40)
    assert world.plan().recheck == 11
    world.later(hours=1)
    assert world.plan().recheck == 61


def test_relays_in_a_circle() -> None:
    world = World("{upstreams: [{relay: {name: b}}]}")
    world.relays["b"] = relay("{upstreams: [{relay: {name: c}}]}", "b")
    world.relays["c"] = relay("{upstreams: [{relay: {name: b}}, {relay: {name: live}}]}", "c")
    world.settle()
    assert "live -> b -> c -> live" in world.condition("Accepted")[2]


def test_a_circle_of_others_is_theirs() -> None:
    world = World("{upstreams: [{relay: {name: b}}]}")
    world.relays["b"] = relay("{upstreams: [{relay: {name: b}}]}", "b")
    world.settle()
    assert world.condition("Accepted")[0] == "True"


def test_upstreams_by_name_become_urls() -> None:
    world = World("{upstreams: [{relay: {name: core}, prefixes: [live]}]}")
    world.relays["core"] = relay("{listen: {port: 5000}}", "core")
    world.settle()
    manifest = json.loads(world.child("ConfigMap")["data"]["moqrelay.json"])
    (upstream,) = manifest["spec"]["upstreams"]
    assert upstream == {"url": "moqt://core-relay.media.svc:5000", "prefixes": ["live"]}


def test_refused_objects() -> None:
    world = World()
    world.refusals["Service", "live-relay"] = Refusal(409, "conflict")
    world.step()
    world.step()
    assert world.condition("Accepted")[1:] == (
        "NameTaken",
        "Service live-relay belongs to somebody else",
    )
    world.refusals = {("Deployment", "live-relay"): Refusal(403, "exceeded quota")}
    world.step()
    assert world.condition("Accepted")[1] == "Rejected"
    assert "exceeded quota" in world.condition("Accepted")[2]
    world.refusals = {}
    world.settle()
    assert world.condition("Accepted")[0] == "True"


def test_cert_manager() -> None:
    world = World("{tls: {issuer: {name: ca}, dnsNames: [r.example.com]}}")
    world.secrets["live-tls"] = None
    world.step()
    assert made(world) == ["Certificate"]
    world.step()
    spec = world.child("Certificate")["spec"]
    assert spec["secretName"] == "live-tls"
    assert spec["dnsNames"][:2] == ["r.example.com", "live-relay.media.svc"]
    assert "cert-manager" in world.condition("Accepted")[2]
    world.secrets["live-tls"] = World().secrets["live-tls"]
    world.settle()
    assert world.condition("Accepted")[0] == "True"


def test_without_cert_manager() -> None:
    world = World("{tls: {issuer: {name: ca}}}")
    world.refusals["Certificate", "live-relay"] = Refusal(404, "not found")
    world.step()
    world.step()
    assert world.condition("Accepted")[1] == "CertManagerMissing"


def test_nodes_without_programs() -> None:
    world = World("{placement: {replicas: 2}}")
    world.run_pods(2)
    world.state(1, attached=False)
    world.settle()
    status, reason, message = world.condition("DataPathAttached")
    assert (status, reason) == ("False", "PartlyAttached")
    assert message == "1/2 pods; node-1: LoadFailed: no room"
    assert world.condition("Ready")[0] == "True"
    assert ("Warning", "PartlyAttached") in told(world)


def test_required_without_programs() -> None:
    world = World("{fastPath: {mode: Required}}")
    world.run_pods(1, attached=False)
    world.settle()
    assert world.condition("Ready")[:2] == ("False", "FastPathRequired")


def waiting(world: World, number: int) -> None:
    """A pod whose network is not there yet."""
    world.pod(number, ready=False)
    world.state(number, attached=False, state="Waiting", reason="NoInterface", message="no veth")


@pytest.mark.parametrize("mode", ["Auto", "Required"])
def test_a_pod_that_starts_is_no_reason_to_warn(mode: str) -> None:
    world = World(f"{{fastPath: {{mode: {mode}}}}}")
    waiting(world, 0)
    world.settle()
    assert world.condition("DataPathAttached")[:2] == ("Unknown", "Pending")
    world.pod(0)
    world.settle()
    assert world.condition("Ready")[0] == ("True" if mode == "Auto" else "Unknown")
    assert world.plan().recheck == 31
    world.state(0)
    world.settle()
    assert world.condition("Ready")[0] == "True"
    assert all(kind != "Warning" for kind, _ in told(world))


def test_one_that_does_not_come_up_is() -> None:
    world = World("{fastPath: {mode: Required}}")
    waiting(world, 0)
    world.pod(0)
    world.settle()
    world.later(seconds=31)
    world.settle()
    assert world.condition("DataPathAttached") == (
        *("False", "PartlyAttached"),
        "0/1 pods; node-0: NoInterface: no veth",
    )
    assert world.condition("Ready")[:2] == ("False", "FastPathRequired")
    assert ("Warning", "PartlyAttached") in told(world)


def test_one_more_pod_takes_nothing_away_while_it_starts() -> None:
    world = World("{placement: {replicas: 2}, fastPath: {mode: Required}}")
    world.run_pods(1)
    world.settle()
    waiting(world, 1)
    world.settle()
    status, reason, message = world.condition("DataPathAttached")
    assert (status, reason) == ("True", "Attached")
    assert message == "1/2 pods: the kernel forwards. The others are starting."
    assert world.condition("Ready")[0] == "True"


def test_fields_of_a_later_version_are_none_of_ours() -> None:
    """New definitions come before the new operator: nothing is to happen meanwhile."""
    world = World("{cache: {maxAgeSeconds: 9}}")
    world.run_pods(1)
    world.settle()
    before = dict(world.children)
    world.relay["spec"] |= {"later": {"a": 1}, "upstreams": [], "listen": {"later": [1]}}
    world.settle()
    assert world.condition("Accepted")[0] == "True"
    assert world.children == before
    world.relay["spec"]["listen"]["port"] = "x"
    world.settle()
    assert "spec.listen.port" in world.condition("Accepted")[2]
    assert "later" not in world.condition("Accepted")[2]


def test_disabled_needs_no_agent() -> None:
    world = World("{fastPath: {mode: Disabled}}")
    world.pod(0)
    world.settle()
    world.later(hours=1)
    world.settle()
    assert world.condition("DataPathAttached")[:2] == ("False", "Disabled")
    assert world.relay["status"]["fastPath"] == "off"
    assert all(kind != "Warning" for kind, _ in told(world))


def test_no_agent_is_said_after_a_while() -> None:
    world = World()
    world.pod(0)
    world.settle()
    assert world.condition("DataPathAttached")[:2] == ("Unknown", "Pending")
    assert world.plan().recheck == 31
    world.later(seconds=31)
    world.settle()
    assert world.condition("DataPathAttached")[:2] == ("False", "NoAgent")


def test_a_silent_agent() -> None:
    world = World()
    world.run_pods(1)
    world.settle()
    assert world.plan().recheck == 181
    world.later(seconds=181)
    world.settle()
    assert world.condition("DataPathAttached")[:2] == ("Unknown", "AgentSilent")
    assert world.condition("Ready")[0] == "True"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"certificateExpires": "2026-01-05T00:00:00Z"}, "CertificateExpiring"),
        ({"upstreamsDown": 1}, "UpstreamUnreachable"),
        ({"overloaded": True}, "Overloaded"),
    ],
)
def test_degraded(said: dict[str, Any], reason: str) -> None:
    world = World()
    world.pod(0)
    world.state(0, **said)
    world.settle()
    assert world.condition("Degraded")[:2] == ("True", reason)
    assert world.condition("Ready")[0] == "True"
    assert ("Warning", reason) in told(world)


def test_plaintext_where_it_is_allowed_is_said_aloud() -> None:
    world = World("{fastPath: {encryption: Disabled, insecureLaboratory: true}}")
    world.settings = replace(world.settings, allow_plaintext=True)
    world.settle()
    assert world.condition("Degraded")[:2] == ("True", "Plaintext")
    (container,) = world.child("Deployment")["spec"]["template"]["spec"]["containers"]
    assert "--insecure-no-encryption" in container["command"]


def test_endpoints_outside() -> None:
    world = World("{listen: {service: {type: NodePort, nodePort: 30443}}}")
    world.step()
    world.run_pods(2)
    world.settle()
    assert world.relay["status"]["endpoints"] == [
        "10.0.0.0:30443",
        "10.0.0.1:30443",
        "live-relay.media.svc:4443",
    ]
    world.spec("{listen: {service: {type: LoadBalancer}}}")
    world.settle()
    world.child("Service")["status"] = {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}
    world.settle()
    assert world.relay["status"]["endpoints"][0] == "[2001:db8::1]:4443"


def test_pods_that_do_not_start_are_named() -> None:
    world = World()
    pod = world.pod(0, ready=False)
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod["status"]["containerStatuses"] = [{"state": {"waiting": waiting}}]
    world.settle()
    assert "live-relay-0: ImagePullBackOff: no such image" in world.condition("RelayAvailable")[2]
    assert world.condition("Ready")[:2] == ("False", "NotAvailable")


def test_the_beginning_is_no_warning() -> None:
    world = World()
    world.settle()
    world.pod(0, ready=False)
    world.settle()
    assert all(kind != "Warning" for kind, _ in told(world))
    world.run_pods(1)
    world.settle()
    world.pod(0, ready=False)
    world.settle()
    assert ("Warning", "PodsNotReady") in told(world)


def test_pods_that_leave_do_not_count() -> None:
    world = World()
    world.run_pods(2)
    world.pods["live-relay-1"]["metadata"]["deletionTimestamp"] = text(START)
    world.settle()
    assert world.relay["status"]["relays"] == "1/1"
    assert world.relay["status"]["fastPath"] == "1/1"


def test_an_upgrade_of_the_operator_rolls_the_image_only() -> None:
    world = World()
    world.settle()
    world.settings = replace(world.settings, image="relay:2")
    assert made(world) == ["Deployment"]


def test_only_documented_reasons_are_given() -> None:
    documented = {(reason.type.value, reason.name, reason.status) for reason in REASONS}
    world = World()
    for _ in range(3):
        world.settle()
        for each in world.relay["status"]["conditions"]:
            assert (each["type"], each["reason"], each["status"]) in documented
        world.pod(0)
        world.later(minutes=1)


def test_the_pod_can_do_nothing_but_serve() -> None:
    world = World("{listen: {port: 443}, drain: {gracePeriodSeconds: 20}}")
    world.settle()
    pod = world.child("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["sysctls"][0]["name"] == "net.ipv4.ip_unprivileged_port_start"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] == 28
    writable = [each for each in container["volumeMounts"] if not each.get("readOnly")]
    assert [each["name"] for each in writable] == ["control"]
    (control,) = [volume for volume in pod["volumes"] if volume["name"] == "control"]
    assert control["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
    assert container["command"][-3] == f"{writable[0]['mountPath']}/control.sock"
    (agent,) = [mount for mount in container["volumeMounts"] if mount["name"] == "agent"]
    assert agent["subPathExpr"] == "$(POD_UID)"
    template = world.child("Deployment")["spec"]["template"]
    note = PodNote.model_validate_json(template["metadata"]["annotations"][NODE_ANNOTATION])
    assert (note.mode, note.attach, note.relay_uid) == ("Auto", "Host", "live-uid")


@pytest.mark.parametrize(
    ("quota", "device"),
    [("{}", ""), ("{device: eth0}", "eth0"), ("{device: eth0, mode: UserSpace}", "")],
)
def test_the_agent_is_told_of_the_quotas_device(quota: str, device: str) -> None:
    world = World(f"{{quota: {quota}}}")
    world.settle()
    template = world.child("Deployment")["spec"]["template"]
    note = PodNote.model_validate_json(template["metadata"]["annotations"][NODE_ANNOTATION])
    assert note.quota_device == device


def test_no_host_path_where_the_kernel_is_not_wanted() -> None:
    world = World("{fastPath: {mode: Disabled}}")
    world.settle()
    pod = world.child("Deployment")["spec"]["template"]["spec"]
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_secrets_become_files_that_the_relay_reads() -> None:
    world = World(
        "{authorization: {rules: [{prefix: a, tokens: [{name: x, secretKeyRef: {name: t}}]}]},"
        " upstreams: [{url: 'moqt://a:1', caSecretKeyRef: {name: ca, key: ca.crt}}]}"
    )
    world.settle()
    manifest = json.loads(world.child("ConfigMap")["data"]["moqrelay.json"])
    spec = validate(manifest).spec
    assert spec.authorization.rules[0].tokens[0].file == "/etc/fastrelay-secrets/t/token"
    assert spec.upstreams[0].ca_file == "/etc/fastrelay-secrets/ca/ca.crt"
    assert spec.tls.files is not None
    pod = world.child("Deployment")["spec"]["template"]["spec"]
    mounted = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    assert mounted == {"live-tls", "t", "ca"}


def test_only_what_the_process_obeys_restarts_it() -> None:
    world = World()
    world.settle()

    def digest() -> str:
        template = world.child("Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["fastrelay.io/config"])

    before = digest()
    world.spec("{listen: {service: {type: NodePort}}, placement: {replicas: 3}, cache: {}}")
    world.settle()
    assert digest() == before
    world.spec("{cache: {maxAgeSeconds: 99}}")
    world.settle()
    assert digest() != before


def test_children_are_made_in_an_order_that_works() -> None:
    names = [kind.name for kind in CHILDREN]
    assert names.index("ServiceAccount") < names.index("Deployment")
    plan = World().plan()
    assert isinstance(plan.actions[-1], WriteStatus)
