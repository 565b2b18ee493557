"""FETCH, joining FETCH and fills, from the cache and from upstream."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import RequestErrorCode, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.fetches import TIMED_OUT_RANGE, UNKNOWN_RANGE, FetchEncoder
from fastrelay.moqt.keyvalue import encode as encode_pairs
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.relay.gaps import LAST_OBJECT
from fastrelay.relay.options import CacheOptions, Limits, RelayOptions
from unit.relay.harness import NEXT_OBJECT, World, asking, content, expect

DRAFTS = [DRAFT_16, DRAFT_18, DRAFT_22]


def live(source=DRAFT_18, groups: int = 3, options: RelayOptions | None = None):
    """A track that the relay knows from its first object on; the last group is open."""
    world = World(options)
    publisher = world.publisher(source)
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    for group in range(groups - 1):
        publisher.group(group, 3)
    stream = publisher.open(groups - 1)
    stream.write(0)
    stream.write(1)
    return world, publisher, stream


@pytest.mark.parametrize("source", [DRAFT_16, DRAFT_18], ids=str)
@pytest.mark.parametrize("target", DRAFTS, ids=str)
def test_fetch_is_served_from_the_cache(source, target):
    world, publisher, _ = live(source)
    viewer = world.client(target)
    request_id = viewer.fetch((0, 1), 1)
    answer = viewer.answer(request_id)
    assert (answer.end_group, answer.end_object, answer.end_of_track) == (1, None, False)
    stream = viewer.fetched(request_id)
    assert stream.objects == expect((0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    assert stream.fin
    assert publisher.requests(ms.Fetch) == []
    assert world.relay.counters.cache_hits == 1
    world.assert_empty()


def test_fetch_ends_at_the_largest_object():
    world, _, _ = live()
    viewer = world.client()
    request_id = viewer.fetch((2, 0), 9)
    answer = viewer.answer(request_id)
    assert (answer.end_group, answer.end_object) == (2, 1)
    assert viewer.fetched(request_id).objects == expect((2, 0), (2, 1))


def test_fetch_with_an_end_object():
    world, _, _ = live()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 1, 0)
    assert viewer.fetched(request_id).objects == expect((0, 0), (0, 1), (0, 2), (1, 0))


def test_fetch_descending():
    world, _, _ = live()
    viewer = world.client()
    request_id = viewer.fetch((0, 1), 2, group_order=GroupOrder.DESCENDING)
    assert viewer.fetched(request_id).objects == expect(
        (2, 0), (2, 1), (1, 0), (1, 1), (1, 2), (0, 1), (0, 2)
    )


def test_fetch_beyond_the_largest_object_is_invalid():
    world, _, _ = live()
    viewer = world.client()
    assert viewer.answer(viewer.fetch((5, 0), 6)).code == RequestErrorCode.INVALID_RANGE


def test_fetch_of_a_track_without_objects_is_invalid():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    viewer = world.client()
    assert viewer.answer(viewer.fetch((0, 0), 1)).code == RequestErrorCode.INVALID_RANGE


def test_fetch_of_nobodys_track():
    world = World()
    viewer = world.client()
    assert viewer.answer(viewer.fetch((0, 0), 1)).code == RequestErrorCode.DOES_NOT_EXIST
    world.assert_empty()


def test_the_object_at_the_live_edge_goes_out_as_it_comes():
    world, _, stream = live()
    whole = stream.encode(2, b"0123456789")
    stream.raw(whole[:6])
    viewer = world.client()
    request_id = viewer.fetch((2, 2), 2)
    received = viewer.fetched(request_id)
    assert received.body.endswith(b"0123")
    assert not received.fin
    stream.raw(whole[6:])
    assert received.objects == [(2, 2, b"0123456789")]
    assert received.fin


def test_a_reset_at_the_live_edge_resets_the_fetch():
    world, _, stream = live()
    stream.raw(stream.encode(2, b"0123456789")[:6])
    viewer = world.client()
    received = viewer.fetched(viewer.fetch((2, 2), 2))
    stream.reset()
    assert received.reset == StreamError.UNKNOWN_OBJECT_STATUS
    world.assert_empty()


def test_datagrams_and_properties_in_a_fetch():
    world, publisher, _stream = live()
    publisher.datagram(3, 0)
    viewer = world.client()
    request_id = viewer.fetch((3, 0), 3)
    (item,) = viewer.fetched(request_id).items
    assert item.datagram
    assert viewer.fetched(request_id).objects == expect((3, 0))


def test_fetch_of_a_track_nobody_subscribed_to_goes_to_the_publisher():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 5)
    request = publisher.serve_fetch(expect((0, 0), (0, 1), (4, 0)), end=(4, 0))
    assert (request.start, request.end_group, request.end_object) == ((0, 0), 5, None)
    assert viewer.answer(request_id).end_group == 4
    assert viewer.fetched(request_id).objects == expect((0, 0), (0, 1), (4, 0))
    assert viewer.fetched(request_id).fin
    world.assert_empty()


def test_only_what_is_missing_is_fetched_upstream():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe(filter=LocationFilter(FilterKind.NEXT_GROUP))
    publisher.accept(largest=(6, 3))
    publisher.group(7, 2)
    viewer = world.client()
    request_id = viewer.fetch((5, 0), 7)
    request = publisher.serve_fetch(expect((5, 0), (6, 0), (6, 3)))
    assert (request.start, request.end_group, request.end_object) == ((5, 0), 6, 3)
    assert viewer.fetched(request_id).objects == expect((5, 0), (6, 0), (6, 3), (7, 0), (7, 1))
    again = world.client()
    second = again.fetch((5, 0), 7)
    assert publisher.requests(ms.Fetch) == []
    assert again.fetched(second).objects == viewer.fetched(request_id).objects


def test_groups_go_out_while_the_fill_is_still_coming():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 2)
    (request,) = publisher.requests(ms.Fetch)
    publisher.session.respond(ms.FetchOk(request.request_id, False, 2, 0))
    stream_id = publisher.session.open_fetch(request.request_id)
    encoder = FetchEncoder(DRAFT_18)
    for group in range(3):
        payload = content(group, 0)
        head = encoder.object(Location(group, 0), 0, 128, len(payload))
        publisher.session.send(stream_id, head + payload)
        world.run()
        if group:
            assert viewer.fetched(request_id).objects == expect(*[(g, 0) for g in range(group)])
    publisher.session.send(stream_id, b"", True)
    world.run()
    assert viewer.fetched(request_id).fin


def test_errors_of_upstream_are_passed_on():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 5)
    (request,) = publisher.requests(ms.Fetch)
    publisher.session.reject(request.request_id, RequestErrorCode.INVALID_RANGE, "nothing")
    world.run()
    assert viewer.answer(request_id).code == RequestErrorCode.INVALID_RANGE
    world.assert_empty()


def lossy():
    """Group 1 of a live track was reset, so the relay does not know all of it."""
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    publisher.group(0, 2)
    stream = publisher.open(1)
    stream.write(0)
    stream.reset()
    publisher.group(2, 1)
    return world, publisher


def test_holes_are_filled_from_upstream():
    world, publisher = lossy()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 2)
    request = publisher.serve_fetch(expect((1, 0), (1, 1), (1, 2)))
    assert (request.start, request.end_group) == ((1, 0), 1)
    everything = expect((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0))
    assert viewer.fetched(request_id).objects == everything
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)))
    assert late.objects == everything


def test_what_nobody_can_tell_is_marked_unknown():
    world, publisher = lossy()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 2, fill_timeout=0)
    assert publisher.requests(ms.Fetch) == []
    items = viewer.fetched(request_id).items
    places = [
        ("unknown", next(iter(i.until))) if isinstance(i, ev.FetchRange) else tuple(i.location)
        for i in items
    ]
    assert places == [(0, 0), (0, 1), (1, 0), ("unknown", 1), (2, 0)]
    assert items[3].kind == UNKNOWN_RANGE
    assert viewer.fetched(request_id).fin


def test_the_fill_timeout_ends_waiting():
    world, publisher = lossy()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 2, fill_timeout=500)
    assert len(publisher.requests(ms.Fetch)) == 1
    world.wait(1)
    assert any(isinstance(i, ev.FetchRange) for i in viewer.fetched(request_id).items)
    assert viewer.fetched(request_id).fin


def test_unknown_ranges_in_descending_order():
    world, _ = lossy()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 2, fill_timeout=0, group_order=GroupOrder.DESCENDING)
    stream = viewer.fetched(request_id)
    assert places(stream) == [(2, 0), (1, 0), ("unknown", 1, LAST_OBJECT), (0, 0), (0, 1)]
    assert stream.fin


def places(stream) -> list[tuple]:
    """Objects, and where ranges end."""
    names = {UNKNOWN_RANGE: "unknown", TIMED_OUT_RANGE: "late"}
    return [
        (names[i.kind], *i.until) if isinstance(i, ev.FetchRange) else tuple(i.location)
        for i in stream.items
    ]


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_what_is_unknown_before_and_within_groups_in_descending_order(draft):
    """The relay knows of group 3 from object 2 on, and group 5; nothing of 0 to 2."""
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe(filter=NEXT_OBJECT)
    publisher.accept(largest=(3, 1))
    publisher.session.reject(
        publisher.requests(ms.Fetch)[0].request_id, RequestErrorCode.NOT_SUPPORTED, ""
    )
    stream = publisher.open(3, 0, first_object=False)
    stream.write(2)
    stream.close()
    publisher.group(5, 1)
    viewer = world.client(draft)
    seconds = {} if draft is DRAFT_16 else {"fill_timeout": 0}
    request_id = viewer.fetch((1, 4), 5, group_order=GroupOrder.DESCENDING, **seconds)
    if draft is DRAFT_16:
        publisher.session.reject(
            publisher.requests(ms.Fetch)[0].request_id, RequestErrorCode.NOT_SUPPORTED, ""
        )
        world.run()
    received = viewer.fetched(request_id)
    assert places(received) == [
        (5, 0),
        ("unknown", 3, 1),
        (3, 2),
        ("unknown", 2, LAST_OBJECT),
        ("unknown", 1, LAST_OBJECT),
    ]
    assert received.fin


# Memory


def hungry(limit: int = 50_000):
    """A relay whose fetches have little memory beside a small cache, and a track of the past."""
    world = World(
        RelayOptions(
            CacheOptions(bytes=limit // 2), Limits(fetch_bytes=limit), high_water_bytes=4096
        )
    )
    publisher = world.publisher()
    publisher.announce(b"live")
    return world, publisher


def pour(publisher, groups: int, size: int = 1000, *, descending: bool = False, whole: bool = True):
    """Answer the relay's FETCH with as many groups, of ten objects each."""
    (request,) = publisher.requests(ms.Fetch)
    publisher.session.respond(ms.FetchOk(request.request_id, False, groups - 1, None))
    stream_id = publisher.session.open_fetch(request.request_id)
    encoder = FetchEncoder(DRAFT_18, descending)
    for group in reversed(range(groups)) if descending else range(groups):
        for object_id in range(10):
            head = encoder.object(Location(group, object_id), 0, 128, size)
            publisher.session.send(stream_id, head + bytes(size))
        publisher.world.run()
        publisher.world.relay.expire(publisher.world.clock.now)
        publisher.world.run()
    if whole:
        publisher.session.send(stream_id, b"", True)
        publisher.world.run()


