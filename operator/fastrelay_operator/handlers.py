"""What kopf calls: each object that is seen goes into the store, and its relay into the queue.

kopf does the watching and nothing else: no handler of it writes to an object, so there are no
finalizers and no notes of progress, and the end of a relay waits for nobody. The indices make
kopf hold events back until everything that is there has been seen.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import kopf

from fastrelay.api.addresses import format_address
from fastrelay.api.objects import MANAGED_BY_LABEL, OPERATOR, RELAY_LABEL
from fastrelay_operator.objects import CHILDREN, NODE_STATE, POD, RELAY, Kind, Object
from fastrelay_operator.store import RelayKey, Store

WATCHED = (RELAY, NODE_STATE, POD, *CHILDREN)
_SELECTORS = {
    POD: RELAY_LABEL,
    **dict.fromkeys(CHILDREN, f"{MANAGED_BY_LABEL}={OPERATOR},{RELAY_LABEL}"),
}


def register(
    registry: kopf.OperatorRegistry, store: Store, changed: Callable[[RelayKey], None]
) -> None:
    """Have everything watched."""
    kopf.on.login(id="login", registry=registry)(_login)
    for kind in WATCHED:
        _register(registry, kind, store, changed)


def _register(
    registry: kopf.OperatorRegistry,
    kind: Kind,
    store: Store,
    changed: Callable[[RelayKey], None],
) -> None:
    names = (kind.group, kind.version, kind.plural)

    async def seen(body: kopf.Body, **_: Any) -> None:
        store.put(kind, _plain(body))

    async def happened(event: kopf.RawEvent, **_: Any) -> None:
        found = _plain(event["object"])
        if event["type"] == "DELETED":
            store.remove(kind, found)
        for key in store.concerned(kind, found):
            changed(key)

    kopf.index(*names, id=f"seen-{kind.plural}", registry=registry)(seen)
    kopf.on.event(*names, id=f"happened-{kind.plural}", registry=registry)(happened)


async def _login(**context: Any) -> kopf.ConnectionInfo | None:
    found = kopf.login_with_service_account(**context)
    if found is None:
        return kopf.login_with_kubeconfig(**context)
    # By the address that kubelet gives: names may not be known yet when a cluster starts.
    host, port = (os.environ[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
    return dataclasses.replace(found, server=f"https://{format_address(host, port)}")


def _plain(body: Any) -> Object:
    return dict(body)


def settings() -> kopf.OperatorSettings:
    """Quiet, and under names of our own, should it ever write."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.posting.reporting_component = OPERATOR
    chosen.persistence.finalizer = "fastrelay.io/operator"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="fastrelay.io")
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="fastrelay.io")
    chosen.scanning.disabled = True
    for kind, selector in _SELECTORS.items():
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return chosen
