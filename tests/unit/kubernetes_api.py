"""An API server in memory, over HTTP on loopback: objects by path, lists, watches, server-side
apply as far as one field manager sees it. What a real one does is tried on a real one."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import yaml
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

Object = dict[str, Any]
_ONE = re.compile(
    r"(?P<root>/apis?/.*?)/namespaces/(?P<ns>[^/]+)/(?P<plural>[^/]+)/(?P<name>[^/]+)"
)
_GROUP = re.compile(r"/apis/[^/]+/[^/]+")


class FakeApi:
    """``objects``: by path. ``refuse``: (method, path) to (code, message), once each."""

    def __init__(self, discovery: dict[str, list[Object]] | None = None) -> None:
        """``discovery``: resources by group and version, like ``apps/v1``."""
        self.discovery = discovery or {}
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.refuse: dict[tuple[str, str], tuple[int, str]] = {}
        self.foreign: set[str] = set()
        """Paths of objects whose fields belong to somebody else."""
        self.watching = asyncio.Event()
        self._versions = itertools.count(1)
        self._history: list[tuple[int, str, Object]] = []
        """Versions, paths and events: who lists first and watches then has lost none between."""
        self._watchers: list[tuple[str, asyncio.Queue[Object | None]]] = []

    def put(self, path: str, found: Object, kind: str = "") -> None:
        """An object appears or changes."""
        match = _ONE.fullmatch(path)
        assert match is not None
        event = kind or ("MODIFIED" if path in self.objects else "ADDED")
        found = deepcopy(found)
        metadata = found.setdefault("metadata", {})
        metadata |= {"name": match["name"], "namespace": match["ns"]}
        metadata.setdefault("uid", f"uid-of-{match['plural']}-{match['name']}")
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[path] = found
        self._tell(path, event, found)

    def remove(self, path: str) -> None:
        found = deepcopy(self.objects.pop(path))
        found["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(path, "DELETED", found)

    def delete(self, path: str) -> None:
        """As somebody asks for it: finalizers keep an object."""
        found = deepcopy(self.objects[path])
        if not found["metadata"].get("finalizers"):
            self.remove(path)
        elif "deletionTimestamp" not in found["metadata"]:
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.put(path, found)

    def end_watches(self) -> None:
        """As the server does from time to time."""
        for _, queue in self._watchers:
            queue.put_nowait(None)
        self.watching.clear()

    def _tell(self, path: str, kind: str, found: Object) -> None:
        event = {"type": kind, "object": found}
        self._history.append((int(found["metadata"]["resourceVersion"]), path, event))
        for collection, queue in self._watchers:
            if collection in (_collection_of(path), _everywhere(path)):
                queue.put_nowait(event)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ApiClient]:
        async with (
            self.served() as url,
            ApiClient(Configuration(host=url)) as client,
        ):
            yield client

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The URL."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            self.end_watches()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.requests.append((request.method, path))
        self.queries.append(dict(request.query))
        refusal = self.refuse.pop((request.method, path), None)
        if refusal is not None:
            return _status(*refusal)
        match request.method:
            case "GET" if (found := self._discovered(path)) is not None:
                return web.json_response(found)
            case "PUT":
                self.put(path, json.loads(await request.text()))
                return web.json_response(self.objects[path])
            case "GET" if request.query.get("watch"):
                return await self._watch(request)
            case "GET":
                return self._get(path)
            case "PATCH":
                merge = "merge-patch" in request.content_type
                if merge and path not in self.objects:
                    return _status(404, f"{path} not found")
                return self._apply(path, request.query, yaml.safe_load(await request.text()))
            case "POST":
                body = json.loads(await request.text())
                self.put(f"{path}/{body['metadata']['name']}", body)
                return web.json_response(body, status=201)
            case "DELETE":
                return self._delete(path, await request.text())
        return _status(405, request.method)

    def _discovered(self, path: str) -> Object | None:
        groups = [each for each in self.discovery if "/" in each]
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            found = [each.partition("/")[::2] for each in groups]
            return {"groups": [_group(name, version) for name, version in found]}
        _, _, which = path.partition("/apis/" if "/apis/" in path else "/api/")
        if which in self.discovery:
            return {"resources": self.discovery[which]}
        return None

    def _get(self, path: str) -> web.Response:
        if path in self.objects:
            return web.json_response(self.objects[path])
        nothing = _ONE.fullmatch(path) or _GROUP.fullmatch(path)
        if nothing or path.startswith("/api/v1/nodes/"):
            return _status(404, f"{path} not found")
        items = [
            found
            for each, found in self.objects.items()
            if path in (_collection_of(each), _everywhere(each))
        ]
        version = str(next(self._versions))
        return web.json_response({"metadata": {"resourceVersion": version}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[Object | None] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or next(self._versions))
        for version, path, event in self._history:
            if version > since and request.path in (_collection_of(path), _everywhere(path)):
                queue.put_nowait(event)
        self._watchers.append((request.path, queue))
        self.watching.set()
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        while (event := await queue.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        self._watchers.remove((request.path, queue))
        return response

    def _apply(self, path: str, query: Any, body: Object) -> web.Response:
        of_status = path.endswith("/status")
        path = path.removesuffix("/status")
        before = self.objects.get(path)
        if before is None and of_status:
            return _status(404, "not found")
        if path in self.foreign and query["force"] == "false":
            return _status(409, "Apply failed with 1 conflict")
        after = _merged(before or {}, body)
        if before is None or after != before:
            self.put(path, after)
        found = self.objects[path]
        if "deletionTimestamp" in found["metadata"] and not found["metadata"].get("finalizers"):
            self.remove(path)
        return web.json_response(found)

    def _delete(self, path: str, text: str) -> web.Response:
        if path not in self.objects:
            return _status(404, "not found")
        wanted = (json.loads(text) if text else {}).get("preconditions", {}).get("uid")
        if wanted not in (None, self.objects[path]["metadata"]["uid"]):
            return _status(409, "another UID")
        self.delete(path)
        return web.json_response({"kind": "Status", "status": "Success"})


def _group(name: str, version: str) -> Object:
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _merged(before: Object, body: Object) -> Object:
    result = deepcopy(before)
    for key, value in body.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def _collection_of(path: str) -> str:
    return path.rpartition("/")[0]


def _everywhere(path: str) -> str:
    match = _ONE.fullmatch(path)
    return f"{match['root']}/{match['plural']}" if match else ""


def _status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message}
    return web.json_response(body, status=code)
