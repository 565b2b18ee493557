"""Every request from its beginning to its end, on each draft, whatever the chunking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from fastrelay.moqt.codes import (
    PublishDoneStatus,
    RequestErrorCode,
    SessionError,
    StreamError,
)
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import (
    AnswerReceived,
    DataStreamReset,
    DataStreamStopped,
    FetchData,
    FetchOpened,
    GoAwayReceived,
    NotificationReceived,
    RequestCancelled,
    RequestEnded,
    RequestReceived,
    RequestUpdated,
    SessionClosed,
    SetupReceived,
    SubgroupData,
    SubgroupHeader,
    SubgroupOpened,
    UpdateAnswered,
    Writable,
)
from fastrelay.moqt.fetches import FetchEncoder
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    FilterKind,
    LocationFilter,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    PublishBlocked,
    PublishDone,
    PublishStateNotify,
    Redirect,
    RequestError,
    RequestOk,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    Token,
    TokenAction,
)
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location
from fastrelay.moqt.objects import encode_object
from unit.moqt.wires import Pair

TRACK = FullTrackName((b"live", b"demo"), b"video")
OTHER = FullTrackName((b"live", b"demo"), b"audio")

T = TypeVar("T")


@pytest.fixture(params=list(DRAFTS.values()), ids=str)
def draft(request: pytest.FixtureRequest) -> Draft:
    value: Draft = request.param
    return value


@pytest.fixture(params=[None, 1, 2], ids=["as sent", "chunks 1", "chunks 2"])
def pair(request: pytest.FixtureRequest, draft: Draft) -> Pair:
    return Pair(draft, chunks=request.param)


def of(events: list[object], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def header(alias: int = 7, group: int = 1) -> SubgroupHeader:
    return SubgroupHeader(alias, group, 0, None, False, False, False)


def subscribed(pair: Pair, alias: int = 7) -> int:
    """The client's subscription, established."""
    request_id = pair.client.subscribe(TRACK, Parameters(subscriber_priority=3))
    pair.run()
    pair.server.respond(SubscribeOk(request_id, alias, Parameters(largest_object=Location(4, 2))))
    pair.run()
    return request_id


def assert_clean(pair: Pair) -> None:
    """Nothing of any request is left on either side, and the session is open."""
    pair.run()
    controls = 1 if not pair.client.draft.request_streams else 0
    for session, wire in zip(pair.sessions, pair.wires, strict=True):
        assert not session.is_closed, wire.closed_with
        assert len(session._table) == 0
        assert session._table.incoming == 0
        assert len(session._context.bidi) == controls
        assert len(session._context.uni) == 1 - controls
        assert len(session._context.deadlines) == 0
        assert session._table._aliases[True]._holders == {}
        assert session._table._aliases[False]._holders == {}


def test_setup_is_exchanged(draft: Draft) -> None:
    pair = Pair(
        draft,
        client={"implementation": "player", "path": "/a?b", "authority": "example.com:4443"},
        server={"implementation": "relay"},
    )
    [client] = of(pair.client_events, SetupReceived)
    [server] = of(pair.server_events, SetupReceived)
    assert client.setup.implementation == "relay"
    assert client.setup == pair.client.peer_setup
    assert server.setup.implementation == "player"
    assert (server.setup.path, server.setup.authority) == ("/a?b", "example.com:4443")
    assert_clean(pair)


def test_over_webtransport_no_path_is_sent(draft: Draft) -> None:
    pair = Pair(draft, webtransport=True, client={"path": "/a", "authority": "example.com"})
    [server] = of(pair.server_events, SetupReceived)
    assert (server.setup.path, server.setup.authority) == (None, None)
    assert_clean(pair)


