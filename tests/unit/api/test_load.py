"""Reading a resource: what works, and what a person is told when it does not."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from fastrelay.api.load import MAX_FILE_SIZE, MINIMAL, SpecError, load, load_file, validate

HEAD = "apiVersion: fastrelay.io/v1alpha1\nkind: MoQRelay\nmetadata: {name: r}\n"


def problems(spec: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(f"{HEAD}spec: {spec}")
    return [str(problem) for problem in caught.value.problems]


def test_smallest_resource_is_complete() -> None:
    relay = load(MINIMAL)
    assert relay.metadata.name == "my-relay"
    assert relay.spec.listen.port == 4443
    assert relay.spec.listen.drafts == [18, 22, 16]


def test_json_is_yaml() -> None:
    text = (
        '{"apiVersion": "fastrelay.io/v1alpha1", "kind": "MoQRelay", "metadata": {"name": "r"},'
        ' "spec": {"listen": {"port": 5000}}}'
    )
    assert load(text).spec.listen.port == 5000


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "{listen: {port: 70000}}",
            "spec.listen.port: 70000 is too large; write a number from 1 to 65535",
        ),
        (
            "{listen: {port: 0}}",
            "spec.listen.port: 0 is too small; write a number from 1 to 65535",
        ),
        (
            "{listen: {port: '4443'}}",
            'spec.listen.port: "4443" is text; write the number without quotes: 4443',
        ),
        (
            "{listen: {port: 4443.5}}",
            "spec.listen.port: 4443.5 does not fit; write a number from 1 to 65535",
        ),
        (
            "{listen: {port: yes}}",
            "spec.listen.port: true does not fit; write a number from 1 to 65535",
        ),
        ("{listen: {prot: 1}}", "spec.listen.prot: there is no such field; did you mean port?"),
        (
            "{listen: {idle_timeout_seconds: 9}}",
            "spec.listen.idle_timeout_seconds: there is no such field; "
            "did you mean idleTimeoutSeconds?",
        ),
        (
            "{drain: {zzz: 1}}",
            "spec.drain.zzz: there is no such field; "
            "the fields here are gracePeriodSeconds and redirect",
        ),
        (
            "{listen: {drafts: [18, 17]}}",
            "spec.listen.drafts[1]: 17 is not known; write 18, 22 or 16",
        ),
        (
            "{listen: {drafts: [18, 18]}}",
            "spec.listen: drafts names something twice; write each once",
        ),
        (
            "{listen: {drafts: []}}",
            "spec.listen.drafts: is empty; write some of 18, 22 and 16, like [18, 16]",
        ),
        (
            "{listen: {transports: Quic}}",
            'spec.listen.transports: "Quic" is not a list; write [Quic], [WebTransport] or both',
        ),
        (
            "{listen: {host: 'a b'}}",
            'spec.listen.host: "a b" does not fit; '
            "write an address like 0.0.0.0 or ::1, or '' for every address",
        ),
        (
            "{fastPath: {mode: auto}}",
            'spec.fastPath.mode: "auto" is not known; '
            "write Auto, Required or Disabled (did you mean Auto?)",
        ),
        (
            "{fastPath: {encryption: Disabled}}",
            "spec.fastPath: encryption: Disabled sends media in the clear; write encryption: "
            "Enabled, or in a laboratory insecureLaboratory: true",
        ),
        (
            "{cache: {maxSize: 10X}}",
            'spec.cache.maxSize: "10X" does not fit; write a number of bytes, like 256Mi or 1G',
        ),
        (
            "{cache: {maxSize: true}}",
            "spec.cache.maxSize: true does not fit; write a number of bytes, like 256Mi or 1G",
        ),
        (
            "{cache: {replayCurrentGroup: 'no'}}",
            'spec.cache.replayCurrentGroup: "no" is neither true nor false; write true or false',
        ),
        (
            "{tls: 5}",
            "spec.tls: 5 is not a mapping; write {} for the defaults, or a mapping of "
            "secretName, issuer, dnsNames and files",
        ),
        (
            "{tls: {files: {certificate: a.pem}}}",
            "spec.tls.files.privateKey: is missing; "
            "write the path of a file, like /etc/tls/tls.crt",
        ),
        (
            "{tls: {secretName: a, files: {certificate: a, privateKey: b}}}",
            "spec.tls: files excludes secretName and issuer; keep the one that is meant",
        ),
        (
            "{tls: {dnsNames: [a.example]}}",
            "spec.tls: dnsNames has no effect without an issuer; write issuer or remove dnsNames",
        ),
        (
            "{upstreams: [{url: 'http://a'}]}",
            'spec.upstreams[0].url: "http://a" does not fit; write moqt://HOST:PORT/PATH '
            "(raw QUIC) or https://HOST:PORT/PATH (WebTransport)",
        ),
        (
            "{upstreams: [{}]}",
            "spec.upstreams[0]: needs either url or relay; write url: moqt://HOST:PORT",
        ),
        (
            "{upstreams: [{url: 'moqt://a', verify: false, caFile: ca.pem}]}",
            "spec.upstreams[0]: verify: false and caFile exclude each other; keep one of them",
        ),
        (
            "{upstreams: [{url: 'moqt://a', token: {}}]}",
            "spec.upstreams[0].token: needs exactly one of secretKeyRef, file and value; "
            "write secretKeyRef: {name: my-secret, key: token}",
        ),
        (
            "{upstreams: [{url: 'moqt://a', token: {value: 12345}}]}",
            "spec.upstreams[0].token.value: this secret value does not fit; write text",
        ),
        (
            "{authorization: {rules: [{prefix: a//b, publish: Anyone}]}}",
            'spec.authorization.rules[0].prefix: "a//b" does not fit; write namespace fields '
            "separated by slashes, like live/demo, or '' for every namespace",
        ),
        (
            "{authorization: {rules: [{prefix: live}]}}",
            "spec.authorization.rules[0]: publish is Token but no token allows Publish; "
            "add one to tokens, or write publish: Nobody",
        ),
        (
            "{authorization: {rules: [{prefix: a, publish: Anyone}, "
            "{prefix: a, publish: Nobody}]}}",
            "spec.authorization: rules has two entries for prefix 'a'; merge them into one",
        ),
        (
            "{authorization: {rules: [{prefix: a, tokens: "
            "[{name: x, value: p}, {name: x, value: q}]}]}}",
            "spec.authorization.rules[0]: tokens has two entries of one name; give each its own",
        ),
        (
            "{quota: {perAddress: {connections: 5, newPerSecond: 5}}}",
            "spec.quota.perAddress.burst: is missing; write a number from 1 to 1000000",
        ),
        (
            "{quota: {exempt: [10.0.0.1/8]}}",
            "spec.quota: exempt: 10.0.0.1/8 has host bits set; write a block like 10.0.0.0/8",
        ),
        (
            "{congestion: {bands: [{lowestPriority: 9, share: 100}]}}",
            "spec.congestion: bands end before priority 255; "
            "write lowestPriority: 255 in the last one",
        ),
        (
            "{congestion: {bands: [{lowestPriority: 255, share: 40}]}}",
            "spec.congestion: the shares of bands add up to 40; make it 100",
        ),
        (
            "{congestion: {bands: [{lowestPriority: 255, share: 40}, "
            "{lowestPriority: 3, share: 60}]}}",
            "spec.congestion: bands are out of order; write them with rising lowestPriority",
        ),
        (
            "{autoscaling: {minReplicas: 3, maxReplicas: 2}}",
            "spec.autoscaling: minReplicas (3) is above maxReplicas (2); "
            "raise maxReplicas or lower minReplicas",
        ),
        (
            "{placement: {workload: DaemonSet}, autoscaling: {maxReplicas: 2}}",
            "spec: autoscaling has no effect with placement.workload DaemonSet; "
            "remove it or write workload: Deployment",
        ),
        (
            "{placement: {nodeSelector: {disk: 4}}}",
            "spec.placement.nodeSelector.disk: 4 does not fit; write text",
        ),
        (
            "{placement: {nodeSelector: {a.b/c: 4}}}",
            'spec.placement.nodeSelector["a.b/c"]: 4 does not fit; write text',
        ),
        (
            "{listen: {service: {nodePort: 30000}}}",
            "spec.listen.service: nodePort has no effect with type ClusterIP; write type: NodePort",
        ),
        (
            "{resources: {limits: {memory: lots}}}",
            'spec.resources.limits.memory: "lots" does not fit; '
            "write a Kubernetes quantity, like 500m (half a core) or 256Mi",
        ),
        (
            f"{{upstreams: [{{url: 'moqt://{'a' * 2050}'}}]}}",
            "spec.upstreams[0].url: is too long; at most 2048 characters fit",
        ),
        (
            f"{{upstreams: [{', '.join(['{url: moqt://a}'] * 17)}]}}",
            "spec.upstreams: is too long; at most 16 entries fit",
        ),
    ],
)
def test_says_what_to_write(spec: str, expected: str) -> None:
    assert problems(spec) == [expected]


def test_every_problem_is_named_in_the_order_of_the_file() -> None:
    with pytest.raises(SpecError) as caught:
        load(
            f"{HEAD}spec:\n  cache:\n    maxSize: x\n  listen:\n    port: 0\n    prot: 1\n"
            "  upstreams:\n  - url: moqt://a\n  - nothing: here\n",
            source="relay.yaml",
        )
    assert [(p.path, p.line) for p in caught.value.problems] == [
        ("spec.cache.maxSize", 6),
        ("spec.listen.port", 8),
        ("spec.listen.prot", 9),
        ("spec.upstreams[1].nothing", 12),
    ]
    assert str(caught.value).splitlines()[0].startswith("relay.yaml:6: spec.cache.maxSize: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; the smallest one is"),
        ("a: 1\n---\nb: 2\n", "holds no MoQRelay; the smallest one is"),
        ("a: [", "expected the node content"),
        ("a: 1\na: 2\n", "a is written twice; keep one of them"),
        (b"\xff\xfe\xff", "is not YAML"),
        ("a: \x00", "is not YAML"),
        ("just text", '"just text" is not a mapping; write a mapping with'),
        ("kind: Pod", 'kind: "Pod" is not known; write MoQRelay'),
        ("kind: MoQRelay\nspec:\n", "spec: an empty value is not a mapping; write {}"),
        ("kind: MoQRelay\nmetadata: {name: A_B}\n", 'metadata.name: "A_B" does not fit'),
    ],
)
def test_what_is_no_resource_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(text)
    assert any(message in str(problem) for problem in caught.value.problems)


def test_one_of_several_is_chosen_by_name() -> None:
    first = MINIMAL.replace("my-relay", "first")
    second = MINIMAL.replace("my-relay", "second").replace("{}", "{listen: {port: 5}}")
    both = f"{first}---\nkind: ConfigMap\n---\n{second}"
    assert load(both, name="second").spec.listen.port == 5
    with pytest.raises(SpecError, match=r"holds 2 MoQRelays \(first, second\); choose one"):
        load(both)
    with pytest.raises(SpecError, match="choose one"):
        load(both, name="third")


def test_a_file_among_others_is_found(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"kind: Service\n---\n{MINIMAL}---\n")
    assert load_file(path).metadata.name == "my-relay"
    path.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(SpecError, match="is larger than"):
        load_file(path)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "none.yaml")


def test_what_kubernetes_adds_is_accepted() -> None:
    relay = validate(
        {
            "apiVersion": "fastrelay.io/v1alpha1",
            "kind": "MoQRelay",
            "metadata": {"name": "r", "uid": "1", "generation": 3, "managedFields": []},
            "status": {"replicas": 2, "conditions": []},
        }
    )
    assert relay.status is not None
    assert relay.status.replicas == 2


def test_dates_stay_text() -> None:
    assert load(f"{HEAD}spec: {{placement: {{nodeSelector: {{built: 2026-01-01}}}}}}")


def test_no_message_shows_a_secret() -> None:
    secret = "correct-horse"
    rule = f"{{prefix: a, tokens: [{{name: x, value: {secret}, allow: [publish]}}]}}"
    for spec in itertools.chain(
        [f"{{authorization: {{rules: [{rule}]}}}}"],
        [f"{{upstreams: [{{url: 'moqt://a', token: {{value: {secret}, file: b}}}}]}}"],
    ):
        assert secret not in "\n".join(problems(spec))
