"""Requests that end or change in unusual ways, each of them the relay's or a peer's."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import Location
from fastrelay.relay.feed import OPEN_SECONDS
from fastrelay.relay.options import RelayOptions
from unit.relay.harness import NEXT_OBJECT, TRACK, Client, Publisher, World, expect


def playing(viewers: int = 1, **options: object) -> tuple[World, Publisher, list[Client]]:
    world = World(RelayOptions(**options))  # type: ignore[arg-type]
    publisher = world.publisher()
    publisher.announce(b"live")
    clients = [world.client() for _ in range(viewers)]
    for client in clients:
        client.subscribe()
    publisher.accept()
    return world, publisher, clients


def fate(viewer: Client) -> list[PublishDoneStatus]:
    return [done.status for done in viewer.notifications(ms.PublishDone)]


def tell(client: Client, event: ev.Event) -> None:
    """The relay's session with this client says so."""
    client.world.relay.on_event(client.relay_session, event)
    client.world.run()


def offered(world: World, viewer: Client) -> tuple[Publisher, ms.Publish]:
    """A track that somebody publishes, to a viewer who wants all there are."""
    publisher = world.publisher()
    publisher.session.publish(TRACK, 7)
    world.run()
    (offer,) = viewer.requests(ms.Publish)
    return publisher, offer


# Publishers


@pytest.mark.parametrize("way", ["cancelled", "ended"])
def test_a_publisher_ends_its_subscription_without_a_word(way: str) -> None:
    world, publisher, (viewer,) = playing(orphan_seconds=1)
    stream = publisher.open(0)
    stream.write(0)
    (feed,) = publisher.relay_feeds()
    tell(publisher, ev.RequestCancelled(feed) if way == "cancelled" else ev.RequestEnded(feed, 1))
    assert publisher.relay_feeds() == []
    assert [each.reset is not None for each in viewer.streams.values()] == [True]
    world.wait(5)
    assert fate(viewer) == [PublishDoneStatus.TRACK_ENDED]
    world.assert_empty()


def test_a_publisher_that_does_not_extend_its_subscription() -> None:
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept(expires=1000)
    world.wait(1)
    (update,) = publisher.take(ev.RequestUpdated)
    publisher.session.reject_update(
        update.request_id, update.update_id, RequestErrorCode.UNAUTHORIZED, "no"
    )
    world.run()
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    assert publisher.take(ev.RequestUpdated) == []
    world.assert_empty()


def test_a_second_answer_changes_nothing() -> None:
    world, publisher, (viewer,) = playing()
    (feed,) = publisher.relay_feeds()
    tell(publisher, ev.AnswerReceived(ms.SubscribeOk(feed, 99)))
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    world.assert_empty()


def test_notifications_that_say_nothing() -> None:
    world, publisher, (viewer,) = playing()
    (feed,) = publisher.relay_feeds()
    for nothing in (ms.PublishStateNotify(), ms.NamespaceDone((b"live",))):
        tell(publisher, ev.NotificationReceived(feed, nothing))
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    world.assert_empty()


# Namespaces upstream


def watched() -> tuple[World, Publisher, ms.SubscribeNamespace, Client]:
    world = World()
    upstream = world.upstream()
    (watch,) = upstream.requests(ms.SubscribeNamespace)
    upstream.session.respond(ms.RequestOk(watch.request_id))
    viewer = world.client()
    viewer.session.subscribe_namespace(())
    upstream.session.notify(watch.request_id, ms.NamespaceAdded((b"far",)))
    world.run()
    assert len(viewer.notifications(ms.NamespaceAdded)) == 1
    return world, upstream, watch, viewer


def test_namespaces_go_that_were_never_there() -> None:
    world, upstream, watch, viewer = watched()
    for notification in (ms.NamespaceDone((b"near",)), ms.PublishBlocked((b"far",), b"video")):
        tell(upstream, ev.NotificationReceived(watch.request_id, notification))
    assert viewer.notifications(ms.NamespaceDone) == []
    world.assert_empty()


def test_an_upstream_stops_telling_namespaces() -> None:
    world, upstream, watch, viewer = watched()
    tell(upstream, ev.RequestEnded(watch.request_id, 0))
    assert [n.suffix for n in viewer.notifications(ms.NamespaceDone)] == [(b"far",)]
    world.assert_empty()


@pytest.mark.parametrize("way", ["refused", "ended", "lost"])
def test_an_upstream_that_does_not_offer_tracks(way: str) -> None:
    """The request is over; nothing is cancelled when nobody wants the tracks any more."""
    world = World()
    upstream = world.upstream()
    viewer = world.client()
    request_id = viewer.session.subscribe_tracks((b"live",))
    world.run()
    (request,) = upstream.requests(ms.SubscribeTracks)
    if way == "refused":
        upstream.session.reject(request.request_id, RequestErrorCode.NOT_SUPPORTED, "no")
        world.run()
    elif way == "ended":
        tell(upstream, ev.RequestEnded(request.request_id, 0))
    else:
        upstream.leave()
    viewer.session.cancel(request_id)
    world.run()
    assert upstream.take(ev.RequestCancelled) == []
    world.assert_empty()


