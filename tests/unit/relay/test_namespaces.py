"""Namespaces: who publishes them, who is told, chains of relays."""

from __future__ import annotations

import json

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.keyvalue import encode
from fastrelay.moqt.messages import Parameters
from fastrelay.relay import loops
from fastrelay.relay.options import Deviations, Limits, PolicyRule, RelayOptions
from fastrelay.relay.policy import Policy
from fastrelay.relay.ports import PeerInfo
from unit.relay.harness import TRACK, World, expect

DRAFTS = [DRAFT_16, DRAFT_18, DRAFT_22]
SECRET = Parameters(tokens=(ms.Token(ms.TokenAction.USE_VALUE, type=0, value=b"secret"),))
WRONG = Parameters(tokens=(ms.Token(ms.TokenAction.USE_VALUE, type=0, value=b"wrong"),))


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_namespaces_under_a_prefix_are_told_as_they_come_and_go(draft):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live", b"a")
    publisher.announce(b"other")
    viewer = world.client(draft)
    request_id = viewer.session.subscribe_namespace((b"live",))
    world.run()
    assert isinstance(viewer.answer(request_id), ms.RequestOk)
    second = publisher.announce(b"live", b"b", b"c")
    assert viewer.notifications(ms.NamespaceAdded) == [
        ms.NamespaceAdded((b"a",)),
        ms.NamespaceAdded((b"b", b"c")),
    ]
    other = world.publisher()
    third = other.announce(b"live", b"b", b"c")
    publisher.session.cancel(second)
    world.run()
    assert viewer.notifications(ms.NamespaceDone) == []
    other.session.cancel(third)
    world.run()
    assert viewer.notifications(ms.NamespaceDone) == [ms.NamespaceDone((b"b", b"c"))]
    publisher.leave()
    assert viewer.notifications(ms.NamespaceDone) == [ms.NamespaceDone((b"a",))]
    viewer.session.cancel(request_id)
    world.publisher().announce(b"live", b"z")
    assert viewer.notifications(ms.NamespaceAdded) == []
    world.assert_empty()


def test_the_prefix_can_be_changed():
    world = World()
    world.publisher().announce(b"one", b"x")
    world.publisher().announce(b"two", b"y")
    viewer = world.client()
    request_id = viewer.session.subscribe_namespace((b"one",))
    world.run()
    viewer.update(request_id, namespace_prefix=(b"two",))
    assert [n.suffix for n in viewer.notifications(ms.NamespaceAdded)] == [(b"x",), (b"y",)]
    viewer.update(request_id)
    world.publisher().announce(b"two", b"z")
    assert [n.suffix for n in viewer.notifications(ms.NamespaceAdded)] == [(b"z",)]


def test_the_prefix_of_subscribe_tracks_can_be_changed():
    world = World()
    publisher = world.publisher()
    publisher.session.publish(TRACK, 1)
    viewer = world.client()
    request_id = viewer.session.subscribe_tracks((b"other",), Parameters(forward=True))
    world.run()
    assert viewer.requests(ms.Publish) == []
    viewer.update(request_id, namespace_prefix=(b"live",), forward=False)
    (offer,) = viewer.requests(ms.Publish)
    assert offer.parameters.forward is False


def test_overlapping_prefixes():
    world = World()
    viewer = world.client()
    viewer.session.subscribe_namespace((b"live",))
    second = viewer.session.subscribe_namespace((b"live", b"demo"))
    world.run()
    assert viewer.answer(second).code == RequestErrorCode.PREFIX_OVERLAP


