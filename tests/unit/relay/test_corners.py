"""What happens seldom: odd fetches, streams that end badly, values that do not fit."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.fetches import NON_EXISTENT_RANGE, UNKNOWN_RANGE, FetchEncoder
from fastrelay.moqt.keyvalue import encode as encode_pairs
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import GroupOrder, Location, ObjectStatus
from fastrelay.relay.options import CacheOptions, Limits, RelayOptions
from unit.relay.harness import NEXT_OBJECT, TRACK, Publisher, World, content, expect

NEXT_GROUP = LocationFilter(FilterKind.NEXT_GROUP)
START = LocationFilter(FilterKind.ABSOLUTE, Location(0, 0))
HUGE = 1 << 63
"""Fits draft 18's integers, but not draft 16's."""


class Answer:
    """A publisher's fetch stream, object by object."""

    def __init__(self, publisher: Publisher, end=(9, None), *, answer: bool = True) -> None:
        (self.request,) = publisher.requests(ms.Fetch)
        self.publisher = publisher
        if answer:
            self.ok(end)
        descending = self.request.parameters.group_order is GroupOrder.DESCENDING
        self.encoder = FetchEncoder(publisher.draft, descending)
        self.stream_id = publisher.session.open_fetch(self.request.request_id)

    def ok(self, end) -> None:
        self.publisher.session.respond(ms.FetchOk(self.request.request_id, False, *end))
        self.publisher.world.run()

    def put(self, group, object_id, payload=None, *, subgroup=0, properties=None, datagram=False):
        payload = content(group, object_id) if payload is None else payload
        head = self.encoder.object(
            Location(group, object_id),
            subgroup,
            128,
            len(payload),
            properties,
            datagram=datagram,
        )
        self.raw(head + payload)

    def until(self, group, object_id, kind) -> None:
        self.raw(self.encoder.range_end(ev.FetchRange(Location(group, object_id), kind)))

    def raw(self, data: bytes, fin: bool = False) -> None:
        self.publisher.session.send(self.stream_id, data, fin)
        self.publisher.world.run()

    def close(self) -> None:
        self.raw(b"", True)


def track(draft=DRAFT_18, largest=None, **options):
    world = World(RelayOptions(**options))
    publisher = world.publisher(draft)
    publisher.announce(b"live")
    keeper = world.client()
    keeper.subscribe(filter=NEXT_GROUP)
    publisher.accept(largest=largest)
    return world, publisher, keeper


# Fetched objects


@pytest.mark.parametrize("source", [DRAFT_16, DRAFT_18], ids=str)
@pytest.mark.parametrize("target", [DRAFT_16, DRAFT_18], ids=str)
def test_fetched_datagrams_subgroups_and_properties(source, target):
    world, publisher, _ = track(source, largest=(3, 9))
    viewer = world.client(target)
    viewer.subscribe(filter=START)
    answer = Answer(publisher, (3, 9))
    properties = encode_pairs([(0x10, 300)], source.varints)
    answer.put(3, 0, properties=properties)
    answer.put(3, 1, subgroup=2)
    answer.put(3, 2, datagram=True, properties=properties)
    answer.put(3, 3)
    answer.close()
    assert viewer.objects == expect((3, 0), (3, 1), (3, 2), (3, 3))
    assert viewer.datagrams[0].properties == encode_pairs([(0x10, 300)], target.varints)
    items = [i for s in viewer.streams.values() for i in s.items if i.location == (3, 0)]
    assert items[0].properties == encode_pairs([(0x10, 300)], target.varints)
    late = world.client(target)
    request_id = late.fetch((3, 0), 3)
    assert late.fetched(request_id).objects == expect((3, 0), (3, 1), (3, 2), (3, 3))
    assert publisher.requests(ms.Fetch) == []
    world.assert_empty()


