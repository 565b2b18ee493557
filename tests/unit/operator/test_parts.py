"""The small parts: drift, the queue, the store, what is kept of a Secret."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from cryptography import x509

from fastrelay.quic.certificates import make_self_signed
from fastrelay_operator.drift import differs
from fastrelay_operator.objects import DEPLOYMENT, NODE_STATE, POD, RELAY
from fastrelay_operator.queue import WorkQueue
from fastrelay_operator.secrets import facts_of
from fastrelay_operator.store import RelayKey, Store
from unit.operator.world import World, relay


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {}}, {}),
        ({"a": []}, {}),
        (
            {"requests": {"cpu": "0.5", "memory": "1024Mi"}},
            {"requests": {"cpu": "500m", "memory": "1Gi"}},
        ),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": 1}}),
        ({"a": [{"name": "x"}]}, {"a": [{"name": "x", "protocol": "UDP"}]}),
    ],
)
def test_no_drift(wanted: Any, found: Any) -> None:
    assert not differs(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 2}),
        ({"a": {"b": 1}}, {"a": "text"}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1]}, {"a": "1"}),
        ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "501m"}}),
        ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "?"}}),
        ({"cpu": "1000m"}, {"cpu": "1"}),
    ],
)
def test_drift(wanted: Any, found: Any) -> None:
    assert differs(wanted, found)


async def take(queue: WorkQueue[str], *, first: bool = False) -> str:
    async with queue.next(first=first) as key:
        return key


async def test_a_key_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await take(queue), await take(queue)] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_has_one_worker_and_comes_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with queue.next():
        queue.add("a")
        second = asyncio.ensure_future(take(queue))
        done, _ = await asyncio.wait((second,), timeout=0.01)
        assert not done
    assert await second == "a"


async def test_later_and_sooner_and_not_at_all() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", after=3600)
    assert len(queue) == 0
    queue.add("a", after=0.001)
    assert await asyncio.wait_for(take(queue), 60) == "a"
    queue.add("a", after=0.001)
    queue.add("a", after=None)
    waiting = asyncio.ensure_future(take(queue))
    done, _ = await asyncio.wait((waiting,), timeout=0.05)
    assert not done
    waiting.cancel()


async def test_who_is_first_has_workers_apart() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b"):
        queue.add(key)
    for key in ("c", "d"):
        queue.add(key, first=True)
    assert len(queue) == 4
    assert [await take(queue, first=True) for _ in range(2)] == ["c", "d"]
    assert [await take(queue) for _ in range(2)] == ["a", "b"]


def deployment(version: str, uid: str = "u", **more: Any) -> Any:
    metadata = {"name": "live-relay", "namespace": "media", "uid": uid, "resourceVersion": version}
    labels = {"fastrelay.io/relay": "live"}
    return {"metadata": {**metadata, "labels": labels}, "spec": {"replicas": 1}, **more}


def test_the_store_says_what_is_news() -> None:
    store = Store()
    assert store.put(DEPLOYMENT, deployment("8"))
    assert not store.put(DEPLOYMENT, deployment("8")), "the echo of what we wrote"
    assert not store.put(DEPLOYMENT, deployment("9", status={"observedGeneration": 1}))
    noted = deployment("10")
    noted["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    assert not store.put(DEPLOYMENT, noted)
    assert store.put(DEPLOYMENT, deployment("11", status={"readyReplicas": 1}))
    assert store.put(DEPLOYMENT, deployment("12", spec={"replicas": 2}))


def test_the_store_goes_not_back_in_time() -> None:
    store, key = Store(), RelayKey("media", "live")
    store.put(DEPLOYMENT, deployment("10", spec={"replicas": 2}))
    assert not store.put(DEPLOYMENT, deployment("9")), "an answer that was overtaken"
    assert store.belonging(key)["Deployment", "live-relay"]["spec"] == {"replicas": 2}
    assert store.put(DEPLOYMENT, deployment("9", "another")), "another object has its own time"


def test_the_store_sorts_by_relay() -> None:
    world, store = World(), Store()
    world.run_pods(1)
    pod = world.pods["live-relay-0"]
    pod["metadata"]["labels"] = {"fastrelay.io/relay": "live"}
    pod["metadata"]["managedFields"] = [{"large": "thing"}]
    state = world.states["live.node-0"]
    store.put(RELAY, world.relay)
    store.put(POD, pod)
    store.put(NODE_STATE, state)
    key = RelayKey("media", "live")
    assert set(store.belonging(key)) == {
        ("Pod", "live-relay-0"),
        ("MoQRelayNodeState", "live.node-0"),
    }
    assert "managedFields" not in store.belonging(key)["Pod", "live-relay-0"]["metadata"]
    assert store.belonging(key)["Pod", "live-relay-0"]["spec"] == {"nodeName": "node-0"}
    assert list(store.concerned(POD, pod)) == [key]
    assert list(store.concerned(NODE_STATE, state)) == [key]
    store.remove(POD, pod)
    store.remove(NODE_STATE, state)
    assert store.belonging(key) == {}
    store.remove(RELAY, world.relay)
    assert store.relay(key) is None
    assert list(store.all()) == []


def test_a_relay_concerns_those_that_name_it() -> None:
    store = Store()
    store.put(RELAY, relay("{upstreams: [{relay: {name: core}}]}", "edge"))
    core = relay("{}", "core")
    assert set(store.concerned(RELAY, core)) == {
        RelayKey("media", "core"),
        RelayKey("media", "edge"),
    }


def test_notes_of_kubectl_are_not_kept() -> None:
    store = Store()
    found = relay()
    found["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "a": "b",
    }
    store.put(RELAY, found)
    kept = store.relay(RelayKey("media", "live"))
    assert kept is not None
    assert kept["metadata"]["annotations"] == {"a": "b"}


def test_facts_of_a_secret() -> None:
    made = make_self_signed(["relay"])
    encoded = base64.b64encode(made.certificate).decode()
    facts = facts_of({"data": {"tls.crt": encoded, "tls.key": ""}})
    assert facts.keys == {"tls.crt", "tls.key"}
    certificate = x509.load_pem_x509_certificate(made.certificate)
    assert facts.certificate_expires == certificate.not_valid_after_utc
    assert facts_of({}).keys == frozenset()
    assert facts_of({"data": {"tls.crt": "bm90aGluZw=="}}).certificate_expires is None
    assert facts_of({"data": {"tls.crt": "%"}}).certificate_expires is None


def test_paths_of_objects() -> None:
    assert POD.path("media") == "/api/v1/namespaces/media/pods"
    assert DEPLOYMENT.path("media", "x") == "/apis/apps/v1/namespaces/media/deployments/x"
