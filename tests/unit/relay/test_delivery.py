"""Objects from a publisher through the relay to subscribers."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.keyvalue import encode as encode_pairs
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, ObjectStatus
from fastrelay.moqt.objects import encode_subgroup_header
from fastrelay.relay.feed import OPEN_SECONDS, UNCOUNTED_SECONDS, UNSEEN_SECONDS
from unit.relay.harness import TRACK, World, content, expect

DRAFTS = [DRAFT_16, DRAFT_18, DRAFT_22]


def start(world: World, draft: Draft = DRAFT_18, **ok):
    """A publisher and a subscriber whose subscription is established."""
    publisher = world.publisher(draft)
    publisher.announce(b"live")
    viewer = world.client(draft)
    request_id = viewer.subscribe()
    publisher.accept(**ok)
    return publisher, viewer, request_id


@pytest.mark.parametrize("source", DRAFTS, ids=str)
@pytest.mark.parametrize("target", DRAFTS, ids=str)
def test_subgroups_reach_a_subscriber_of_any_draft(source, target):
    world = World()
    publisher = world.publisher(source)
    publisher.announce(b"live")
    viewer = world.client(target)
    request_id = viewer.subscribe()
    publisher.accept(alias=90)
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    for group in range(3):
        stream = publisher.open(group, properties=True)
        stream.write(0, properties=encode_pairs([(0x10, 1000 + group)], source.varints))
        stream.write(100, b"x" * 300)
        stream.close()
    assert viewer.objects == sorted(
        [(g, 0, content(g, 0)) for g in range(3)] + [(g, 100, b"x" * 300) for g in range(3)]
    )
    (first, *_) = viewer.streams.values()
    assert first.fin
    assert first.items[0].properties == encode_pairs([(0x10, 1000)], target.varints)
    world.assert_empty()


def test_same_family_streams_are_byte_identical():
    world = World()
    publisher = world.publisher(DRAFT_22)
    publisher.announce(b"live")
    viewers = [world.client(DRAFT_18), world.client(DRAFT_22)]
    for viewer in viewers:
        viewer.subscribe()
    publisher.accept(alias=300)
    sent = publisher.open(5, 2, priority=9, properties=True)
    body = sent.encode(0, b"abc", b"\x10\x05") + sent.encode(4, b"")
    sent.raw(body)
    sent.close()
    for viewer in viewers:
        (stream,) = viewer.streams.values()
        assert stream.header.raw == encode_subgroup_header(sent.header, DRAFT_22)
        assert bytes(stream.body) == body
        assert stream.fin


def test_an_alias_in_use_changes_nothing_but_the_header():
    world = World()
    one, two = world.publisher(), world.publisher()
    one.announce(b"one")
    two.announce(b"two")
    viewer = world.client()
    first = viewer.subscribe(FullTrackName((b"one",), b"v"))
    second = viewer.subscribe(FullTrackName((b"two",), b"v"))
    one.accept(alias=7)
    two.accept(alias=7)
    aliases = {viewer.answer(first).track_alias, viewer.answer(second).track_alias}
    assert 7 in aliases
    assert len(aliases) == 2
    assert all(alias < 128 for alias in aliases)
    one.group(0, 1)
    two.group(0, 1)
    assert {s.header.track_alias for s in viewer.streams.values()} == aliases
    assert viewer.objects == expect((0, 0), (0, 0))


def test_one_upstream_subscription_serves_everybody():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live", b"demo")
    viewers = [world.client() for _ in range(5)]
    for viewer in viewers:
        viewer.subscribe()
    publisher.accept()
    late = world.client()
    late.subscribe()
    assert publisher.requests(ms.Subscribe) == []
    publisher.group(0, 2)
    for viewer in [*viewers, late]:
        assert viewer.objects == expect((0, 0), (0, 1))
    world.assert_empty()


def test_the_relay_subscribes_from_the_next_object_and_forwards():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(3, 0)), forward=False)
    request = publisher.accept()
    assert request.parameters.filter.kind is FilterKind.NEXT_OBJECT
    assert request.parameters.forward is not False


def test_bytes_go_on_before_an_object_is_complete():
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0)
    whole = stream.encode(0, b"0123456789")
    stream.raw(whole[:5])
    (received,) = viewer.streams.values()
    assert bytes(received.body) == whole[:5]
    stream.raw(whole[5:])
    assert viewer.objects == [(0, 0, b"0123456789")]


def test_upstream_reset_is_downstream_reset_at_the_same_object():
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0)
    stream.write(0)
    stream.reset(StreamError.DELIVERY_TIMEOUT)
    (received,) = viewer.streams.values()
    assert received.objects == expect((0, 0))
    assert received.reset == StreamError.DELIVERY_TIMEOUT
    assert not received.fin


def test_a_reopened_subgroup_gets_a_new_stream():
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0)
    stream.write(0)
    stream.reset()
    again = publisher.open(0, first_object=False)
    again.write(1)
    again.close()
    assert viewer.ids == [(0, 0), (0, 1)]
    assert len(viewer.streams) == 2
    assert [s.header.first_object for s in viewer.streams.values()] == [True, False]


def test_stop_sending_ends_that_subgroup_only():
    world = World()
    publisher, viewer, _ = start(world)
    first = publisher.open(0)
    first.write(0)
    (stream_id,) = viewer.streams
    viewer.session.stop(stream_id, StreamError.CANCELLED)
    world.run()
    first.write(1)
    first.close()
    publisher.group(1, 1)
    assert (0, 1) not in viewer.ids
    assert (1, 0) in viewer.ids


def test_a_stopped_subgroup_is_not_opened_again():
    world = World()
    publisher, viewer, _ = start(world)
    first = publisher.open(0)
    first.write(0)
    (stream_id,) = viewer.streams
    viewer.session.stop(stream_id, StreamError.CANCELLED)
    world.run()
    first.reset()
    again = publisher.open(0, first_object=False)
    again.write(1)
    assert len(viewer.streams) == 1


@pytest.mark.parametrize("target", DRAFTS, ids=str)
def test_datagrams(target):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client(target)
    viewer.subscribe()
    publisher.accept()
    publisher.datagram(0, 0)
    publisher.datagram(
        0, 1, b"y" * 1000, properties=encode_pairs([(2, 200)], publisher.draft.varints)
    )
    assert viewer.objects == [*expect((0, 0)), (0, 1, b"y" * 1000)]
    assert viewer.datagrams[1].properties == encode_pairs([(2, 200)], target.varints)
    if target is DRAFT_18:
        assert viewer.datagrams[0].track_alias == 7


def test_a_datagram_too_large_for_a_subscriber_is_dropped_and_counted():
    world = World()
    publisher, viewer, _ = start(world)
    viewer.relay_end.max_datagram_size = 20
    publisher.datagram(0, 0, b"z" * 50)
    assert viewer.datagrams == []
    assert ("datagram-size", "datagram") in world.observer.drops


def test_datagrams_of_a_group_are_replayed_to_who_comes_late():
    world = World()
    publisher, _, _ = start(world)
    publisher.datagram(4, 0)
    publisher.datagram(4, 1)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(4, 1)))
    assert late.ids == [(4, 1)]


def test_end_of_group_and_track_are_forwarded():
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0)
    stream.write(0)
    stream.write(1, status=ObjectStatus.END_OF_TRACK)
    stream.close()
    (received,) = viewer.streams.values()
    assert [item.status for item in received.items] == [
        ObjectStatus.NORMAL,
        ObjectStatus.END_OF_TRACK,
    ]


def test_publish_done_follows_the_last_stream_with_its_count():
    world = World()
    publisher, viewer, _request_id = start(world)
    publisher.group(0, 2)
    last = publisher.open(1)
    last.write(0)
    (upstream,) = publisher.relay_feeds()
    last.close()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.TRACK_ENDED, 2, "over")
    )
    world.run()
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.status == PublishDoneStatus.TRACK_ENDED
    assert done.stream_count == 2
    world.assert_empty()


def test_publish_done_waits_for_streams_that_are_late():
    world = World()
    publisher, viewer, _ = start(world)
    publisher.group(0, 1)
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.TRACK_ENDED, 2, "")
    )
    world.run()
    assert viewer.notifications(ms.PublishDone) == []
    publisher.group(1, 1)
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.stream_count == 2
    assert viewer.ids == [(0, 0), (1, 0)]


def test_publish_done_waits_for_what_is_open_as_long_as_something_comes():
    """A packet that was lost four times in a row is seconds late."""
    world = World()
    publisher, viewer, _ = start(world)
    last = publisher.open(0)
    last.write(0)
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.TRACK_ENDED, 1, "")
    )
    world.run()
    for number in range(1, 4):
        world.wait(0.9 * OPEN_SECONDS)
        last.write(number)
    assert viewer.notifications(ms.PublishDone) == []
    last.close()
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.stream_count == 1
    assert viewer.ids == [(0, number) for number in range(4)]
    world.assert_empty()


@pytest.mark.parametrize(
    ("count", "is_open", "seconds"),
    [(1, True, OPEN_SECONDS), (2, False, UNSEEN_SECONDS), (None, False, UNCOUNTED_SECONDS)],
)
def test_publish_done_waits_so_long_for_what_never_comes(
    count: int | None, is_open: bool, seconds: float
) -> None:
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0)
    stream.write(0)
    if not is_open:
        stream.close()
    (upstream,) = publisher.relay_feeds()
    publisher.session.notify(
        upstream, ms.PublishDone(upstream, PublishDoneStatus.TRACK_ENDED, count, "")
    )
    world.run()
    world.wait(0.99 * seconds)
    assert viewer.notifications(ms.PublishDone) == []
    world.wait(0.02 * seconds)
    (done,) = viewer.notifications(ms.PublishDone)
    assert done.stream_count == 1
    assert viewer.ids == [(0, 0)]
    world.assert_empty()


def test_unsubscribe_resets_open_streams_and_ends_the_upstream_after_the_linger():
    world = World()
    publisher, viewer, request_id = start(world)
    stream = publisher.open(0)
    stream.write(0)
    viewer.session.cancel(request_id)
    world.run()
    stream.write(1)
    assert viewer.ids == [(0, 0)]
    assert publisher.relay_feeds()
    world.wait(6)
    assert publisher.relay_feeds() == []


def test_a_subscriber_within_the_linger_finds_the_track_running():
    world = World()
    publisher, viewer, request_id = start(world)
    viewer.session.cancel(request_id)
    world.wait(3)
    late = world.client()
    assert late.answered(late.subscribe())
    world.wait(10)
    assert publisher.relay_feeds()


def test_unknown_aliases_are_kept_until_the_answer_comes():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.group(0, 3)
    publisher.datagram(1, 0)
    assert viewer.objects == []
    publisher.accept()
    assert viewer.ids == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_data_of_an_alias_that_nobody_explains_is_stopped():
    world = World()
    publisher = world.publisher()
    stream = publisher.open(0, alias=99)
    stream.write(0)
    world.wait(3)
    assert [e.stream_id for e in publisher.take(ev.DataStreamStopped)] == [stream.stream_id]
    (peer,) = world.relay.peers
    assert peer.early == {}
    assert peer.early_bytes == 0
    world.assert_empty()


def test_two_subgroups_of_a_group_in_parallel():
    world = World()
    publisher, viewer, _ = start(world)
    base = publisher.open(0, 0)
    top = publisher.open(0, 1)
    for object_id in range(6):
        (base if object_id % 2 == 0 else top).write(object_id)
    base.close()
    top.close()
    assert viewer.ids == [(0, i) for i in range(6)]
    assert sorted(s.header.subgroup_id for s in viewer.streams.values()) == [0, 1]


def test_subgroup_id_from_the_first_object():
    world = World()
    publisher, viewer, _ = start(world)
    stream = publisher.open(0, None)
    stream.write(4)
    stream.write(5)
    stream.close()
    assert viewer.ids == [(0, 4), (0, 5)]
    (received,) = viewer.streams.values()
    assert received.items[0].subgroup_id == 4


def test_descending_group_order_while_replaying():
    world = World()
    publisher, _, _ = start(world)
    for group in range(3):
        publisher.group(group, 1)
    late = world.client()
    late.subscribe(
        filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)),
        group_order=GroupOrder.DESCENDING,
    )
    assert [s.header.group_id for s in late.streams.values()] == [2, 1, 0]


def test_joined_reported_once_for_each_subscription():
    world = World()
    publisher, _, _ = start(world)
    publisher.group(0, 2)
    publisher.group(1, 2)
    assert len(world.observer.joins) == 1


def test_track_name_is_exact():
    world = World()
    publisher, viewer, _ = start(world)
    other = viewer.subscribe(FullTrackName((b"live", b"demo"), b"audio"))
    (request,) = publisher.requests(ms.Subscribe)
    assert request.track.name == b"audio"
    assert TRACK.name == b"video"
    publisher.session.reject(request.request_id, 0x10, "no audio")
    world.run()
    assert viewer.answer(other).code == 0x10