def test_subscription(pair: Pair) -> None:
    request_id = subscribed(pair)
    [received] = of(pair.server_events, RequestReceived)
    assert received.request.track == TRACK
    assert received.request.parameters.subscriber_priority == 3
    [answered] = of(pair.client_events, AnswerReceived)
    assert answered.answer == SubscribeOk(request_id, 7, Parameters(largest_object=Location(4, 2)))
    stream_id = pair.server.open_subgroup(header())
    varints = pair.server.draft.varints
    body = encode_object(0, None, 5, varints) + b"hello" + encode_object(1, 0, 2, varints) + b"hi"
    pair.server.send(stream_id, body, fin=True)
    pair.run()
    [opened] = of(pair.client_events, SubgroupOpened)
    assert (opened.header.track_alias, opened.header.group_id) == (7, 1)
    pieces = of(pair.client_events, SubgroupData)
    assert b"".join(piece.body for piece in pieces) == body
    assert [o.location.object for piece in pieces for o in piece.objects] == [0, 1]
    assert [piece.fin for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    pair.server.notify(request_id, PublishDone(0, PublishDoneStatus.TRACK_ENDED, 1, "over"))
    assert_clean(pair)
    [done] = of(pair.client_events, NotificationReceived)
    assert done.notification == PublishDone(request_id, PublishDoneStatus.TRACK_ENDED, 1, "over")


def test_a_subgroup_passes_byte_for_byte(pair: Pair) -> None:
    subscribed(pair)
    stream_id = pair.server.open_subgroup(header())
    pair.server.send(stream_id, b"", fin=True)
    pair.run()
    [opened] = of(pair.client_events, SubgroupOpened)
    again = pair.server.open_subgroup(opened.header)
    assert pair.wires[1].sent[again] == pair.wires[1].sent[stream_id]


def test_a_subscription_is_cancelled(pair: Pair) -> None:
    request_id = subscribed(pair)
    pair.client.cancel(request_id)
    pair.client.cancel(request_id)
    assert_clean(pair)
    assert of(pair.server_events, RequestCancelled) == [RequestCancelled(request_id)]


def test_a_subscription_is_cancelled_before_its_answer(pair: Pair) -> None:
    request_id = pair.client.subscribe(TRACK)
    pair.run()
    pair.client.cancel(request_id)
    pair.server.respond(SubscribeOk(request_id, 7))
    assert_clean(pair)
    assert of(pair.client_events, AnswerReceived) == []
    # The alias is free on both sides.
    pair.client.subscribe(OTHER)
    pair.run()
    pair.server.respond(SubscribeOk(request_id + 2, 7))
    pair.run()
    assert len(of(pair.client_events, AnswerReceived)) == 1


@pytest.mark.parametrize("kind", ["subscribe", "track_status", "publish_namespace", "publish"])
def test_a_request_is_rejected(pair: Pair, kind: str) -> None:
    send: dict[str, Callable[[], int]] = {
        "subscribe": lambda: pair.client.subscribe(TRACK),
        "track_status": lambda: pair.client.track_status(TRACK),
        "publish_namespace": lambda: pair.client.publish_namespace((b"live",)),
        "publish": lambda: pair.client.publish(TRACK, 1),
    }
    request_id = send[kind]()
    pair.run()
    pair.server.reject(request_id, RequestErrorCode.UNAUTHORIZED, "no", retry_after=250)
    assert_clean(pair)
    [answered] = of(pair.client_events, AnswerReceived)
    assert answered.answer == RequestError(request_id, RequestErrorCode.UNAUTHORIZED, "no", 250)


def test_a_redirect(pair: Pair) -> None:
    request_id = pair.client.subscribe(TRACK)
    pair.run()
    redirect = Redirect("moqt://elsewhere", OTHER)
    pair.server.reject(request_id, RequestErrorCode.REDIRECT, redirect=redirect)
    assert_clean(pair)
    [answered] = of(pair.client_events, AnswerReceived)
    assert isinstance(answered.answer, RequestError)
    assert answered.answer.redirect == (redirect if pair.client.draft.redirects else None)


def test_track_status(pair: Pair) -> None:
    request_id = pair.client.track_status(TRACK)
    pair.run()
    pair.server.respond(RequestOk(request_id, Parameters(largest_object=Location(9, 1))))
    assert_clean(pair)
    [answered] = of(pair.client_events, AnswerReceived)
    assert answered.answer.parameters.largest_object == Location(9, 1)


@pytest.mark.parametrize("data_first", [True, False])
def test_fetch(pair: Pair, data_first: bool) -> None:
    draft = pair.client.draft
    descending = Parameters(group_order=GroupOrder.DESCENDING)
    request_id = pair.client.fetch(
        track=TRACK, start=Location(3, 0), end_group=8, parameters=descending
    )
    pair.run()
    [received] = of(pair.server_events, RequestReceived)
    assert isinstance(received.request, Fetch)
    assert (received.request.start, received.request.end_group) == ((3, 0), 8)
    answer = FetchOk(request_id, False, 8, None)
    if not data_first:
        pair.server.respond(answer)
        pair.run()
    stream_id = pair.server.open_fetch(request_id)
    encoder = FetchEncoder(draft, descending=True)
    body = b""
    for location in (Location(8, 0), Location(8, 1), Location(7, 0)):
        body += encoder.object(location, 0, 128, 3) + b"abc"
    pair.server.send(stream_id, body, fin=True)
    if data_first:
        pair.run()
        pair.server.respond(answer)
    assert_clean(pair)
    assert of(pair.client_events, FetchOpened)[0].request_id == request_id
    pieces = of(pair.client_events, FetchData)
    assert b"".join(piece.body for piece in pieces) == body
    locations = [o.location for piece in pieces for o in piece.objects]
    assert locations == [(8, 0), (8, 1), (7, 0)]
    assert of(pair.client_events, AnswerReceived)[0].answer == answer


def test_a_fetch_is_cancelled(pair: Pair) -> None:
    request_id = pair.client.fetch(track=TRACK, end_group=1)
    pair.run()
    stream_id = pair.server.open_fetch(request_id)
    pair.run()
    pair.client.cancel(request_id)
    assert_clean(pair)
    assert of(pair.server_events, RequestCancelled) == [RequestCancelled(request_id)]
    assert pair.wires[1].finished[stream_id] == StreamError.CANCELLED


def test_a_fetch_stream_is_reset_before_the_answer(pair: Pair) -> None:
    request_id = pair.client.fetch(track=TRACK, end_group=1)
    pair.run()
    stream_id = pair.server.open_fetch(request_id)
    pair.run()
    pair.server.reset(stream_id, StreamError.UNKNOWN_OBJECT_STATUS)
    pair.server.reject(request_id, RequestErrorCode.INTERNAL_ERROR)
    assert_clean(pair)
    assert of(pair.client_events, DataStreamReset)[0].code == StreamError.UNKNOWN_OBJECT_STATUS


def test_the_publisher_drops_an_established_fetch(pair: Pair) -> None:
    request_id = pair.client.fetch(track=TRACK, end_group=1)
    pair.run()
    pair.server.respond(FetchOk(request_id, False, 1, None))
    stream_id = pair.server.open_fetch(request_id)
    pair.run()
    pair.server.reset(stream_id, StreamError.INTERNAL_ERROR)
    assert_clean(pair)


def test_a_cancelled_fetch_does_not_hear_its_late_stream(draft: Draft) -> None:
    pair = Pair(draft)
    request_id = pair.client.fetch(track=TRACK, end_group=1)
    pair.run()
    stream_id = pair.server.open_fetch(request_id)
    pair.server.send(stream_id, b"")
    pair.client.cancel(request_id)
    assert_clean(pair)
    assert of(pair.client_events, FetchOpened) == []


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_joining_fetch(pair: Pair) -> None:
    request_id = subscribed(pair)
    fetch_id = pair.client.fetch(
        FetchKind.RELATIVE_JOINING, joining_request_id=request_id, joining_start=2
    )
    pair.run()
    received = of(pair.server_events, RequestReceived)[-1].request
    assert isinstance(received, Fetch)
    assert (received.joining_request_id, received.joining_start) == (request_id, 2)
    pair.server.respond(FetchOk(fetch_id, False, 4, 2))
    pair.server.send(pair.server.open_fetch(fetch_id), b"", fin=True)
    pair.client.cancel(request_id)
    assert_clean(pair)


def test_a_joining_fetch_of_nothing_is_refused() -> None:
    pair = Pair(DRAFT_18)
    pair.client.fetch(FetchKind.RELATIVE_JOINING, joining_request_id=8)
    pair.run()
    answer = of(pair.client_events, AnswerReceived)[0].answer
    assert isinstance(answer, RequestError)
    assert answer.code == RequestErrorCode.INVALID_JOINING_REQUEST_ID
    assert of(pair.server_events, RequestReceived) == []
    assert_clean(pair)


@pytest.mark.parametrize("draft", [DRAFT_22], ids=str)
@pytest.mark.parametrize("by_update", [True, False])
def test_fill(pair: Pair, by_update: bool) -> None:
    fill = Parameters(
        filter=LocationFilter(FilterKind.RELATIVE, groups_back=1), group_order=GroupOrder.ASCENDING
    )
    if by_update:
        request_id = subscribed(pair)
        fill_id = pair.client.update(request_id, Parameters(fill=fill))
        pair.run()
        pair.server.respond_update(request_id, fill_id)
    else:
        fill_id = request_id = pair.client.subscribe(TRACK, Parameters(fill=fill))
        pair.run()
        pair.server.respond(SubscribeOk(request_id, 7))
    pair.run()
    # PUBLISH_DONE may overtake the stream.
    stream_id = pair.server.open_fetch(fill_id)
    body = FetchEncoder(pair.client.draft).object(Location(4, 0), 0, 128, 2) + b"ab"
    waiting = list(pair.wires[1].queue)
    pair.wires[1].queue.clear()
    pair.server.notify(request_id, PublishDone(request_id, PublishDoneStatus.TRACK_ENDED, 1))
    pair.wires[1].queue.extend(waiting)
    pair.server.send(stream_id, body, fin=True)
    assert_clean(pair)
    assert of(pair.client_events, FetchOpened)[0].request_id == fill_id
    assert b"".join(e.body for e in of(pair.client_events, FetchData)) == body


def test_publish(pair: Pair) -> None:
    request_id = pair.client.publish(TRACK, 5, Parameters(largest_object=Location(1, 0)))
    pair.run()
    [received] = of(pair.server_events, RequestReceived)
    assert (received.request.track_alias, received.request.track) == (5, TRACK)
    pair.server.respond(RequestOk(request_id))
    pair.run()
    assert of(pair.client_events, AnswerReceived)[0].answer == RequestOk(request_id)
    pair.client.notify(request_id, PublishDone(request_id, PublishDoneStatus.TRACK_ENDED, None))
    assert_clean(pair)
    [done] = of(pair.server_events, NotificationReceived)
    assert done.notification == PublishDone(request_id, PublishDoneStatus.TRACK_ENDED, None)


def test_the_subscriber_leaves_a_publish(pair: Pair) -> None:
    request_id = pair.client.publish(TRACK, 5)
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    pair.server.cancel(request_id)
    assert_clean(pair)
    assert of(pair.client_events, RequestCancelled) == [RequestCancelled(request_id)]


def test_a_publish_ends_before_its_answer(pair: Pair) -> None:
    request_id = pair.client.publish(TRACK, 5)
    pair.run()
    pair.client.notify(request_id, PublishDone(request_id, PublishDoneStatus.TRACK_ENDED, 0))
    pair.server.respond(RequestOk(request_id))
    assert_clean(pair)
    assert of(pair.client_events, AnswerReceived) == []


def test_both_sides_update_a_publish(pair: Pair) -> None:
    request_id = pair.client.publish(TRACK, 5)
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    theirs = pair.server.update(request_id, Parameters(forward=False))
    pair.run()
    [updated] = of(pair.client_events, RequestUpdated)
    assert (updated.request_id, updated.update_id) == (request_id, theirs)
    assert updated.parameters.forward is False
    pair.client.respond_update(request_id, theirs)
    pair.run()
    assert of(pair.server_events, UpdateAnswered) == [
        UpdateAnswered(request_id, theirs, of(pair.server_events, UpdateAnswered)[0].answer)
    ]


def test_namespace_is_published_and_withdrawn(pair: Pair) -> None:
    request_id = pair.client.publish_namespace((b"live",))
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    assert of(pair.client_events, AnswerReceived)[0].answer == RequestOk(request_id)
    pair.client.cancel(request_id)
    assert_clean(pair)
    assert of(pair.server_events, RequestCancelled) == [RequestCancelled(request_id)]


def test_namespace_is_no_longer_accepted(pair: Pair) -> None:
    request_id = pair.client.publish_namespace((b"live",))
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    pair.server.cancel(request_id, StreamError.EXPIRED_AUTH_TOKEN)
    assert_clean(pair)
    [ended] = of(pair.client_events, RequestEnded)
    assert ended.request_id == request_id


def test_namespaces_are_discovered(pair: Pair) -> None:
    request_id = pair.client.subscribe_namespace((b"live",))
    pair.run()
    [received] = of(pair.server_events, RequestReceived)
    assert isinstance(received.request, SubscribeNamespace)
    pair.server.respond(RequestOk(request_id))
    pair.server.notify(request_id, NamespaceAdded((b"a",)))
    pair.server.notify(request_id, NamespaceAdded((b"b",)))
    pair.server.notify(request_id, NamespaceDone((b"a",)))
    pair.run()
    told = [e.notification for e in of(pair.client_events, NotificationReceived)]
    assert told == [NamespaceAdded((b"a",)), NamespaceAdded((b"b",)), NamespaceDone((b"a",))]
    pair.client.cancel(request_id)
    assert_clean(pair)
    assert of(pair.server_events, RequestCancelled) == [RequestCancelled(request_id)]


def test_discovery_is_ended_by_the_publisher(pair: Pair) -> None:
    request_id = pair.client.subscribe_namespace((b"live",))
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    pair.server.cancel(request_id, StreamError.GOING_AWAY)
    assert_clean(pair)
    [ended] = of(pair.client_events, RequestEnded)
    going_away = pair.client.draft.request_streams
    assert ended.code == (StreamError.GOING_AWAY if going_away else StreamError.INTERNAL_ERROR)


@pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22], ids=str)
def test_the_prefix_of_a_discovery_changes(draft: Draft) -> None:
    pair = Pair(draft)
    request_id = pair.client.subscribe_namespace((b"live",))
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.server.notify(request_id, NamespaceAdded((b"a", b"b")))
    pair.run()
    update_id = pair.client.update(request_id, Parameters(namespace_prefix=(b"live", b"a")))
    pair.run()
    pair.server.respond_update(request_id, update_id)
    pair.server.notify(request_id, NamespaceDone((b"b",)))
    pair.run()
    assert not pair.client.is_closed
    # The old prefix is free, the new one is taken.
    pair.client.subscribe_namespace((b"live", b"x"))
    pair.client.subscribe_namespace((b"live", b"a", b"c"))
    pair.run()
    codes = [getattr(e.answer, "code", None) for e in of(pair.client_events, AnswerReceived)]
    assert codes == [None, RequestErrorCode.PREFIX_OVERLAP]
    assert len(of(pair.server_events, RequestReceived)) == 2


