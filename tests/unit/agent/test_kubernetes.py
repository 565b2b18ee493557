"""The node agent's side towards a cluster: pods in, states out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession, web
from kubernetes.aio.client import CoreV1Api, CustomObjectsApi

from fastrelay.agent import kubernetes, kubernetes_figures, kubernetes_pods, kubernetes_states
from fastrelay.agent.device import Hook, Mode
from fastrelay.agent.hooks import End, Mechanism
from fastrelay.agent.instance import Reason, State, Status, Word
from fastrelay.agent.kubernetes import PodSource, StateWriter
from fastrelay.agent.kubernetes_states import Figures, Writing
from fastrelay.api.node_state import MoQRelayNodeState
from fastrelay.api.objects import RELAY_UID, PodNote
from unit.kubernetes_api import FakeApi

NOTE = {
    "relayUid": "relay-uid",
    "mode": "Auto",
    "attach": "Host",
    "quotaDevice": "",
    "monitoringPort": 9464,
    "listenPort": 4443,
}
PODS = "/api/v1/namespaces/media/pods"
STATE = "/apis/fastrelay.io/v1alpha1/namespaces/media/moqrelaynodestates/live.node-1"


def pod(uid: str = "u-1", address: str = "10.0.0.5", **note: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": uid,
            "name": f"pod-{uid}",
            "namespace": "media",
            "labels": {"fastrelay.io/relay": "live"},
            "annotations": {"fastrelay.io/node-agent": json.dumps(NOTE | note)},
        },
        "status": {"phase": "Running", "podIPs": [{"ip": address}] if address else []},
    }


def status(uid: str = "u-1", *, attached: bool = True, word: Word | None = None) -> Status:
    if not attached:
        return Status(uid, State.FAILED, Reason.LOAD_FAILED, "no room", End.HOST)
    good = Status(uid, State.ATTACHED, Reason.ATTACHED, "", End.HOST, "veth1", Mechanism.TCX)
    return replace(good, generation="v1", relay=word or Word(True, "", "", 3, 1))


def read(found: dict[str, Any]) -> kubernetes_pods.RelayPod:
    result = kubernetes_pods.read(found)
    assert result is not None
    return result


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 (what is waited for is another task's work)
            await asyncio.sleep(0.005)


# -- pods


def test_a_relay_pod_is_read() -> None:
    found = read(pod())
    assert (found.uid, found.relay, found.namespace) == ("u-1", "live", "media")
    (spec,) = kubernetes_pods.specs([found]).values()
    assert (spec.name, spec.uid, spec.end) == ("u-1", RELAY_UID, End.HOST)
    assert spec.addresses == ("10.0.0.5",)


def test_the_pod_end_is_passed_on() -> None:
    (spec,) = kubernetes_pods.specs([read(pod(attach="Pod"))]).values()
    assert spec.end is End.POD


def test_the_quotas_device_is_passed_on() -> None:
    (spec,) = kubernetes_pods.specs([read(pod(quotaDevice="eth0"))]).values()
    assert spec.device == "eth0"


def test_the_state_says_where_the_quota_refuses() -> None:
    pods = [read(pod()), read(pod("u-2")), read(pod("u-3"))]
    statuses = {
        "u-1": replace(status(), quota=Hook("eth0", Mode.NATIVE)),
        "u-2": replace(status("u-2"), quota=Hook("eth0", message="another has it")),
        "u-3": status("u-3"),
    }
    (found,) = kubernetes_states.reports(pods, statuses, {}, "0.1", "6.1.0")
    said = [(each.quota_device, each.quota_mode) for each in found.status.pods]
    assert said == [("eth0", "native"), ("", ""), ("", "")]


def test_a_pod_without_an_address_gets_its_maps_already() -> None:
    assert kubernetes_pods.specs([read(pod(address=""))])["u-1"].addresses == ()


def test_disabled_ones_are_not_served() -> None:
    assert kubernetes_pods.specs([read(pod(mode="Disabled"))]) == {}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_ended_are_none(phase: str) -> None:
    found = pod()
    found["status"]["phase"] = phase
    assert kubernetes_pods.read(found) is None


@pytest.mark.parametrize(
    "annotations",
    [None, {}, {"fastrelay.io/node-agent": "{"}, {"fastrelay.io/node-agent": '{"mode": "Auto"}'}],
)
def test_pods_of_somebody_else_are_none(annotations: Any) -> None:
    found = pod()
    found["metadata"]["annotations"] = annotations
    assert kubernetes_pods.read(found) is None


def test_a_name_that_would_leave_the_directory_is_refused() -> None:
    assert kubernetes_pods.read(pod(uid="../x")) is None


# -- states


def report(**figures: Any) -> kubernetes_states.Report:
    numbers = {"u-1": Figures(**figures)}
    (found,) = kubernetes_states.reports([read(pod())], {"u-1": status()}, numbers, "1", "6.1")
    return found


def test_states_are_valid_objects() -> None:
    numbers = {"u-1": Figures(subscribers=3, certificate_expires="2027-01-01T00:00:00Z")}
    pods = [read(pod()), read(pod("u-2")), read(pod("u-3", mode="Disabled")), read(pod("u-4"))]
    statuses = {"u-1": status(), "u-2": status("u-2", attached=False)}
    (found,) = kubernetes_states.reports(pods, statuses, numbers, "0.1", "6.1.0")
    whole = kubernetes_states.document(found, "node-1", None)
    with_status = kubernetes_states.document(found, "node-1", "2026-01-01T00:00:00Z")
    assert whole["metadata"]["ownerReferences"][0]["uid"] == "relay-uid"
    state = MoQRelayNodeState.model_validate(whole | {"status": with_status["status"]})
    assert state.status is not None
    assert [each.state for each in state.status.pods] == [
        "Attached",
        "Failed",
        "Disabled",
        "Waiting",
    ]
    assert state.status.fast_path == "1/4"
    assert state.status.subscribers == 3
    assert state.status.message == "pod-u-2: LoadFailed"


def test_a_relay_is_attached_when_it_says_so_itself() -> None:
    words = {
        "u-1": Word(True, "", "", 3, 1),
        "u-2": Word(),
        "u-3": Word(False, "MapsNotOpened", "map slots: Operation not permitted", 0, 2),
    }
    pods = [read(pod(uid)) for uid in words]
    statuses = {uid: status(uid, word=word) for uid, word in words.items()}
    (found,) = kubernetes_states.reports(pods, statuses, {}, "0.1", "6.1.0")
    assert found.status.fast_path == "1/3"
    assert [(each.state, each.reason) for each in found.status.pods] == [
        ("Attached", "Attached"),
        ("Waiting", "RelayNotConnected"),
        ("Waiting", "MapsNotOpened"),
    ]
    assert [each.kernel_connections for each in found.status.pods] == [3, 0, 0]
    assert [each.user_connections for each in found.status.pods] == [1, 0, 2]
    assert found.status.message == "pod-u-2: RelayNotConnected; pod-u-3: MapsNotOpened"


def test_what_changes_is_written_at_once_and_numbers_now_and_then() -> None:
    writing = Writing()
    first = report(subscribers=1)
    assert writing.due(first, 0)
    writing.done(first, 0)
    assert not writing.due(first, 59)
    assert writing.due(first, 60), "the heartbeat"
    more = report(subscribers=2)
    assert not writing.due(more, 9)
    assert writing.due(more, 10)
    assert not writing.due(report(subscribers=1, overloaded=True), 0.9)
    assert writing.due(report(subscribers=1, overloaded=True), 1)
    writing.forget(first.key)
    assert writing.due(first, 1)


# -- what relays tell


def test_figures_from_a_relays_metrics() -> None:
    text = (
        "# TYPE fastrelay_subscriptions gauge\nfastrelay_subscriptions 7.0\n"
        "# TYPE fastrelay_tracks gauge\nfastrelay_tracks 3.0\n"
        "# TYPE fastrelay_upstream_connected gauge\n"
        'fastrelay_upstream_connected{upstream="a"} 1.0\n'
        'fastrelay_upstream_connected{upstream="b"} 0.0\n'
        "fastrelay_certificate_expiry_timestamp_seconds 1798761600.0\n"
    )
    found = kubernetes_figures.figures(text, "at the limit of sessions\n")
    assert found == Figures(7, 3, "2027-01-01T00:00:00Z", 1, True)
    assert kubernetes_figures.figures("", "ready\n") == Figures()


async def test_relays_are_asked_and_silence_is_borne(caplog: pytest.LogCaptureFixture) -> None:
    """A relay that does not answer for a while has not lost its subscribers."""
    speaks, now = True, 0.0

    async def metrics(request: web.Request) -> web.Response:
        if not speaks:
            raise web.HTTPServiceUnavailable
        return web.Response(text="fastrelay_subscriptions 5\n")

    async def readiness(request: web.Request) -> web.Response:
        return web.Response(text="draining\n", status=503)

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/readyz", readiness)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    answers = read(pod("u-1", "127.0.0.1", monitoringPort=port))
    # Nobody listens at the lowest port.
    silent = read(pod("u-2", "127.0.0.1", monitoringPort=1))
    nowhere = read(pod("u-3", "127.0.0.1", monitoringPort=0))
    asked = kubernetes_figures.Answers(lambda: now)
    async with ClientSession() as session:
        await asked.ask(session, [answers, silent, nowhere])
        assert asked.known == {"u-1": Figures(subscribers=5)}
        speaks = False
        for moment in (10, 59):
            now = moment
            await asked.ask(session, [answers, silent, nowhere])
            assert asked.known == {"u-1": Figures(subscribers=5)}
        assert caplog.text.count("its last figures stay for 50 s") == 1
        now = 60
        await asked.ask(session, [answers, silent, nowhere])
        assert asked.known == {}
        assert "too old" in caplog.text
        speaks = True
        await asked.ask(session, [answers])
        assert asked.known == {"u-1": Figures(subscribers=5)}
        await asked.ask(session, [])
        assert asked.known == {}
    await runner.cleanup()


# -- the API server


@pytest.fixture
async def api(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[FakeApi, PodSource, StateWriter, set[str]]]:
    monkeypatch.setattr(kubernetes, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(kubernetes, "WRITE_SECONDS", 0.05)
    fake = FakeApi()
    present: set[str] = set()
    async with fake.client() as client:
        source = PodSource(CoreV1Api(client), "node-1")
        writer = StateWriter(CustomObjectsApi(client), "node-1", source, lambda: present)
        tasks = [asyncio.create_task(source.watch()), asyncio.create_task(writer.write())]
        yield fake, source, writer, present
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Api = tuple[FakeApi, PodSource, StateWriter, set[str]]


async def test_pods_come_and_go(api: Api) -> None:
    fake, source, _, _ = api
    assert source.desired() is None, "not known yet"
    fake.put(f"{PODS}/pod-u-1", pod())
    await until(lambda: "u-1" in (source.desired() or {}))
    selection = fake.queries[0]
    assert selection["fieldSelector"] == "spec.nodeName=node-1"
    assert selection["labelSelector"] == "fastrelay.io/relay"
    await fake.watching.wait()
    fake.put(f"{PODS}/pod-u-2", pod("u-2"))
    await until(lambda: "u-2" in (source.desired() or {}))
    fake.remove(f"{PODS}/pod-u-1")
    await until(lambda: "u-1" not in (source.desired() or {}))


async def test_a_change_wakes_the_agent(api: Api) -> None:
    fake, source, _, _ = api
    await fake.watching.wait()
    await source.changed(20)
    waiting = asyncio.create_task(source.changed(20))
    fake.put(f"{PODS}/pod-u-1", pod(address=""))
    await asyncio.wait_for(waiting, 60)
    waiting = asyncio.create_task(source.changed(20))
    fake.put(f"{PODS}/pod-u-1", pod())
    await asyncio.wait_for(waiting, 60)


async def test_watches_that_end_go_on(api: Api) -> None:
    fake, source, _, _ = api
    await fake.watching.wait()
    fake.end_watches()
    await fake.watching.wait()
    fake.put(f"{PODS}/pod-u-1", pod())
    await until(lambda: "u-1" in (source.desired() or {}))


async def test_an_api_server_that_fails_takes_nothing_away(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "BACKOFF_SECONDS", (0.01, 0.02))
    fake, source, _, _ = api
    fake.put(f"{PODS}/pod-u-1", pod())
    await until(lambda: "u-1" in (source.desired() or {}))
    await fake.watching.wait()
    fake.refuse["GET", "/api/v1/pods"] = (500, "not now")
    before = len(fake.requests)
    fake.end_watches()
    await until(lambda: len(fake.requests) > before + 2)
    assert "u-1" in (source.desired() or {})


async def test_states_are_written(api: Api) -> None:
    fake, _, writer, _ = api
    fake.put(f"{PODS}/pod-u-1", pod())
    writer({"u-1": status()})
    await until(lambda: fake.objects.get(STATE, {}).get("status", {}).get("fastPath") == "1/1")
    found = fake.objects[STATE]
    assert found["spec"] == {"relay": "live", "node": "node-1"}
    assert found["metadata"]["ownerReferences"][0]["uid"] == "relay-uid"
    assert found["status"]["pods"][0]["device"] == "veth1"
    writer({"u-1": status(attached=False)})
    await until(lambda: fake.objects[STATE]["status"]["fastPath"] == "0/1")


async def test_a_state_goes_after_the_pins(api: Api) -> None:
    fake, source, _, present = api
    fake.put(f"{PODS}/pod-u-1", pod())
    present.add("u-1")
    await until(lambda: "status" in fake.objects.get(STATE, {}))
    fake.remove(f"{PODS}/pod-u-1")
    await until(lambda: source.desired() == {})
    asked = len(fake.requests)
    assert ("DELETE", STATE) not in fake.requests[asked:]
    assert STATE in fake.objects
    present.clear()
    await until(lambda: STATE not in fake.objects)


async def test_a_state_that_is_deleted_stays_until_the_pins_are_gone(api: Api) -> None:
    """As when the MoQRelay is deleted, or its namespace: pods, and what is pinned, end later."""
    fake, _, writer, present = api
    fake.put(f"{PODS}/pod-u-1", pod())
    present.add("u-1")
    await until(lambda: "status" in fake.objects.get(STATE, {}))
    assert fake.objects[STATE]["metadata"]["finalizers"] == ["fastrelay.io/node-agent"]
    fake.delete(STATE)
    writer({"u-1": status()})
    await until(lambda: fake.objects[STATE]["status"].get("fastPath") == "1/1")
    assert "deletionTimestamp" in fake.objects[STATE]["metadata"]
    fake.remove(f"{PODS}/pod-u-1")
    await fake.watching.wait()
    assert STATE in fake.objects
    present.clear()
    await until(lambda: STATE not in fake.objects)


async def test_an_object_of_an_earlier_version_gets_the_finalizer(api: Api) -> None:
    fake, _, writer, present = api
    fake.put(STATE, {"spec": {"relay": "live", "node": "node-1"}})
    present.add("u-1")
    fake.put(f"{PODS}/pod-u-1", pod())
    writer({"u-1": status()})
    await until(lambda: bool(fake.objects[STATE]["metadata"].get("finalizers")))


def test_what_others_wait_for_stays() -> None:
    metadata = {"finalizers": ["a", "fastrelay.io/node-agent", "b"], "resourceVersion": "7"}
    patch = kubernetes_states.without_finalizer({"metadata": metadata})
    assert patch == {"metadata": {"finalizers": ["a", "b"], "resourceVersion": "7"}}
    assert kubernetes_states.without_finalizer({"metadata": {"finalizers": ["a"]}}) is None
    assert kubernetes_states.without_finalizer({"metadata": {}}) is None


async def test_what_one_object_is_refused_does_not_stop_the_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be made in a namespace that is about to go."""
    monkeypatch.setattr(kubernetes, "BACKOFF_SECONDS", (0.01, 0.02))
    fake, _, writer, _ = api
    fake.refuse["PATCH", STATE] = (403, "the namespace is being terminated")
    other = pod("u-2")
    other["metadata"]["labels"]["fastrelay.io/relay"] = "other"
    fake.put(f"{PODS}/pod-u-1", pod())
    fake.put(f"{PODS}/pod-u-2", other)
    writer({"u-1": status(), "u-2": status("u-2")})
    found = STATE.replace("live.", "other.")
    await until(lambda: "status" in fake.objects.get(found, {}))
    await until(lambda: "status" in fake.objects.get(STATE, {}))