def test_a_datagram_that_came_meanwhile_is_not_doubled_by_the_fetch():
    world, publisher, _ = track(largest=(3, 0))
    viewer = world.client()
    viewer.subscribe(filter=START)
    publisher.datagram(3, 1)
    assert viewer.objects == []
    answer = Answer(publisher, (3, 0))
    answer.put(3, 0, datagram=True)
    answer.put(3, 1, datagram=True)
    answer.close()
    assert viewer.objects == expect((3, 0), (3, 1))


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_a_subgroup_gets_its_beginning_while_others_read_it(draft):
    """One reader has begun in the middle, one waits with nothing sent, one in mid-header."""
    world, publisher, _keeper = track(largest=(3, 1), high_water_bytes=10)
    middle, blocked = world.client(draft), world.client(draft)
    for viewer in (middle, blocked):
        viewer.subscribe(filter=NEXT_OBJECT)
    blocked.stall()
    other = publisher.open(5, 9)
    other.write(9, bytes(2000))
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    answer = Answer(publisher, (3, 1))
    answer.put(3, 0)
    answer.put(3, 1)
    answer.close()
    stream.write(3)
    stream.close()
    blocked.resume()
    for viewer in (middle, blocked):
        assert [o for o in viewer.ids if o[0] == 3] == [(3, 2), (3, 3)]
        assert all(s.fin for s in viewer.streams.values() if s.header.group_id == 3)
    late = world.client(draft)
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(3, 0)))
    assert late.objects[:4] == expect((3, 0), (3, 1), (3, 2), (3, 3))
    world.assert_empty()


def test_a_subgroup_without_objects_yet_gets_its_beginning():
    world, publisher, _ = track(largest=(3, 1))
    viewer = world.client()
    viewer.subscribe(filter=START)
    stream = publisher.open(3, 0, first_object=False)
    answer = Answer(publisher, (3, 1))
    answer.put(3, 0)
    answer.put(3, 1)
    answer.close()
    stream.write(2)
    stream.close()
    assert viewer.objects == expect((3, 0), (3, 1), (3, 2))
    assert all(s.fin for s in viewer.streams.values())


def test_fetched_properties_that_a_stream_has_no_place_for():
    world, publisher, _ = track(largest=(3, 0))
    viewer = world.client()
    viewer.subscribe(filter=START)
    stream = publisher.open(3, 0, first_object=False)
    stream.write(1)
    answer = Answer(publisher, (3, 0))
    answer.put(3, 0, properties=encode_pairs([(2, 5)], DRAFT_18.varints))
    answer.close()
    stream.write(2)
    assert viewer.ids == [(3, 1), (3, 2)]


def test_live_properties_that_a_fetched_beginning_has_no_place_for():
    world, publisher, _ = track(largest=(3, 0))
    viewer = world.client()
    viewer.subscribe(filter=START)
    answer = Answer(publisher, (3, 0))
    answer.put(3, 0)
    answer.close()
    stream = publisher.open(3, 0, first_object=False, properties=True)
    stream.write(1, properties=encode_pairs([(2, 5)], DRAFT_18.varints))
    assert viewer.ids == [(3, 0), (3, 1)]


def test_unknown_ranges_of_the_publisher_are_passed_on():
    world, publisher, _ = track(largest=(9, 0))
    viewer = world.client()
    request_id = viewer.fetch((2, 0), 5)
    answer = Answer(publisher, (5, None))
    answer.until(2, 7, UNKNOWN_RANGE)
    answer.put(3, 0)
    answer.until(3, 5, NON_EXISTENT_RANGE)
    answer.until(4, 5, UNKNOWN_RANGE)
    answer.put(5, 0)
    answer.until(5, 3, UNKNOWN_RANGE)
    answer.close()
    stream = viewer.fetched(request_id)
    kinds = [i.kind if isinstance(i, ev.FetchRange) else tuple(i.location) for i in stream.items]
    assert kinds == [UNKNOWN_RANGE, (3, 0), UNKNOWN_RANGE, (5, 0), UNKNOWN_RANGE]
    again = viewer.fetch((3, 0), 5)
    assert len(publisher.requests(ms.Fetch)) == 1
    assert not any(s.request_id == again and s.fin for s in viewer.streams.values())