@pytest.mark.parametrize("options", [0, 1, 2])
def test_options_of_draft_16(options):
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live", b"demo")
    publisher.session.publish(TRACK, 5)
    viewer = world.client(DRAFT_16)
    request_id = viewer.session.subscribe_namespace((b"live",), Parameters(), options)
    world.run()
    assert len(viewer.requests(ms.Publish)) == (options != 1)
    assert len(viewer.notifications(ms.NamespaceAdded)) == (options != 0)
    viewer.session.cancel(request_id)
    world.run()
    world.publisher().announce(b"live", b"x")
    assert viewer.notifications(ms.NamespaceAdded) == []
    world.assert_empty()


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_a_silent_session_is_told_unasked_where_the_draft_lets_relays(draft):
    world = World()
    publisher = world.publisher()
    first = publisher.announce(b"live")
    player = world.client(draft)
    asking = world.client(draft)
    asking.session.subscribe_namespace((b"none",))
    world.run()
    world.wait(1)
    told = player.requests(ms.PublishNamespace)
    assert [r.namespace for r in told] == ([(b"live",)] if draft is not DRAFT_22 else [])
    assert asking.requests(ms.PublishNamespace) == []
    assert publisher.requests(ms.PublishNamespace) == []
    if draft is DRAFT_22:
        return
    player.session.respond(ms.RequestOk(told[0].request_id))
    publisher.announce(b"more")
    (more,) = player.requests(ms.PublishNamespace)
    player.session.reject(more.request_id, RequestErrorCode.UNINTERESTED, "no")
    publisher.session.cancel(first)
    world.run()
    assert len(player.take(ev.RequestCancelled)) == 1
    world.assert_empty()


@pytest.mark.parametrize("draft", DRAFTS, ids=str)
def test_who_asks_late_is_told_everything_once(draft):
    world = World()
    viewer = world.client(draft)
    world.wait(1)
    viewer.session.subscribe_namespace((b"live",), options=1)
    world.run()
    publisher = world.publisher()
    for name in (b"live", b"other"):
        publisher.announce(name)
    assert len(viewer.notifications(ms.NamespaceAdded)) == 1
    assert viewer.requests(ms.PublishNamespace) == []


def test_unasked_announcements_can_be_switched_off():
    world = World(RelayOptions(deviations=Deviations(announce_unasked=False)))
    world.publisher().announce(b"live")
    player = world.client()
    world.wait(2)
    assert player.requests(ms.PublishNamespace) == []


# Policy


def test_the_longest_rule_decides():
    policy = Policy(
        (
            PolicyRule((), publish=(), subscribe=None),
            PolicyRule((b"live",), publish=(b"secret",), subscribe=(b"see", b"secret")),
            PolicyRule((b"live", b"open")),
        )
    )
    token = ((0, b"secret"),)
    assert not policy.may_publish((b"x",), token)
    assert policy.may_subscribe((b"x",), ())
    assert policy.may_publish((b"live", b"demo"), token)
    assert not policy.may_publish((b"live", b"demo"), ((1, b"secret"),))
    assert not policy.may_publish((b"live",), ((0, b"see"),))
    assert policy.may_subscribe((b"live",), ((0, b"x"), (0, b"see")))
    assert policy.may_publish((b"live", b"open", b"a"), ())
    assert Policy(()).may_publish((b"a",), ())
    assert Policy((PolicyRule((b"a",), publish=()),)).may_publish((b"b",), ())


CLOSED = RelayOptions(
    policy=(PolicyRule((b"live",), publish=(b"secret",), subscribe=(b"secret",)),)
)


def test_every_request_is_checked():
    world = World(CLOSED)
    stranger = world.client()
    session = stranger.session
    ids = [
        session.subscribe(TRACK, WRONG),
        session.fetch(ms.FetchKind.STANDALONE, track=TRACK, end_group=3),
        session.track_status(TRACK),
        session.publish(TRACK, 1),
        session.publish_namespace((b"live",)),
        session.subscribe_namespace((b"live",)),
        session.subscribe_tracks((b"live", b"x")),
    ]
    world.run()
    assert {stranger.answer(i).code for i in ids} == {RequestErrorCode.UNAUTHORIZED}
    assert world.relay.counters.requests_rejected == {"UNAUTHORIZED": len(ids)}
    world.assert_empty()


def test_tokens_of_setup_and_of_requests_count():
    world = World(CLOSED)
    publisher = world.publisher(tokens=SECRET.tokens)
    publisher.announce(b"live")
    viewer = world.client()
    request_id = viewer.session.subscribe(TRACK, SECRET)
    world.run()
    publisher.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    viewer.update(request_id, tokens=SECRET.tokens)
    assert viewer.notifications(ms.PublishDone) == []
    viewer.update(request_id, tokens=WRONG.tokens)
    assert len(viewer.notifications(ms.PublishDone)) == 1


