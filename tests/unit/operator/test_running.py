"""The whole operator, with kopf, lease and HTTP port, against an API server in memory."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import kopf
import pytest
import yaml
from typer.testing import CliRunner

from fastrelay_operator import __main__ as main
from fastrelay_operator import leader
from fastrelay_operator.handlers import WATCHED, settings
from fastrelay_operator.leader import LeaseLostError
from fastrelay_operator.objects import CERTIFICATE, RELAY, Kind, Object
from unit.kubernetes_api import FakeApi
from unit.operator.world import relay

RELAY_PATH = RELAY.path("media", "live")
RELAYS = "/apis/fastrelay.io/v1alpha1/moqrelays"
SECRET = "/api/v1/namespaces/media/secrets/live-tls"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/fast/leases/fastrelay-operator"
ORDER = CERTIFICATE.path("media", "live-relay")
BUDGET = "/apis/policy/v1/namespaces/media/poddisruptionbudgets/live-relay"
DEPLOYMENT = "/apis/apps/v1/namespaces/media/deployments/live-relay"


def described(kind: Kind) -> Object:
    return {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "kind": kind.name,
        "namespaced": True,
        "verbs": ["get", "list", "watch", "patch", "delete", "create"],
    }


def discovery() -> dict[str, list[Object]]:
    """Everything but cert-manager."""
    found: dict[str, list[Object]] = {}
    for kind in WATCHED:
        if kind is not CERTIFICATE:
            found.setdefault(kind.api_version, []).append(described(kind))
    # What kopf wants to see in every cluster.
    found["v1"].append(found["v1"][0] | {"name": "namespaces", "kind": "Namespace"})
    return found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 (what is waited for is another task's work)
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    fake = FakeApi(discovery())
    fake.put(SECRET, {"data": {"tls.crt": "", "tls.key": ""}})
    async with fake.served() as url:
        config = tmp_path / "config"
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield fake


def words(log: Path) -> str:
    return log.read_text()


@asynccontextmanager
async def running(api: FakeApi, log: Path, *, ends: bool = False) -> AsyncIterator[str]:
    """The operator as a process of its own, which has seen everything; its HTTP address.

    ``ends``: it does so by itself.
    """
    port = free_port()
    listed = api.requests.count(("GET", RELAYS))
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fastrelay_operator", "--image", "relay:1"),
            *("--lease-namespace", "fast", "--http-port", str(port)),
            stderr=stderr,
        )
        try:
            await until(
                lambda: (
                    api.requests.count(("GET", RELAYS)) > listed + 1
                    or process.returncode is not None
                )
            )
            assert process.returncode is None, words(log)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None and not ends:
                process.terminate()
            try:
                status = await asyncio.wait_for(process.wait(), 60)
            except TimeoutError:
                process.kill()
                status = await process.wait()
    assert status == 0, words(log)
    assert not api.objects[LEASE]["spec"].get("holderIdentity")


def accepted(api: FakeApi) -> bool:
    conditions = (api.objects[RELAY_PATH].get("status") or {}).get("conditions") or []
    return any(c["type"] == "Accepted" and c["status"] == "True" for c in conditions)


async def page(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_from_a_resource_to_objects_and_again_after_a_restart(
    api: FakeApi, tmp_path: Path
) -> None:
    async with running(api, tmp_path / "log") as url:
        api.put(RELAY_PATH, relay())
        await until(lambda: BUDGET in api.objects and accepted(api))
        api.remove(DEPLOYMENT)
        await until(lambda: DEPLOYMENT in api.objects)
        edited = api.objects[DEPLOYMENT]
        api.put(DEPLOYMENT, edited | {"spec": edited["spec"] | {"replicas": 9}})
        await until(lambda: api.objects[DEPLOYMENT]["spec"]["replicas"] == 1)
        assert "finalizers" not in api.objects[RELAY_PATH]["metadata"]
        assert "annotations" not in api.objects[RELAY_PATH]["metadata"]
        assert await page(f"{url}/healthz") == "ok\n"
        assert await page(f"{url}/readyz") == "ready\n"
        assert "fastrelay_operator_leader 1.0" in await page(f"{url}/metrics")
    selectors = {
        path: query.get("labelSelector")
        for (_, path), query in zip(api.requests, api.queries, strict=True)
    }
    assert selectors["/api/v1/pods"] == "fastrelay.io/relay"
    assert "managed-by=fastrelay-operator" in str(selectors["/apis/apps/v1/deployments"])
    assert selectors[RELAYS] is None

    before = len(api.requests)
    async with running(api, tmp_path / "log") as url:
        async with asyncio.timeout(60):
            while 'result="done"' not in await page(f"{url}/metrics"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    writes = [path for method, path in api.requests[before:] if method != "GET"]
    assert set(writes) == {LEASE}, words(tmp_path / "log")


async def test_it_starts_anew_for_a_cert_manager_that_comes_later(
    api: FakeApi, tmp_path: Path
) -> None:
    issued = relay("tls: {issuer: {name: authority}}")
    refused = "PATCH", ORDER
    api.refuse[refused] = 404, "the server could not find the requested resource"
    async with running(api, tmp_path / "log", ends=True):
        api.put(RELAY_PATH, issued)
        await until(lambda: refused not in api.refuse)
        api.discovery[CERTIFICATE.api_version] = [described(CERTIFICATE)]
    async with running(api, tmp_path / "log"):
        api.remove(ORDER)
        await until(lambda: ORDER in api.objects)
        await until(lambda: "CertManager" not in str(api.objects[RELAY_PATH]["status"]))


async def test_the_lease_is_given_back(api: FakeApi) -> None:
    async def work() -> None:
        assert api.objects[LEASE]["spec"]["holderIdentity"] == "me"

    async with api.client() as client:
        await leader.lead(client, "fast", "me", work)
        assert not api.objects[LEASE]["spec"].get("holderIdentity")
        await leader.lead(client, "fast", "me", work)


async def test_without_the_lease_there_is_no_work(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "RENEW_SECONDS", 1)
    monkeypatch.setattr(leader, "RENEW_WITHIN_SECONDS", 2)
    cancelled = asyncio.Event()

    async def work() -> None:
        api.objects[LEASE]["spec"]["holderIdentity"] = "another"
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with api.client() as client:
        with pytest.raises(LeaseLostError):
            await leader.lead(client, "fast", "me", work)
    assert cancelled.is_set()
    assert api.objects[LEASE]["spec"]["holderIdentity"] == "another"


def test_kopf_writes_under_our_name_if_ever() -> None:
    chosen = settings()
    assert isinstance(chosen, kopf.OperatorSettings)
    assert chosen.persistence.finalizer.startswith("fastrelay.io/")
    assert not chosen.posting.enabled


def test_the_image_has_to_be_given() -> None:
    result = CliRunner().invoke(_application(), [], env={"FASTRELAY_RELAY_IMAGE": None})
    assert result.exit_code == 2
    assert "FASTRELAY_RELAY_IMAGE" in result.output


def _application() -> object:
    import typer

    application = typer.Typer()
    application.command()(main.operator)
    return application