def test_tracks_are_discovered(pair: Pair) -> None:
    request_id = pair.client.subscribe_tracks((b"live",))
    pair.run()
    [received] = of(pair.server_events, RequestReceived)
    if pair.client.draft.request_streams:
        assert isinstance(received.request, SubscribeTracks)
        pair.server.respond(RequestOk(request_id))
        pair.server.notify(request_id, PublishBlocked((b"demo",), b"video"))
        pair.run()
        [told] = of(pair.client_events, NotificationReceived)
        assert told.notification == PublishBlocked((b"demo",), b"video")
    else:
        assert isinstance(received.request, SubscribeNamespace)
        assert received.request.options == 0
        pair.server.respond(RequestOk(request_id))
    published = pair.server.publish(TRACK, 1)
    pair.run()
    pair.client.respond(RequestOk(published))
    pair.client.cancel(published)
    pair.client.cancel(request_id)
    assert_clean(pair)


def test_a_publishers_state_is_told() -> None:
    pair = Pair(DRAFT_22)
    request_id = subscribed(pair)
    notify = PublishStateNotify(Parameters(forward=False, largest_object=Location(5, 0)))
    pair.server.notify(request_id, notify)
    pair.run()
    assert of(pair.client_events, NotificationReceived)[0].notification == notify