def test_secret_namespaces_are_not_told_to_strangers():
    world = World(CLOSED)
    publisher = world.publisher(tokens=SECRET.tokens)
    publisher.announce(b"live", b"a")
    publisher.announce(b"free")
    stranger, player = world.client(), world.client()
    stranger.session.subscribe_namespace(())
    world.run()
    world.wait(1)
    assert [n.suffix for n in stranger.notifications(ms.NamespaceAdded)] == [(b"free",)]
    assert [r.namespace for r in player.requests(ms.PublishNamespace)] == [(b"free",)]


def test_updates_of_namespace_requests_are_checked():
    world = World(CLOSED)
    stranger = world.client(tokens=())
    names = stranger.session.subscribe_namespace((b"free",))
    tracks = stranger.session.subscribe_tracks((b"free",))
    world.run()
    stranger.update(names, namespace_prefix=(b"live",))
    stranger.update(tracks, namespace_prefix=(b"live",))
    codes = [e.answer.code for e in stranger.take(ev.UpdateAnswered)]
    assert codes == [RequestErrorCode.UNAUTHORIZED] * 2
    publisher = world.publisher()
    namespace = publisher.session.publish_namespace((b"live",), SECRET)
    world.run()
    publisher.update(namespace, tokens=SECRET.tokens)
    publisher.update(namespace, tokens=WRONG.tokens)
    answers = [type(e.answer) for e in publisher.take(ev.UpdateAnswered)]
    assert answers == [ms.RequestOk, ms.RequestError]
    assert len(world.relay.namespaces) == 0


# Limits


def test_limits():
    limits = Limits(
        sessions=3, requests_per_session=4, tracks=2, namespaces=2, namespaces_per_session=1
    )
    world = World(RelayOptions(limits=limits))
    one, two, three = world.publisher(), world.publisher(), world.publisher()
    assert not world.relay.accepting
    one.announce(b"a")
    assert one.answer(one.announce(b"b")).code == RequestErrorCode.EXCESSIVE_LOAD
    two.announce(b"b")
    assert three.answer(three.announce(b"c")).code == RequestErrorCode.EXCESSIVE_LOAD
    names = three.session.subscribe_namespace(())
    world.run()
    assert three.answer(names).code == RequestErrorCode.NAMESPACE_TOO_LARGE
    ids = [
        three.subscribe(ms.FullTrackName((b"x",), b"%d" % i), rendezvous_timeout=9000)
        for i in range(4)
    ]
    assert three.answer(ids[2]).code == RequestErrorCode.EXCESSIVE_LOAD
    assert three.answer(ids[2]).retry_after
    for request in (
        three.session.track_status(TRACK),
        three.session.fetch(ms.FetchKind.STANDALONE, track=TRACK, end_group=3),
        three.session.publish(TRACK, 1),
    ):
        world.run()
        assert three.answer(request).code == RequestErrorCode.EXCESSIVE_LOAD
    world.assert_empty()


def test_requests_of_a_session_are_limited():
    world = World(RelayOptions(limits=Limits(requests_per_session=2)))
    viewer = world.client()
    ids = [
        viewer.subscribe(ms.FullTrackName((b"x",), b"%d" % i), rendezvous_timeout=9000)
        for i in range(3)
    ]
    assert viewer.answer(ids[2]).code == RequestErrorCode.EXCESSIVE_LOAD


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18, DRAFT_22], ids=str)
def test_tracks_beyond_the_requests_of_a_session_are_named_as_blocked(draft):
    world = World(RelayOptions(limits=Limits(requests_per_session=2)))
    viewer = world.client(draft)
    if draft is DRAFT_16:
        viewer.session.subscribe_namespace((b"live",), options=0)
    else:
        viewer.session.subscribe_tracks((b"live",))
    world.run()
    for name in (b"one", b"two"):
        publisher = world.publisher()
        publisher.session.publish(ms.FullTrackName((b"live", b"demo"), name), 1)
        world.run()
    assert [request.track.name for request in viewer.requests(ms.Publish)] == [b"one"]
    blocked = viewer.notifications(ms.PublishBlocked)
    assert blocked == ([] if draft is DRAFT_16 else [ms.PublishBlocked((b"demo",), b"two")])
    world.assert_empty()


