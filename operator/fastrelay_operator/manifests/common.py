"""What all objects of a relay have in common."""

from __future__ import annotations

from fastrelay.api.objects import MANAGED_BY_LABEL, OPERATOR, RELAY_LABEL, child_name
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.objects import Kind, Object


def labels(relay: MoQRelay) -> dict[str, str]:
    return {
        **selector(relay),
        "app.kubernetes.io/name": "fastrelay",
        "app.kubernetes.io/component": "relay",
        "app.kubernetes.io/instance": relay.metadata.name,
        MANAGED_BY_LABEL: OPERATOR,
    }


def selector(relay: MoQRelay) -> dict[str, str]:
    """By which pods of the relay are found."""
    return {RELAY_LABEL: relay.metadata.name}


def child(kind: Kind, relay: MoQRelay, **content: object) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {
            "name": child_name(relay.metadata.name),
            "namespace": relay.metadata.namespace,
            "labels": labels(relay),
        },
        **content,
    }
