"""The API server, as far as the operator speaks to it beside kopf's watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from fastrelay.api import access
from fastrelay.api.objects import OPERATOR
from fastrelay_operator.objects import Kind, Object

TIMEOUT_SECONDS = 15.0

Counted = Callable[[str, str, int], None]
"""Told of each request: verb, kind, HTTP's code (0: no answer)."""


@dataclass
class ApiError(Exception):
    """The API server said no, or nothing (``code`` 0)."""

    code: int
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Cluster:
    """Requests, each counted."""

    def __init__(self, client: ApiClient, counted: Counted) -> None:
        self._client, self._counted = client, counted

    async def apply(
        self, kind: Kind, wanted: Object, *, force: bool, subresource: str = ""
    ) -> Object:
        """Server-side apply; the object as it is now.

        :raises ApiError: it was not taken. 409: fields belong to somebody else.
        """
        metadata = wanted["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        if subresource:
            path += f"/{subresource}"
        query = [("fieldManager", OPERATOR), ("force", str(force).lower())]
        found = await self._ask("PATCH", kind, path, query, wanted, "application/apply-patch+yaml")
        assert found is not None
        return found

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """None: there is none.

        :raises ApiError: it could not be looked at.
        """
        return await self._ask("GET", kind, kind.path(namespace, name), missing=True)

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows such objects.

        :raises ApiError: it does not say.
        """
        group = f"/apis/{kind.group}/{kind.version}"
        return await self._ask("GET", kind, group, missing=True) is not None

    async def create(self, kind: Kind, wanted: Object) -> None:
        """:raises ApiError: it was not taken."""
        path = kind.path(wanted["metadata"]["namespace"])
        await self._ask("POST", kind, path, [("fieldManager", OPERATOR)], wanted)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object that has this UID; another, or none, is no error.

        :raises ApiError: it was not deleted.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        path = kind.path(namespace, name)
        try:
            await self._ask("DELETE", kind, path, body=options, missing=True)
        except ApiError as error:
            if error.code != 409:
                raise

    async def drop_finalizer(self, kind: Kind, namespace: str, name: str, finalizer: str) -> None:
        """Nobody waits for it any more. No such object, or without it: no error.

        :raises ApiError: it was not taken off.
        """
        found = await self.get(kind, namespace, name)
        if found is None or finalizer not in found["metadata"].get("finalizers", ()):
            return
        left = [each for each in found["metadata"]["finalizers"] if each != finalizer]
        version = found["metadata"]["resourceVersion"]
        body = {"metadata": {"finalizers": left, "resourceVersion": version}}
        path, content = kind.path(namespace, name), "application/merge-patch+json"
        await self._ask("PATCH", kind, path, None, body, content, missing=True)

    async def _ask(
        self,
        method: str,
        kind: Kind,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        *,
        missing: bool = False,
    ) -> Object | None:
        """``missing``: 404 is an answer."""
        verb = "apply" if "apply" in content_type else method.lower()
        code = 0
        try:
            # Not by `call_api`: what it makes of a body costs as much as all the rest.
            response = await self._client.rest_client.request(
                method,
                f"{self._client.configuration.host}{path}{_query(query)}",
                headers=await self._headers(content_type),
                body=body,
                _request_timeout=TIMEOUT_SECONDS,
            )
            code, data = response.status, await response.read()
        except ApiException as error:
            code = error.status or 0
            raise ApiError(code, str(error.reason)) from error
        except (OSError, TimeoutError) as error:
            raise ApiError(0, str(error) or type(error).__name__) from error
        finally:
            self._counted(verb, kind.name, code)
        if code == 404 and missing:
            return None
        if code >= 300:
            raise ApiError(code, _message(data))
        return dict(json.loads(data))

    async def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        for each in (await self._client.configuration.auth_settings()).values():
            if each["in"] == "header" and each["value"]:
                headers[each["key"]] = each["value"]
        return headers


def _query(parameters: list[tuple[str, str]] | None) -> str:
    return f"?{urlencode(parameters)}" if parameters else ""


def _message(data: bytes) -> str:
    """Of a Status, which the API server answers with."""
    try:
        return str(json.loads(data)["message"])
    except (ValueError, TypeError, KeyError):
        return data[:200].decode(errors="replace")


async def connect() -> ApiClient:
    """From within a pod with its account, elsewhere with KUBECONFIG."""
    configuration = await access.find()
    configuration.connection_pool_maxsize = 20
    return ApiClient(configuration)


def is_refusal(error: ApiError) -> bool:
    """Whether trying again soon, with the same object, would be of no use."""
    return 400 <= error.code < 500 and error.code not in (401, 408, 429)