def test_an_upstream_gives_up_a_namespace() -> None:
    world = World()
    upstream = world.upstream()
    publisher = world.publisher()
    announced = publisher.announce(b"live")
    (passed,) = upstream.requests(ms.PublishNamespace)
    tell(upstream, ev.RequestCancelled(passed.request_id))
    publisher.session.cancel(announced)
    world.run()
    assert upstream.take(ev.RequestCancelled) == []
    world.assert_empty()


def test_tracks_that_are_wanted_are_to_come_without_objects() -> None:
    world = World()
    viewer = world.client()
    request_id = viewer.session.subscribe_tracks((b"live",))
    world.run()
    viewer.update(request_id, forward=False)
    viewer.update(request_id)
    _, offer = offered(world, viewer)
    assert offer.parameters.forward is False
    assert len(viewer.take(ev.UpdateAnswered)) == 2
    world.assert_empty()


# Subscriptions


def test_a_viewer_that_refuses_a_track() -> None:
    world = World()
    viewer = world.client()
    viewer.session.subscribe_tracks((b"live",))
    publisher, offer = offered(world, viewer)
    viewer.session.reject(offer.request_id, RequestErrorCode.UNINTERESTED, "no")
    world.run()
    publisher.group(0, 1)
    assert viewer.objects == []
    assert world.relay.tracks[TRACK].subscriptions == {}
    world.assert_empty()


def test_a_viewer_that_accepts_a_track_twice() -> None:
    world = World()
    viewer = world.client()
    viewer.session.subscribe_tracks((b"live",))
    publisher, offer = offered(world, viewer)
    viewer.session.respond(ms.RequestOk(offer.request_id))
    world.run()
    tell(viewer, ev.AnswerReceived(ms.RequestOk(offer.request_id, Parameters(forward=False))))
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    world.assert_empty()


def test_an_update_moves_the_range_away_from_a_stream_under_way() -> None:
    world, publisher, (viewer,) = playing()
    (request_id,) = world.relay._peers[viewer.relay_session].handles
    stream = publisher.open(0)
    stream.write(0)
    viewer.update(request_id, filter=LocationFilter(FilterKind.ABSOLUTE, Location(2, 0)))
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    publisher.group(2, 1)
    assert viewer.objects == expect((0, 0), (2, 0))
    assert [each.reset is not None for each in viewer.streams.values()] == [True, False]
    world.assert_empty()


@pytest.mark.parametrize("way", ["unsubscribes", "leaves"])
def test_who_goes_while_the_end_is_under_way_is_told_nothing(way: str) -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    viewer = world.client()
    request_id = viewer.subscribe()
    stream = publisher.open(0)
    stream.write(0)
    viewer.stall(0)
    stream.write(1, bytes(2000))
    stream.write(2, bytes(2000))
    stream.close()
    (feed,) = publisher.relay_feeds()
    publisher.session.notify(feed, ms.PublishDone(feed, PublishDoneStatus.TRACK_ENDED, 1, ""))
    world.run()
    assert fate(viewer) == []
    if way == "unsubscribes":
        viewer.session.cancel(request_id)
    else:
        viewer.leave()
    world.run()
    viewer.resume()
    assert fate(viewer) == []


def stalled_fill(draft_22_viewer: Client) -> int:
    """A subscription with a fill that waits for the transport; the subscription's id."""
    draft_22_viewer.stall(0)
    return draft_22_viewer.subscribe(
        filter=NEXT_OBJECT,
        fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=0)),
    )


@pytest.mark.parametrize("way", ["unsubscribes", "is given up", "leaves", "ends"])
def test_a_subscription_goes_with_its_fill(way: str) -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    publisher.open(0).write(0, bytes(2000))
    viewer = world.client(DRAFT_22)
    request_id = stalled_fill(viewer)
    assert world.relay.counters.fetches == 1
    if way == "unsubscribes":
        viewer.session.cancel(request_id)
    elif way == "is given up":
        world.relay.tracks[TRACK].malformed("a test says so")
    elif way == "leaves":
        viewer.leave()
    else:
        (feed,) = publisher.relay_feeds()
        publisher.session.notify(
            feed, ms.PublishDone(feed, PublishDoneStatus.TRACK_ENDED, None, "")
        )
        world.wait(OPEN_SECONDS + 1)
    viewer.resume()
    assert world.relay.counters.fetches == 0
    expected = {
        "is given up": [PublishDoneStatus.MALFORMED_TRACK],
        "ends": [PublishDoneStatus.TRACK_ENDED],
    }
    assert fate(viewer) == expected.get(way, [])
    world.assert_empty()