def test_the_answer_may_come_after_the_objects():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 3)
    answer = Answer(publisher, answer=False)
    answer.put(1, 0)
    answer.close()
    assert not viewer.answered(request_id)
    answer.ok((1, 0))
    assert viewer.answer(request_id).end_group == 1
    assert viewer.fetched(request_id).objects == expect((1, 0))
    world.assert_empty()


@pytest.mark.parametrize("how", ["reset", "leave", "reject"])
def test_a_fetch_from_upstream_that_breaks_off(how):
    world, publisher, _ = track(largest=(4, 0))
    publisher.group(5, 2)
    viewer = world.client()
    request_id = viewer.fetch((3, 0), 5)
    if how == "reject":
        (request,) = publisher.requests(ms.Fetch)
        publisher.session.reject(request.request_id, RequestErrorCode.INTERNAL_ERROR, "no")
        world.run()
    else:
        answer = Answer(publisher, (4, 0))
        answer.put(3, 0)
        if how == "reset":
            publisher.session.reset(answer.stream_id, StreamError.INTERNAL_ERROR)
            world.run()
        else:
            publisher.leave()
    stream = viewer.fetched(request_id)
    assert stream.fin
    assert any(isinstance(i, ev.FetchRange) for i in stream.items)
    assert stream.objects[-2:] == expect((5, 0), (5, 1))
    world.assert_empty()


def test_a_fetch_of_an_unknown_track_whose_publisher_leaves():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 3)
    publisher.leave()
    assert isinstance(viewer.answer(request_id), ms.RequestError)
    world.assert_empty()


def test_a_malformed_fetch_stream():
    world, publisher, keeper = track(largest=(4, 0))
    viewer = world.client()
    request_id = viewer.fetch((3, 0), 4)
    answer = Answer(publisher, (4, 0))
    answer.put(3, 5)
    world.relay.on_event(publisher.relay_session, ev.TrackMalformed(answer.stream_id, "test"))
    world.run()
    assert viewer.fetched(request_id).reset == StreamError.MALFORMED_TRACK
    (done,) = keeper.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.MALFORMED_TRACK
    world.assert_empty()


def test_no_marker_for_what_a_fill_brings():
    world, publisher, _ = track(largest=(4, 0))
    viewer = world.client()
    request_id = viewer.fetch((1, 0), 4)
    answer = Answer(publisher, (4, 0))
    for group in range(1, 5):
        answer.put(group, 0)
    answer.close()
    stream = viewer.fetched(request_id)
    assert [tuple(i.location) for i in stream.items] == [(g, 0) for g in range(1, 5)]


def test_fetch_without_a_publisher():
    world, publisher, _ = track()
    publisher.group(0, 2)
    publisher.group(1, 2)
    stream = publisher.open(2)
    stream.write(0)
    publisher.leave()
    viewer = world.client()
    whole = viewer.fetch((0, 0), 9)
    assert viewer.answer(whole).end_group == 2
    assert viewer.fetched(whole).objects == expect((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))
    assert viewer.answer(viewer.fetch((7, 0), 9)).code == RequestErrorCode.INVALID_RANGE
    world.assert_empty()


def test_fetch_times_out_before_any_answer():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 3, fill_timeout=500)
    none = viewer.fetch((0, 0), 3, fill_timeout=0)
    assert viewer.answer(none).code == RequestErrorCode.DOES_NOT_EXIST
    world.wait(1)
    assert viewer.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST
    assert len(publisher.take(ev.RequestCancelled)) == 1
    world.assert_empty()


def test_descending_fetch_through_a_fill():
    world, publisher, _ = track(largest=(4, 0))
    publisher.group(5, 1)
    viewer = world.client()
    request_id = viewer.fetch((3, 0), 5, group_order=GroupOrder.DESCENDING)
    assert viewer.fetched(request_id).objects == expect((5, 0))
    answer = Answer(publisher, (4, 0))
    answer.put(4, 0)
    answer.put(3, 0)
    assert viewer.fetched(request_id).objects == expect((5, 0), (4, 0))
    answer.close()
    assert viewer.fetched(request_id).objects == expect((5, 0), (4, 0), (3, 0))