@pytest.mark.parametrize("descending", [False, True])
def test_a_fetch_larger_than_any_memory_reaches_who_reads_it(descending):
    world, publisher = hungry()
    viewer = world.client()
    order = GroupOrder.DESCENDING if descending else GroupOrder.ASCENDING
    request_id = viewer.fetch((0, 0), 19, group_order=order)
    pour(publisher, 20, descending=descending)
    stream = viewer.fetched(request_id)
    assert len(stream.objects) == 200
    assert stream.fin
    world.assert_empty()
    assert world.relay.backlog.total == 0


def test_who_does_not_read_is_given_up_when_memory_ends():
    world, publisher = hungry()
    viewer = world.client()
    viewer.stall(1)
    request_id = viewer.fetch((0, 0), 1 << 40)
    pour(publisher, 20, whole=False)
    relay = world.relay
    assert relay.backlog.total + relay.cache.total < 100_000
    assert publisher.take(ev.RequestCancelled)
    assert relay.counters.drops["too-far-behind"] == 1
    viewer.resume()
    assert viewer.fetched(request_id).reset == StreamError.TOO_FAR_BEHIND
    world.assert_empty()
    assert relay.backlog.total == 0


def test_a_group_that_never_ends_is_given_up():
    world, publisher = hungry()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 1 << 40)
    pour(publisher, 1, size=10_000, whole=False)
    assert publisher.take(ev.RequestCancelled)
    assert world.relay.backlog.total == 0
    stream = viewer.fetched(request_id)
    assert [kind for kind, *_ in places(stream)] == ["unknown"]
    assert stream.fin
    world.assert_empty()


