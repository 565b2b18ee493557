"""Peers that take less than they asked for: order, delivery timeouts, bounded lag."""

from __future__ import annotations

from collections import Counter

import pytest

from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.keyvalue import encode as encode_pairs
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location
from fastrelay.relay.options import CacheOptions, Limits, RelayOptions
from fastrelay.relay.store import StoredDatagram
from unit.relay.harness import STILL, World, expect

VARINTS = DRAFT_18.varints
HIGH = 10_000
SMALL = RelayOptions(high_water_bytes=HIGH)


def start(options: RelayOptions = SMALL, draft=DRAFT_18, properties: bytes = b"", **parameters):
    world = World(options)
    publisher = world.publisher()
    publisher.announce(b"live")
    slow = world.client(draft)
    slow.subscribe(**parameters)
    fast = world.client()
    fast.subscribe()
    publisher.accept(properties=properties)
    return world, publisher, slow, fast


def block(publisher, slow):
    """Fill the way to the slow peer; what comes now has to wait."""
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))


def order(client) -> list[int]:
    """Group ids in the order in which their streams were opened."""
    return [s.header.group_id for s in client.streams.values()]


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_a_slow_subscriber_gets_everything_later_and_the_fast_one_at_once(draft):
    world, publisher, slow, fast = start(draft=draft)
    slow.stall()
    for group in range(5):
        stream = publisher.open(group)
        for object_id in range(4):
            stream.write(object_id, bytes([group]) * 3000)
        stream.close()
    assert len(fast.objects) == 20
    assert slow.objects == []
    assert slow.relay_end.backlog <= HIGH + 16 * 1024
    slow.resume()
    assert slow.objects == fast.objects
    assert all(s.fin for s in slow.streams.values())
    world.assert_empty()


def test_the_backlog_never_exceeds_the_high_water_mark_by_more_than_a_quantum():
    _world, publisher, slow, _ = start()
    slow.stall()
    stream = publisher.open(0)
    for object_id in range(100):
        stream.write(object_id, bytes(1000))
    while slow.relay_end.backlog:
        assert slow.relay_end.backlog <= HIGH + 16 * 1024
        slow.resume(2000)
    assert len(slow.objects) == 100


def test_nothing_goes_past_what_waits_and_is_more_important():
    """Also when the transport takes more."""
    _world, publisher, slow, _ = start()
    slow.stall()
    high = publisher.open(0, 1, priority=224)
    high.write(0, b"x")
    base = publisher.open(0, 0, priority=64)
    for object_id in range(10):
        base.write(object_id, bytes(2000))
    end = slow.relay_end
    high_id, base_id = (values[0] for _, values in (end.held[0], end.held[-1]))
    assert high_id != base_id
    end.room = 6000
    end.release()
    assert end.backlog < HIGH
    high.write(1, b"y")
    later = publisher.open(1, 1, priority=224)
    later.write(0, b"z")
    slow.resume(1)
    order = [values[0] for method, values in end.held if method == "stream_data"]
    while slow.relay_end.held or slow.relay_end.backlog:
        slow.resume(1)
        order += [values[0] for method, values in end.held if method == "stream_data"]
    last_base = max(place for place, each in enumerate(order) if each == base_id)
    assert set(order[last_base + 1 :]) > {high_id}
    assert not set(order[:last_base]) - {base_id}


def test_ascending_and_descending_group_order():
    for group_order in GroupOrder:
        _world, publisher, slow, _ = start(group_order=group_order)
        slow.stall()
        publisher.open(0).write(0, bytes(HIGH + 1))
        for group in (1, 2, 3):
            publisher.open(group).write(0, b"x")
        slow.resume()
        rest = [1, 2, 3] if group_order is GroupOrder.ASCENDING else [3, 2, 1]
        assert order(slow) == [0, *rest]


def test_publisher_priority_then_subgroup_id():
    _world, publisher, slow, _ = start()
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))
    publisher.open(1, 2, priority=9).write(2, b"x")
    publisher.open(1, 1, priority=9).write(1, b"x")
    publisher.open(2, 0, priority=3).write(0, b"x")
    slow.resume()
    opened = [(s.header.group_id, s.header.subgroup_id) for s in slow.streams.values()]
    assert opened == [(0, 0), (2, 0), (1, 1), (1, 2)]


def two_tracks(**second):
    world = World(SMALL)
    publisher = world.publisher()
    publisher.announce(b"live")
    slow = world.client()
    ids = []
    for number, parameters in enumerate(({}, second)):
        name = FullTrackName((b"live",), b"%d" % number)
        ids.append(slow.subscribe(name, **parameters))
        publisher.accept(alias=number + 1)
    return world, publisher, slow, ids