def test_two_fetches_share_one_from_upstream():
    world, publisher, _ = track(largest=(4, 0))
    one, two = world.client(), world.client(DRAFT_16)
    ids = one.fetch((3, 0), 4), two.fetch((3, 0), 4)
    answer = Answer(publisher, (4, 0))
    one.session.cancel(ids[0])
    world.run()
    answer.put(3, 0)
    answer.close()
    assert two.fetched(ids[1]).objects == expect((3, 0))
    world.assert_empty()


def test_fetch_of_a_track_that_turns_out_malformed():
    world, publisher, _ = track(largest=(4, 0))
    viewer = world.client()
    known = viewer.fetch((3, 0), 4)
    assert viewer.answered(known)
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.MALFORMED_TRACK, 0, "")
    )
    world.run()
    assert viewer.fetched(known).reset == StreamError.MALFORMED_TRACK
    other = World()
    source = other.publisher()
    source.announce(b"live")
    asking = other.client()
    unknown = asking.fetch((0, 0), 1)
    (track_,) = other.relay.tracks.values()
    track_.malformed("a test says so")
    other.run()
    assert asking.answer(unknown).code == RequestErrorCode.MALFORMED_TRACK
    other.assert_empty()
    world.assert_empty()


def test_a_fetch_can_be_updated():
    world, _publisher, _ = track(largest=(4, 0))
    viewer = world.client()
    request_id = viewer.fetch((3, 0), 4)
    viewer.update(request_id, subscriber_priority=7)
    (answered,) = viewer.take(ev.UpdateAnswered)
    assert isinstance(answered.answer, ms.RequestOk)


def test_objects_with_a_status_are_not_fetched():
    world, publisher, _ = track()
    stream = publisher.open(0)
    stream.write(0)
    stream.write(1, status=ObjectStatus.END_OF_TRACK)
    stream.close()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 0)
    assert viewer.answer(request_id).end_of_track
    assert viewer.fetched(request_id).objects == expect((0, 0))


# Values that do not fit draft 16


def test_what_does_not_fit_a_draft_is_left_out_for_it():
    world, publisher, _ = track()
    old, new = world.client(DRAFT_16), world.client(DRAFT_22)
    for viewer in (old, new):
        viewer.subscribe()
    stream = publisher.open(0)
    stream.write(0)
    stream.write(HUGE)
    stream.close()
    late = world.client(DRAFT_16)
    late.subscribe(filter=START)
    assert new.ids == [(0, 0), (0, HUGE)]
    (received,) = old.streams.values()
    assert received.reset == StreamError.INTERNAL_ERROR
    assert late.objects == []
    fetched = world.client(DRAFT_16)
    request_id = fetched.fetch((0, 0), 0, 5)
    assert fetched.fetched(request_id).reset == StreamError.INTERNAL_ERROR
    publisher.datagram(1, HUGE)
    assert ("draft", "datagram") in world.observer.drops
    world.assert_empty()


def test_a_datagram_that_does_not_fit_a_fetch():
    world, publisher, _ = track()
    publisher.datagram(1, HUGE)
    viewer = world.client(DRAFT_16)
    request_id = viewer.fetch((1, 0), 1)
    assert viewer.closed is None
    assert request_id is not None


# Streams that end badly


def test_malformed_streams_end_the_track():
    world, publisher, keeper = track()
    stream = publisher.open(0)
    stream.write(0)
    stream.raw(b"\x00\x00\x03x")
    if keeper.notifications(ms.PublishDone) == []:
        (peer,) = [p for p in world.relay.peers if p.session is publisher.relay_session]
        world.relay.on_event(peer.session, ev.TrackMalformed(stream.stream_id, "test"))
        world.run()
    world.assert_empty()