def test_updates_are_answered_in_their_order(pair: Pair) -> None:
    request_id = pair.client.subscribe(TRACK)
    first = pair.client.update(request_id, Parameters(forward=False))
    second = pair.client.update(request_id, Parameters(forward=True))
    pair.run()
    assert [e.update_id for e in of(pair.server_events, RequestUpdated)] == [first, second]
    pair.server.respond_update(request_id, second)
    pair.run()
    assert of(pair.client_events, UpdateAnswered) == []
    pair.server.respond_update(request_id, first, Parameters(largest_object=Location(3, 0)))
    pair.run()
    assert of(pair.client_events, UpdateAnswered) == []
    pair.server.respond(SubscribeOk(request_id, 7))
    pair.run()
    answers = of(pair.client_events, UpdateAnswered)
    assert [answer.update_id for answer in answers] == [first, second]
    assert answers[0].answer.parameters.largest_object == Location(3, 0)


def test_a_failed_update_of_a_subscription(pair: Pair) -> None:
    request_id = subscribed(pair)
    update_id = pair.client.update(request_id, Parameters(subscriber_priority=1))
    pair.run()
    pair.server.reject_update(request_id, update_id, RequestErrorCode.INVALID_RANGE, "no")
    pair.server.notify(request_id, PublishDone(request_id, PublishDoneStatus.UPDATE_FAILED, 0))
    assert_clean(pair)
    [answered] = of(pair.client_events, UpdateAnswered)
    assert isinstance(answered.answer, RequestError)
    assert answered.answer.code == RequestErrorCode.INVALID_RANGE


