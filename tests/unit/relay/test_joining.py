"""Where a subscription begins: filters, late joins, the cache, updates."""

from __future__ import annotations

import pytest

from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import Location
from fastrelay.relay.options import CacheOptions, Deviations, RelayOptions
from unit.relay.harness import NEXT_OBJECT, World, asking, expect

NEXT_GROUP = LocationFilter(FilterKind.NEXT_GROUP)


def absolute(group: int, object_id: int = 0, end: int | None = None, end_object: int | None = None):
    return LocationFilter(
        FilterKind.ABSOLUTE, Location(group, object_id), end_group=end, end_object=end_object
    )


def running(options: RelayOptions | None = None, draft=DRAFT_18):
    """A live track: groups 0 and 1 whole, group 2 with objects 0 to 2 and still open."""
    world = World(options)
    publisher = world.publisher(draft)
    publisher.announce(b"live")
    first = world.client()
    first.subscribe()
    publisher.accept()
    for group in range(2):
        publisher.group(group, 4)
        world.wait(1)
    stream = publisher.open(2)
    for object_id in range(3):
        stream.write(object_id)
        world.wait(0.25)
    return world, publisher, stream


def test_largest_object_is_told():
    world, _, _ = running()
    late = world.client()
    answer = late.answer(late.subscribe(filter=NEXT_OBJECT))
    assert answer.parameters.largest_object == (2, 2)


def test_largest_object_of_upstream_is_told_before_any_object():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_GROUP)
    publisher.accept(largest=(9, 4))
    assert viewer.answer(request_id).parameters.largest_object == (9, 4)


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18, DRAFT_22], ids=str)
def test_next_object_joins_in_the_middle_of_a_subgroup(draft):
    world, _, stream = running()
    late = world.client(draft)
    late.subscribe(filter=NEXT_OBJECT)
    assert late.ids == []
    stream.write(3)
    stream.write(4)
    stream.close()
    assert late.objects == expect((2, 3), (2, 4))
    (received,) = late.streams.values()
    assert received.fin
    assert received.header.subgroup_id == 0
    assert not received.header.first_object


def test_next_group_waits_for_the_next_group():
    world, publisher, stream = running()
    late = world.client()
    late.subscribe(filter=NEXT_GROUP)
    stream.write(3)
    stream.close()
    publisher.group(3, 1)
    assert late.ids == [(3, 0)]


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_a_joining_fetch_brings_what_the_subscription_does_not(draft):
    world, _, stream = running()
    late = world.client(draft)
    request_id = late.subscribe(filter=NEXT_OBJECT)
    fetch_id = late.joining_fetch(request_id)
    stream.write(3)
    assert late.fetched(fetch_id).objects == expect((2, 0), (2, 1), (2, 2))
    assert late.objects == expect((2, 3))


def test_no_filter_begins_with_the_current_group():
    world, _, stream = running()
    late = world.client()
    late.subscribe()
    stream.write(3)
    assert late.ids == [(2, 0), (2, 1), (2, 2), (2, 3)]


def test_no_filter_on_a_track_that_was_never_heard():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept(largest=(3, 1))
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    world.wait(1)
    assert viewer.objects == expect((3, 0), (3, 1))


def test_absolute_start_in_the_past_replays_the_cache_and_goes_on():
    world, publisher, stream = running()
    late = world.client()
    late.subscribe(filter=absolute(0, 2))
    stream.write(3)
    stream.close()
    publisher.group(3, 1)
    assert late.ids == [(0, 2), (0, 3)] + [(1, i) for i in range(4)] + [
        (2, 0),
        (2, 1),
        (2, 2),
        (2, 3),
        (3, 0),
    ]


def test_start_zero_replays_all_that_the_cache_has():
    world, _, _ = running()
    late = world.client()
    late.subscribe(filter=absolute(0))
    assert late.ids[0] == (0, 0)
    assert late.ids[-1] == (2, 2)


def test_relative_start_of_draft_22():
    world, _, stream = running()
    late = world.client(DRAFT_22)
    late.subscribe(filter=LocationFilter(FilterKind.RELATIVE, groups_back=1))
    stream.write(3)
    assert late.ids == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_absolute_range_ends_with_its_group():
    world, publisher, stream = running()
    late = world.client()
    late.subscribe(filter=absolute(2, 1, end=3))
    stream.write(3)
    stream.close()
    publisher.group(3, 2)
    publisher.group(4, 2)
    assert late.ids == [(2, 1), (2, 2), (2, 3), (3, 0), (3, 1)]


