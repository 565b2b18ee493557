"""Automatic tracks: one track for the member, rendition after rendition behind it, each group
whole and of one of them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from fastrelay.catalog import Catalog, CatalogTrack, Kind, Packaging, build_msf
from fastrelay.fastpath.layout import Outcome
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.quic.measurements import Measurements
from fastrelay.relay import auto as automatic
from fastrelay.relay.adaptation import Sample
from fastrelay.relay.auto import Auto
from fastrelay.relay.options import Limits, PolicyRule, RelayOptions
from unit.relay.fake_kernel import FastEnd, FastWorld, every
from unit.relay.harness import STILL, Client, Publisher, Sending, Stream, World

LIVE = (b"live",)
AUTO = FullTrackName(LIVE, b"auto")
NAMES = ("low", "mid", "high")
RATES = {"low": 400_000, "mid": 1_200_000, "high": 4_000_000}
OBJECTS = 3


def catalog(*names: str, **fields: Any) -> bytes:
    return build_msf(
        Catalog(
            tuple(
                CatalogTrack(
                    name,
                    Kind.VIDEO,
                    Packaging.LOC,
                    "avc3.4D401F",
                    **{"bitrate": RATES[name], "alt_group": 1} | fields,
                )
                for name in names
            )
        )
    )


def payload(name: str, group: int, number: int) -> bytes:
    return f"{name} {group}/{number} ".encode() * (5 if name == "high" else 2)


class Choice:
    """In the place of the adapter: what the test wants."""

    def __init__(self) -> None:
        self.index = 0
        self.lag = 0.0
        self.is_busy = False
        self.settled: list[int] = []

    def look(self, sample: Sample) -> int:
        return self.index

    def moved(self, index: int, now: float) -> None:
        self.index = index
        self.settled.append(index)


def measured() -> Measurements:
    return replace(STILL, min_rtt=0.01, smoothed_rtt=0.01, latest_rtt=0.01)


class Scene:
    """A publisher of renditions, and members of the automatic track."""

    def __init__(self, world: World, draft: Draft = DRAFT_18, listed: bytes | None = None) -> None:
        self.world = world
        self.publisher: Publisher = world.publisher(draft)
        self.publisher.announce(*LIVE)
        self.listed = catalog(*NAMES) if listed is None else listed
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.requests: dict[str, int] = {}
        self.catalog_group = 0
        self.newest: Location | None = None

    def serve(self, *, silent: bool = False) -> None:
        """Answer what the relay asks for. ``silent``: as if nothing had been published."""
        for request in self.publisher.requests(ms.Subscribe):
            name = request.track.name.decode()
            self.asked.append(name)
            if name in self.refuses:
                self.publisher.session.reject(request.request_id, 0x10, f"no {name}")
                continue
            self.requests[name] = request.request_id
            known = name != "catalog" and not silent
            told = ms.Parameters(largest_object=self.newest if known else None)
            self.publisher.session.respond(
                ms.SubscribeOk(request.request_id, self.alias(name), told, b"")
            )
            self.world.run()
            if name == "catalog":
                self.tell()
        self.world.run()

    def tell(self, listed: bytes | None = None) -> None:
        """The catalog, in a group of its own."""
        self.listed = listed or self.listed
        stream = self.publisher.open(self.catalog_group, alias=self.alias("catalog"))
        stream.write(0, self.listed)
        stream.close()
        self.catalog_group += 1

    def alias(self, name: str) -> int:
        return {"catalog": 1, "low": 10, "mid": 11, "high": 70}[name]

    def begin(self, group: int, *names: str) -> dict[str, Sending]:
        return {
            name: self.publisher.open(group, alias=self.alias(name), end_of_group=True)
            for name in names or NAMES
            if name in self.requests
        }

    def write(self, streams: dict[str, Sending], number: int) -> None:
        for name, stream in streams.items():
            group = stream.header.group_id
            self.newest = max(self.newest or Location(0, 0), Location(group, number))
            stream.write(number, payload(name, group, number))

    def publish(self, group: int, *names: str) -> None:
        """A whole group on every rendition that the relay has asked for."""
        streams = self.begin(group, *names)
        for number in range(OBJECTS):
            self.write(streams, number)
        for stream in streams.values():
            stream.close()

    def done(self, name: str, status: PublishDoneStatus = PublishDoneStatus.TRACK_ENDED) -> None:
        request_id = self.requests.pop(name)
        self.publisher.session.notify(request_id, ms.PublishDone(request_id, status, None, ""))
        self.world.run()

    def member(
        self, draft: Draft = DRAFT_18, track: FullTrackName = AUTO, **parameters: Any
    ) -> Member:
        client = self.world.client(draft)
        self.world.relay._peers[client.relay_session].measure = measured
        request_id = client.subscribe(track, **parameters)
        self.serve()
        self.serve()
        return Member(self, client, request_id)


class Member:
    def __init__(self, scene: Scene, client: Client, request_id: int) -> None:
        self.scene = scene
        self.client = client
        self.request_id = request_id
        self.choice = Choice()
        found = scene.world.relay._peers[client.relay_session].handles.get(request_id)
        if isinstance(found, Auto) and found.ladder:
            found.adapter = self.choice  # type: ignore[assignment]
            self.auto = found

    def go(self, index: int, *, silent: bool = False) -> None:
        """Want this rendition; the relay has time to ask for it."""
        self.choice.index = index
        self.scene.world.wait(0.25)
        self.scene.serve(silent=silent)

    def get(self, group: int, index: int) -> None:
        """A whole group is published when the relay has had time to switch to this rendition."""
        world = self.scene.world
        self.go(index)
        world.wait(0.5)
        self.scene.publish(group)
        world.wait(0.5)

    @property
    def streams(self) -> list[Stream]:
        return [s for s in self.client.streams.values() if s.header is not None]

    @property
    def renditions(self) -> dict[int, str]:
        """Of each group; every one is whole, and of one rendition."""
        found: dict[int, str] = {}
        for stream in self.streams:
            assert stream.header is not None
            group = stream.header.group_id
            assert stream.header.track_alias == self.alias
            assert group not in found, f"group {group} twice"
            assert stream.fin
            name = stream.objects[0][2].split()[0].decode()
            assert stream.objects == [(group, n, payload(name, group, n)) for n in range(OBJECTS)]
            found[group] = name
        return found

    @property
    def alias(self) -> int:
        answer = self.client.answer(self.request_id)
        assert isinstance(answer, ms.SubscribeOk)
        return answer.track_alias

    def expect(self, *names: str, first: int = 0) -> None:
        """The renditions of the groups from the first on, without a gap."""
        self.scene.world.wait(0.25)
        assert sorted(self.renditions.items()) == list(enumerate(names, first))

    @property
    def error(self) -> ms.RequestError:
        answer = self.client.answer(self.request_id)
        assert isinstance(answer, ms.RequestError)
        return answer


@pytest.fixture(params=["user space", "kernel"])
def world(request: pytest.FixtureRequest) -> World:
    return World() if request.param == "user space" else FastWorld()


def test_it_begins_with_the_smallest_rendition(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    assert scene.asked == ["catalog", "low"]
    for group in range(3):
        scene.publish(group)
    member.expect("low", "low", "low")
    assert world.relay.counters.rendition_switches == {}
    world.assert_empty()


@pytest.mark.parametrize("publisher", [DRAFT_16, DRAFT_18, DRAFT_22])
@pytest.mark.parametrize("viewer", [DRAFT_16, DRAFT_18, DRAFT_22])
def test_it_goes_up_and_down_between_groups(world: World, publisher: Draft, viewer: Draft) -> None:
    scene = Scene(world, publisher)
    member = scene.member(viewer)
    scene.publish(0)
    for group, index in enumerate((1, 2, 0, 2, 1), 1):
        member.get(group, index)
    member.expect("low", "mid", "high", "low", "high", "mid")
    assert world.relay.counters.rendition_switches == {"up": 3, "down": 2}
    world.assert_empty()


def test_a_group_under_way_is_completed(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    streams = scene.begin(1)
    scene.write(streams, 0)
    member.go(2)
    world.wait(0.5)
    for number in (1, 2):
        scene.write(streams, number)
    for stream in streams.values():
        stream.close()
    world.wait(0.5)
    scene.publish(2)
    scene.publish(3)
    member.expect("low", "low", "high", "high")


def test_a_rendition_that_others_watch_is_there_at_once(world: World) -> None:
    scene = Scene(world)
    other = scene.world.client()
    other.subscribe(FullTrackName(LIVE, b"high"))
    scene.serve()
    member = scene.member()
    scene.publish(0)
    streams = scene.begin(1)
    scene.write(streams, 0)
    member.go(2)
    world.wait(0.5)
    for number in (1, 2):
        scene.write(streams, number)
    for stream in streams.values():
        stream.close()
    scene.publish(2)
    member.expect("low", "low", "high")
    # Who chooses for himself is left alone.
    assert {s.objects[0][2].split()[0] for s in other.streams.values()} == {b"high"}


def test_the_kernel_serves_every_rendition_from_its_second_group_on() -> None:
    world = FastWorld()
    scene = Scene(world)
    member = scene.member()
    world.tick()
    for group, index in enumerate((0, 0, 2, 2, 2, 0, 0, 0)):
        member.go(index)
        world.wait(0.5)
        world.tick()
        scene.publish(group)
        world.tick()
        world.wait(0.5)
        world.tick()
    member.expect("low", "low", "high", "high", "high", "low", "low", "low")
    end = member.client.relay_end
    assert isinstance(end, FastEnd)
    assert len(end.arriving) >= 6
    assert world.relay.status()["sessions"][1]["kernel_packets"] >= 6
    world.assert_empty()


def test_copies_that_are_late_when_it_switches_come_once() -> None:
    """The kernel has begun the group's stream for the member, and user space has not read it."""
    world = FastWorld()
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    world.tick()
    streams = scene.begin(1)
    scene.write(streams, 0)
    member.go(2)
    world.kernel.takes = lambda stream_id, offset: offset == 0
    world.wait(1.0)
    for number in (1, 2):
        scene.write(streams, number)
    for stream in streams.values():
        stream.close()
    world.kernel.takes = every
    scene.publish(2)
    scene.publish(3)
    world.tick()
    member.expect("low", "low", "high", "high")