def test_a_failed_update_ends_a_fetch(pair: Pair) -> None:
    request_id = pair.client.fetch(track=TRACK, end_group=3)
    pair.run()
    pair.server.respond(FetchOk(request_id, False, 3, None))
    stream_id = pair.server.open_fetch(request_id)
    pair.run()
    update_id = pair.client.update(request_id, Parameters(subscriber_priority=1))
    pair.run()
    pair.server.reject_update(request_id, update_id, RequestErrorCode.INTERNAL_ERROR)
    assert_clean(pair)
    assert pair.wires[1].finished[stream_id] == StreamError.INTERNAL_ERROR
    assert len(of(pair.client_events, DataStreamReset)) == 1


def test_a_failed_update_ends_a_discovery(pair: Pair) -> None:
    request_id = pair.client.subscribe_namespace((b"live",))
    pair.run()
    pair.server.respond(RequestOk(request_id))
    pair.run()
    token = Token(TokenAction.USE_VALUE, type=0, value=b"old")
    update_id = pair.client.update(request_id, Parameters(tokens=(token,)))
    pair.run()
    assert of(pair.server_events, RequestUpdated)[0].tokens == ((0, b"old"),)
    pair.server.reject_update(request_id, update_id, RequestErrorCode.EXPIRED_AUTH_TOKEN)
    assert_clean(pair)
    assert [e.request_id for e in of(pair.client_events, RequestEnded)] == [request_id]