def test_an_end_object_ends_the_stream_with_fin():
    world, _publisher, stream = running()
    late = world.client(DRAFT_22)
    late.subscribe(filter=absolute(2, 0, end=2, end_object=3))
    for object_id in range(3, 6):
        stream.write(object_id)
    assert late.ids == [(2, 0), (2, 1), (2, 2), (2, 3)]
    (received,) = late.streams.values()
    assert received.fin


def test_a_range_that_was_published_already_is_invalid():
    world, _, _ = running()
    late = world.client()
    request_id = late.subscribe(filter=absolute(0, 0, end=1))
    assert late.answer(request_id).code == RequestErrorCode.INVALID_RANGE


def test_a_start_in_the_future():
    world, publisher, _stream = running()
    late = world.client()
    late.subscribe(filter=absolute(4))
    publisher.group(3, 1)
    publisher.group(4, 1)
    assert late.ids == [(4, 0)]


def test_quiet_track_gives_the_current_group_to_a_next_object_subscriber():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    publisher.group(0, 1)
    world.wait(0.25)
    late = world.client()
    answer = late.answer(late.subscribe(filter=NEXT_OBJECT))
    assert answer.parameters.largest_object == (0, 0)
    assert late.ids == [(0, 0)]
    world.wait(30)
    later = world.client()
    later.subscribe(filter=NEXT_OBJECT)
    assert later.ids == [(0, 0)]
    publisher.group(1, 1)
    assert later.ids == [(0, 0), (1, 0)]


def test_the_deviation_can_be_switched_off():
    options = RelayOptions(deviations=Deviations(replay_current_group=False, replay_past=False))
    world, publisher, stream = running(options)
    stream.close()
    world.wait(5)
    late = [world.client() for _ in range(3)]
    late[0].subscribe(filter=NEXT_OBJECT)
    late[1].subscribe()
    late[2].subscribe(filter=absolute(0))
    publisher.group(3, 1)
    assert [viewer.ids for viewer in late] == [[(3, 0)]] * 3


def test_first_subscriber_of_a_quiet_track_gets_what_was_published_before():
    """The relay itself came late: it fetches the current group from the publisher."""
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe(filter=NEXT_OBJECT)
    publisher.accept(largest=(3, 1))
    request = publisher.serve_fetch(expect((3, 0), (3, 1)))
    assert (request.start, request.end_group, request.end_object) == ((3, 0), 3, 1)
    assert viewer.objects == []
    world.wait(0.5)
    assert viewer.objects == expect((3, 0), (3, 1))
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    assert viewer.ids == [(3, 0), (3, 1), (3, 2)]
    (received,) = viewer.streams.values()
    assert not received.fin
    publisher.group(4, 1)
    stream.close()
    world.assert_empty()


@pytest.mark.parametrize("moves", [True, False])
def test_subscribe_and_joining_fetch_at_a_fresh_relay(moves):
    """While objects come, fetch and subscription fit together. On a quiet track the current
    group comes by the subscription too: there are players that wait for that."""
    world, publisher, viewer, fetch_id = asking()
    publisher.accept(largest=(3, 1))
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    assert viewer.fetched(fetch_id).objects == expect((3, 0), (3, 1))
    if moves:
        stream = publisher.open(3, 0, first_object=False)
        stream.write(2)
    world.wait(1)
    assert viewer.objects == (expect((3, 2)) if moves else expect((3, 0), (3, 1)))


def test_a_second_subscriber_of_a_track_that_was_never_heard():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe(filter=NEXT_OBJECT)
    publisher.accept(largest=(3, 1))
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    world.wait(2)
    second = world.client()
    second.subscribe(filter=NEXT_OBJECT)
    assert second.objects == expect((3, 0), (3, 1))


@pytest.mark.parametrize("early", [False, True])
def test_from_the_current_groups_start_at_a_fresh_relay(early):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    others = [world.client() for _ in range(2)]
    viewer = world.client()
    others[0].subscribe(filter=NEXT_GROUP)
    viewer.subscribe(filter=absolute(0))
    others[1].subscribe(filter=NEXT_GROUP)
    publisher.accept(largest=(3, 1))
    if early:
        stream = publisher.open(3, 0, first_object=False)
        stream.write(2)
        publisher.datagram(3, 100)
        publisher.serve_fetch(expect((3, 0), (3, 1)))
    else:
        publisher.serve_fetch(expect((3, 0), (3, 1)))
        assert viewer.objects == expect((3, 0), (3, 1))
        stream = publisher.open(3, 0, first_object=False)
        stream.write(2)
        publisher.datagram(3, 100)
    stream.write(3)
    stream.close()
    publisher.group(4, 1)
    assert viewer.objects == expect((3, 0), (3, 1), (3, 2), (3, 3), (3, 100), (4, 0))
    assert [other.objects for other in others] == [expect((4, 0))] * 2
    assert all(s.fin for s in viewer.streams.values())
    world.assert_empty()