def test_a_switch_down_waits_for_no_group_that_has_not_begun(world: World) -> None:
    """What waits in the relay, and was not begun for the member, comes in the smaller size."""
    scene = Scene(world)
    watcher = world.client()
    watcher.subscribe(FullTrackName(LIVE, b"low"))
    scene.serve()
    member = scene.member()
    member.go(2)
    scene.serve()
    world.wait(0.5)
    scene.publish(0)
    scene.publish(1)
    world.wait(0.5)
    member.client.stall(20)
    for group in (2, 3, 4):
        scene.publish(group)
    member.get(5, 0)
    member.client.resume()
    world.wait(0.5)
    found = member.renditions
    assert sorted(found) == list(range(6))
    assert [found[group] for group in range(6)].count("high") <= 4
    assert found[5] == "low"


@pytest.mark.parametrize(
    ("track", "listed", "code", "words"),
    [
        (
            "auto:3",
            catalog("low"),
            RequestErrorCode.DOES_NOT_EXIST,
            "no alternate group 3; it has 1",
        ),
        ("auto", catalog("low", alt_group=0), RequestErrorCode.DOES_NOT_EXIST, "no alternate gr"),
        ("auto", catalog("low", bitrate=0), RequestErrorCode.NOT_SUPPORTED, "no bit rates"),
        ("auto", b"nonsense", RequestErrorCode.DOES_NOT_EXIST, "not JSON"),
    ],
)
def test_what_cannot_be_had_is_said(
    track: str, listed: bytes, code: RequestErrorCode, words: str
) -> None:
    world = World()
    scene = Scene(world, listed=listed)
    member = scene.member(track=FullTrackName(LIVE, track.encode()))
    assert member.error.code == code
    assert words in member.error.reason
    world.assert_empty()


