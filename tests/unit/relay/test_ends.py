"""Ends of groups and tracks: what comes behind them breaks the track (section 2.4.2)."""

from __future__ import annotations

import pytest

from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.names import ObjectStatus
from unit.relay.harness import World, expect
from unit.relay.test_corners import Answer

END_OF_GROUP = ObjectStatus.END_OF_GROUP
END_OF_TRACK = ObjectStatus.END_OF_TRACK


def playing():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    return world, publisher, viewer


def fate(viewer) -> list[PublishDoneStatus]:
    return [done.status for done in viewer.notifications(ms.PublishDone)]


def test_what_ends_well():
    world, publisher, viewer = playing()
    stream = publisher.open(0, 0)
    stream.write(0)
    late = publisher.open(0, 1)
    stream.write(2)
    stream.write(3, status=END_OF_GROUP)
    stream.close()
    late.write(1)
    late.close()
    publisher.group(1, 2, end_of_group=True)
    publisher.datagram(2, 0)
    publisher.datagram(2, 2, end_of_group=True)
    publisher.datagram(2, 1)
    last = publisher.open(3)
    last.write(0, status=END_OF_TRACK)
    last.close()
    assert fate(viewer) == []
    whole = expect((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))
    assert [o for o in viewer.objects if o[2]] == whole
    world.assert_empty()


@pytest.mark.parametrize("together", [False, True])
def test_an_object_behind_the_end_of_its_group(together):
    world, publisher, viewer = playing()
    stream = publisher.open(0)
    data = stream.encode(0) + stream.encode(1, status=END_OF_GROUP)
    if together:
        stream.raw(data + stream.encode(2))
    else:
        stream.raw(data)
        stream.write(2)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    assert world.relay.cache.total == 0
    assert publisher.relay_feeds() == []
    world.assert_empty()


def test_an_end_before_an_object_that_was_there():
    world, publisher, viewer = playing()
    publisher.open(0, 0).write(5)
    publisher.open(0, 1).write(4, status=END_OF_GROUP)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    assert next(s.reset for s in viewer.streams.values()) == StreamError.MALFORMED_TRACK
    world.assert_empty()


def test_a_stream_that_said_it_had_the_last_object():
    world, publisher, viewer = playing()
    publisher.group(0, 2, end_of_group=True)
    assert fate(viewer) == []
    publisher.open(0, 1).write(2)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    world.assert_empty()


def test_a_stream_that_was_reset_says_nothing_of_the_end():
    world, publisher, viewer = playing()
    stream = publisher.open(0, 0, end_of_group=True)
    stream.write(0)
    stream.reset()
    publisher.open(0, 1).write(2)
    assert fate(viewer) == []
    world.assert_empty()


def test_datagrams_behind_the_end_of_their_group():
    _, publisher, viewer = playing()
    publisher.datagram(0, 1, end_of_group=True)
    publisher.datagram(0, 2)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    _, publisher, viewer = playing()
    publisher.datagram(0, 2)
    publisher.datagram(0, 1, end_of_group=True)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]


@pytest.mark.parametrize("before", [False, True])
def test_an_object_behind_the_end_of_the_track(before):
    world, publisher, viewer = playing()
    if before:
        publisher.group(3, 1)
    publisher.open(2).write(0, status=END_OF_TRACK)
    if not before:
        assert fate(viewer) == []
        publisher.group(3, 1)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    world.assert_empty()


def test_two_publishers_may_both_end_a_group():
    world, publisher, viewer = playing()
    other = world.publisher()
    other.announce(b"live")
    other.accept()
    streams = [p.open(0, end_of_group=True) for p in (publisher, other)]
    for stream in streams:
        stream.write(0)
        stream.write(1)
    for stream in streams:
        stream.close()
    assert fate(viewer) == []
    assert viewer.objects == expect((0, 0), (0, 1))
    third = other.open(0, 1)
    third.write(2)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]


def test_one_of_two_publishers_goes_on_behind_the_end():
    world, publisher, viewer = playing()
    other = world.publisher()
    other.announce(b"live")
    other.accept()
    one, two = publisher.open(0), other.open(0)
    one.write(0)
    two.write(0)
    one.write(1, status=END_OF_GROUP)
    two.write(1, status=END_OF_GROUP)
    assert fate(viewer) == []
    two.write(2)
    assert fate(viewer) == [PublishDoneStatus.MALFORMED_TRACK]
    world.assert_empty()


def test_a_publisher_that_goes_on_after_another_ended_the_track():
    """An end counts for one run of publishers only."""
    world, publisher, viewer = playing()
    publisher.open(2).write(0, status=END_OF_TRACK)
    publisher.leave()
    other = world.publisher()
    other.announce(b"live")
    other.accept(largest=(2, 0))
    other.group(3, 1)
    assert fate(viewer) == []
    assert (3, 0) in viewer.ids
    world.assert_empty()


@pytest.mark.parametrize("more", [False, True])
def test_a_fetched_object_behind_the_end(more):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    keeper = world.client()
    keeper.subscribe(filter=ms.LocationFilter(ms.FilterKind.NEXT_GROUP))
    publisher.accept(largest=(3, 0))
    stream = publisher.open(3, first_object=False)
    stream.write(2, status=END_OF_GROUP)
    viewer = world.client()
    request_id = viewer.fetch((2, 0), 3)
    answer = Answer(publisher, (3, None))
    answer.put(2, 0)
    answer.put(3, 5)
    if more:
        answer.put(4, 0)
    else:
        answer.close()
    assert viewer.fetched(request_id).reset == StreamError.MALFORMED_TRACK
    assert fate(keeper) == [PublishDoneStatus.MALFORMED_TRACK]
    world.assert_empty()