def test_tokens_are_registered_and_used(pair: Pair) -> None:
    register = Token(TokenAction.REGISTER, alias=1, type=0, value=b"secret")
    use = Token(TokenAction.USE_ALIAS, alias=1)
    request_id = pair.client.subscribe(TRACK, Parameters(tokens=(register,)))
    pair.run()
    pair.server.reject(request_id, RequestErrorCode.UNAUTHORIZED)
    pair.run()
    pair.client.subscribe(OTHER, Parameters(tokens=(use,)))
    pair.run()
    tokens = [event.tokens for event in of(pair.server_events, RequestReceived)]
    assert tokens == [((0, b"secret"),), ((0, b"secret"),)]


def test_tokens_of_setup(draft: Draft) -> None:
    token = Token(TokenAction.REGISTER, alias=1, type=3, value=b"secret")
    pair = Pair(draft, client={"tokens": (token,)})
    [setup] = of(pair.server_events, SetupReceived)
    assert setup.tokens == ((3, b"secret"),)
    pair.client.subscribe(TRACK, Parameters(tokens=(Token(TokenAction.USE_ALIAS, alias=1),)))
    pair.run()
    assert of(pair.server_events, RequestReceived)[0].tokens == ((3, b"secret"),)


def test_goaway_of_the_server(pair: Pair) -> None:
    pair.client.subscribe(OTHER)
    pair.run()
    pair.server.goaway("moqt://other", 5000)
    pair.server.goaway("moqt://other", 5000)
    pair.run()
    [goaway] = of(pair.client_events, GoAwayReceived)
    assert goaway.request_id is None
    assert goaway.goaway.new_session_uri == "moqt://other"
    if pair.client.draft.goaway_timeout:
        assert goaway.goaway.timeout == 5000
    if pair.client.draft.goaway_request_id:
        assert goaway.goaway.request_id == 2
    # New requests are refused, those of before go on.
    late = pair.client.subscribe(TRACK)
    pair.run()
    answer = of(pair.client_events, AnswerReceived)[-1].answer
    assert isinstance(answer, RequestError)
    assert answer.request_id == late
    assert answer.code == pair.client.draft.request_error_to_wire(RequestErrorCode.GOING_AWAY)
    assert len(of(pair.server_events, RequestReceived)) == 1
    pair.server.respond(SubscribeOk(0, 1))
    pair.run()
    assert not pair.client.is_closed