def test_without_a_publisher_or_a_catalog_it_is_refused() -> None:
    world = World()
    client = world.client()
    request_id = client.subscribe(AUTO)
    answer = client.answer(request_id)
    assert isinstance(answer, ms.RequestError)
    assert "no catalog" in answer.reason
    scene = Scene(world)
    scene.refuses.add("catalog")
    member = scene.member()
    assert member.error.reason == "no catalog tells the renditions: no catalog"
    world.assert_empty()


def test_a_catalog_that_never_comes() -> None:
    world = World()
    scene = Scene(world)
    client = world.client()
    request_id = client.subscribe(AUTO)
    (request,) = scene.publisher.requests(ms.Subscribe)
    scene.publisher.session.respond(ms.SubscribeOk(request.request_id, 1, ms.Parameters(), b""))
    world.run()
    world.wait(automatic.CATALOG_SECONDS - 1)
    assert not client.answered(request_id)
    world.wait(2)
    answer = client.answer(request_id)
    assert isinstance(answer, ms.RequestError)
    assert answer.code == RequestErrorCode.TIMEOUT


def test_a_catalog_that_was_sent_once_long_ago_is_fetched() -> None:
    world = World()
    scene = Scene(world)
    client = world.client()
    request_id = client.subscribe(AUTO)
    (request,) = scene.publisher.requests(ms.Subscribe)
    told = ms.Parameters(largest_object=Location(0, 0))
    scene.publisher.session.respond(ms.SubscribeOk(request.request_id, 1, told, b""))
    world.run()
    scene.publisher.serve_fetch([(0, 0, scene.listed)])
    scene.serve()
    assert scene.asked == ["low"]
    assert isinstance(client.answer(request_id), ms.SubscribeOk)


