"""Carries out what `reconcile` decides: one relay at a time by one worker, as often as needed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from fastrelay.api.objects import OPERATOR, timestamp
from fastrelay_operator import acceptance
from fastrelay_operator.cluster import ApiError, Cluster, is_refusal
from fastrelay_operator.metrics import Metrics
from fastrelay_operator.objects import (
    CERTIFICATE,
    EVENT,
    NODE_STATE,
    POD,
    RELAY,
    Object,
    name_of,
    uid_of,
)
from fastrelay_operator.observed import (
    Apply,
    Delete,
    Event,
    Key,
    Observed,
    Problem,
    Refusal,
    WriteStatus,
)
from fastrelay_operator.queue import WorkQueue
from fastrelay_operator.reconcile import is_new, reconcile
from fastrelay_operator.secrets import Secrets
from fastrelay_operator.settings import Settings
from fastrelay_operator.store import RelayKey, Store

WORKERS_FOR_NEW, WORKERS = 5, 3
"""For relays that have had no answer yet, and for all that is to be made: more of these make an API
server that has its fill no quicker, and everybody's answers later."""
FAILURE_SECONDS = (1.0, 60.0)
"""Before the next try after a failure: first, and at most; doubled in between."""

log = logging.getLogger(__name__)


class Controller:
    """``store``: filled by the watches, which call :meth:`changed` too."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.queue: WorkQueue[RelayKey] = WorkQueue()
        self.certificates = asyncio.Event()
        """The API server has taken one."""
        self._cluster, self._store, self._settings = cluster, store, settings
        self._metrics, self._clock = metrics, clock
        self._secrets = Secrets(cluster)
        self._refusals: dict[RelayKey, dict[Key, Refusal]] = {}
        self._settled: dict[RelayKey, dict[Key, str]] = {}
        self._failures: dict[RelayKey, int] = {}

    def changed(self, key: RelayKey) -> None:
        """Something about a relay has changed. Who has had no answer yet need not wait until
        others have got all that is theirs."""
        relay = self._store.relay(key)
        self.queue.add(key, first=relay is not None and is_new(relay))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for first, count in ((True, WORKERS_FOR_NEW), (False, WORKERS)):
                for _ in range(count):
                    workers.create_task(self._work(first=first))

    async def _work(self, *, first: bool) -> None:
        while True:
            async with self.queue.next(first=first) as key:
                self.queue.add(key, after=await self.step(key))

    async def step(self, key: RelayKey) -> float | None:
        """Look at one relay and do what has to be done.

        :returns: seconds until the next look without news; None: it is gone.
        """
        relay = self._store.relay(key)
        if relay is None:
            for memory in (self._refusals, self._settled, self._failures):
                memory.pop(key, None)
            return None
        began = time.perf_counter()
        try:
            recheck = await self._reconcile(key, relay)
        except ApiError as error:
            log.warning("%s/%s: %s", *key, error)
            result = "failed"
        except Exception:
            log.exception("%s/%s", *key)
            result = "failed"
        else:
            result = "done"
            self._failures.pop(key, None)
        self._metrics.reconciled(result, time.perf_counter() - began)
        if result == "done":
            return recheck
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        first, most = FAILURE_SECONDS
        return min(first * float(2 ** min(failures - 1, 10)), most)

    async def _reconcile(self, key: RelayKey, relay: Object) -> float:
        plan = reconcile(await self._observe(key, relay), self._settings)
        done: list[Apply] = []
        again = False
        try:
            for action in plan.actions:
                match action:
                    case Apply():
                        again |= await self._apply(key, action, done)
                    case Delete():
                        await self._cluster.delete(
                            action.kind, key.namespace, action.name, action.uid
                        )
                    case WriteStatus():
                        await self._write_status(relay, action.status)
                    case Event():
                        await self._tell(relay, action)
        finally:
            for event in _summary(done):
                await self._tell(relay, event)
        # What was made, or refused, is part of the next decision.
        return 0.0 if again or done else plan.recheck

    async def _observe(self, key: RelayKey, relay: Object) -> Observed:
        found = self._store.belonging(key)
        now = self._clock()
        secrets = {}
        parsed = acceptance.parse(relay)
        if not isinstance(parsed, Problem):
            names = acceptance.references(parsed)
            anew = _generation_is_new(relay)
            secrets = await self._secrets.look(key.namespace, names, now, anew=anew)
        apart = (POD.name, NODE_STATE.name)
        return Observed(
            relay=relay,
            parsed=parsed,
            now=now,
            children={each: value for each, value in found.items() if each[0] not in apart},
            pods=tuple(value for (kind, _), value in found.items() if kind == POD.name),
            node_states=tuple(v for (kind, _), v in found.items() if kind == NODE_STATE.name),
            secrets=secrets,
            relays=self._store.relays(key.namespace),
            refusals=dict(self._refusals.get(key, {})),
        )

    async def _apply(self, key: RelayKey, action: Apply, done: list[Apply]) -> bool:
        """``done``: gets it, if it made a difference.

        :returns: whether it was refused, or taken after it had been refused.
        """
        child = (action.kind.name, name_of(action.object))
        refusals = self._refusals.setdefault(key, {})
        known = self._store.belonging(key).get(child)
        digest = _digest(action.object, known)
        if self._settled.get(key, {}).get(child) == digest:
            return False  # tried already: nothing came of it, and nothing has changed since
        try:
            found = await self._cluster.apply(action.kind, action.object, force=not action.new)
        except ApiError as error:
            if not is_refusal(error):
                raise
            refusal = Refusal(error.code, error.message)
            news = refusals.get(child) != refusal
            refusals[child] = refusal
            return news
        if action.kind is CERTIFICATE:
            self.certificates.set()
        if known is not None and _version(found) == _version(known):
            self._settled.setdefault(key, {})[child] = digest
        else:
            self._store.put(action.kind, found)
            done.append(action)
        return refusals.pop(child, None) is not None

    async def _write_status(self, relay: Object, status: Object) -> None:
        metadata = relay["metadata"]
        wanted = {
            "apiVersion": RELAY.api_version,
            "kind": RELAY.name,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
            "status": status,
        }
        try:
            found = await self._cluster.apply(RELAY, wanted, force=True, subresource="status")
        except ApiError as error:
            if error.code in (404, 409):  # it is gone, or another one of that name is there
                return
            raise
        self._store.put(RELAY, found)

    async def _tell(self, relay: Object, event: Event) -> None:
        """Events are a courtesy: one that is not taken is logged and forgotten."""
        now = self._clock()
        metadata = relay["metadata"]
        text = f"{uid_of(relay)}{event}{now.isoformat()}"
        stamp = timestamp(now)
        body: dict[str, Any] = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{name_of(relay)}.{sha256(text.encode()).hexdigest()[:16]}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "apiVersion": RELAY.api_version,
                "kind": RELAY.name,
                "name": name_of(relay),
                "namespace": metadata["namespace"],
                "uid": uid_of(relay),
                "resourceVersion": _version(relay),
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": OPERATOR},
            "reportingComponent": OPERATOR,
            "reportingInstance": OPERATOR,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        try:
            await self._cluster.create(EVENT, body)
        except ApiError as error:
            log.warning("an event of %s/%s is lost: %s", *RelayKey(*_names(relay)), error)


def _summary(done: list[Apply]) -> list[Event]:
    """One event for all that was made, and one for all that was put back or brought up to date."""
    events = []
    for reason, new in (("Created", True), ("Updated", False)):
        found = [each for each in done if each.new is new]
        if found:
            kinds = ", ".join(each.kind.name for each in found)
            events.append(Event("Normal", reason, f"{kinds} {name_of(found[0].object)}"))
    return events


def _names(relay: Object) -> tuple[str, str]:
    return relay["metadata"]["namespace"], name_of(relay)


def _generation_is_new(relay: Object) -> bool:
    observed = (relay.get("status") or {}).get("observedGeneration")
    return bool(observed != relay["metadata"].get("generation"))


def _version(found: Object) -> str:
    return str(found["metadata"].get("resourceVersion", ""))


def _digest(wanted: Object, known: Object | None) -> str:
    text = f"{wanted}{_version(known) if known else ''}"
    return sha256(text.encode()).hexdigest()