def test_malformed_datagrams_end_the_track():
    world, publisher, keeper = track()
    world.relay.on_event(publisher.relay_session, ev.TrackMalformed(None, "test", 7))
    world.relay.on_event(publisher.relay_session, ev.TrackMalformed(None, "test", 99))
    world.run()
    (done,) = keeper.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.MALFORMED_TRACK
    world.assert_empty()


def test_early_data_is_bounded():
    world = World(RelayOptions(limits=Limits(unknown_alias_bytes=1000)))
    publisher = world.publisher()
    stream = publisher.open(0, alias=50)
    stream.write(0, bytes(900))
    stream.write(1, bytes(900))
    assert len(publisher.take(ev.DataStreamStopped)) == 1
    other = publisher.open(1, alias=51)
    other.reset()
    publisher.datagram(0, 0, bytes(900))
    world.wait(5)
    assert all(p.early_bytes == 0 for p in world.relay.peers)
    world.assert_empty()


def test_a_reset_of_an_early_stream_is_remembered():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    stream = publisher.open(0)
    stream.write(0)
    stream.reset()
    publisher.accept()
    assert [s.reset is not None for s in viewer.streams.values()] in ([], [True])


def test_data_for_a_group_that_was_forgotten():
    world, publisher, _ = track(cache=CacheOptions(seconds=2))
    viewer = world.client()
    viewer.subscribe()
    publisher.group(0, 1)
    publisher.group(1, 1)
    world.wait(5)
    publisher.group(2, 1)
    publisher.group(0, 1, subgroup=1)
    publisher.datagram(0, 9)
    assert viewer.ids == [(0, 0), (1, 0), (2, 0)]


def test_streams_of_a_group_too_large_for_the_cache():
    world, publisher, _ = track(cache=CacheOptions(bytes=2000))
    viewer = world.client()
    viewer.subscribe()
    for subgroup in range(5):
        stream = publisher.open(0, subgroup)
        stream.write(subgroup, bytes(1500))
        stream.close()
    assert len(viewer.objects) == 5
    assert world.relay.cache.total <= 2000
    world.assert_empty()


def test_a_slow_reader_of_an_evicted_group():
    world, publisher, _ = track(cache=CacheOptions(bytes=5000), high_water_bytes=1000)
    viewer = world.client()
    viewer.subscribe()
    fetching = world.client()
    viewer.stall()
    fetching.stall()
    stream = publisher.open(0)
    stream.write(0, bytes(2000))
    request_id = fetching.fetch((0, 0), 0)
    for object_id in range(1, 10):
        stream.write(object_id, bytes(2000))
    stream.close()
    viewer.resume()
    fetching.resume()
    assert len(viewer.objects) == 10
    assert fetching.fetched(request_id).objects == [(0, 0, bytes(2000))]
    world.assert_empty()


def test_an_update_of_a_waiting_subscription():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    viewer.update(request_id, subscriber_priority=3)
    publisher.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)


def test_a_viewer_that_leaves_while_waiting():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe(rendezvous_timeout=1000)
    viewer.session.cancel(request_id)
    world.run()
    other = world.client()
    other.subscribe()
    other.leave()
    world.assert_empty()


def test_a_publisher_that_withdraws_one_track():
    world = World()
    publisher = world.publisher()
    request_id = publisher.session.publish(TRACK, 7)
    world.run()
    viewer = world.client()
    viewer.subscribe()
    assert publisher.answered(request_id)
    publisher.session.update(request_id, Parameters())
    world.run()
    assert isinstance(publisher.take(ev.UpdateAnswered)[0].answer, ms.RequestOk)
    publisher.leave()
    world.wait(15)
    assert len(viewer.notifications(ms.PublishDone)) == 1
    world.assert_empty()