def test_objects_that_come_during_the_fill_are_put_behind_it():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe(filter=absolute(0))
    publisher.accept(largest=(3, 1))
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    half = stream.encode(3)
    stream.raw(half[:4])
    assert viewer.objects == []
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    stream.raw(half[4:])
    stream.write(4)
    stream.close()
    assert viewer.objects == expect((3, 0), (3, 1), (3, 2), (3, 3), (3, 4))
    (received,) = viewer.streams.values()
    assert received.fin
    late = world.client(DRAFT_16)
    late.subscribe(filter=absolute(0))
    assert late.objects == viewer.objects
    world.assert_empty()


def test_a_busy_track_is_not_replayed_after_the_fill():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe(filter=NEXT_OBJECT)
    publisher.accept(largest=(3, 1))
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    stream.write(3)
    assert viewer.ids == [(3, 2), (3, 3)]


def test_a_publisher_that_cannot_fetch_does_not_stop_the_subscription():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe(filter=absolute(0))
    publisher.accept(largest=(3, 1))
    (request,) = publisher.requests(ms.Fetch)
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    publisher.session.reject(request.request_id, RequestErrorCode.NOT_SUPPORTED, "no")
    world.run()
    stream.write(3)
    assert viewer.ids == [(3, 2), (3, 3)]


# Forward


def test_forward_0_sends_nothing_and_1_goes_on_with_the_next_object():
    world, _publisher, stream = running()
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_OBJECT, forward=False)
    stream.write(3)
    assert viewer.objects == []
    update = viewer.update(request_id, forward=True)
    (answered,) = [e for e in viewer.events if getattr(e, "update_id", None) == update]
    assert answered.answer.parameters.largest_object == (2, 3)
    stream.write(4)
    assert viewer.ids == [(2, 4)]
    viewer.update(request_id, forward=False)
    (received,) = viewer.streams.values()
    assert received.reset is not None
    stream.write(5)
    assert viewer.ids == [(2, 4)]
    viewer.update(request_id, forward=True)
    stream.write(6)
    assert viewer.ids == [(2, 4), (2, 6)]


def test_an_update_can_end_a_subscription_earlier():
    world, publisher, stream = running()
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    viewer.update(request_id, filter=absolute(2, 0, end=2))
    stream.write(3)
    stream.close()
    publisher.group(3, 1)
    assert viewer.ids == [(2, 3)]


def test_an_impossible_update_ends_the_subscription():
    world, _, _ = running()
    viewer = world.client(DRAFT_22)
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    viewer.update(request_id, filter=absolute(5, 3, end=5, end_object=1))
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.UPDATE_FAILED


# Cache


def test_old_groups_expire_but_not_the_newest_of_a_live_track():
    world, _publisher, stream = running(RelayOptions(cache=CacheOptions(seconds=3)))
    stream.close()
    world.wait(10)
    late = world.client()
    late.subscribe(filter=absolute(0))
    assert late.ids == [(2, 0), (2, 1), (2, 2)]


def test_the_cache_is_bounded_in_bytes():
    world = World(RelayOptions(cache=CacheOptions(bytes=20_000)))
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    for group in range(30):
        stream = publisher.open(group)
        stream.write(0, bytes(3000))
        stream.close()
        assert world.relay.cache.total <= 20_000
    assert len(viewer.objects) == 30
    late = world.client()
    late.subscribe(filter=absolute(0))
    assert late.ids[-1] == (29, 0)
    assert 3 <= len(late.ids) <= 7
    world.assert_empty()


def test_a_group_larger_than_the_cache_is_still_delivered():
    world = World(RelayOptions(cache=CacheOptions(bytes=5_000)))
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    stream = publisher.open(0)
    for object_id in range(50):
        stream.write(object_id, bytes(1000))
    stream.close()
    assert len(viewer.objects) == 50
    assert world.relay.cache.total <= 5_000
    world.assert_empty()