async def test_a_new_agent_says_nothing_before_the_relays_have_found_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "SETTLE_SECONDS", 1000.0)
    monkeypatch.setattr(kubernetes, "WRITE_SECONDS", 0.01)
    fake, source, writer, _ = api
    fake.put(f"{PODS}/pod-u-1", pod())
    await until(lambda: "u-1" in (source.desired() or {}))
    writer({"u-1": status(word=Word())})
    await writer._write()
    assert STATE not in fake.objects
    writer({"u-1": status()})
    await writer._write()
    assert STATE not in fake.objects, "nor before they were asked for their figures"
    asking = asyncio.create_task(writer.ask_relays())
    await until(lambda: fake.objects.get(STATE, {}).get("status", {}).get("fastPath") == "1/1")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_the_first_failure_costs_little(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """New definitions are refused for a moment: "storage is (re)initializing"."""
    monkeypatch.setattr(kubernetes, "BACKOFF_SECONDS", (0.01, 1000.0))
    fake, _, writer, _ = api
    fake.refuse["PATCH", STATE] = (429, "storage is (re)initializing")
    fake.put(f"{PODS}/pod-u-1", pod())
    writer({"u-1": status()})
    await until(lambda: fake.objects.get(STATE, {}).get("status", {}).get("fastPath") == "1/1")


async def test_what_an_earlier_agent_left_goes(api: Api) -> None:
    fake, _, _, _ = api
    spec = {"relay": "live", "node": "node-1"}
    fake.put(STATE, {"metadata": {}, "spec": spec})
    await until(lambda: STATE not in fake.objects)
    assert {"fieldSelector": "spec.node=node-1"} in fake.queries


async def test_a_state_that_somebody_deletes_comes_back(api: Api) -> None:
    fake, _, writer, _ = api
    fake.put(f"{PODS}/pod-u-1", pod())
    await until(lambda: "status" in fake.objects.get(STATE, {}))
    fake.remove(STATE)
    writer({"u-1": status()})
    await until(lambda: fake.objects.get(STATE, {}).get("status", {}).get("fastPath") == "1/1")


def test_the_note_is_what_the_operator_writes() -> None:
    assert PodNote.model_validate(NOTE).model_dump() == NOTE