def test_a_publisher_of_endless_unknown_ranges_is_not_asked_on():
    world, publisher = hungry()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 1 << 40)
    (request,) = publisher.requests(ms.Fetch)
    publisher.session.respond(ms.FetchOk(request.request_id, False, 1 << 40, None))
    stream_id = publisher.session.open_fetch(request.request_id)
    encoder = FetchEncoder(DRAFT_18)
    for group in range(1001):
        marker = ev.FetchRange(Location(group, 0), UNKNOWN_RANGE)
        publisher.session.send(stream_id, encoder.range_end(marker))
    world.run()
    assert publisher.take(ev.RequestCancelled)
    assert viewer.fetched(request_id).fin
    world.assert_empty()


def test_groups_that_leave_the_cache_while_they_are_read_count():
    world, publisher = hungry()
    world.client().subscribe()
    publisher.accept()
    stream = publisher.open(0)
    for object_id in range(5):
        stream.write(object_id, bytes(3000))
    stream.close()
    viewer = world.client()
    viewer.stall()
    request_id = viewer.fetch((0, 0), 0)
    for group in range(1, 10):
        stream = publisher.open(group)
        stream.write(0, bytes(9000))
        stream.close()
    assert world.relay.backlog.total > 0
    viewer.resume()
    assert len(viewer.fetched(request_id).objects) == 5
    assert world.relay.backlog.total == 0