def test_fills_of_nothing() -> None:
    """Of a track without objects, and of a range that lies ahead of them."""
    world, publisher, _ = playing()
    viewer = world.client(DRAFT_22)
    relative = LocationFilter(FilterKind.RELATIVE, groups_back=0)
    request_id = viewer.subscribe(filter=NEXT_OBJECT, fill=Parameters(filter=relative))
    publisher.group(0, 1)
    ahead = LocationFilter(FilterKind.ABSOLUTE, Location(5, 0))
    viewer.update(request_id, fill=Parameters(filter=ahead))
    assert viewer.objects == expect((0, 0))
    assert all(stream.request_id is None for stream in viewer.streams.values())
    world.assert_empty()


# Fetches


def test_a_joining_fetch_without_its_subscription() -> None:
    world, _, (viewer,) = playing()
    fetch_id = viewer.joining_fetch(400)
    assert viewer.answer(fetch_id).code == RequestErrorCode.INVALID_JOINING_REQUEST_ID
    world.assert_empty()


def test_a_joining_fetch_that_is_cancelled_before_its_subscription_is_accepted() -> None:
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    fetch_id = viewer.joining_fetch(request_id)
    viewer.session.cancel(fetch_id)
    publisher.accept(largest=(3, 0))
    assert not viewer.answered(fetch_id)
    assert world.relay.counters.fetches == 0
    world.assert_empty()


def test_a_fetch_goes_with_its_session() -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    publisher.open(0).write(0, bytes(2000))
    viewer = world.client()
    viewer.stall(0)
    viewer.fetch((0, 0), 0)
    assert world.relay.counters.fetches == 1
    viewer.leave()
    assert world.relay.counters.fetches == 0
    world.assert_empty()


@pytest.mark.parametrize("owned", [False, True])
def test_a_fetch_stream_is_stopped_while_it_waits(owned: bool) -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    stream = publisher.open(0)
    stream.write(0, bytes(2000))
    viewer = world.client(DRAFT_22)
    if owned:
        stalled_fill(viewer)
    else:
        viewer.stall(0)
        viewer.fetch((0, 0), 0)
    (peer,) = [p for p in world.relay.peers if p.session is viewer.relay_session]
    (stopped,) = [i for i, flow in peer.outflows.items() if hasattr(flow, "span")]
    tell(viewer, ev.DataStreamStopped(stopped, 1))
    assert world.relay.counters.fetches == 0
    viewer.resume()
    assert viewer.closed is None
    world.assert_empty()


def test_an_update_of_a_fetch_that_changes_nothing() -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    publisher.open(0).write(0, bytes(2000))
    viewer = world.client()
    viewer.stall(0)
    fetch_id = viewer.fetch((0, 0), 0)
    (peer,) = [p for p in world.relay.peers if p.session is viewer.relay_session]
    fetch = peer.handles[fetch_id]
    before = fetch.priority  # type: ignore[attr-defined]
    viewer.update(fetch_id)
    assert fetch.priority == before  # type: ignore[attr-defined]
    assert len(viewer.take(ev.UpdateAnswered)) == 1
    world.assert_empty()


def test_two_fetches_of_a_session_take_turns_by_priority() -> None:
    world, publisher, _ = playing(high_water_bytes=10)
    publisher.group(0, 4)
    viewer = world.client()
    viewer.stall(0)
    low = viewer.fetch((0, 0), 0, subscriber_priority=9)
    high = viewer.fetch((0, 0), 0, subscriber_priority=1)
    before = [each for each in (low, high) if viewer.answered(each)]
    assert before == [low, high]
    viewer.resume()
    assert viewer.fetched(low).objects == viewer.fetched(high).objects
    finished = [stream.request_id for stream in viewer.streams.values() if stream.fin]
    assert sorted(finished) == sorted([low, high])
    world.assert_empty()


def test_the_range_of_a_fetch_as_a_filter() -> None:
    world, publisher, _ = playing()
    for group in range(3):
        publisher.group(group, 1)
    viewer = world.client(DRAFT_22)
    wanted = LocationFilter(FilterKind.ABSOLUTE, Location(1, 0), end_group=1)
    fetch_id = viewer.fetch((0, 0), 9, filter=wanted)
    assert viewer.fetched(fetch_id).objects == expect((1, 0))
    world.assert_empty()


def test_a_refusal_with_a_code_that_nobody_knows() -> None:
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.subscribe()
    (request,) = publisher.requests(ms.Subscribe)
    publisher.session.reject(request.request_id, 0x7777, "strange")
    world.run()
    assert viewer.answer(request_id).code == 0x7777
    assert world.relay.counters.requests_rejected == {"OTHER": 1}
    world.assert_empty()


def test_requests_of_a_session_that_is_going_away() -> None:
    world, publisher, (viewer,) = playing()
    tell(viewer, ev.GoAwayReceived(ms.GoAway()))
    request_id = viewer.fetch((0, 0), 0)
    assert viewer.answer(request_id).code == RequestErrorCode.GOING_AWAY
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    world.assert_empty()
