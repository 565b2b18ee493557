"""How packets reach a relay, and which ones may."""

from __future__ import annotations

from fastrelay.api.spec import MoQRelay
from fastrelay_operator.manifests.common import child, selector
from fastrelay_operator.objects import NETWORK_POLICY, SERVICE, Object


def service(relay: MoQRelay) -> Object:
    wanted = relay.spec.listen.service
    port: Object = {
        "name": "quic",
        "protocol": "UDP",
        "port": relay.spec.listen.port,
        "targetPort": "quic",
    }
    if wanted.node_port is not None:
        port["nodePort"] = wanted.node_port
    spec: Object = {"type": wanted.type, "selector": selector(relay), "ports": [port]}
    if wanted.type != "ClusterIP":
        spec["externalTrafficPolicy"] = wanted.external_traffic_policy
    if wanted.type == "LoadBalancer" and wanted.load_balancer_class:
        spec["loadBalancerClass"] = wanted.load_balancer_class
    result = child(SERVICE, relay, spec=spec)
    if wanted.annotations:
        result["metadata"]["annotations"] = dict(wanted.annotations)
    return result


def policy(relay: MoQRelay) -> Object:
    """In: QUIC from everywhere, metrics from pods of the cluster. Out: QUIC and names; no TCP
    to anybody but name servers, whatever may happen to the process."""
    ingress: list[Object] = [{"ports": [{"protocol": "UDP", "port": relay.spec.listen.port}]}]
    if relay.spec.monitoring.port:
        ingress.append(
            {
                "from": [{"namespaceSelector": {}}],
                "ports": [{"protocol": "TCP", "port": relay.spec.monitoring.port}],
            }
        )
    return child(
        NETWORK_POLICY,
        relay,
        spec={
            "podSelector": {"matchLabels": selector(relay)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": [
                {"ports": [{"protocol": "UDP", "port": 1, "endPort": 65535}]},
                {"ports": [{"protocol": "TCP", "port": 53}]},
            ],
        },
    )