def test_tracks_are_offered_without_their_properties_on_request():
    world = World()
    publisher = world.publisher(DRAFT_22)
    properties = encode([(0x22, 1)], DRAFT_22.varints)
    track = ms.FullTrackName((b"live", b"demo"), b"one")
    publisher.session.publish(track, 1, properties=properties)
    told = []
    for wanted in (False, True):
        viewer = world.client(DRAFT_22)
        viewer.session.subscribe_tracks((b"live",), Parameters(include_properties=wanted))
        world.run()
        told += [request.properties for request in viewer.requests(ms.Publish)]
    assert told == [b"", properties]


# Upstreams


class Shell:
    """Upstreams that a test connects by hand."""

    def __init__(self) -> None:
        self.wanted = 0
        self.attempts = 0

    def want(self) -> int:
        self.wanted += 1
        return self.attempts


def test_a_track_nobody_here_publishes_is_asked_from_upstream():
    world = World()
    upstream = world.upstream()
    viewer = world.client()
    request_id = viewer.subscribe()
    upstream.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    upstream.group(0, 2)
    assert viewer.objects == expect((0, 0), (0, 1))


def test_a_local_publisher_is_enough():
    world = World()
    upstream = world.upstream()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    assert len(publisher.requests(ms.Subscribe)) == 1
    assert upstream.requests(ms.Subscribe) == []


def test_the_next_upstream_is_asked_when_one_refuses():
    world = World()
    upstreams = [world.upstream(), world.upstream(DRAFT_16)]
    viewer = world.client()
    request_id = viewer.subscribe()
    for upstream in upstreams:
        (request,) = upstream.requests(ms.Subscribe)
        upstream.session.reject(request.request_id, RequestErrorCode.DOES_NOT_EXIST, "no")
        world.run()
    assert viewer.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST
    world.assert_empty()


def test_another_upstream_takes_over():
    world = World()
    one, two = world.upstream(), world.upstream()
    viewer = world.client()
    viewer.subscribe()
    one.accept()
    one.group(0, 1)
    one.leave()
    two.accept(largest=(0, 0))
    two.group(1, 1)
    assert viewer.ids == [(0, 0), (1, 0)]


def test_subscribers_wait_for_upstreams_that_are_being_connected():
    shell = Shell()
    shell.attempts = 1
    world = World(upstreams=shell)
    viewer, other = world.client(), world.client()
    request_id = viewer.subscribe()
    assert not viewer.answered(request_id)
    assert shell.wanted == 1
    upstream = world.upstream()
    upstream.accept()
    assert isinstance(viewer.answer(request_id), ms.SubscribeOk)
    upstream.leave()
    missing = ms.FullTrackName((b"no",), b"where")
    request_id = other.subscribe(missing)
    assert not other.answered(request_id)
    shell.attempts = 0
    world.relay.upstream_failed("moqt://upstream:4443")
    world.run()
    assert other.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST


def test_upstreams_of_some_prefixes_are_asked_for_those_only():
    world = World()
    info = PeerInfo(upstream="moqt://u", prefixes=((b"sport",),))
    upstream = type(world.upstream())(world, DRAFT_18, info)
    (watch,) = upstream.requests(ms.SubscribeNamespace)
    assert watch.prefix == (b"sport",)
    world.clients[0].leave()
    viewer = world.client()
    assert viewer.answer(viewer.subscribe()).code == RequestErrorCode.DOES_NOT_EXIST
    viewer.subscribe(ms.FullTrackName((b"sport", b"1"), b"v"))
    assert len(upstream.requests(ms.Subscribe)) == 1
    publisher = world.publisher()
    publisher.announce(b"news")
    publisher.announce(b"sport", b"2")
    assert [r.namespace for r in upstream.requests(ms.PublishNamespace)] == [(b"sport", b"2")]