def test_renditions_whose_groups_are_not_aligned_are_not_mixed(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(100)
    member.choice.index = 2
    world.wait(0.25)
    scene.newest = Location(7, 0)
    scene.serve()
    world.wait(0.5)
    scene.publish(101, "low")
    world.wait(0.5)
    member.expect("low", "low", first=100)
    assert member.choice.settled[-1] == 0
    spurned = member.auto._spurned[FullTrackName(LIVE, b"high")]
    assert spurned[1] == automatic.NOT_ALIGNED
    world.assert_empty()


def test_a_rendition_that_does_not_begin_is_given_up(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    member.go(1, silent=True)
    world.wait(automatic.JOIN_SECONDS + 1)
    scene.publish(1, "low")
    member.expect("low", "low")
    assert member.auto.coming is None
    world.assert_empty()


def test_a_rendition_that_is_refused_is_not_asked_for_again_soon(world: World) -> None:
    scene = Scene(world)
    scene.refuses.add("mid")
    member = scene.member()
    scene.publish(0)
    member.go(1)
    world.wait(2)
    scene.serve()
    assert scene.asked.count("mid") == 1
    scene.publish(1)
    member.get(2, 2)
    member.expect("low", "low", "high")


def test_when_the_first_one_is_refused_another_one_answers(world: World) -> None:
    scene = Scene(world)
    scene.refuses.add("low")
    member = scene.member()
    scene.serve()
    scene.publish(0)
    member.expect("mid")
    scene.refuses |= set(NAMES)
    refused = scene.member()
    assert refused.alias >= 0


def test_when_all_are_refused_so_is_the_member() -> None:
    world = World()
    scene = Scene(world)
    scene.refuses |= set(NAMES)
    member = scene.member()
    for _ in NAMES:
        scene.serve()
    assert member.error.reason == "no high"
    world.assert_empty()


def test_when_a_rendition_ends_the_others_go_on(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    member.go(2)
    scene.publish(0)
    world.wait(0.5)
    member.go(2)
    scene.publish(1)
    scene.done("high")
    for _ in range(6):
        world.wait(0.5)
        scene.serve()
    for group in (2, 3):
        scene.publish(group)
        world.wait(0.5)
    found = member.renditions
    assert sorted(found) == [0, 1, 2, 3]
    assert {found[2], found[3]} <= {"low", "mid"}
    assert not member.client.notifications(ms.PublishDone)
    world.assert_empty()


def test_the_end_of_all_is_the_end(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    member.get(1, 1)
    scene.refuses |= set(NAMES)
    for name in list(scene.requests):
        if name != "catalog":
            scene.done(name)
    for _ in range(20):
        world.wait(0.5)
        scene.serve()
    (done,) = member.client.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TRACK_ENDED
    assert done.stream_count == 2
    member.expect("low", "mid")
    world.assert_empty()


def test_members_come_and_go(world: World) -> None:
    scene = Scene(world)
    members = [scene.member() for _ in range(3)]
    scene.publish(0)
    members[0].go(2)
    members[1].client.session.cancel(members[1].request_id)
    world.run()
    members[2].client.leave()
    world.wait(0.5)
    scene.publish(1)
    world.wait(0.5)
    members[0].expect("low", "high")
    assert len(members[1].streams) == 1
    world.assert_empty()


def test_it_may_be_given_up_while_it_looks_or_moves(world: World) -> None:
    scene = Scene(world)
    client = world.client()
    request_id = client.subscribe(AUTO)
    client.session.cancel(request_id)
    world.run()
    member = scene.member()
    member.choice.index = 2
    world.wait(0.25)
    assert member.auto.coming is not None
    member.client.session.cancel(member.request_id)
    world.run()
    scene.serve()
    world.assert_empty()


def test_a_wish_for_less_does_not_wait_for_one_for_more(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    member.go(1)
    scene.publish(0)
    world.wait(0.5)
    member.choice.index = 2
    world.wait(0.25)
    assert member.auto.coming is not None
    member.choice.index = 0
    world.wait(0.25)
    coming = member.auto.coming
    assert coming is None or coming.rendition.label == "low"
    scene.serve()
    world.wait(0.25)
    scene.publish(1)
    world.wait(0.5)
    assert member.renditions[1] == "low"


def test_priority_and_forwarding_can_be_changed_but_not_the_range(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    member.client.update(member.request_id, subscriber_priority=7)
    assert member.auto.current is not None
    assert member.auto.current.priority == 7
    member.get(1, 1)
    assert member.auto.current.priority == 7
    member.expect("low", "mid")
    member.client.update(member.request_id, filter=LocationFilter(FilterKind.NEXT_GROUP))
    (done,) = member.client.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.UPDATE_FAILED
    world.assert_empty()


def test_a_range_ends_where_it_was_to_end(world: World) -> None:
    scene = Scene(world)
    wanted = LocationFilter(FilterKind.ABSOLUTE, Location(1, 0), end_group=3)
    member = scene.member(filter=wanted)
    scene.publish(0)
    scene.publish(1)
    member.go(1)
    world.wait(0.5)
    for group in (2, 3, 4):
        scene.publish(group)
        world.wait(0.5)
    member.expect("low", "mid", "mid", first=1)


def test_the_catalog_may_change(world: World) -> None:
    scene = Scene(world, listed=catalog("low", "mid"))
    member = scene.member()
    member.go(1)
    scene.publish(0)
    world.wait(0.5)
    scene.tell(catalog("low", "high"))
    assert [each.label for each in member.auto.ladder] == ["low", "high"]
    member.auto.adapter = member.choice  # type: ignore[assignment]
    member.get(1, 1)
    assert member.renditions[1] == "high"
    scene.tell(b"nonsense")
    scene.publish(2)
    world.wait(0.5)
    assert member.renditions[2] == "high"
    world.assert_empty()


def test_a_track_of_that_name_that_somebody_publishes_is_his(world: World) -> None:
    publisher = world.publisher()
    publisher.session.publish(AUTO, 5, ms.Parameters(), b"")
    world.run()
    client = world.client()
    request_id = client.subscribe(AUTO)
    assert isinstance(client.answer(request_id), ms.SubscribeOk)
    publisher.group(0, 2, alias=5)
    assert client.ids == [(0, 0), (0, 1)]


def test_who_may_not_watch_a_rendition_does_not_get_it() -> None:
    rule = PolicyRule((b"secret",), subscribe=(b"password",))
    world = World(RelayOptions(policy=(rule,)))
    listed = catalog("low").replace(b'"name":"low"', b'"name":"low","namespace":"secret"')
    scene = Scene(world, listed=listed)
    member = scene.member()
    assert member.error.code == RequestErrorCode.UNAUTHORIZED
    world.assert_empty()


def test_a_joining_fetch_reads_the_rendition_that_it_began_with() -> None:
    world = World()
    scene = Scene(world)
    scene.member()
    streams = scene.begin(0)
    scene.write(streams, 0)
    late = scene.member(filter=LocationFilter(FilterKind.NEXT_OBJECT))
    fetch_id = late.client.joining_fetch(late.request_id)
    assert late.client.fetched(fetch_id).objects == [(0, 0, payload("low", 0, 0))]


def test_its_state_is_shown(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    member.get(1, 2)
    session = next(s for s in world.relay.status()["sessions"] if s["subscriptions"])
    (shown,) = session["subscriptions"]
    assert shown["track"] == str(AUTO)
    assert shown["rendition"] == "high"
    assert shown["switches"] == 1
    assert shown["streams"] == 2
    peer = world.relay._peers[member.client.relay_session]
    assert peer.is_adapting
    member.go(0)
    world.wait(0.5)
    assert not peer.is_adapting


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_every_group_comes_once(seed: int) -> None:
    """A model: renditions are wished for at any time, the kernel takes or refuses what it likes,
    groups of different renditions begin at different moments."""
    chance = random.Random(seed)
    world = FastWorld()
    scene = Scene(world)
    members = [scene.member() for _ in range(3)]
    others = [world.client() for _ in range(2)]
    for other, name in zip(others, ("low", "high"), strict=True):
        other.subscribe(FullTrackName(LIVE, name.encode()))
        scene.serve()
    outcomes = [Outcome.SENT] * 6 + [Outcome.NO_STREAM, Outcome.NO_WINDOW, Outcome.BUSY]
    world.kernel.outcome = lambda *_: chance.choice(outcomes)
    world.kernel.takes = lambda *_: chance.random() < 0.9
    last = 40
    for group in range(last):
        waiting = [(name, number) for name in NAMES for number in range(OBJECTS + 1)]
        streams: dict[str, Sending] = {}
        while waiting:
            name = chance.choice(waiting)[0]
            number = next(n for each, n in waiting if each == name)
            waiting.remove((name, number))
            if number == 0 and name in scene.requests:
                streams |= scene.begin(group, name)
            if name in streams and number < OBJECTS:
                scene.write({name: streams[name]}, number)
            elif name in streams:
                streams[name].close()
            happens = chance.random()
            if happens < 0.15:
                chance.choice(members).choice.index = chance.randrange(3)
            elif happens < 0.3:
                world.wait(chance.choice((0.05, 0.25)))
                scene.serve()
            elif happens < 0.4:
                world.tick()
            elif happens < 0.45:
                world.kernel.late = not world.kernel.late
                world.kernel.run_clones()
    world.kernel.late = False
    world.kernel.outcome = lambda *_: Outcome.SENT
    world.kernel.run_clones()
    for _ in range(4):
        world.tick()
        world.wait(1.0)
        scene.serve()
    for group in range(last, last + 3):
        scene.publish(group)
        world.tick()
        world.wait(0.5)
    for member in members:
        found = member.renditions
        assert sorted(found) == list(range(last + 3))
    assert sum(world.relay.counters.rendition_switches.values()) >= 6
    world.assert_empty()


def test_datagrams_are_of_one_rendition_for_each_group(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    sent: list[tuple[int, bytes]] = []
    for group, index in enumerate((0, 0, 2, 2, 0)):
        member.go(index)
        world.wait(0.5)
        for name in NAMES:
            if name in scene.requests:
                scene.publisher.alias = scene.alias(name)
                scene.publisher.datagram(group, 0, payload(name, group, 0))
        scene.newest = Location(group, 0)
        if isinstance(world, FastWorld):
            world.tick()
    world.wait(0.5)
    sent = [(d.location.group, d.payload) for d in member.client.datagrams]
    assert {d.track_alias for d in member.client.datagrams} == {member.alias}
    assert [group for group, _ in sent] == list(range(5))
    assert [data.split()[0] for _, data in sent] == [b"low", b"low", b"high", b"high", b"low"]
    world.assert_empty()


def test_a_publisher_that_begins_anew_is_followed(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    for group in (50, 51):
        scene.publish(group)
    scene.publisher.leave()
    again = Scene(world)
    again.serve()
    again.serve()
    assert "low" in again.asked
    for group in (0, 1):
        again.publish(group)
    world.wait(0.5)
    assert sorted(member.renditions) == [0, 1, 50, 51]
    member.scene = again
    member.go(1)
    world.wait(0.5)
    again.publish(2)
    world.wait(0.5)
    assert member.renditions[2] == "mid"
    world.assert_empty()


def test_what_else_the_session_gets_is_known(world: World) -> None:
    scene = Scene(world)
    member = scene.member()
    member.client.subscribe(FullTrackName(LIVE, b"high"))
    scene.serve()
    seen = []
    member.choice.look = lambda sample: seen.append(sample) or 0  # type: ignore[method-assign]
    for group in range(4):
        scene.publish(group)
        world.wait(1.25)
    assert not seen[0].other
    assert seen[-1].other > 0
    assert seen[-1].cap is None


def test_a_relay_that_is_full_says_so() -> None:
    world = World(RelayOptions(limits=Limits(tracks=1)))
    client = world.client()
    answer = client.answer(client.subscribe(AUTO))
    assert isinstance(answer, ms.RequestError)
    assert answer.code == RequestErrorCode.EXCESSIVE_LOAD
    world.wait(1)
    roomy = World(RelayOptions(limits=Limits(tracks=2)))
    scene = Scene(roomy)
    member = scene.member()
    scene.publish(0)
    member.go(1)
    roomy.wait(0.5)
    scene.publish(1)
    assert isinstance(member.client.answer(member.request_id), ms.SubscribeOk)
    member.expect("low", "low")
    roomy.assert_empty()


def test_who_reads_nothing_is_given_up_with_all_renditions() -> None:
    limits = Limits(bytes_behind=3000, stalled_seconds=1.0)
    world = World(RelayOptions(limits=limits, high_water_bytes=100))
    scene = Scene(world)
    member = scene.member()
    scene.publish(0)
    member.client.stall(0)
    for group in range(1, 60):
        scene.publish(group)
        world.wait(0.25)
    member.client.resume()
    (done,) = member.client.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TOO_FAR_BEHIND
    assert member.auto.is_over
    world.assert_empty()
