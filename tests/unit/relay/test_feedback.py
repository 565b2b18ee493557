"""Subscribers tell when objects arrive."""

from __future__ import annotations

from typing import Any

import pytest

from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.feedback import TRACK as FEEDBACK
from fastrelay.moqt.feedback import Arrival, encode
from fastrelay.moqt.messages import RequestError, RequestOk
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.relay.options import PolicyRule, RelayOptions
from unit.relay.fake_kernel import FastWorld
from unit.relay.harness import TRACK, Client, Publisher, World
from unit.relay.test_auto import Scene

ALIAS = 77
EPOCH = 5_000.0
"""The subscribers' clocks are ahead by so much."""


def live(world: World, draft: Draft = DRAFT_18) -> tuple[Publisher, Client]:
    publisher, client = world.publisher(), world.client(draft)
    publisher.announce(*TRACK.namespace)
    client.session.subscribe(TRACK)
    world.run()
    publisher.accept()
    return publisher, client


def offer(client: Client, track: FullTrackName = FEEDBACK, alias: int = ALIAS) -> Any:
    request_id = client.session.publish(track, alias)
    client.world.run()
    return client.answer(request_id)


def report(client: Client, payload: bytes, number: int = 0) -> None:
    location = Location(number, 0)
    client.session.send_datagram(encode_datagram(ALIAS, location, 128, payload, client.draft))
    client.world.run()


def alias_of(client: Client) -> int:
    (stream, *_) = client.streams.values()
    assert stream.header is not None
    return stream.header.track_alias


def told(world: World, client: Client) -> dict[str, Any]:
    page = world.relay.status()["sessions"]
    peers = [peer.session for peer in world.relay.peers]
    found: dict[str, Any] = page[peers.index(client.relay_session)]["feedback"]
    return found


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18, DRAFT_22])
def test_arrivals_are_joined_with_what_user_space_sent(draft: Draft) -> None:
    world = World()
    publisher, client = live(world, draft)
    assert isinstance(offer(client), RequestOk)
    arrivals = []
    for group in range(3):
        publisher.group(group, 2)
        late = 0.01 * group
        arrivals += [
            Arrival(alias_of(client), group, each, world.clock.now + EPOCH + late)
            for each in range(2)
        ]
        world.wait(1.0)
    report(
        client,
        encode([*arrivals, Arrival(99, 0, 0, arrivals[0].at), arrivals[0]._replace(group=9)]),
    )
    found = told(world, client)
    assert (found["reports"], found["objects"], found["unknown"]) == (1, 6, 2)
    assert found["problem"] is None
    assert found["latest_ms"] == pytest.approx(20.0, abs=0.01)
    assert found["average_ms"] == pytest.approx(10.0, abs=0.01)
    assert found["deviation_ms"] == pytest.approx(8.165, abs=0.01)


def test_arrivals_are_joined_with_what_the_kernel_sent() -> None:
    world = FastWorld()
    publisher, (client,) = world.live(1)
    asked: list[int] = []

    def left(_stream_id: int, stop: int) -> float | None:
        asked.append(stop)
        return 50.0 if len(asked) < 3 else None

    world.kernel.departures = left
    publisher.group(0, 3)
    world.tick()
    assert isinstance(offer(client), RequestOk)
    alias = alias_of(client)
    report(client, encode([Arrival(alias, 0, n, EPOCH + 0.001 * n) for n in range(3)]))
    found = told(world, client)
    assert (found["objects"], found["unknown"]) == (2, 1)
    assert found["latest_ms"] == pytest.approx(1.0, abs=0.01)
    assert asked == sorted(set(asked))


def test_datagrams_are_joined_too() -> None:
    """Those that the kernel sent, with when it sent them; the others with when they came."""
    world = FastWorld()
    publisher, (client,) = world.live(1)
    world.shared = False
    slow = world.client()
    slow.subscribe()
    world.kernel.departures = lambda _, group: 50.0 if group else None
    for group in range(3):
        publisher.datagram(group, 0)
    came = world.clock.now
    world.tick()
    for each, at in ((client, 50.0), (slow, came)):
        assert isinstance(offer(each), RequestOk)
        alias = each.datagrams[0].track_alias
        late = (0.0, 0.0, 0.002)
        report(each, encode([Arrival(alias, n, 0, at + EPOCH + late[n]) for n in range(3)]))
        found = told(world, each)
        lost = each is client
        assert (found["objects"], found["unknown"]) == (3 - lost, 1 * lost)
        assert found["latest_ms"] == pytest.approx(2.0, abs=0.01)


