"""What stands around the pods: an account without rights, the manifest, a budget, a scaler."""

from __future__ import annotations

from fastrelay.api.spec import MoQRelay
from fastrelay.api.workload import Autoscaling
from fastrelay_operator.manifests.common import child, selector
from fastrelay_operator.objects import (
    AUTOSCALER,
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    SERVICE_ACCOUNT,
    Object,
)
from fastrelay_operator.projection import MANIFEST, Projection

SUBSCRIPTIONS_METRIC = "fastrelay_subscriptions"
"""Of each relay pod; an adapter for the custom metrics API gives it to the autoscaler."""


def service_account(relay: MoQRelay) -> Object:
    return child(SERVICE_ACCOUNT, relay, automountServiceAccountToken=False)


def config_map(relay: MoQRelay, projection: Projection) -> Object:
    return child(CONFIG_MAP, relay, data={MANIFEST: projection.manifest})


def disruption_budget(relay: MoQRelay) -> Object:
    """One pod at a time goes, so a single one goes too: it would block every drain of a node."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(relay)}}
    return child(DISRUPTION_BUDGET, relay, spec=spec)


def autoscaler(relay: MoQRelay, wanted: Autoscaling) -> Object:
    """It writes spec.placement.replicas, through the scale subresource."""
    target = {"apiVersion": relay.api_version, "kind": relay.kind, "name": relay.metadata.name}
    average = {"type": "AverageValue", "averageValue": str(wanted.subscribers_per_replica)}
    metric = {"metric": {"name": SUBSCRIPTIONS_METRIC}, "target": average}
    return child(
        AUTOSCALER,
        relay,
        spec={
            "scaleTargetRef": target,
            "minReplicas": wanted.min_replicas,
            "maxReplicas": wanted.max_replicas,
            "metrics": [{"type": "Pods", "pods": metric}],
        },
    )