def test_namespaces_are_passed_up_and_down():
    world = World()
    publisher = world.publisher()
    early = publisher.announce(b"early")
    upstream = world.upstream()
    publisher.announce(b"late")
    announced = upstream.requests(ms.PublishNamespace)
    assert [r.namespace for r in announced] == [(b"early",), (b"late",)]
    publisher.session.cancel(early)
    world.run()
    assert [e.request_id for e in upstream.take(ev.RequestCancelled)] == [announced[0].request_id]
    (watch,) = upstream.requests(ms.SubscribeNamespace)
    upstream.session.respond(ms.RequestOk(watch.request_id))
    for name in (b"far", b"late"):
        upstream.session.notify(watch.request_id, ms.NamespaceAdded((name,)))
    viewer = world.client()
    viewer.session.subscribe_namespace(())
    world.run()
    told = {n.suffix for n in viewer.notifications(ms.NamespaceAdded)}
    assert told == {(b"far",), (b"late",)}
    upstream.session.notify(watch.request_id, ms.NamespaceDone((b"far",)))
    world.run()
    assert [n.suffix for n in viewer.notifications(ms.NamespaceDone)] == [(b"far",)]
    assert upstream.requests(ms.PublishNamespace) == []
    upstream.session.notify(watch.request_id, ms.NamespaceAdded((b"again",)))
    world.run()
    upstream.leave()
    assert [n.suffix for n in viewer.notifications(ms.NamespaceDone)] == [(b"again",)]
    world.assert_empty()


def test_an_upstream_that_announced_the_namespace_is_asked_first():
    world = World()
    one, two = world.upstream(), world.upstream()
    (watch,) = two.requests(ms.SubscribeNamespace)
    two.session.respond(ms.RequestOk(watch.request_id))
    two.session.notify(watch.request_id, ms.NamespaceAdded((b"live",)))
    world.run()
    world.client().subscribe()
    assert one.requests(ms.Subscribe) == []
    assert len(two.requests(ms.Subscribe)) == 1


def test_an_upstream_that_refuses_to_tell_namespaces():
    world = World()
    upstream = world.upstream()
    (watch,) = upstream.requests(ms.SubscribeNamespace)
    upstream.session.reject(watch.request_id, RequestErrorCode.NOT_SUPPORTED, "no")
    world.run()
    world.client().subscribe()
    assert len(upstream.requests(ms.Subscribe)) == 1
    world.assert_empty()


def test_all_tracks_of_a_prefix_are_asked_from_upstream_too():
    world = World()
    viewer, other = world.client(), world.client()
    narrow = viewer.session.subscribe_tracks((b"live", b"demo"))
    world.run()
    upstream = world.upstream()
    (request,) = upstream.requests(ms.SubscribeTracks)
    assert request.prefix == (b"live", b"demo")
    assert request.parameters.forward is False
    wide = other.session.subscribe_tracks((b"live",))
    world.run()
    (cancelled,) = upstream.take(ev.RequestCancelled)
    assert cancelled.request_id == request.request_id
    (request,) = upstream.requests(ms.SubscribeTracks)
    assert request.prefix == (b"live",)
    upstream.session.respond(ms.RequestOk(request.request_id))
    pushed = upstream.session.publish(TRACK, 7, Parameters(forward=False))
    world.run()
    (offer,) = viewer.requests(ms.Publish)
    viewer.session.respond(ms.RequestOk(offer.request_id))
    world.run()
    (update,) = upstream.take(ev.RequestUpdated)
    assert (update.request_id, update.parameters.forward) == (pushed, True)
    upstream.group(0, 1)
    assert viewer.objects == expect((0, 0))
    viewer.session.cancel(narrow)
    other.session.cancel(wide)
    world.run()
    assert len(upstream.take(ev.RequestCancelled)) == 1
    world.assert_empty()


# Loops


def relay_like(world: World, number: int, *, upstream: bool = False):
    """A peer that is such a relay itself."""
    text = loops.implementation("0.1", bytes([number]) * loops.ID_LENGTH)
    make = world.upstream if upstream else world.publisher
    return make(implementation=text)


def test_ids_in_the_implementation():
    relay_id = loops.new_id()
    assert loops.id_of(loops.implementation("1.0", relay_id)) == relay_id
    for text in (None, "moq-rs", "x relay=12", "x relay=" + "zz" * 8):
        assert loops.id_of(text) is None


def test_requests_carry_the_relays_they_came_through():
    world = World()
    upstream = relay_like(world, 1, upstream=True)
    downstream = relay_like(world, 2)
    hops = loops.token(b"", b"\2" * 8)
    downstream.session.subscribe(TRACK, Parameters(tokens=(hops,)))
    world.run()
    (request,) = upstream.requests(ms.Subscribe)
    (token,) = request.parameters.tokens
    assert loops.contains(token.value, world.relay.id)
    assert loops.contains(token.value, b"\2" * 8)


