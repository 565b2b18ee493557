"""The order for a certificate, where cert-manager is to write the Secret."""

from __future__ import annotations

from fastrelay.api.network import Issuer
from fastrelay.api.objects import service_host
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.manifests.common import child
from fastrelay_operator.objects import CERTIFICATE, Object
from fastrelay_operator.projection import certificate_secret


def certificate(relay: MoQRelay, issuer: Issuer) -> Object:
    host = service_host(relay.metadata.name, relay.metadata.namespace)
    return child(
        CERTIFICATE,
        relay,
        spec={
            "secretName": certificate_secret(relay),
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
            "dnsNames": [*relay.spec.tls.dns_names, host, f"{host}.cluster.local"],
            "privateKey": {"algorithm": "ECDSA", "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth"],
        },
    )
