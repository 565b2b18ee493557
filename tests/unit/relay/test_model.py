"""Random lives of a relay, compared with what each subscriber should have got."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter, SubscribeOk
from fastrelay.moqt.names import Location
from fastrelay.relay.options import CacheOptions, Deviations, RelayOptions
from fastrelay.relay.window import Window, resolve
from unit.relay.harness import Client, Publisher, Sending, World, content

HIGH = 200
OPTIONS = RelayOptions(
    cache=CacheOptions(seconds=30),
    deviations=Deviations(replay_current_group=False),
    high_water_bytes=HIGH,
    orphan_seconds=20,
)
DRAFTS = st.sampled_from([DRAFT_16, DRAFT_18, DRAFT_22])
FILTERS = st.one_of(
    st.just(LocationFilter(FilterKind.NEXT_OBJECT)),
    st.just(LocationFilter(FilterKind.NEXT_GROUP)),
    st.builds(
        lambda g, o: LocationFilter(FilterKind.ABSOLUTE, Location(g, o)),
        st.integers(0, 6),
        st.integers(0, 3),
    ),
)
Key = tuple[int, int]


@dataclass
class Script:
    """A subgroup as it is published: each publisher that takes part has a stream of its own."""

    key: Key
    objects: list[int] = field(default_factory=list)
    streams: dict[int, Sending] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    """How many of the objects each publisher wrote."""
    closed: bool = False
    complete: bool = False
    """Some publisher brought all of it and ended its stream well."""


@dataclass
class Viewer:
    client: Client
    window: Window
    request_id: int
    declined: set[Key] = field(default_factory=set)


class RelayMachine(RuleBasedStateMachine):
    """One track, two publishers that send the same objects at their own pace."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.publishers: dict[int, Publisher] = {}
        self.scripts: dict[Key, Script] = {}
        self.viewers: list[Viewer] = []
        self.group = 0
        self.largest: Location | None = None
        self.keeper = self.world.client()
        self.join_publisher(0, DRAFT_18)
        self.keeper.subscribe(filter=LocationFilter(FilterKind.NEXT_OBJECT))
        self.publishers[0].accept()

    def make_world(self) -> World:
        return World(OPTIONS)

    def join_publisher(self, number: int, draft) -> None:
        publisher = self.world.publisher(draft)
        publisher.announce(b"live")
        self.publishers[number] = publisher

    # Publishers

    @precondition(lambda self: self.publishers)
    @rule(subgroup=st.integers(0, 1), new_group=st.booleans(), data=st.data())
    def open(self, subgroup, new_group, data) -> None:
        self.group += new_group
        key = (self.group, subgroup)
        if key not in self.scripts:
            self.scripts[key] = Script(key)
        number = data.draw(st.sampled_from(sorted(self.publishers)))
        script = self.scripts[key]
        if number not in script.streams and not script.closed:
            self.stream(script, number)

    def stream(self, script: Script, number: int) -> None:
        group, subgroup = script.key
        script.streams[number] = self.publishers[number].open(group, subgroup)
        script.written[number] = 0

    def active(self) -> list[tuple[Script, int]]:
        return [
            (script, number)
            for script in self.scripts.values()
            for number in script.streams
            if number in self.publishers
        ]

    @precondition(lambda self: self.active())
    @rule(data=st.data(), count=st.integers(1, 3), cut=st.integers(0, 20))
    def write(self, data, count, cut) -> None:
        script, number = data.draw(st.sampled_from(self.active()))
        group, subgroup = script.key
        for _ in range(count):
            index = script.written[number]
            if index == len(script.objects):
                if script.closed:
                    return
                last = script.objects[-1] if script.objects else subgroup - 2
                script.objects.append(last + 2)
            object_id = script.objects[index]
            raw = script.streams[number].encode(object_id, content(group, object_id))
            script.streams[number].raw(raw[:cut])
            script.streams[number].raw(raw[cut:])
            script.written[number] += 1
            place = Location(group, object_id)
            self.largest = place if self.largest is None else max(self.largest, place)

    @precondition(lambda self: self.active())
    @rule(data=st.data(), ok=st.booleans())
    def end(self, data, ok) -> None:
        script, number = data.draw(st.sampled_from(self.active()))
        if ok and script.written[number] < len(script.objects):
            return
        stream = script.streams.pop(number)
        if ok:
            script.closed = script.complete = True
            stream.close()
        else:
            stream.reset()

    @precondition(lambda self: len(self.publishers) < 2)
    @rule(draft=DRAFTS)
    def publisher_comes(self, draft) -> None:
        number = min({0, 1} - self.publishers.keys())
        self.join_publisher(number, draft)
        self.publishers[number].accept(largest=self.largest)

    @precondition(lambda self: self.publishers)
    @rule(data=st.data())
    def publisher_goes(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.publishers)))
        self.publishers.pop(number).leave()
        for script in self.scripts.values():
            script.streams.pop(number, None)
            script.written.pop(number, None)

    # Subscribers

    @precondition(lambda self: self.publishers and len(self.viewers) < 5)
    @rule(draft=DRAFTS, wanted=FILTERS)
    def viewer_comes(self, draft, wanted) -> None:
        client = self.world.client(draft)
        request_id = client.subscribe(filter=wanted)
        answer = client.answer(request_id)
        assert isinstance(answer, SubscribeOk)
        assert answer.parameters.largest_object == self.largest
        self.viewers.append(Viewer(client, resolve(wanted, self.largest), request_id))

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), politely=st.booleans())
    def viewer_goes(self, data, politely) -> None:
        viewer = data.draw(st.sampled_from(self.viewers))
        self.check(viewer)
        if politely:
            viewer.client.session.cancel(viewer.request_id)
            self.world.run()
        viewer.client.leave()
        self.viewers.remove(viewer)

    @precondition(lambda self: self.viewers)
    @rule(data=st.data())
    def viewer_is_slow(self, data) -> None:
        data.draw(st.sampled_from(self.viewers)).client.stall()

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), room=st.one_of(st.none(), st.integers(1, 500)))
    def viewer_takes_more(self, data, room) -> None:
        data.draw(st.sampled_from(self.viewers)).client.resume(room)

    @precondition(lambda self: any(v.client.streams for v in self.viewers))
    @rule(data=st.data())
    def viewer_stops_a_stream(self, data) -> None:
        viewer = data.draw(st.sampled_from([v for v in self.viewers if v.client.streams]))
        stream_id = data.draw(st.sampled_from(sorted(viewer.client.streams)))
        stream = viewer.client.streams[stream_id]
        if not stream.fin and stream.reset is None:
            subgroup = stream.items[0].subgroup_id if stream.items else stream.header.subgroup_id
            viewer.declined.add((stream.header.group_id, subgroup))
            viewer.client.session.stop(stream_id, StreamError.CANCELLED)
            self.world.run()

    @rule()
    def time_passes(self) -> None:
        self.world.wait(0.25)

    # What must be true

    @invariant()
    def nothing_is_doubled_or_out_of_place(self) -> None:
        for viewer in self.viewers:
            ids = viewer.client.ids
            assert len(ids) == len(set(ids))
            for group, object_id, payload in viewer.client.objects:
                assert payload == content(group, object_id)
                assert viewer.window.passes(Location(group, object_id))
            for stream in viewer.client.streams.values():
                in_stream = [o[1] for o in stream.objects]
                assert in_stream == sorted(in_stream)

    @invariant()
    def the_backlog_is_bounded(self) -> None:
        for viewer in self.viewers:
            assert viewer.client.relay_end.backlog <= HIGH + 16 * 1024

    def check(self, viewer: Viewer) -> None:
        """Let the subscriber catch up: all that it can have, it must have."""
        viewer.client.resume()
        got = set(viewer.client.ids)
        for key, script in self.scripts.items():
            if script.complete and key not in viewer.declined:
                for object_id in script.objects:
                    place = Location(key[0], object_id)
                    assert tuple(place) in got or not viewer.window.passes(place), (key, place)

    def teardown(self) -> None:
        for viewer in self.viewers:
            self.check(viewer)
        self.world.assert_empty()


TestRelayMachine = RelayMachine.TestCase
TestRelayMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
