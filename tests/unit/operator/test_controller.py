"""Decisions carried out, against an API server in memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from fastrelay_operator import controller as module
from fastrelay_operator.cluster import ApiError, Cluster
from fastrelay_operator.controller import Controller
from fastrelay_operator.metrics import Metrics
from fastrelay_operator.objects import CHILDREN, KINDS, RELAY, SERVICE
from fastrelay_operator.store import RelayKey, Store
from unit.kubernetes_api import FakeApi
from unit.operator.world import SETTINGS, START, relay

KEY = RelayKey("media", "live")
PATH = RELAY.path(*KEY)
SECRET = "/api/v1/namespaces/media/secrets/live-tls"
DEPLOYMENT = "/apis/apps/v1/namespaces/media/deployments/live-relay"
BUDGET = "/apis/policy/v1/namespaces/media/poddisruptionbudgets/live-relay"
SERVICE_PATH = SERVICE.path("media", "live-relay")


class Operator:
    """A controller, what it has seen, and the API server; ``look`` stands for the watches."""

    def __init__(self, api: FakeApi, cluster: Cluster, store: Store, metrics: Metrics) -> None:
        self.api, self.cluster, self.store, self.metrics = api, cluster, store, metrics
        self.now = START
        self.controller = Controller(cluster, store, SETTINGS, metrics, self.clock)

    def clock(self) -> datetime:
        return self.now

    def look(self) -> None:
        for path, found in self.api.objects.items():
            plural = path.split("/")[-2]
            for kind in KINDS.values():
                if kind.plural == plural:
                    self.store.put(kind, found)

    async def settle(self) -> float | None:
        """As often as there is something to do at once."""
        for _ in range(10):
            self.look()
            before = len(self.writes)
            after = await self.controller.step(KEY)
            if len(self.writes) == before and after:
                return after
        raise AssertionError("it does not come to rest")

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.api.requests if method != "GET"]

    def accepted(self) -> tuple[str, str]:
        conditions = self.api.objects[PATH]["status"]["conditions"]
        (found,) = [each for each in conditions if each["type"] == "Accepted"]
        return found["reason"], found["message"]

    def events(self) -> list[str]:
        return [
            f"{each['reason']}: {each['message']}"
            for path, each in self.api.objects.items()
            if "/events/" in path
        ]


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    api, store = FakeApi(), Store()
    api.put(PATH, relay())
    api.put(SECRET, {"data": {"tls.crt": "", "tls.key": base64.b64encode(b"x").decode()}})
    async with api.client() as client:
        metrics = Metrics(store.all, lambda: 0)
        yield Operator(api, Cluster(client, metrics.requested), store, metrics)


async def test_a_relay_becomes_objects_and_a_status(operator: Operator) -> None:
    await operator.settle()
    kinds = {path.split("/")[-2] for path in operator.api.objects if path.endswith("/live-relay")}
    wanted = {kind.plural for kind in CHILDREN}
    assert kinds == wanted - {"daemonsets", "certificates", "horizontalpodautoscalers"}
    assert operator.accepted()[0] == "Valid"
    made = "ServiceAccount, ConfigMap, NetworkPolicy, Service, Deployment, PodDisruptionBudget"
    assert operator.events() == [f"Created: {made} live-relay"]


async def test_a_relay_costs_few_requests(operator: Operator) -> None:
    """Its Secret, six objects, one event, and the status before and after them."""
    await operator.settle()
    assert len(operator.api.requests) == 10
    assert operator.api.requests[:2] == [("GET", SECRET), ("PATCH", f"{PATH}/status")]


async def test_what_is_put_back_is_told_together(operator: Operator) -> None:
    await operator.settle()
    operator.api.objects[DEPLOYMENT]["spec"]["replicas"] = 7
    operator.api.objects[SERVICE_PATH]["spec"]["selector"] = {}
    operator.api.refuse["PATCH", BUDGET] = (500, "not now")
    operator.api.objects[BUDGET]["spec"]["maxUnavailable"] = 9
    operator.look()
    assert await operator.controller.step(KEY) == 1
    assert operator.events()[1:] == ["Updated: Service, Deployment live-relay"]


async def test_at_rest_nothing_is_asked(operator: Operator) -> None:
    await operator.settle()
    before = len(operator.api.requests)
    for _ in range(3):
        await operator.controller.step(KEY)
    assert len(operator.api.requests) == before


async def test_apply_says_who_we_are_and_forces_only_what_is_ours(operator: Operator) -> None:
    await operator.settle()
    applied = [
        query
        for (method, path), query in zip(operator.api.requests, operator.api.queries, strict=True)
        if method == "PATCH" and path == DEPLOYMENT
    ]
    assert applied == [{"fieldManager": "fastrelay-operator", "force": "false"}]
    operator.api.objects[DEPLOYMENT]["spec"]["replicas"] = 7
    await operator.settle()
    assert operator.api.objects[DEPLOYMENT]["spec"]["replicas"] == 1
    assert operator.api.queries[-2]["force"] == "true"


async def test_an_object_of_somebody_else_is_left_alone(operator: Operator) -> None:
    operator.api.put(SERVICE_PATH, {"spec": {"selector": {"app": "other"}}})
    operator.api.foreign.add(SERVICE_PATH)
    service = operator.api.objects[SERVICE_PATH]
    operator.store.put(RELAY, operator.api.objects[PATH])
    for _ in range(3):
        await operator.controller.step(KEY)
    assert operator.api.objects[SERVICE_PATH] == service
    assert operator.accepted()[0] == "NameTaken"
    operator.api.foreign.clear()
    del operator.api.objects[SERVICE_PATH]
    await operator.settle()
    assert operator.accepted()[0] == "Valid"


async def test_what_is_refused_is_told_and_tried_again(operator: Operator) -> None:
    operator.api.refuse["PATCH", DEPLOYMENT] = (403, "exceeded quota")
    operator.look()
    await operator.controller.step(KEY)
    await operator.settle()
    assert operator.accepted()[0] == "Valid"
    assert DEPLOYMENT in operator.api.objects


async def test_an_apply_that_changes_nothing_is_not_repeated(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.settle()
    # As if the API server wrote every value in another way than we do.
    monkeypatch.setattr("fastrelay_operator.reconcile.differs", lambda *_: True)
    operator.look()
    await operator.controller.step(KEY)
    before = len(operator.writes)
    operator.look()
    await operator.controller.step(KEY)
    assert len(operator.writes) == before


async def test_failures_are_tried_again_ever_less_often(operator: Operator) -> None:
    operator.look()
    assert await operator.controller.step(KEY) == 0
    waits = []
    for _ in range(8):
        operator.api.refuse["PATCH", DEPLOYMENT] = (500, "not now")
        waits.append(await operator.controller.step(KEY))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert operator.metrics.exposition().count(b'reconciliations_total{result="failed"} 8.0') == 1
    await operator.settle()


async def test_a_missing_secret_is_asked_for_again(operator: Operator) -> None:
    secret = operator.api.objects.pop(SECRET)
    after = await operator.settle()
    assert operator.accepted()[0] == "CertificateMissing"
    assert after == 3
    operator.api.put(SECRET, secret)
    await operator.settle()
    assert operator.accepted()[0] == "Valid"


async def test_a_secret_is_remembered_for_an_hour(operator: Operator) -> None:
    await operator.settle()

    def asked() -> int:
        return operator.api.requests.count(("GET", SECRET))

    before = asked()
    await operator.settle()
    assert asked() == before
    operator.now += timedelta(hours=1)
    await operator.settle()
    assert asked() == before + 1


async def test_secrets_that_may_not_be_read_stop_nothing(operator: Operator) -> None:
    operator.look()
    operator.api.refuse["GET", SECRET] = (403, "forbidden")
    await operator.controller.step(KEY)
    assert operator.accepted()[0] == "Valid"


async def test_a_lost_event_stops_nothing(operator: Operator) -> None:
    operator.api.refuse["POST", "/api/v1/namespaces/media/events"] = (403, "forbidden")
    await operator.settle()
    assert operator.accepted()[0] == "Valid"


async def test_a_relay_that_went_meanwhile(operator: Operator) -> None:
    operator.look()
    operator.api.refuse["PATCH", f"{PATH}/status"] = (404, "not found")
    await operator.controller.step(KEY)
    operator.store.remove(RELAY, operator.api.objects[PATH])
    assert await operator.controller.step(KEY) is None


async def test_a_bug_is_logged_and_tried_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    operator.look()
    monkeypatch.setattr(module, "reconcile", broken)
    assert await operator.controller.step(KEY) == 1
    assert "ZeroDivisionError" in caplog.text


async def test_deletion_is_of_that_very_object(operator: Operator) -> None:
    operator.api.put(SERVICE_PATH, {"spec": {}})
    await operator.cluster.delete(SERVICE, "media", "live-relay", "another")
    assert SERVICE_PATH in operator.api.objects
    await operator.cluster.delete(SERVICE, "media", "live-relay", "uid-of-services-live-relay")
    assert SERVICE_PATH not in operator.api.objects
    await operator.cluster.delete(SERVICE, "media", "live-relay", "uid-of-services-live-relay")


async def test_no_answer_is_an_error_of_its_own(operator: Operator) -> None:
    # Nobody listens at the lowest port.
    async with ApiClient(Configuration(host="http://127.0.0.1:1")) as client:
        with pytest.raises(ApiError) as caught:
            await Cluster(client, operator.metrics.requested).get(SERVICE, "media", "x")
    assert caught.value.code == 0


async def test_conditions_are_metrics(operator: Operator) -> None:
    await operator.settle()
    operator.look()
    text = operator.metrics.exposition().decode()
    line = (
        'fastrelay_relay_condition{name="live",namespace="media",status="True",type="Accepted"} 1.0'
    )
    assert line in text
    assert line.replace("True", "False").replace("1.0", "0.0") in text
    assert "fastrelay_operator_relays 1.0" in text
    assert 'kind="Deployment",verb="apply"' in text