def test_subscriber_priority_decides_between_tracks():
    _world, publisher, slow, _ids = two_tracks(subscriber_priority=1)
    slow.stall()
    publisher.open(0, alias=1).write(0, bytes(HIGH + 1))
    publisher.open(1, alias=1).write(0, b"x")
    publisher.open(1, alias=2).write(0, b"y")
    slow.resume()
    assert [s.header.track_alias for s in slow.streams.values()] == [1, 2, 1]


def test_subscriber_priority_can_be_changed():
    _world, publisher, slow, ids = two_tracks()
    slow.update(ids[1], subscriber_priority=200)
    slow.stall()
    publisher.open(0, alias=1).write(0, bytes(HIGH + 1))
    publisher.open(1, alias=2).write(0, b"y")
    publisher.open(1, alias=1).write(0, b"x")
    slow.resume()
    assert [s.header.track_alias for s in slow.streams.values()] == [1, 1, 2]


def test_tracks_of_equal_priority_share():
    _world, publisher, slow, _ = two_tracks()
    slow.stall()
    publisher.open(0, alias=1).write(0, bytes(HIGH + 1))
    for alias in (1, 2):
        publisher.open(1, alias=alias).write(0, bytes(200_000))
    for _ in range(6):
        slow.resume(20_000)
    got = [len(s.body) for s in slow.streams.values() if s.header.group_id == 1]
    assert len(got) == 2
    assert abs(got[0] - got[1]) <= 32 * 1024


def test_datagrams_wait_in_the_order_of_their_objects():
    _world, publisher, slow, _ = start()
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))
    for object_id in range(3):
        publisher.datagram(1, object_id)
    assert slow.datagrams == []
    slow.resume()
    assert [d.location for d in slow.datagrams] == [(1, 0), (1, 1), (1, 2)]


# Delivery timeouts


def test_object_delivery_timeout_resets_streams_and_drops_datagrams():
    world, publisher, slow, fast = start(object_delivery_timeout=1000)
    block(publisher, slow)
    late = publisher.open(1)
    late.write(0)
    publisher.datagram(1, 1)
    world.wait(1.5)
    publisher.open(2).write(0)
    slow.resume()
    assert slow.ids == [(0, 0), (2, 0)]
    assert len(fast.objects) == 4
    assert ("delivery-timeout", "stream") in world.observer.drops
    assert ("delivery-timeout", "datagram") in world.observer.drops
    late.write(2)
    late.close()
    assert slow.ids == [(0, 0), (2, 0)]
    world.assert_empty()


def test_the_smaller_timeout_of_publisher_and_subscriber_counts():
    properties = encode_pairs([(0x02, 500)], VARINTS)
    world, publisher, slow, _ = start(properties=properties, object_delivery_timeout=60_000)
    block(publisher, slow)
    publisher.open(1).write(0)
    world.wait(2)
    publisher.open(2).write(0)
    slow.resume()
    assert slow.ids == [(0, 0), (2, 0)]


def test_subgroup_delivery_timeout_counts_from_the_fin():
    world, publisher, slow, _ = start(subgroup_delivery_timeout=1000)
    block(publisher, slow)
    stream = publisher.open(1)
    stream.write(0)
    world.wait(3)
    assert world.observer.drops == []
    stream.close()
    world.wait(3)
    assert world.observer.drops == [("delivery-timeout", "stream")]
    slow.resume()
    assert (1, 0) not in slow.ids


def test_subgroup_delivery_timeout_of_what_the_transport_has():
    world, publisher, slow, _ = start(subgroup_delivery_timeout=1000)
    slow.stall()
    publisher.group(0, 1)
    world.wait(2)
    slow.resume()
    assert slow.objects == []


def test_without_timeouts_nothing_is_lost_to_time():
    world, publisher, slow, fast = start()
    slow.stall()
    publisher.open(0).write(0, bytes(3 * HIGH))
    world.wait(9)
    slow.resume()
    assert slow.objects == fast.objects


# Too much


def limited(**limits):
    return RelayOptions(high_water_bytes=HIGH, limits=Limits(**limits))