def test_a_publisher_that_begins_anew_with_lower_ids():
    world, publisher, _stream = running()
    viewer = world.client()
    viewer.subscribe(filter=NEXT_OBJECT)
    publisher.leave()
    again = world.publisher()
    again.announce(b"live")
    again.accept()
    again.group(0, 2)
    assert viewer.ids == [(0, 0), (0, 1)]
    late = world.client()
    assert late.answer(late.subscribe(filter=absolute(0))).parameters.largest_object == (0, 1)
    assert late.ids == [(0, 0), (0, 1)]


def ends_of(viewer):
    """Group, subgroup, FIRST_OBJECT and END_OF_GROUP of streams that have FIN and no object."""
    return [
        (h.group_id, h.subgroup_id, h.first_object, h.end_of_group)
        for s in viewer.streams.values()
        if (h := s.header) is not None and s.fin and not s.body
    ]


@pytest.mark.parametrize("before", [True, False], ids=["before-fin", "after-fin"])
@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18, DRAFT_22], ids=str)
def test_who_joins_behind_the_last_object_is_told_that_the_group_is_over(draft, before):
    """By a stream without objects. The group itself is for FETCH."""
    world, publisher, _ = running()
    stream = publisher.open(3, None, properties=True, end_of_group=True)
    stream.write(1)
    stream.write(2)
    late = world.client(draft)
    if before:
        late.subscribe(filter=NEXT_OBJECT)
        assert late.streams == {}
    stream.close()
    if not before:
        late.subscribe(filter=NEXT_OBJECT)
    assert ends_of(late) == [(3, 1, False, False)]
    publisher.group(4, 1)
    assert late.ids == [(4, 0)]
    assert len(late.streams) == 2
    world.assert_empty()


def test_of_many_subgroups_that_are_over_one_is_told():
    world, publisher, _ = running()
    for subgroup in range(20):
        stream = publisher.open(3, subgroup)
        stream.write(subgroup)
        stream.close()
    late = world.client()
    late.subscribe(filter=NEXT_OBJECT)
    assert ends_of(late) == [(3, 19, False, False)]


@pytest.mark.parametrize("wanted", [NEXT_GROUP, absolute(3, 9), None], ids=str)
def test_who_begins_elsewhere_is_told_nothing(wanted):
    world, publisher, _ = running()
    publisher.group(3, 2)
    late = world.client()
    late.subscribe(filter=wanted)
    assert ends_of(late) == []


def test_a_subgroup_that_was_reset_is_not_told_to_be_over():
    world, publisher, stream = running()
    late = [world.client(), world.client()]
    late[0].subscribe(filter=NEXT_OBJECT)
    stream.reset()
    late[1].subscribe(filter=NEXT_OBJECT)
    publisher.group(3, 1)
    assert [list(map(ends_of, late)), [each.ids for each in late]] == [[[], []], [[(3, 0)]] * 2]


@pytest.mark.parametrize("first", ["end", "fetch"])
def test_the_end_comes_through_a_relay_that_joined_behind_the_last_object(first):
    """Its publisher sends a stream without objects to it; what a FETCH has brought is not all
    that a later viewer is told of."""
    world, publisher, early, fetch_id = asking()
    publisher.accept(largest=(3, 1))
    if first == "end":
        publisher.open(3, 0, first_object=False).close()
    publisher.serve_fetch(expect((3, 0), (3, 1)))
    if first == "fetch":
        publisher.open(3, 0, first_object=False).close()
    assert early.fetched(fetch_id).objects == expect((3, 0), (3, 1))
    late = world.client()
    late.subscribe(filter=NEXT_OBJECT)
    publisher.group(4, 2)
    for viewer in (early, late):
        assert ends_of(viewer) == [(3, 0, False, False)]
        assert viewer.ids == [(4, 0), (4, 1)]


def test_a_publisher_without_more_objects_does_not_end_what_another_one_sends():
    """It joined later, or was asked later: what it has none of depends on when that was."""
    world, publisher, stream = running()
    viewer = world.client()
    viewer.subscribe(filter=NEXT_OBJECT)
    second = world.publisher()
    second.announce(b"live")
    second.accept(largest=(2, 4))
    second.open(2, 0, first_object=False).close()
    second.open(3, 0, first_object=False).close()
    stream.write(3)
    stream.write(4)
    stream.close()
    publisher.group(3, 1)
    assert viewer.ids == [(2, 3), (2, 4), (3, 0)]