# What is not wanted


def test_properties_are_left_out_on_request():
    properties = encode_pairs([(0x22, 1)], DRAFT_22.varints)
    world = World()
    publisher = world.publisher(DRAFT_22)
    publisher.announce(b"live")
    keeper = world.client(DRAFT_22)
    first = keeper.subscribe(include_properties=True)
    publisher.accept(properties=properties)
    publisher.group(0, 1)
    assert keeper.answer(first).properties == properties
    viewer = world.client(DRAFT_22)
    for answer in (
        viewer.answer(viewer.subscribe(include_properties=False)),
        viewer.answer(viewer.fetch((0, 0), 0, include_properties=False)),
        viewer.answer(viewer.status(include_properties=False)),
    ):
        assert not isinstance(answer, ms.RequestError)
        assert answer.properties == b""
    assert viewer.answer(viewer.status()).properties == properties


def test_properties_from_upstream_are_left_out_of_a_status():
    world = World()
    publisher = world.publisher(DRAFT_22)
    publisher.announce(b"live")
    viewer = world.client(DRAFT_22)
    request_id = viewer.status(include_properties=False)
    (asked,) = publisher.requests(ms.TrackStatus)
    properties = encode_pairs([(0x22, 1)], DRAFT_22.varints)
    publisher.session.respond(ms.RequestOk(asked.request_id, Parameters(), properties))
    world.run()
    assert viewer.answer(request_id).properties == b""


def test_the_publisher_gone_the_cache_still_serves():
    world, publisher, stream = live()
    stream.close()
    publisher.leave()
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 1)
    assert viewer.fetched(request_id).objects == expect(*[(g, i) for g in (0, 1) for i in range(3)])


# Joining


def test_joining_fetch_and_subscription_have_neither_gap_nor_overlap():
    world, _publisher, stream = live()
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    fetch_id = viewer.joining_fetch(request_id)
    stream.write(2)
    stream.write(3)
    assert viewer.fetched(fetch_id).objects == expect((2, 0), (2, 1))
    assert viewer.ids == [(2, 2), (2, 3)]


def test_relative_and_absolute_joining():
    world, _, _ = live()
    viewer = world.client(DRAFT_16)
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    fetch_id = viewer.joining_fetch(request_id, 1)
    assert [o[:2] for o in viewer.fetched(fetch_id).objects] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
    absolute = viewer.session.fetch(
        ms.FetchKind.ABSOLUTE_JOINING,
        joining_request_id=request_id,
        joining_start=2,
        parameters=Parameters(),
    )
    world.run()
    assert viewer.fetched(absolute).objects == expect((2, 0), (2, 1))
    beyond = viewer.session.fetch(
        ms.FetchKind.ABSOLUTE_JOINING,
        joining_request_id=request_id,
        joining_start=3,
        parameters=Parameters(),
    )
    world.run()
    assert viewer.answer(beyond).code == RequestErrorCode.INVALID_RANGE