def test_old_groups_of_the_least_important_priority_are_given_up_first():
    world, publisher, slow, fast = start(limited(bytes_behind=200_000))
    slow.stall()
    for group in range(6):
        for subgroup, priority in ((0, 10), (1, 20)):
            stream = publisher.open(group, subgroup, priority=priority)
            stream.write(subgroup, bytes(15_000))
            stream.close()
    world.clock.now += 0.1
    slow.resume()
    kept = {(s.header.group_id, s.header.subgroup_id) for s in slow.streams.values() if s.fin}
    assert {(group, 0) for group in range(6)} <= kept
    assert (5, 1) in kept
    assert (1, 1) not in kept
    assert ("congestion", "stream") in world.observer.drops
    assert slow.notifications(ms.PublishDone) == []
    assert len(fast.objects) == 12
    assert all(s.reset == StreamError.EXCESSIVE_LOAD for s in slow.streams.values() if not s.fin)
    world.assert_empty()


def test_one_stream_too_long_ends_the_subscription():
    world, publisher, slow, fast = start(limited(bytes_behind=50_000))
    slow.stall()
    stream = publisher.open(0)
    for object_id in range(20):
        stream.write(object_id, bytes(5_000))
    slow.resume()
    (done,) = slow.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TOO_FAR_BEHIND
    assert done.stream_count == 1
    assert len(fast.objects) == 20
    assert ("too-far-behind", "subscription") in world.observer.drops
    world.assert_empty()


def test_a_peer_that_takes_nothing_is_dropped():
    world, publisher, slow, fast = start(limited(bytes_behind=100_000, stalled_seconds=3))
    slow.stall()
    for group in range(40):
        stream = publisher.open(group)
        stream.write(0, bytes(10_000))
        stream.close()
        world.wait(0.25)
    slow.resume()
    (done,) = slow.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TOO_FAR_BEHIND
    assert len(fast.objects) == 40
    world.assert_empty()


def test_streams_behind_are_limited():
    world, publisher, slow, _ = start(limited(streams_behind=10))
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))
    for group in range(1, 100):
        publisher.group(group, 1)
        publisher.datagram(1000 + group, 0)
    (peer,) = [p for p in world.relay.peers if p.session is slow.relay_session]
    (subscription,) = peer.subscriptions.values()
    assert len(subscription.cursors) <= 12
    slow.resume()
    assert order(slow)[-1] == 99 or slow.datagrams


def test_groups_of_datagrams_are_given_up_whole():
    world, publisher, slow, fast = start(limited(streams_behind=20))
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))
    for group in range(1, 20):
        for number in range(8):
            publisher.datagram(group, number)
        if group == 2:
            # The first one begins.
            slow.relay_end.backlog, held = 0, slow.relay_end.backlog
            lane = next(iter(world.relay._peers[slow.relay_session].subscriptions.values())).lane
            waits = len(datagrams_waiting(lane))
            while len(datagrams_waiting(lane)) == waits:
                lane.give()
            slow.relay_end.backlog = held
    slow.resume()
    came = Counter(event.location.group for event in slow.datagrams)
    assert set(came.values()) == {8}
    assert came[1] == 8
    assert came[19] == 8
    assert len(came) < 8
    assert world.observer.drops.count(("congestion", "datagram")) + sum(came.values()) == 19 * 8
    assert len(fast.datagrams) == 19 * 8


def test_of_a_group_of_datagrams_only_the_least_important_priority_is_given_up():
    """Which has begun, and another group of the priority, too: these stay as long as others may
    go."""
    world, publisher, slow, _ = start(limited(streams_behind=26))
    for number in range(4):
        publisher.datagram(1, number, priority=200)
        publisher.datagram(2, number, priority=200)
    slow.stall()
    publisher.open(0).write(0, bytes(HIGH + 1))
    for number in range(4, 8):
        for group in (1, 2, 3, 4):
            publisher.datagram(group, 100 + number, priority=9)
            publisher.datagram(group, number, priority=200)
    slow.resume()
    came = Counter(event.location for event in slow.datagrams if event.location.object >= 100)
    assert len(came) == 16
    least = Counter(event.location.group for event in slow.datagrams if event.location.object < 8)
    assert least == {1: 8, 2: 8}
    assert world.observer.drops == [("congestion", "datagram")] * 8


def datagrams_waiting(lane):
    return [entry for entry in lane.waiting if isinstance(entry[4], StoredDatagram)]


def test_old_groups_go_before_one_that_has_begun():
    world, publisher, slow, _ = start(limited(bytes_behind=200_000))
    slow.stall()
    begun = publisher.open(0)
    begun.write(0, bytes(HIGH + 1))
    begun.write(1, bytes(40_000))
    for group in range(1, 5):
        stream = publisher.open(group)
        stream.write(0, bytes(30_000))
        stream.close()
    slow.resume()
    assert (0, 1) in slow.ids
    assert (4, 0) in slow.ids
    assert (1, 0) not in slow.ids
    assert set(world.observer.drops) == {("congestion", "stream")}


