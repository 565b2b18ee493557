"""The node agent in a cluster: told by the API server which pods there are, and tells it how
they stand. Everything else is :mod:`fastrelay.agent.node`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import ClientError, ClientSession
from kubernetes.aio import watch
from kubernetes.aio.client import ApiClient, CoreV1Api, CustomObjectsApi
from kubernetes.aio.client.exceptions import ApiException

from fastrelay import __version__
from fastrelay.agent import kubernetes_pods, kubernetes_states
from fastrelay.agent.instance import RelaySpec, State, Status, Word
from fastrelay.agent.kubernetes_figures import Answers
from fastrelay.agent.kubernetes_pods import RelayPod
from fastrelay.agent.kubernetes_states import Report, Writing
from fastrelay.agent.node import Node, run
from fastrelay.api import access, node_state
from fastrelay.api.objects import AGENT, RELAY_LABEL, timestamp
from fastrelay.api.spec import GROUP, VERSION

WATCH_SECONDS = 240
"""How long one watch lasts; a silent one is given up a little later."""
BACKOFF_SECONDS = (0.5, 15.0)
"""Before the next try after the API server failed: first, and at most."""
FIGURES_SECONDS = 10.0
"""Between questions to the relays."""
WRITE_SECONDS = 1.0
"""Between looks at what has to be written, if nothing was attached or lost meanwhile."""
REQUEST_SECONDS = 15.0
SETTLE_SECONDS = 4.0
"""For so long a new agent says nothing of relays that have not yet found it again."""
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"

log = logging.getLogger(__name__)


class PodSource:
    """The relay pods of one node: a list, and watches that keep it true."""

    def __init__(self, api: CoreV1Api, node: str) -> None:
        self._api, self._node = api, node
        self._pods: dict[str, RelayPod] = {}
        self._known = False
        self._news = asyncio.Event()

    @property
    def pods(self) -> list[RelayPod]:
        return list(self._pods.values())

    def desired(self) -> Mapping[str, RelaySpec] | None:
        return kubernetes_pods.specs(self.pods) if self._known else None

    async def changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    def news(self) -> bool:
        return self._news.is_set()

    async def watch(self) -> None:
        """Keep it true until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                while True:
                    version = await self._follow(version)
            except (ApiException, ClientError, OSError, TimeoutError, ValueError) as error:
                # What is known stays true as far as anybody can tell.
                if not (isinstance(error, ApiException) and error.status == 410):
                    log.warning("pods cannot be watched: %s", _words(error))
                await _back_off(failures)
                failures += 1

    async def _list(self) -> str:
        response = await self._api.list_pod_for_all_namespaces_without_preload_content(
            **self._selection, _request_timeout=REQUEST_SECONDS
        )
        found = json.loads(await response.read())
        if response.status != 200:
            raise ApiException(status=response.status, reason=str(found.get("message")))
        read = [kubernetes_pods.read(pod) for pod in found["items"]]
        self._pods = {pod.uid: pod for pod in read if pod is not None}
        self._known = True
        self._news.set()
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> str:
        """One watch; where the next one goes on."""
        stream = watch.Watch().stream(
            self._api.list_pod_for_all_namespaces,
            **self._selection,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=float(WATCH_SECONDS + 20),
        )
        async for event in stream:
            found = event["raw_object"]
            version = found["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._happened(event["type"], found)
        return version

    def _happened(self, kind: str, found: kubernetes_pods.Object) -> None:
        pod = kubernetes_pods.read(found)
        uid = found["metadata"]["uid"]
        if kind == "DELETED" or pod is None:
            if self._pods.pop(uid, None) is None:
                return
        elif self._pods.get(uid) == pod:
            return
        else:
            self._pods[uid] = pod
        self._news.set()

    @property
    def _selection(self) -> dict[str, Any]:
        return {"field_selector": f"spec.nodeName={self._node}", "label_selector": RELAY_LABEL}


class StateWriter:
    """Writes what has changed, and heartbeats. ``present``: what there is on the node."""

    def __init__(
        self,
        api: CustomObjectsApi,
        node: str,
        source: PodSource,
        present: Callable[[], Iterable[str]],
    ) -> None:
        self._api, self._node, self._source, self._present = api, node, source, present
        self._statuses: Mapping[str, Status] = {}
        self._answers = Answers()
        self._asked = False
        self._writing = Writing()
        self._began = time.monotonic()
        self._ours: set[tuple[str, str]] = set()
        """Objects with our finalizer and owner, whoever made them."""
        self._there: set[tuple[str, str]] | None = None
        """Objects of this node, as far as they are known; None: not yet asked."""
        self._news = asyncio.Event()

    def __call__(self, statuses: Mapping[str, Status]) -> None:
        """The node agent's report."""
        if statuses != self._statuses:
            self._statuses = statuses
            self._news.set()

    async def ask_relays(self) -> None:
        """Until cancelled."""
        async with ClientSession() as session:
            while True:
                if self._source.desired() is not None:
                    await self._answers.ask(session, self._source.pods)
                    self._asked = True
                await asyncio.sleep(FIGURES_SECONDS if self._asked else WRITE_SECONDS)

    async def write(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                await self._write()
                failures = 0
            except (ApiException, ClientError, OSError, TimeoutError) as error:
                log.warning("the state of the node cannot be written: %s", _words(error))
                await _back_off(failures)
                failures += 1
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def _write(self) -> None:
        if self._source.desired() is None:
            return
        if self._there is None:
            self._there = await self._objects()
        pods = self._source.pods
        young = time.monotonic() - self._began < SETTLE_SECONDS
        known = all(pod.uid in self._statuses and self._heard(pod.uid) for pod in pods)
        if young and not (known and self._asked):
            return
        found = kubernetes_states.reports(
            pods, self._statuses, self._answers.known, __version__, os.uname().release
        )
        errors = []
        for report in found:
            now = time.monotonic()
            if self._writing.due(report, now):
                try:
                    await self._apply(report)
                except ApiException as error:  # the others are no worse for it
                    errors.append(error)
                    continue
                self._there.add(report.key)
                self._writing.done(report, now)
        # An object goes after what it told of: whoever waits for it waits for that.
        left = set(self._present()) - {pod.uid for pod in pods}
        for key in self._there - {report.key for report in found} if not left else ():
            await self._release(*key)
            self._there.discard(key)
            self._ours.discard(key)
            self._writing.forget(key)
        if errors:
            raise errors[0]

    def _heard(self, uid: str) -> bool:
        """Whether a relay has said how it stands, if it has something to say."""
        status = self._statuses[uid]
        return status.state is not State.ATTACHED or status.relay != Word()

    async def _apply(self, report: Report) -> None:
        name = node_state.object_name(report.relay, self._node)
        where = (GROUP, VERSION, report.namespace, node_state.PLURAL, name)
        how: dict[str, Any] = {"field_manager": AGENT, "force": True, "_content_type": APPLY}
        heartbeat = timestamp(datetime.now(UTC))
        status = kubernetes_states.document(report, self._node, heartbeat)
        for attempt in range(2):
            if report.key not in self._ours:
                whole = kubernetes_states.document(report, self._node, None)
                await self._api.patch_namespaced_custom_object(
                    *where, whole, **how, _request_timeout=REQUEST_SECONDS
                )
                self._ours.add(report.key)
            try:
                await self._api.patch_namespaced_custom_object_status(
                    *where, status, **how, _request_timeout=REQUEST_SECONDS
                )
                return
            except ApiException as error:
                if error.status != 404 or attempt:
                    raise
                self._ours.discard(report.key)

    async def _release(self, namespace: str, relay: str) -> None:
        """Nothing is left here of what the object told of: it may go, and does."""
        name = node_state.object_name(relay, self._node)
        where = (GROUP, VERSION, namespace, node_state.PLURAL, name)
        try:
            found = await self._api.get_namespaced_custom_object(
                *where, _request_timeout=REQUEST_SECONDS
            )
            assert isinstance(found, dict)
            if (patch := kubernetes_states.without_finalizer(found)) is not None:
                await self._api.patch_namespaced_custom_object(
                    *where, patch, _content_type=MERGE, _request_timeout=REQUEST_SECONDS
                )
            await self._api.delete_namespaced_custom_object(
                *where, _request_timeout=REQUEST_SECONDS
            )
        except ApiException as error:
            if error.status != 404:
                raise

    async def _objects(self) -> set[tuple[str, str]]:
        """Namespace and relay of those that an earlier agent of this node has left."""
        found = await self._api.list_cluster_custom_object(
            GROUP,
            VERSION,
            node_state.PLURAL,
            field_selector=f"spec.node={self._node}",
            _request_timeout=REQUEST_SECONDS,
        )
        assert isinstance(found, dict)
        return {(each["metadata"]["namespace"], each["spec"]["relay"]) for each in found["items"]}


async def serve(node: Node, name: str) -> None:
    """Work for the node of that name until cancelled."""
    async with ApiClient(await access.find()) as client:
        source = PodSource(CoreV1Api(client), name)
        writer = StateWriter(CustomObjectsApi(client), name, source, node.present)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.watch())
            tasks.create_task(run(node, source, writer))
            tasks.create_task(writer.ask_relays())
            tasks.create_task(writer.write())


async def _back_off(failures: int) -> None:
    """``failures``: since it went well, this one left out."""
    first, most = BACKOFF_SECONDS
    await asyncio.sleep(min(first * 2 ** min(failures, 10), most) * random.uniform(0.5, 1))


def _words(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}"
    return str(error) or type(error).__name__
