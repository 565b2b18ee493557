"""Specs that people might write and that are wrong: each with a word of what they are told.

The API server of a real cluster is asked the same questions in tests/e2e.
"""

from __future__ import annotations

from typing import Any

import yaml

RULE = "authorization: {rules: [%s]}"
UPSTREAM = "upstreams: [{url: 'moqt://a:1', %s}]"
BANDS = "congestion: {bands: [%s]}"
TOLERATION = "placement: {tolerations: [%s]}"

EVERYWHERE: dict[str, str] = {
    # types and limits
    "listen: {port: 0}": "port",
    "listen: {port: 70000}": "port",
    "listen: {port: '4443'}": "port",
    "listen: {port: 44.5}": "port",
    "listen: {prot: 4443}": "prot",
    "listen: 4443": "listen",
    "listen: {drafts: []}": "drafts",
    "listen: {drafts: [17]}": "drafts",
    "listen: {drafts: [18, 18]}": "write each once",
    "listen: {transports: [Quic, Quic]}": "write each once",
    "listen: {transports: [TCP]}": "transports",
    "listen: {host: 'a b'}": "an address like 0.0.0.0",
    "listen: {idleTimeoutSeconds: 1}": "idleTimeoutSeconds",
    "listen: {retry: Sometimes}": "retry",
    "listen: {service: {type: ExternalName}}": "type",
    "listen: {service: {nodePort: 30000}}": "write type: NodePort",
    "listen: {service: {externalTrafficPolicy: local}}": "externalTrafficPolicy",
    "placement: {replicas: -1}": "replicas",
    "placement: {replicas: 2000}": "replicas",
    "placement: {replicas: two}": "replicas",
    "placement: {workload: StatefulSet}": "workload",
    "placement: {nodeSelector: {disk: true}}": "nodeSelector",
    "placement: {priorityClassName: Not_A_Name}": "a Kubernetes object's name",
    TOLERATION % "{operator: Exists, value: x, key: k}": "remove it",
    TOLERATION % "{value: x}": "write key or operator: Exists",
    TOLERATION % "{key: k, tolerationSeconds: 5}": "write effect: NoExecute",
    TOLERATION % "{key: k, operator: In}": "operator",
    # references and addresses
    "tls: {secretName: 'my secret'}": "a Kubernetes object's name",
    "tls: {dnsNames: [relay.example.com]}": "write issuer",
    "tls: {issuer: {}}": "name",
    "tls: {issuer: {name: ca, kind: Secret}}": "kind",
    "tls: {issuer: {name: ca}, dnsNames: ['https://x']}": "a DNS name like",
    "upstreams: [{}]": "write url",
    "upstreams: [{url: 'moqt://a:1', relay: {name: b}}]": "write url",
    "upstreams: [{url: 'http://a:1'}]": "moqt://HOST:PORT",
    "upstreams: [{url: 'a:4443'}]": "moqt://HOST:PORT",
    "upstreams: [{relay: {name: Core}}]": "like my-relay",
    "upstreams: [{relay: {name: other/core}}]": "like my-relay",
    "upstreams: moqt://a:1": "upstreams",
    UPSTREAM % "prefixes: ['/live']": "like live/demo",
    UPSTREAM % "certificateSha256: 'AB:CD'": "64 hexadecimal digits",
    UPSTREAM % f"verify: false, certificateSha256: '{'0' * 64}'": "exclude each other",
    UPSTREAM % "token: {}": "secretKeyRef",
    UPSTREAM % "token: {value: a, secretKeyRef: {name: b}}": "secretKeyRef",
    UPSTREAM % "token: {secretKeyRef: {name: b, key: 'a b'}}": "a key of the Secret",
    UPSTREAM % "reconnectMaxSeconds: 0": "reconnectMaxSeconds",
    # policy
    RULE % "{}": "prefix",
    RULE % "{prefix: live}": "no token allows Publish",
    RULE % "{prefix: live, publish: Nobody, subscribe: Token}": "no token allows Subscribe",
    RULE % "{prefix: 'a//b', publish: Anyone}": "like live/demo",
    RULE % "{prefix: a, publish: Anyone}, {prefix: a, publish: Nobody}": "rules",
    RULE % "{prefix: a, tokens: [{name: x, value: v}, {name: x, value: w}]}": "tokens",
    RULE % "{prefix: a, tokens: [{name: x, value: v, allow: []}]}": "allow",
    RULE % "{prefix: a, tokens: [{value: v}]}": "name",
    "authorization: {publish: Token}": "publish",
    "quota: {exempt: [10.0.0.0]}": "10.0.0.0/8",
    "quota: {exempt: [10.0.0.1/8]}": "10.0.0.0/8",
    "quota: {exempt: [300.0.0.0/8]}": "10.0.0.0/8",
    "quota: {perAddress: {connections: 5}}": "newPerSecond",
    "quota: {perPrefix: {connections: 5, newPerSecond: 5}}": "burst",
    "quota: {perPrefix: {connections: 0, newPerSecond: 5, burst: 5}}": "connections",
    "quota: {mode: Userspace}": "mode",
    "quota: {action: Reject}": "action",
    "quota: {total: 0}": "total",
    "quota: {attemptsPerSecond: 0}": "attemptsPerSecond",
    "quota: {ipv4PrefixLength: 7}": "ipv4PrefixLength",
    "quota: {ipv6PrefixLength: 129}": "ipv6PrefixLength",
    "limits: {sessions: 0}": "sessions",
    "limits: {subscriberBacklog: 16MB}": "a number of bytes",
    # delivery
    "fastPath: {mode: On}": "mode",
    "fastPath: {attach: Both}": "attach",
    "fastPath: {encryption: Disabled}": "insecureLaboratory: true",
    "fastPath: {maxMembers: 0}": "maxMembers",
    "cache: {maxSize: -1}": "a number of bytes",
    "cache: {maxSize: lots}": "a number of bytes",
    "cache: {maxAgeSeconds: -1}": "maxAgeSeconds",
    BANDS % "": "bands",
    BANDS % "{lowestPriority: 255, share: 90}": "make it 100",
    BANDS % "{lowestPriority: 200, share: 100}": "lowestPriority: 255",
    BANDS % "{lowestPriority: 255, share: 50}, {lowestPriority: 9, share: 50}": "rising",
    BANDS % "{lowestPriority: 255, share: 50}, {lowestPriority: 255, share: 50}": "rising",
    BANDS % "{lowestPriority: 255, share: 101}": "share",
    BANDS % ", ".join(f"{{lowestPriority: {251 + i}, share: 20}}" for i in range(5)): "bands",
    "congestion: {controller: BBR}": "controller",
    "congestion: {burstMilliseconds: 0}": "burstMilliseconds",
    "congestion: {subscriberRate: fast}": "a number of bytes",
    # life
    "autoscaling: {}": "maxReplicas",
    "autoscaling: {minReplicas: 5, maxReplicas: 2}": "raise maxReplicas",
    "autoscaling: {maxReplicas: 3}\nplacement: {workload: DaemonSet}": "workload: Deployment",
    "drain: {gracePeriodSeconds: -1}": "gracePeriodSeconds",
    "drain: {redirect: 'ftp://x'}": "moqt://HOST:PORT",
    "resources: {requests: {cpu: half}}": "500m",
    "resources: {requests: {memory: 2Gi}}": "raise limits",
    "monitoring: {port: 70000}": "port",
    "logging: {level: loud}": "level",
    "replicas: 2": "replicas",
}
"""Refused by the API server, by `fastrelay validate` and by the local runtime alike."""

CLUSTER_ONLY: dict[str, str] = {
    "tls: {files: {certificate: /c, privateKey: /k}}": "write secretName",
    UPSTREAM % "caFile: /etc/shadow": "write caSecretKeyRef",
    UPSTREAM % "token: {file: /etc/shadow}": "write secretKeyRef",
    RULE % "{prefix: a, tokens: [{name: x, file: /f}]}": "write secretKeyRef",
}
"""Right on a machine of one's own, refused by the API server."""

BAD_NAMES = ("1st", "Relay", "a" * 58, "-a", "a.b")


def resource(spec: str, name: str = "r") -> dict[str, Any]:
    """A whole object with a spec from YAML."""
    return {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelay",
        "metadata": {"name": name, "namespace": "default"},
        "spec": yaml.safe_load(spec) or {},
    }