@pytest.mark.parametrize(("keeps", "waits"), [(10.0, 10), (0.0, 5)])
def test_groups_older_than_the_cache_are_given_up_whole(keeps, waits):
    options = RelayOptions(high_water_bytes=HIGH, cache=CacheOptions(seconds=keeps))
    world, publisher, slow, _fast = start(options)
    (peer,) = [p for p in world.relay.peers if p.session is slow.relay_session]
    peer.measure = lambda: STILL
    slow.stall()
    begun = publisher.open(0)
    begun.write(0, bytes(HIGH + 1))
    begun.write(1, bytes(40_000))
    begun.close()
    for group in (1, 3):
        publisher.group(group, 2)
        for number in range(4):
            publisher.datagram(group + 1, number)
    world.wait(waits - 2)
    for group in (5, 7):
        publisher.group(group, 2)
        publisher.datagram(group + 1, 0)
    world.wait(4)
    publisher.datagram(4, 4)
    slow.resume()
    assert {s.header.group_id for s in slow.streams.values() if s.fin} == {0, 5, 7}
    assert {event.location.group for event in slow.datagrams} == {6, 8}
    assert world.observer.drops.count(("congestion", "stream")) == 2
    assert world.observer.drops.count(("congestion", "datagram")) == 8
    assert slow.notifications(ms.PublishDone) == []


@pytest.mark.parametrize("group_order", GroupOrder)
def test_a_group_that_newer_ones_went_before_does_not_stall_for_ever(group_order):
    world, publisher, slow, _ = start(group_order=group_order)
    (peer,) = [p for p in world.relay.peers if p.session is slow.relay_session]
    peer.measure = lambda: STILL
    slow.stall(1)
    for group in (1, 2):
        stream = publisher.open(group)
        for number in range(3):
            stream.write(number, bytes(HIGH + 1))
        stream.close()
    world.wait(20)
    slow.resume(1)
    begun = {s.header.group_id: s for s in slow.streams.values()}
    newest_first = group_order is GroupOrder.DESCENDING
    assert (begun[1].reset == StreamError.EXCESSIVE_LOAD) == newest_first
    slow.resume()
    assert begun[1].fin != newest_first
    assert all(s.fin for s in slow.streams.values() if s.header.group_id == 2)


def test_the_newest_group_is_not_given_up():
    world, publisher, slow, _ = start()
    (peer,) = [p for p in world.relay.peers if p.session is slow.relay_session]
    peer.measure = lambda: STILL
    block(publisher, slow)
    publisher.group(1, 2)
    world.wait(60)
    slow.resume()
    assert expect((1, 0), (1, 1)) == slow.objects[1:]


def test_memory_of_a_slow_subscriber_goes_back_when_it_leaves():
    world, publisher, slow, _ = start()
    slow.stall()
    for group in range(5):
        publisher.group(group, 3)
    slow.leave()
    assert world.relay.counters.sessions == 2
    world.assert_empty()


def test_unsubscribe_while_behind():
    world, publisher, _slow, _ = start()
    late = world.client()
    late.stall()
    request_id = late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)))
    publisher.open(0).write(0, bytes(3 * HIGH))
    publisher.open(1).write(0, bytes(3 * HIGH))
    late.session.cancel(request_id)
    world.run()
    (peer,) = [p for p in world.relay.peers if p.session is late.relay_session]
    assert peer.subscriptions == {}
    assert peer.outflows == {}
    late.resume()
    world.assert_empty()


def test_a_reset_reaches_a_slow_subscriber_behind_the_data():
    _world, publisher, slow, _ = start(draft=DRAFT_22)
    slow.stall()
    stream = publisher.open(0)
    stream.write(0, bytes(2 * HIGH))
    stream.reset()
    untouched = publisher.open(1)
    untouched.reset()
    slow.resume()
    received = list(slow.streams.values())
    assert received[0].reset is not None
    assert len(received) <= 2


def test_the_end_of_the_track_reaches_a_slow_subscriber_last():
    world, publisher, slow, _ = start()
    slow.stall()
    publisher.group(0, 1)
    stream = publisher.open(1)
    stream.write(0, bytes(3 * HIGH))
    stream.close()
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(upstream, ms.PublishDone(upstream, 2, 2, ""))
    world.run()
    assert slow.notifications(ms.PublishDone) == []
    slow.resume()
    (done,) = slow.notifications(ms.PublishDone)
    assert done.stream_count == 2
    assert slow.objects == [*expect((0, 0)), (1, 0, bytes(3 * HIGH))]