def test_a_request_that_came_through_this_relay_is_refused():
    world = World()
    viewer = world.client()
    tokens = (loops.token(b"", world.relay.id),)
    request_id = viewer.session.subscribe(TRACK, Parameters(tokens=tokens))
    world.run()
    assert viewer.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST


def test_a_request_does_not_go_back_to_the_relay_it_came_from():
    world = World()
    upstream = relay_like(world, 1, upstream=True)
    same_relay = relay_like(world, 1)
    request_id = same_relay.subscribe()
    assert upstream.requests(ms.Subscribe) == []
    assert same_relay.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST


def test_a_request_does_not_go_to_a_relay_it_came_through():
    world = World()
    upstream = relay_like(world, 1, upstream=True)
    downstream = relay_like(world, 2)
    hops = loops.token(b"\1" * 8, b"\2" * 8)
    request_id = downstream.session.subscribe(TRACK, Parameters(tokens=(hops,)))
    namespace = downstream.session.publish_namespace((b"x",), Parameters(tokens=(hops,)))
    world.run()
    assert downstream.answer(request_id).code == RequestErrorCode.DOES_NOT_EXIST
    assert isinstance(downstream.answer(namespace), ms.RequestOk)
    assert upstream.requests(ms.PublishNamespace) == []


def test_an_upstream_that_is_the_relay_itself():
    world = World()
    upstream = world.upstream(implementation=world.relay.implementation)
    viewer = world.client()
    assert viewer.answer(viewer.subscribe()).code == RequestErrorCode.DOES_NOT_EXIST
    assert upstream.requests(ms.Subscribe) == []
    assert "upstream is this relay itself" in world.observer.logs


# Life of sessions


def test_draining():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    world.relay.drain("moqt://other", 5000)
    world.run()
    assert not world.relay.accepting
    assert [type(e) for e in viewer.take(ev.GoAwayReceived)] == [ev.GoAwayReceived]
    request_id = viewer.subscribe(ms.FullTrackName((b"live",), b"new"))
    assert viewer.answer(request_id).code == RequestErrorCode.GOING_AWAY
    publisher.group(0, 1)
    assert viewer.objects == expect((0, 0))
    assert not world.relay.idle
    world.relay.close()
    world.run()
    assert world.relay.idle
    assert viewer.closed is not None
    world.relay.close()


def test_a_publisher_that_goes_away_is_not_asked_any_more():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    publisher.session.goaway("", 0)
    world.run()
    viewer = world.client()
    assert viewer.answer(viewer.subscribe()).code == RequestErrorCode.DOES_NOT_EXIST


def test_status_is_plain_values():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client(DRAFT_16)
    viewer.subscribe()
    publisher.accept()
    publisher.group(0, 2)
    status = json.loads(json.dumps(world.relay.status()))
    assert status["relay"]["sessions"] == 2
    assert status["namespaces"] == [{"namespace": "live", "publishers": ["publisher-0"]}]
    (track,) = status["tracks"]
    assert (track["largest"], track["subscribers"], track["groups"]) == ([0, 1], 1, 1)
    assert [s["draft"] for s in status["sessions"]] == [18, 16]
    (subscription,) = status["sessions"][1]["subscriptions"]
    assert subscription["state"] == "active"
    assert world.relay.counters.objects_out == 2


def test_events_after_the_end_are_ignored():
    world = World()
    viewer = world.client()
    session = viewer.relay_session
    viewer.leave()
    world.relay.on_event(session, ev.Writable())
    world.relay.writable(session)
    world.relay.session_closed(session)
    assert world.relay.idle


def test_what_was_passed_on_goes_with_its_source_or_its_peer() -> None:
    """An upstream that comes back is told again; one that is told of a withdrawal once."""
    world = World()
    publisher = world.publisher()
    publisher.announce(b"a")
    publisher.announce(b"b")
    table = world.relay.namespaces
    upstream = world.upstream()
    peer = world.relay._peers[upstream.relay_session]
    assert table.is_echo(peer, (b"a",))
    assert table.is_echo(peer, (b"b",))
    publisher.leave()
    assert not table.is_echo(peer, (b"a",))
    again = world.publisher()
    again.announce(b"a")
    upstream.leave()
    world.run()
    assert not table.is_echo(peer, (b"a",))
    world.assert_empty()
