"""The objects that a relay consists of, as the operator applies them."""

from __future__ import annotations

from fastrelay.api.spec import MoQRelay
from fastrelay_operator.manifests import certificate, network, support, workload
from fastrelay_operator.objects import Object
from fastrelay_operator.projection import Projection
from fastrelay_operator.settings import Settings


def children(relay: MoQRelay, uid: str, projection: Projection, settings: Settings) -> list[Object]:
    """All of them, in the order in which they are made. ``uid``: the MoQRelay's."""
    wanted = [
        support.service_account(relay),
        support.config_map(relay, projection),
        network.policy(relay),
        network.service(relay),
        workload.workload(relay, uid, projection, settings),
        support.disruption_budget(relay),
    ]
    if relay.spec.autoscaling is not None:
        wanted.append(support.autoscaler(relay, relay.spec.autoscaling))
    return [owned(each, relay, uid) for each in wanted]


def owned(each: Object, relay: MoQRelay, uid: str) -> Object:
    """The object, going when the relay goes."""
    each["metadata"]["ownerReferences"] = [
        {
            "apiVersion": relay.api_version,
            "kind": relay.kind,
            "name": relay.metadata.name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    return each


def certificate_request(relay: MoQRelay, uid: str) -> Object | None:
    """What cert-manager makes the certificate from, if it is to make one."""
    if relay.spec.tls.issuer is None:
        return None
    return owned(certificate.certificate(relay, relay.spec.tls.issuer), relay, uid)