def test_track_properties_that_a_draft_cannot_hold():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept(properties=encode_pairs([(0x100, HUGE)], DRAFT_18.varints))
    publisher.group(0, 1)
    old = world.client(DRAFT_16)
    ids = [
        old.subscribe(),
        old.session.track_status(TRACK),
        old.fetch((0, 0), 0),
    ]
    world.run()
    assert {old.answer(i).code for i in ids} == {RequestErrorCode.NOT_SUPPORTED}
    pushed = world.publisher()
    name = ms.FullTrackName((b"x",), b"y")
    properties = encode_pairs([(0x100, HUGE)], DRAFT_18.varints)
    pushed.session.publish(name, 1, Parameters(), properties)
    old.session.subscribe_tracks((b"x",))
    world.run()
    assert old.requests(ms.Publish) == []
    assert old.closed is None


def test_a_status_that_a_draft_cannot_hold():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    old = world.client(DRAFT_16)
    first = old.session.track_status(TRACK)
    world.run()
    (request,) = publisher.requests(ms.TrackStatus)
    told = Parameters(largest_object=Location(HUGE, 1))
    properties = encode_pairs([(0x100, HUGE)], DRAFT_18.varints)
    publisher.session.respond(ms.RequestOk(request.request_id, told, properties))
    world.run()
    assert old.answer(first).code == RequestErrorCode.NOT_SUPPORTED
    second = old.session.track_status(TRACK)
    world.run()
    (request,) = publisher.requests(ms.TrackStatus)
    publisher.session.respond(ms.RequestOk(request.request_id, told))
    world.run()
    assert old.answer(second).parameters.largest_object == ((1 << 62) - 1, 1)


def test_a_fetch_that_an_upstream_cannot_be_asked_for():
    world = World()
    publisher = world.publisher(DRAFT_16)
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((HUGE, 0), HUGE)
    assert viewer.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST
    world.client().subscribe(new_group_request=HUGE)
    request = publisher.accept(properties=encode_pairs([(0x30, 1)], DRAFT_16.varints))
    assert request.parameters.new_group_request is None
    world.client().subscribe(new_group_request=HUGE)
    assert publisher.take(ev.RequestUpdated) == []


def test_a_range_that_ends_before_it_begins():
    world, publisher, _ = track(largest=(9, 0))
    (peer,) = [p for p in world.relay.peers if p.session is publisher.relay_session]
    viewer = world.client(DRAFT_16)
    request = ms.Fetch(
        90, ms.FetchKind.STANDALONE, TRACK, Location(5, 0), end_group=4, end_object=None
    )
    rejected = []
    viewer.relay_session.reject = lambda *args: rejected.append(args[1])
    world.relay.on_event(viewer.relay_session, ev.RequestReceived(request))
    assert rejected == [RequestErrorCode.INVALID_RANGE]
    assert peer.fetches == 0


def test_a_status_request_whose_publisher_ends_it():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.session.track_status(TRACK)
    world.run()
    (handle,) = [
        i
        for p in world.relay.peers
        if p.session is publisher.relay_session
        for i, h in p.handles.items()
        if type(h).__name__ == "_Asked"
    ]
    world.relay.on_event(publisher.relay_session, ev.RequestEnded(handle, 1))
    world.run()
    assert viewer.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST


def test_a_fetch_stream_nobody_asked_for_is_stopped():
    world, publisher, _ = track()
    stopped = []
    publisher.relay_session.stop = lambda *args: stopped.append(args[0])
    world.relay.on_event(publisher.relay_session, ev.FetchOpened(40, 400))
    assert stopped == [40]


def test_going_back_and_forth_of_timeouts_keeps_the_count_of_what_waits():
    world, publisher, _ = track(high_water_bytes=1000)
    viewer = world.client()
    request_id = viewer.subscribe()
    viewer.stall()
    publisher.open(0).write(0, bytes(1500))
    publisher.open(1).write(0, bytes(1500))
    publisher.datagram(1, 7)
    viewer.update(request_id, forward=False)
    (peer,) = [p for p in world.relay.peers if p.session is viewer.relay_session]
    (subscription,) = peer.subscriptions.values()
    assert subscription.lane.behind == 0
    assert subscription.cursors == {}
    viewer.resume()
    viewer.update(request_id, forward=True)
    publisher.group(2, 1)
    assert viewer.ids[-1] == (2, 0)
    world.assert_empty()
