"""Who is asked for a track: several publishers, publishers that go and come back, PUBLISH."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.keyvalue import encode as encode_pairs
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.moqt.objects import encode_object
from fastrelay.relay.options import RelayOptions
from unit.relay.harness import TRACK, World, expect

DRAFTS = [DRAFT_16, DRAFT_18, DRAFT_22]
VARINTS = DRAFT_18.varints
DYNAMIC = encode_pairs([(0x30, 1)], VARINTS)


def publish(publisher, alias=7, track=TRACK, **parameters):
    properties = parameters.pop("properties", b"")
    request_id = publisher.session.publish(track, alias, Parameters(**parameters), properties)
    publisher.alias = alias
    publisher.world.run()
    return request_id


def test_nobody_publishes():
    world = World()
    viewer = world.client()
    answer = viewer.answer(viewer.subscribe())
    assert answer.code == RequestErrorCode.DOES_NOT_EXIST
    assert world.relay.counters.requests_rejected == {"DOES_NOT_EXIST": 1}
    world.assert_empty()


def test_rendezvous_waits_for_a_publisher():
    world = World()
    viewer = world.client()
    request_id = viewer.subscribe(rendezvous_timeout=5000)
    world.wait(3)
    assert not viewer.answered(request_id)
    publisher = world.publisher()
    publisher.announce(b"live")
    publisher.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    world.assert_empty()


def test_rendezvous_times_out():
    world = World(RelayOptions(max_rendezvous_seconds=2))
    viewer = world.client()
    request_id = viewer.subscribe(rendezvous_timeout=60_000)
    world.wait(2.5)
    assert viewer.answer(request_id).code == RequestErrorCode.TIMEOUT
    world.assert_empty()


def test_a_publish_meets_a_held_subscribe():
    world = World()
    viewer = world.client()
    viewer.session.subscribe_tracks((b"live",))
    request_id = viewer.subscribe(rendezvous_timeout=5000)
    publisher = world.publisher()
    publish(publisher)
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    assert viewer.requests(ms.Publish) == []
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))


def test_a_refusal_is_passed_on():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    (request,) = publisher.requests(ms.Subscribe)
    publisher.session.reject(request.request_id, RequestErrorCode.UNAUTHORIZED, "no")
    world.run()
    assert viewer.answer(request_id).code == RequestErrorCode.UNAUTHORIZED
    world.assert_empty()


def test_a_publisher_that_does_not_answer():
    world = World(RelayOptions(upstream_timeout_seconds=3))
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    world.wait(4)
    assert viewer.answer(request_id).code == RequestErrorCode.TIMEOUT
    assert publisher.relay_feeds() == []


def test_a_prefix_matches_field_by_field():
    world = World()
    one, two, three = (world.publisher() for _ in range(3))
    one.announce(b"li")
    two.announce(b"live")
    three.announce(b"live", b"demo", b"more")
    world.client().subscribe()
    assert len(two.requests(ms.Subscribe)) == 1
    assert one.requests(ms.Subscribe) == three.requests(ms.Subscribe) == []


def test_a_publisher_may_subscribe_to_its_own_track():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    request_id = publisher.subscribe()
    publisher.accept()
    assert isinstance(publisher.answer(request_id), ms.SubscribeOk)
    publisher.group(0, 2)
    assert publisher.objects == expect((0, 0), (0, 1))


# Several publishers of one track


def pair(first=DRAFT_18, second=DRAFT_18):
    world = World()
    publishers = [world.publisher(first), world.publisher(second)]
    for publisher in publishers:
        publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    for publisher in publishers:
        publisher.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    return world, *publishers, viewer


@pytest.mark.parametrize("second", DRAFTS, ids=str)
def test_objects_of_two_publishers_are_delivered_once(second):
    world, one, two, viewer = pair(DRAFT_18, second)
    for group in range(2):
        streams = [one.open(group), two.open(group)]
        for object_id in range(4):
            for stream in streams if object_id % 2 else streams[::-1]:
                stream.write(object_id)
        for stream in streams:
            stream.close()
    assert viewer.objects == expect(*[(g, i) for g in range(2) for i in range(4)])
    assert len(viewer.streams) == 2
    assert all(s.fin for s in viewer.streams.values())
    for publisher in (one, two):
        publisher.datagram(2, 0)
    assert len(viewer.datagrams) == 1
    world.assert_empty()


def test_when_one_publisher_dies_the_other_goes_on_in_the_same_stream():
    _world, one, two, viewer = pair()
    first, second = one.open(0), two.open(0)
    first.write(0)
    second.write(0)
    half = first.encode(1, b"0123456789")
    first.raw(half[:6])
    one.leave()
    second.write(1, b"0123456789")
    second.write(2)
    second.close()
    (stream,) = viewer.streams.values()
    assert stream.objects == [*expect((0, 0)), (0, 1, b"0123456789"), *expect((0, 2))]
    assert stream.fin


def test_a_publisher_that_joins_later_continues():
    _world, one, two, viewer = pair()
    first = one.open(0)
    first.write(0)
    first.write(1)
    second = two.open(0, first_object=False)
    second.write(1)
    first.reset()
    second.write(2)
    second.close()
    assert viewer.objects == expect((0, 0), (0, 1), (0, 2))
    assert len(viewer.streams) == 1


def test_a_gap_between_publishers_begins_a_new_stream():
    _world, one, two, viewer = pair()
    first = one.open(0)
    first.write(0)
    second = two.open(0, first_object=False)
    second.write(0)
    first.reset()
    second.raw(encode_object(3, 0, 2, VARINTS) + b"33")
    assert viewer.ids == [(0, 0), (0, 3)]
    third = two.open(1, first_object=False)
    third.write(5)
    fourth = one.open(1, first_object=False)
    third.reset()
    fourth.write(9)
    assert (1, 9) in viewer.ids


@pytest.mark.parametrize("lie", [b"a lie", b"a longer lie"])
def test_the_same_object_with_two_payloads_is_malformed(lie):
    world, one, two, viewer = pair()
    one.open(0).write(0, b"truth")
    two.open(0).write(0, lie)
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.MALFORMED_TRACK
    assert world.relay.cache.total == 0
    world.assert_empty()


# Gone and back


def test_subscribers_keep_going_when_the_publisher_comes_back():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    publisher.group(0, 2)
    open_stream = publisher.open(1)
    open_stream.write(0)
    publisher.leave()
    assert [s.reset is not None for s in viewer.streams.values()] == [False, True]
    world.wait(3)
    again = world.publisher()
    again.announce(b"live")
    again.accept(largest=(1, 0), alias=33)
    again.group(2, 2)
    assert viewer.ids == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert viewer.notifications(ms.PublishDone) == []
    assert {s.header.track_alias for s in viewer.streams.values()} == {7}
    world.assert_empty()


def test_a_publisher_that_stays_away_ends_the_subscriptions():
    world = World(RelayOptions(orphan_seconds=4))
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    publisher.group(0, 2)
    publisher.leave()
    world.wait(5)
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TRACK_ENDED
    assert done.stream_count == 1
    world.assert_empty()


def test_going_away_is_not_the_end_of_the_track():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.GOING_AWAY, 0, "")
    )
    world.run()
    assert viewer.notifications(ms.PublishDone) == []
    again = world.publisher()
    again.announce(b"live")
    again.accept()
    again.group(0, 1)
    assert viewer.ids == [(0, 0)]


def test_a_second_publisher_is_subscribed_to_while_the_first_lives():
    world = World()
    one = world.publisher()
    one.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    one.accept()
    two = world.publisher()
    two.announce(b"live", b"demo")
    two.accept()
    one.leave()
    two.group(0, 1)
    assert viewer.ids == [(0, 0)]


# PUBLISH


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_a_pushed_track_is_served(draft):
    world = World()
    publisher = world.publisher(draft)
    request_id = publish(publisher)
    assert isinstance(publisher.answer(request_id), ms.RequestOk)
    publisher.group(0, 1)
    viewer = world.client()
    answer = viewer.answer(viewer.subscribe())
    assert answer.parameters.largest_object == (0, 0)
    assert answer.track_alias == 7
    publisher.group(1, 1)
    assert viewer.ids == [(0, 0), (1, 0)]
    publisher.session.notify(request_id, ms.PublishDone(request_id, 2, 2, ""))
    world.run()
    assert len(viewer.notifications(ms.PublishDone)) == 1
    world.assert_empty()


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_forward_0_of_a_push_changes_when_somebody_listens(draft):
    world = World()
    publisher = world.publisher(draft)
    request_id = publish(publisher, forward=False)
    told = publisher.answer(request_id).parameters.forward
    assert told is (False if draft.publish_ok_parameters else None)
    viewer = world.client()
    subscription = viewer.subscribe()
    (update,) = publisher.take(ev.RequestUpdated)
    assert update.parameters.forward is True
    publisher.session.respond_update(request_id, update.update_id)
    viewer.session.cancel(subscription)
    world.wait(6)
    (update,) = publisher.take(ev.RequestUpdated)
    assert update.parameters.forward is False


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_publish_goes_to_who_asked_for_all_tracks(draft):
    world = World()
    publisher = world.publisher()
    publish(publisher)
    viewer = world.client(draft)
    interest = viewer.session.subscribe_tracks((b"live",))
    world.run()
    assert isinstance(viewer.answer(interest), ms.RequestOk)
    (offer,) = viewer.requests(ms.Publish)
    assert (offer.track, offer.track_alias) == (TRACK, 7)
    publisher.group(0, 1)
    assert viewer.objects == []
    viewer.session.respond(ms.RequestOk(offer.request_id))
    world.run()
    assert viewer.objects == expect((0, 0))
    other = FullTrackName((b"live", b"two"), b"v")
    publish(publisher, 8, other)
    (offer,) = viewer.requests(ms.Publish)
    viewer.session.reject(offer.request_id, RequestErrorCode.UNINTERESTED, "no")
    world.run()
    assert publisher.requests(ms.Publish) == []
    viewer.session.cancel(interest)
    world.run()
    publish(publisher, 9, FullTrackName((b"live", b"three"), b"v"))
    assert viewer.requests(ms.Publish) == []
    world.assert_empty()


def test_a_track_is_not_offered_to_its_publisher():
    world = World()
    publisher = world.publisher()
    publisher.session.subscribe_tracks(())
    publish(publisher)
    assert publisher.requests(ms.Publish) == []


def test_publish_of_a_track_that_is_subscribed_to_already():
    world = World()
    one = world.publisher()
    one.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    one.accept()
    two = world.publisher()
    publish(two, 9)
    two.group(0, 1)
    one.group(0, 1)
    assert viewer.objects == expect((0, 0))


# Parameters and properties


def test_new_group_requests():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe(new_group_request=0)
    request = publisher.accept(properties=DYNAMIC)
    assert request.parameters.new_group_request == 0
    publisher.group(4, 1)
    viewer.update(request_id, new_group_request=3)
    assert publisher.take(ev.RequestUpdated) == []
    viewer.update(request_id, new_group_request=5)
    (update,) = publisher.take(ev.RequestUpdated)
    assert update.parameters.new_group_request == 5
    viewer.update(request_id, new_group_request=5)
    assert publisher.take(ev.RequestUpdated) == []
    publisher.group(5, 1)
    viewer.update(request_id, new_group_request=6)
    assert len(publisher.take(ev.RequestUpdated)) == 1


def test_new_group_request_to_a_track_that_cannot():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    world.client().subscribe(new_group_request=0)
    assert publisher.take(ev.RequestUpdated) == []


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_track_properties_are_forwarded(draft):
    world = World()
    publisher = world.publisher(DRAFT_18)
    publisher.announce(b"live")
    viewer = world.client(draft)
    request_id = viewer.subscribe()
    pairs = [(0x0E, 200), (0x100, 70), (0x201, b"unknown")]
    publisher.accept(properties=encode_pairs(pairs, VARINTS))
    assert viewer.answer(request_id).properties == encode_pairs(pairs, draft.varints)


def test_an_unknown_mandatory_property():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    publisher.accept(properties=encode_pairs([(0x4001, b"x")], VARINTS))
    assert viewer.answer(request_id).code == RequestErrorCode.UNSUPPORTED_EXTENSION
    assert publisher.relay_feeds() == []
    world.assert_empty()


def test_bad_track_properties_close_the_publisher_only():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept(properties=encode_pairs([(0x0E, 900)], VARINTS))
    assert publisher.closed.code == SessionError.PROTOCOL_VIOLATION
    assert viewer.closed is None
    world.assert_empty()


def test_max_cache_duration():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept(properties=encode_pairs([(0x04, 2000)], VARINTS))
    publisher.group(0, 1)
    stream = publisher.open(1)
    stream.write(0)
    world.wait(3)
    stream.write(1)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)))
    assert late.ids == [(1, 1)]


def test_expires_is_renewed():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept(expires=10_000)
    world.wait(7)
    assert publisher.take(ev.RequestUpdated) == []
    world.wait(2)
    (update,) = publisher.take(ev.RequestUpdated)
    (upstream,) = publisher.relay_feeds()
    publisher.session.respond_update(
        upstream, update.update_id, Parameters(expires=10_000, largest_object=Location(5, 5))
    )
    world.wait(9)
    assert len(publisher.take(ev.RequestUpdated)) == 1
    late = world.client()
    assert late.answer(late.subscribe()).parameters.largest_object == (5, 5)


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_track_status(draft):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client(draft)
    first = viewer.session.track_status(TRACK)
    world.run()
    (request,) = publisher.requests(ms.TrackStatus)
    publisher.session.respond(
        ms.RequestOk(request.request_id, Parameters(largest_object=Location(3, 4)), b"")
    )
    world.run()
    assert viewer.answer(first).parameters.largest_object == (3, 4)
    viewer.subscribe()
    publisher.accept(largest=(3, 9))
    second = viewer.session.track_status(TRACK)
    world.run()
    assert viewer.answer(second).parameters.largest_object == (3, 9)
    third = viewer.session.track_status(FullTrackName((b"x",), b"y"))
    world.run()
    assert viewer.answer(third).code == RequestErrorCode.DOES_NOT_EXIST
    world.assert_empty()


def test_track_status_refused_or_lost():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    ids = [
        viewer.session.track_status(FullTrackName((b"live",), name)) for name in (b"1", b"2", b"3")
    ]
    world.run()
    requests = publisher.requests(ms.TrackStatus)
    publisher.session.reject(requests[0].request_id, RequestErrorCode.UNAUTHORIZED, "no")
    viewer.session.cancel(ids[2])
    world.run()
    publisher.leave()
    assert viewer.answer(ids[0]).code == RequestErrorCode.UNAUTHORIZED
    assert viewer.answer(ids[1]).code == RequestErrorCode.DOES_NOT_EXIST
    assert not viewer.answered(ids[2])
    world.assert_empty()


def test_state_notify_raises_the_largest_object():
    world = World()
    publisher = world.publisher(DRAFT_22)
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishStateNotify(Parameters(largest_object=Location(8, 1)))
    )
    world.run()
    late = world.client()
    assert late.answer(late.subscribe()).parameters.largest_object == (8, 1)
