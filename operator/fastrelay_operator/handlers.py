"""What kopf calls: each object that is seen goes into the store, and its relay into the queue.

kopf does the watching and nothing else: no handler of it writes to an object, so there are no
finalizers and no notes of progress, and the end of a relay waits for nobody. The indices make
kopf hold events back until everything that is there has been seen; from then on they are idle.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import kopf

from fastrelay.api.addresses import format_address
from fastrelay.api.objects import MANAGED_BY_LABEL, OPERATOR, RELAY_LABEL
from fastrelay_operator.objects import CHILDREN, NODE_STATE, POD, RELAY, Kind, Object, uid_of
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
    watching = Watching(store, changed)
    for kind in WATCHED:
        watching.register(registry, kind)


class Watching:
    """Tells of relays about which something has changed."""

    def __init__(self, store: Store, changed: Callable[[RelayKey], None]) -> None:
        self._store, self._changed = store, changed
        self._complete = False
        self._untold: set[str] = set()
        """What was seen before all was, and its relay not yet told of."""

    def register(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        names = (kind.group, kind.version, kind.plural)

        async def seen(body: kopf.Body, **_: Any) -> None:
            self.seen(kind, dict(body))

        async def happened(event: kopf.RawEvent, **_: Any) -> None:
            self.happened(kind, event["type"], dict(event["object"]))

        name = f"seen-{kind.plural}"
        kopf.index(*names, id=name, registry=registry, when=self.incomplete)(seen)
        kopf.on.event(*names, id=f"happened-{kind.plural}", registry=registry)(happened)

    def incomplete(self, **_: Any) -> bool:
        """Whether not all that was there at the start has been seen."""
        return not self._complete

    def seen(self, kind: Kind, found: Object) -> None:
        """It is there; others may be, too."""
        self._untold.add(uid_of(found))
        self._store.put(kind, found)

    def happened(self, kind: Kind, event: str | None, found: Object) -> None:
        """``event``: None for what a list shows. All has been seen."""
        self._complete = True
        untold = uid_of(found) in self._untold
        self._untold.discard(uid_of(found))
        if event == "DELETED":
            self._store.remove(kind, found)
        elif not self._store.put(kind, found) and not untold:
            return  # nothing that decisions are made from, or the echo of what we did
        for key in self._store.concerned(kind, found):
            self._changed(key)


async def _login(**context: Any) -> kopf.ConnectionInfo | None:
    found = kopf.login_with_service_account(**context)
    if found is None:
        return kopf.login_with_kubeconfig(**context)
    # By the address that kubelet gives: names may not be known yet when a cluster starts.
    host, port = (os.environ[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
    return dataclasses.replace(found, server=f"https://{format_address(host, port)}")


class _NoNotes(kopf.DiffBaseStorage):
    """kopf is not to find out what has changed in an object: that costs a copy of each."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("no handler of ours has anything noted")


def settings() -> kopf.OperatorSettings:
    """Quiet, and under names of our own, should it ever write."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.posting.reporting_component = OPERATOR
    chosen.persistence.finalizer = "fastrelay.io/operator"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="fastrelay.io")
    chosen.persistence.diffbase_storage = _NoNotes()
    chosen.queueing.idle_timeout = 1.0  # for so long each object that was seen keeps a task
    chosen.scanning.disabled = True
    for kind, selector in _SELECTORS.items():
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return chosen