def test_joining_before_the_publisher_answered():
    _, publisher, viewer, fetch_id = asking()
    assert not viewer.answered(fetch_id)
    publisher.accept(largest=(4, 2))
    publisher.serve_fetch(expect((4, 0), (4, 1), (4, 2)))
    assert viewer.fetched(fetch_id).objects == expect((4, 0), (4, 1), (4, 2))


def test_joining_a_subscription_that_is_refused():
    world, publisher, viewer, fetch_id = asking()
    (request,) = publisher.requests(ms.Subscribe)
    publisher.session.reject(request.request_id, RequestErrorCode.DOES_NOT_EXIST, "no")
    world.run()
    assert viewer.answer(fetch_id).code == RequestErrorCode.INVALID_JOINING_REQUEST_ID
    world.assert_empty()


def test_joining_without_objects_or_without_forward_is_invalid():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe(filter=NEXT_OBJECT)
    publisher.accept()
    fetch_id = viewer.joining_fetch(request_id)
    assert viewer.answer(fetch_id).code == RequestErrorCode.INVALID_RANGE
    publisher.group(0, 1)
    other = world.client()
    request_id = other.subscribe(filter=NEXT_OBJECT, forward=False)
    fetch_id = other.joining_fetch(request_id)
    assert other.answer(fetch_id).code == RequestErrorCode.INVALID_RANGE


# Fills of draft 22


def test_fill_with_a_subscription():
    world, publisher, stream = live()
    viewer = world.client(DRAFT_22)
    request_id = viewer.subscribe(
        filter=NEXT_OBJECT,
        fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=1)),
    )
    received = viewer.fetched(request_id)
    assert [o[:2] for o in received.objects] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    assert received.fin
    stream.write(2)
    stream.close()
    assert viewer.ids == [(2, 2)]
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(upstream, ms.PublishDone(upstream, 2, 3, ""))
    world.run()
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.stream_count == 2


def test_fill_with_an_update_has_the_updates_id():
    world, _, _ = live()
    viewer = world.client(DRAFT_22)
    request_id = viewer.subscribe(filter=NEXT_OBJECT, forward=False)
    update_id = viewer.update(
        request_id,
        forward=True,
        fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=0)),
    )
    assert viewer.fetched(update_id).objects == expect((2, 0), (2, 1))


def test_no_fill_without_forward():
    world, _, _ = live()
    viewer = world.client(DRAFT_22)
    viewer.subscribe(
        filter=NEXT_OBJECT,
        forward=False,
        fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=0)),
    )
    assert viewer.streams == {}


# Ends and limits


def test_cancelled_fetches_leave_nothing():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 5)
    assert len(publisher.requests(ms.Fetch)) == 1
    viewer.session.cancel(request_id)
    world.run()
    assert len(publisher.take(ev.RequestCancelled)) == 1
    world.assert_empty()


def test_a_stopped_fetch_stream_ends_the_fetch():
    world, _, _ = live()
    viewer = world.client()
    viewer.stall(10)
    request_id = viewer.fetch((0, 0), 2)
    viewer.resume(10_000)
    viewer.session.stop(next(iter(viewer.streams)), StreamError.CANCELLED)
    world.run()
    assert request_id is not None
    world.assert_empty()


def test_a_fetch_is_flow_controlled():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    for group in range(10):
        stream = publisher.open(group)
        stream.write(0, bytes(100_000))
        stream.close()
    viewer = world.client()
    viewer.stall()
    request_id = viewer.fetch((0, 0), 9)
    assert viewer.relay_end.backlog <= 300_000
    viewer.resume()
    assert len(viewer.fetched(request_id).objects) == 10
    assert viewer.fetched(request_id).fin


def test_fetches_of_a_session_are_limited():
    world = World(RelayOptions(limits=Limits(fetches_per_session=2)))
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    ids = [viewer.fetch((0, 0), 5) for _ in range(3)]
    assert viewer.answer(ids[2]).code == RequestErrorCode.EXCESSIVE_LOAD
    assert not viewer.answered(ids[0])


def test_priority_of_a_fetch_can_be_changed():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.fetch((0, 0), 5)
    publisher.serve_fetch(expect((0, 0)))
    viewer.stall()
    assert viewer.answered(request_id)