def test_goaway_of_the_client(pair: Pair) -> None:
    pair.client.goaway(timeout=10)
    pair.run()
    [goaway] = of(pair.server_events, GoAwayReceived)
    assert goaway.goaway.new_session_uri == ""
    with pytest.raises(ValueError, match="server elsewhere"):
        pair.client.goaway("moqt://other")


@pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22], ids=str)
def test_goaway_for_one_request(pair: Pair) -> None:
    request_id = subscribed(pair)
    pair.server.goaway("moqt://other", 100, request_id=request_id)
    pair.run()
    [goaway] = of(pair.client_events, GoAwayReceived)
    assert goaway.request_id == request_id
    pair.client.subscribe(OTHER)
    pair.run()
    assert len(of(pair.server_events, RequestReceived)) == 2
    with pytest.raises(ValueError, match="no request"):
        pair.server.goaway(request_id=44)


def test_draft_16_has_no_goaway_for_one_request() -> None:
    pair = Pair(DRAFT_16)
    request_id = subscribed(pair)
    with pytest.raises(ValueError, match="no GOAWAY"):
        pair.server.goaway(request_id=request_id)


def test_a_data_stream_is_stopped(pair: Pair) -> None:
    subscribed(pair)
    stream_id = pair.server.open_subgroup(header())
    pair.server.send(stream_id, encode_object(0, None, 100, pair.server.draft.varints))
    pair.run()
    pair.client.stop(stream_id, StreamError.CANCELLED)
    pair.run()
    events = len(pair.client_events)
    pair.server.send(stream_id, b"x" * 100, fin=True)
    pair.run()
    assert len(pair.client_events) == events
    assert of(pair.server_events, DataStreamStopped) == [
        DataStreamStopped(stream_id, StreamError.CANCELLED)
    ]
    assert len(pair.client._context.uni) == pair.client.draft.request_streams


def test_an_accepted_publish_ends_our_own_subscribe() -> None:
    for draft in (DRAFT_16, DRAFT_18):
        pair = Pair(draft)
        ours = pair.server.subscribe(TRACK)
        theirs = pair.client.publish(TRACK, 4)
        # The two cross: the server's SUBSCRIBE is refused, the PUBLISH arrives meanwhile.
        pair.server.stream_data(
            0,
            bytes(pair.wires[0].queue[0][2]),
            False,  # type: ignore[call-overload]
        )
        pair.wires[0].queue.clear()
        assert of(pair.server_events, RequestReceived)[0].request.request_id == theirs
        pair.server.respond(RequestOk(theirs))
        assert of(pair.server_events, RequestEnded) == [RequestEnded(ours, StreamError.CANCELLED)]
        pair.run()
        assert not pair.client.is_closed
        assert not pair.server.is_closed


def test_closing(pair: Pair) -> None:
    pair.client.close(SessionError.UNAUTHORIZED, "bye")
    pair.client.close()
    assert pair.client_events[-1] == SessionClosed(SessionError.UNAUTHORIZED, "bye")
    pair.run()
    assert pair.server_events[-1] == SessionClosed(SessionError.UNAUTHORIZED, "bye")
    assert pair.server.is_closed
    pair.server.closed(0, "")
    assert len(of(pair.server_events, SessionClosed)) == 1


def test_a_closed_session_does_nothing(draft: Draft) -> None:
    pair = Pair(draft)
    pair.client.close()
    session, events = pair.client, list(pair.client_events)
    sent = {stream: bytes(data) for stream, data in pair.wires[0].sent.items()}
    session.update(session.subscribe(TRACK), Parameters())
    session.publish(TRACK, 1)
    session.cancel(0)
    session.respond(RequestOk(1))
    session.reject(1, 0)
    session.respond_update(1, 3)
    session.reject_update(1, 3, 0)
    session.notify(1, NamespaceAdded((b"a",)))
    session.goaway()
    session.expire(1e9)
    session.stream_data(3, b"\xff", True)
    session.stream_data(1, b"\xff", True)
    session.stream_reset(1, 0)
    session.stream_stopped(2, 0)
    session.datagram(b"\xff")
    session.writable()
    assert pair.client_events == events
    assert {stream: bytes(data) for stream, data in pair.wires[0].sent.items()} == sent


def test_writable_is_passed_on(pair: Pair) -> None:
    pair.client.writable()
    assert pair.client_events[-1] == Writable()