def test_nobody_else_sees_it() -> None:
    world = World()
    _, client = live(world)
    other = world.client()
    offer(client)
    request_id = other.subscribe(FEEDBACK)
    assert isinstance(other.answer(request_id), RequestError)
    assert told(world, other) is None


def test_who_may_not_publish_may_tell() -> None:
    world = World(RelayOptions(policy=(PolicyRule((), publish=()),)))
    assert isinstance(offer(world.client()), RequestOk)


@pytest.mark.parametrize(
    ("track", "code"),
    [
        (FEEDBACK, RequestErrorCode.DUPLICATE_SUBSCRIPTION),
        (FullTrackName(FEEDBACK.namespace, b"colours"), RequestErrorCode.DOES_NOT_EXIST),
    ],
)
def test_one_track_of_one_kind(track: FullTrackName, code: RequestErrorCode) -> None:
    world = World()
    client = world.client()
    assert isinstance(offer(client), RequestOk)
    refused = offer(client, track, ALIAS + 1)
    assert isinstance(refused, RequestError)
    assert refused.code == code


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x01\x02\x03", bytes(1100)])
def test_nonsense_ends_it_and_nothing_else(payload: bytes) -> None:
    world = World()
    publisher, client = live(world)
    offer(client)
    for number in range(3):
        report(client, payload, number)
    found = told(world, client)
    assert found["problem"]
    assert found["reports"] == 0
    assert world.observer.logs.count("feedback refused") == 1
    publisher.group(0, 2)
    assert len(client.ids) == 2
    assert client.closed is None
    client.leave()


def test_streams_are_refused() -> None:
    world = World()
    client = world.publisher()
    offer(client)
    client.alias = ALIAS
    client.open(0)
    world.run()
    assert told(world, client)["problem"] == "a stream; reports are datagrams"


def test_too_many_reports_are_not_read() -> None:
    world = World()
    publisher, client = live(world)
    offer(client)
    publisher.group(0, 1)
    payload = encode([Arrival(alias_of(client), 0, 0, EPOCH)])
    for number in range(100):
        report(client, payload, number)
    found = told(world, client)
    assert (found["reports"], found["ignored"]) == (40, 60)
    world.wait(10)
    report(client, payload, 101)
    assert told(world, client)["reports"] == 41


def test_reports_that_overtake_the_track_are_kept() -> None:
    world = World()
    publisher, client = live(world)
    publisher.group(0, 1)
    report(client, encode([Arrival(alias_of(client), 0, 0, EPOCH)]))
    offer(client)
    assert told(world, client)["objects"] == 1


def test_its_end_leaves_room_for_another() -> None:
    world = World()
    client = world.client()
    request_id = client.session.publish(FEEDBACK, ALIAS)
    world.run()
    client.session.notify(request_id, ms.PublishDone(request_id, 2, 0))
    world.run()
    assert told(world, client) is None
    assert isinstance(offer(client, alias=ALIAS + 1), RequestOk)


def test_of_an_automatic_track_the_rendition_counts_that_was_sent() -> None:
    """The smallest comes to the relay a second before the others, in every group."""
    world = World()
    scene = Scene(world)
    scene.publish(0)
    member = scene.member()
    assert isinstance(offer(member.client), RequestOk)
    for group in range(1, 6):
        if group == 3:
            member.go(1)
        for name in ("low", "mid"):
            scene.publish(group, name)
            world.wait(1.0)
        got = member.renditions[group]
        late = 1.0 if got == "low" else 0.0
        arrival = Arrival(member.alias, group, 0, world.clock.now + EPOCH - late)
        report(member.client, encode([arrival]), group)
    assert set(member.renditions.values()) == {"low", "mid"}
    found = told(world, member.client)
    assert (found["objects"], found["unknown"]) == (5, 0)
    assert found["deviation_ms"] == pytest.approx(0.0, abs=0.01)
