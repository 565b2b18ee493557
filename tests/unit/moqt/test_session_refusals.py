"""Requests that the session refuses by itself, and what an owner must not do."""

from __future__ import annotations

import pytest

from fastrelay.moqt.codes import RequestErrorCode, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import (
    Event,
    RequestCancelled,
    RequestEnded,
    RequestReceived,
    RequestUpdated,
    UpdateAnswered,
)
from fastrelay.moqt.fetches import encode_fetch_header
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishNamespace,
    PublishStateNotify,
    RangeFilter,
    RangeFilterKind,
    Request,
    RequestError,
    RequestOk,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    Token,
    TokenAction,
    TrackStatus,
)
from fastrelay.moqt.names import FullTrackName
from unit.moqt.wires import Pair, Peer

TRACK = FullTrackName((b"live", b"demo"), b"video")
OTHER = FullTrackName((b"live", b"demo"), b"audio")

STREAM_DRAFTS = pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22], ids=str)
ALL_DRAFTS = pytest.mark.parametrize("draft", list(DRAFTS.values()), ids=str)

TOKEN = Token(TokenAction.USE_VALUE, type=0, value=b"x")


def refused(peer: Peer, request: Request) -> int | None:
    """The code with which the session refuses a request right away."""
    before = len(peer.answers(peer.session_control))
    events = len(peer.events)
    stream_id = peer.request(request)
    answers = peer.answers(stream_id)
    if stream_id == peer.session_control:
        answers = answers[before:]
    assert not peer.session.is_closed, peer.wire.closed_with
    if not answers:
        assert len(peer.events) == events + 1
        return None
    assert len(peer.events) == events
    [answer] = answers
    assert isinstance(answer, RequestError)
    if stream_id != peer.session_control:
        assert peer.wire.finished[stream_id] is None
    assert request.request_id in (peer.session._responder.used_ids)
    return answer.code


@ALL_DRAFTS
def test_a_second_subscription_to_a_track(draft: Draft) -> None:
    peer = Peer(draft)
    duplicate = None if draft.duplicate_subscriptions else RequestErrorCode.DUPLICATE_SUBSCRIPTION
    assert refused(peer, Subscribe(0, TRACK)) is None
    assert refused(peer, Subscribe(2, TRACK)) == duplicate
    assert refused(peer, Subscribe(4, OTHER)) is None
    # The other role does not count, and neither does what is over.
    assert refused(peer, Publish(6, TRACK, 1)) is None
    peer.session.reject(0, 0)
    if draft.duplicate_subscriptions:
        peer.session.reject(2, 0)
    assert refused(peer, Subscribe(8, TRACK)) is None


@ALL_DRAFTS
def test_a_second_publish_of_a_track(draft: Draft) -> None:
    peer = Peer(draft)
    duplicate = None if draft.duplicate_subscriptions else RequestErrorCode.DUPLICATE_SUBSCRIPTION
    assert refused(peer, Publish(0, TRACK, 1)) is None
    assert refused(peer, Publish(2, TRACK, 1)) == duplicate
    # Its alias does not stay behind.
    assert refused(peer, Publish(4, OTHER, 2)) is None
    peer.session.reject(0, 0)
    if draft.duplicate_subscriptions:
        peer.session.reject(2, 0)
    peer.session.reject(4, 0)
    assert refused(peer, Publish(6, OTHER, 1)) is None


@ALL_DRAFTS
def test_subscribe_while_our_publish_waits(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.publish(TRACK, 1)
    duplicate = None if draft.duplicate_subscriptions else RequestErrorCode.DUPLICATE_SUBSCRIPTION
    assert refused(peer, Subscribe(0, TRACK)) == duplicate


@STREAM_DRAFTS
def test_publish_while_our_subscription_lives(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.subscribe(TRACK)
    assert refused(peer, Publish(0, TRACK, 1)) is None
    peer.session.reject(0, 0)
    [stream_id] = [s for s in peer.wire.sent if s & 3 == 1]
    peer.say(stream_id, SubscribeOk(1, 5))
    duplicate = None if draft.duplicate_subscriptions else RequestErrorCode.DUPLICATE_SUBSCRIPTION
    assert refused(peer, Publish(2, TRACK, 5)) == duplicate


@ALL_DRAFTS
def test_overlapping_prefixes(draft: Draft) -> None:
    peer = Peer(draft)
    overlap = RequestErrorCode.PREFIX_OVERLAP
    assert refused(peer, SubscribeNamespace(0, (b"a", b"b"))) is None
    assert refused(peer, SubscribeNamespace(2, (b"a", b"c"))) is None
    assert refused(peer, SubscribeNamespace(4, (b"a", b"b"))) == overlap
    assert refused(peer, SubscribeNamespace(6, (b"a", b"b", b"x"))) == overlap
    assert refused(peer, SubscribeNamespace(8, (b"a",))) == overlap
    assert refused(peer, SubscribeNamespace(10, ())) == overlap
    assert refused(peer, SubscribeNamespace(12, (b"b",))) is None
    if draft.request_streams:
        assert refused(peer, SubscribeTracks(14, (b"a",))) is None
        assert refused(peer, SubscribeTracks(16, (b"a", b"b"))) == overlap


@STREAM_DRAFTS
def test_an_update_makes_prefixes_overlap(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(SubscribeNamespace(0, (b"a",)))
    stream_id = peer.request(SubscribeNamespace(2, (b"b",)))
    peer.session.respond(RequestOk(0))
    peer.session.respond(RequestOk(2))
    peer.say(stream_id, RequestUpdate(4, 2, Parameters(namespace_prefix=(b"b", b"c"))))
    assert isinstance(peer.last, RequestUpdated)
    peer.session.respond_update(2, 4)
    events = len(peer.events)
    peer.say(stream_id, RequestUpdate(6, 2, Parameters(namespace_prefix=(b"a", b"c"))))
    answer = peer.heard(stream_id)[-1]
    assert isinstance(answer, RequestError)
    assert answer.code == RequestErrorCode.PREFIX_OVERLAP
    assert peer.wire.finished[stream_id] is None
    assert len(peer.events) == events


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_joining_fetch(draft: Draft) -> None:
    peer = Peer(draft)
    nothing = RequestErrorCode.INVALID_JOINING_REQUEST_ID
    peer.request(Subscribe(0, TRACK))
    peer.request(Fetch(2, FetchKind.STANDALONE, TRACK, end_group=1))
    join = FetchKind.RELATIVE_JOINING
    assert refused(peer, Fetch(4, join, joining_request_id=0)) is None
    assert refused(peer, Fetch(6, join, joining_request_id=2)) == nothing
    assert refused(peer, Fetch(8, join, joining_request_id=99)) == nothing
    assert refused(peer, Fetch(10, join, joining_request_id=1)) == nothing
    published = peer.session.publish(OTHER, 1)
    assert refused(peer, Fetch(12, join, joining_request_id=published)) is None


def test_a_joining_fetch_overtakes_its_subscribe() -> None:
    peer = Peer(DRAFT_18)
    join = FetchKind.ABSOLUTE_JOINING
    peer.request(Fetch(2, join, joining_request_id=0, parameters=Parameters(tokens=(TOKEN,))))
    for cancelled in (Fetch(4, join, joining_request_id=0), Fetch(50, join, joining_request_id=40)):
        peer.session.stream_reset(peer.request(cancelled), 0)
    assert {key: len(held) for key, held in peer.session._responder._joining.items()} == {0: 1}
    assert [e for e in peer.events if isinstance(e, RequestReceived)] == []
    peer.request(Subscribe(0, TRACK))
    got = [e for e in peer.events if isinstance(e, RequestReceived)]
    assert [e.request.request_id for e in got] == [0, 2]
    assert got[1].tokens == ((0, b"x"),)
    assert RequestCancelled not in map(type, peer.events)
    # What it waited for may turn out to be no subscription.
    for number, other in enumerate((TrackStatus(8, TRACK), None)):
        fetch = peer.request(Fetch(30 + number * 2, join, joining_request_id=8 + number * 2))
        if other:
            peer.request(other)
        else:
            peer.say(peer.request(Subscribe(20, OTHER)), RequestUpdate(8 + number * 2, 20))
        [answer] = peer.heard(fetch)
        assert isinstance(answer, RequestError)
        assert answer.code == RequestErrorCode.INVALID_JOINING_REQUEST_ID


@ALL_DRAFTS
def test_a_token_twice(draft: Draft) -> None:
    peer = Peer(draft)
    twice = Parameters(tokens=(TOKEN, TOKEN))
    malformed = RequestErrorCode.MALFORMED_AUTH_TOKEN
    assert refused(peer, Subscribe(0, TRACK, twice)) == malformed
    stream_id = peer.request(Subscribe(2, TRACK))
    peer.session.respond(SubscribeOk(2, 1))
    peer.say(stream_id, RequestUpdate(4, 2, twice))
    answer = peer.answers(stream_id)[-1]
    assert isinstance(answer, RequestError)
    assert (answer.code, isinstance(peer.last, RequestUpdated)) == (malformed, False)
    # The owner ends the subscription.
    peer.session.notify(2, PublishDone(2, 8, 0))
    assert isinstance(peer.answers(stream_id)[-1], PublishDone)


def test_range_filters() -> None:
    def filters(count: int) -> Parameters:
        ranges = tuple((2 * n, 2 * n) for n in range(count))
        return Parameters(range_filters=(RangeFilter(RangeFilterKind.OBJECT, 0, ranges),))

    peer = Peer(DRAFT_22, limits=SessionLimits(filter_ranges=3))
    assert refused(peer, Subscribe(0, TRACK, filters(3))) is None
    assert refused(peer, Subscribe(2, OTHER, filters(4))) == RequestErrorCode.INVALID_FILTER
    fill = Parameters(fill=filters(4))
    assert refused(peer, Subscribe(4, OTHER, fill)) == RequestErrorCode.INVALID_FILTER
    stream_id = peer.request(Subscribe(6, OTHER))
    peer.session.respond(SubscribeOk(6, 1))
    peer.say(stream_id, RequestUpdate(8, 6, filters(4)))
    answer = peer.heard(stream_id)[-1]
    assert isinstance(answer, RequestError)
    assert answer.code == RequestErrorCode.INVALID_FILTER


@STREAM_DRAFTS
def test_too_many_requests(draft: Draft) -> None:
    peer = Peer(draft, limits=SessionLimits(incoming_requests=2))
    assert refused(peer, Subscribe(0, TRACK)) is None
    assert refused(peer, PublishNamespace(2, (b"a",))) is None
    assert refused(peer, TrackStatus(4, TRACK)) == RequestErrorCode.EXCESSIVE_LOAD
    peer.session.reject(0, 0)
    assert refused(peer, TrackStatus(6, TRACK)) is None


@ALL_DRAFTS
def test_names_that_are_too_long(draft: Draft) -> None:
    peer = Peer(draft, limits=SessionLimits(name_bytes=10))
    long = FullTrackName((b"12345", b"12345"), b"x")
    not_supported = RequestErrorCode.NOT_SUPPORTED
    assert refused(peer, Subscribe(0, long)) == not_supported
    assert refused(peer, PublishNamespace(2, (b"12345678901",))) == not_supported
    assert refused(peer, SubscribeNamespace(4, (b"12345678901",))) == not_supported
    assert refused(peer, PublishNamespace(6, (b"1234567890",))) is None


@ALL_DRAFTS
def test_too_many_namespaces(draft: Draft) -> None:
    peer = Peer(draft, client=True, limits=SessionLimits(namespaces=2))
    peer.session.subscribe_namespace((b"live",))
    stream_id = max(peer.wire.sent) if not draft.request_streams else 0
    names = [NamespaceAdded((bytes([n]),)) for n in (1, 2, 1, 3, 4)]
    peer.say(stream_id, RequestOk(0), *names)
    assert peer.last == RequestEnded(0, StreamError.EXCESSIVE_LOAD)
    assert peer.wire.stopped[stream_id] == draft.stream_error_to_wire(StreamError.EXCESSIVE_LOAD)
    assert not peer.session.is_closed


def test_updates_wait_with_a_joining_fetch() -> None:
    peer = Peer(DRAFT_18)
    fetch = Fetch(2, FetchKind.RELATIVE_JOINING, joining_request_id=0)
    stream_id = peer.say(peer.request(fetch), RequestUpdate(4, 2), RequestUpdate(6, 2))
    assert len(peer.events) == 1
    peer.request(Subscribe(0, TRACK))
    assert [type(event) for event in peer.events[2:]] == [
        RequestReceived,
        RequestUpdated,
        RequestUpdated,
    ]
    peer.session.respond_update(2, 4)
    peer.session.respond_update(2, 6)
    peer.session.respond(FetchOk(2, False, 1, None))
    answers = [type(message) for message in peer.heard(stream_id)]
    assert answers == [FetchOk, RequestOk, RequestOk]


# FIN of the one who asked


@STREAM_DRAFTS
def test_fin_cancels_some_requests(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(Subscribe(0, TRACK), fin=True)
    peer.request(PublishNamespace(2, (b"a",)), fin=True)
    peer.request(Fetch(4, FetchKind.STANDALONE, TRACK, end_group=1), fin=True)
    peer.request(TrackStatus(6, TRACK), fin=True)
    assert RequestCancelled not in map(type, peer.events)
    namespaces = peer.request(SubscribeNamespace(8, (b"a",)), fin=True)
    tracks = peer.request(SubscribeTracks(10, (b"a",)), fin=True)
    cancelled = [e.request_id for e in peer.events if isinstance(e, RequestCancelled)]
    assert cancelled == ([8, 10] if draft.fin_cancels_discovery else [])
    if draft.fin_cancels_discovery:
        assert peer.wire.finished[namespaces] is peer.wire.finished[tracks] is None
    # A publisher must say PUBLISH_DONE before.
    publish = peer.request(Publish(12, TRACK, 1), fin=True)
    assert peer.last == RequestCancelled(12)
    assert publish in peer.wire.finished


@STREAM_DRAFTS
def test_a_request_with_fin_is_still_cancelled_by_stop_sending(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(Subscribe(0, TRACK), fin=True)
    peer.session.respond(SubscribeOk(0, 1))
    peer.session.stream_stopped(stream_id, 0)
    assert peer.last == RequestCancelled(0)
    assert peer.session._context.bidi == {}
    stream_id = peer.request(TrackStatus(2, TRACK), fin=True)
    peer.session.respond(RequestOk(2))
    assert peer.session._context.bidi == {}
    stream_id = peer.request(PublishNamespace(4, (b"a",)), fin=True)
    peer.session.cancel(4)
    assert peer.session._context.bidi == {}
    assert peer.wire.finished[stream_id] == StreamError.CANCELLED


@STREAM_DRAFTS
def test_fin_of_the_one_who_answers(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    session = peer.session
    subscribe = session.subscribe(TRACK)
    publish = session.publish(OTHER, 1)
    namespace = session.publish_namespace((b"a",))
    discovery = session.subscribe_namespace((b"b",))
    fetch = session.fetch(track=TRACK, end_group=1)
    unanswered = session.track_status(TRACK)
    peer.say(0, SubscribeOk(subscribe, 4), fin=True)
    assert peer.last == RequestEnded(subscribe, StreamError.INTERNAL_ERROR)
    peer.session.stream_data(4, peer.bytes_of(RequestOk(publish), publish_ok=True), True)
    peer.say(8, RequestOk(namespace), fin=True)
    peer.say(12, RequestOk(discovery), fin=True)
    assert peer.last == RequestEnded(discovery, StreamError.INTERNAL_ERROR)
    peer.say(16, FetchOk(fetch, False, 1, None), fin=True)
    peer.say(20, fin=True)
    assert peer.last == RequestEnded(unanswered, StreamError.INTERNAL_ERROR)
    assert len([e for e in peer.events if isinstance(e, RequestEnded)]) == 3
    # Those three go on.
    session.notify(publish, PublishDone(publish, 2, 0))
    session.cancel(namespace)
    session.cancel(fetch)
    assert session._context.bidi == {}
    assert peer.wire.finished.keys() >= {0, 4, 8, 12, 16, 20}


@STREAM_DRAFTS
@pytest.mark.parametrize("how", ["reset", "stop"])
def test_the_one_who_answers_gives_up(draft: Draft, how: str) -> None:
    peer = Peer(draft, client=True)
    session = peer.session
    subscribe = session.subscribe(TRACK)
    publish = session.publish(OTHER, 1)
    for stream_id in (0, 4):
        if how == "reset":
            session.stream_reset(stream_id, 5)
        else:
            peer.wire.reset(stream_id, 5)
            session.stream_stopped(stream_id, 5)
            assert peer.wire.stopped[stream_id] == StreamError.CANCELLED
        assert stream_id in peer.wire.finished
    assert peer.events[1:] == [RequestEnded(subscribe, 5), RequestCancelled(publish)]
    session.stream_stopped(0, 5)
    session.stream_reset(0, 5)
    assert len(peer.events) == 3


@STREAM_DRAFTS
def test_stop_sending_after_the_end_of_a_request(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(Subscribe(0, TRACK))
    peer.session.reject(0, RequestErrorCode.DOES_NOT_EXIST)
    peer.session.stream_stopped(stream_id, 0)
    assert len(peer.events) == 2
    peer.session.stream_reset(stream_id, 0)
    assert len(peer.events) == 2
    assert peer.session._context.bidi == {}


@STREAM_DRAFTS
def test_the_publisher_gives_up_a_fetch_within_its_stream(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    request_id = peer.session.fetch(track=TRACK, end_group=1)
    data = peer.data(encode_fetch_header(request_id, draft))
    peer.say(0, FetchOk(request_id, False, 1, None))
    peer.session.stream_reset(0, StreamError.INTERNAL_ERROR)
    assert peer.last == RequestEnded(request_id, StreamError.INTERNAL_ERROR)
    assert peer.wire.stopped == {data: StreamError.CANCELLED}


def test_the_owner_rejects_a_joining_fetch_at_once() -> None:
    peer = Peer(DRAFT_18)
    fetch = Fetch(2, FetchKind.RELATIVE_JOINING, joining_request_id=0)
    peer.say(peer.request(fetch), RequestUpdate(4, 2))

    def reject(event: Event) -> None:
        if isinstance(event, RequestReceived) and event.request.request_id == 2:
            peer.session.reject(2, RequestErrorCode.INVALID_RANGE)

    peer.handler = reject
    peer.request(Subscribe(0, TRACK))
    assert [type(event) for event in peer.events[1:]] == [RequestReceived, RequestReceived]


# Misuse by the owner


@ALL_DRAFTS
def test_requests_that_cannot_be(draft: Draft) -> None:
    pair = Pair(draft)
    session = pair.client
    session.publish(TRACK, 1)
    with pytest.raises(ValueError, match="another track"):
        session.publish(OTHER, 1)
    with pytest.raises(ValueError, match="token alias 3"):
        session.subscribe(OTHER, Parameters(tokens=(Token(TokenAction.USE_ALIAS, alias=3),)))
    with pytest.raises(ValueError, match="token"):
        session.subscribe(OTHER, Parameters(tokens=(TOKEN, TOKEN)))
    with pytest.raises(ValueError, match="no request 40"):
        session.update(40, Parameters())
    with pytest.raises(ValueError, match="no request 40"):
        session.respond(RequestOk(40))
    with pytest.raises(ValueError, match="no request 40"):
        session.notify(40, NamespaceAdded((b"a",)))
    with pytest.raises(ValueError, match="no request 40"):
        session.respond_update(40, 2)
    with pytest.raises(ValueError, match="PUBLISH_DONE"):
        session.cancel(0)
    with pytest.raises(ValueError, match="fetch stream"):
        session.open_fetch(0)
    with pytest.raises(ValueError, match="fetch stream"):
        session.open_fetch(40)
    if draft.fill:
        with pytest.raises(ValueError, match=r"moqt-22|joining"):
            session.fetch(FetchKind.RELATIVE_JOINING, joining_request_id=0)
    # What failed has used no id.
    assert session.subscribe(OTHER) == 2
    pair.run()
    assert not pair.server.is_closed


@pytest.mark.parametrize(
    "tokens",
    [
        (Token(TokenAction.USE_ALIAS, alias=1),),
        (Token(TokenAction.DELETE, alias=1),),
        (TOKEN, TOKEN),
    ],
    ids=["use", "delete", "twice"],
)
def test_tokens_that_no_setup_may_hold(tokens: tuple[Token, ...]) -> None:
    with pytest.raises(ValueError, match="token"):
        Peer(DRAFT_18, tokens=tokens)


@ALL_DRAFTS
def test_a_publish_is_updated_after_its_answer(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(Publish(0, TRACK, 1))
    with pytest.raises(ValueError, match="answer the PUBLISH"):
        peer.session.update(0, Parameters())


@ALL_DRAFTS
def test_a_dropped_fetch_leaves_nothing(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(Fetch(0, FetchKind.STANDALONE, TRACK, end_group=1))
    stream_id = peer.session.open_fetch(0)
    peer.session.cancel(0)
    assert peer.wire.finished[stream_id] == StreamError.CANCELLED
    assert peer.session._table.fetch_streams == {}
    peer.session.reset(stream_id, 0)


@ALL_DRAFTS
def test_tokens_need_a_cache(draft: Draft) -> None:
    peer = Peer(draft, client=True, setup=Setup(max_request_id=100))
    register = Token(TokenAction.REGISTER, alias=1, type=0, value=b"x")
    with pytest.raises(ValueError, match="token"):
        peer.session.subscribe(TRACK, Parameters(tokens=(register,)))


def test_the_peers_limits_of_draft_22() -> None:
    peer = Peer(DRAFT_22, client=True, setup=Setup(max_filter_ranges=2, max_request_updates=2))
    session = peer.session

    def filters(count: int) -> Parameters:
        ranges = tuple((2 * n, 2 * n) for n in range(count))
        return Parameters(range_filters=(RangeFilter(RangeFilterKind.OBJECT, 0, ranges),))

    for parameters in (filters(3), Parameters(fill=filters(3))):
        with pytest.raises(ValueError, match="allows 2 ranges"):
            session.subscribe(TRACK, parameters)
    request_id = session.subscribe(TRACK, filters(2))
    peer.say(0, SubscribeOk(request_id, 1))
    ids = [session.update(request_id, Parameters(subscriber_priority=n)) for n in range(4)]
    told = [m.request_id for m in peer.heard(0) if isinstance(m, RequestUpdate)]
    assert told == ids[:2]
    peer.say(0, RequestOk(0), RequestOk(0))
    told = [m.request_id for m in peer.heard(0) if isinstance(m, RequestUpdate)]
    assert told == ids
    peer.say(0, RequestOk(0), RequestOk(0))
    answered = [e.update_id for e in peer.events if isinstance(e, UpdateAnswered)]
    assert answered == ids


def test_before_setup_one_update_at_a_time() -> None:
    peer = Peer(DRAFT_22, client=True, start=False)
    request_id = peer.session.subscribe(TRACK)
    for _ in range(2):
        peer.session.update(request_id, Parameters())
    assert [type(message) for message in peer.heard(0)] == [Subscribe, RequestUpdate]
    filters = RangeFilter(RangeFilterKind.OBJECT, 0, ((1, 1),))
    with pytest.raises(ValueError, match="ranges"):
        peer.session.update(request_id, Parameters(range_filters=(filters,)))
    # When SETUP lets more through, they still leave in their order.
    peer.set_up(Setup())
    peer.session.update(request_id, Parameters())
    assert len(peer.heard(0)) == 2
    peer.say(0, SubscribeOk(request_id, 1), RequestOk(0))
    assert [m.request_id for m in peer.heard(0)] == [0, 2, 4, 6]  # type: ignore[union-attr]


@ALL_DRAFTS
def test_answers_that_cannot_be(draft: Draft) -> None:
    pair = Pair(draft)
    client, server = pair.client, pair.server
    subscribe = client.subscribe(TRACK)
    other = client.subscribe(OTHER)
    status = client.track_status(TRACK)
    discovery = client.subscribe_namespace((b"a",))
    fetch = client.fetch(track=TRACK, end_group=1)
    namespace = client.publish_namespace((b"b",))
    pair.run()
    with pytest.raises(ValueError, match="cannot answer"):
        server.respond(RequestOk(subscribe))
    with pytest.raises(ValueError, match="cannot answer"):
        server.respond(SubscribeOk(status, 1))
    with pytest.raises(ValueError, match="Subscribe, pending"):
        server.notify(subscribe, PublishDone(subscribe, 0, 0))
    with pytest.raises(ValueError, match="SubscribeNamespace, pending"):
        server.notify(discovery, NamespaceAdded((b"b",)))
    server.respond(SubscribeOk(subscribe, 1))
    with pytest.raises(ValueError, match="another track"):
        server.respond(SubscribeOk(other, 1))
    with pytest.raises(ValueError, match="needs no answer"):
        server.respond(SubscribeOk(subscribe, 1))
    with pytest.raises(ValueError, match="needs no answer"):
        client.respond(SubscribeOk(subscribe, 1))
    for wrong in (NamespaceDone((b"a",)), PublishBlocked((b"a",), b"b")):
        with pytest.raises(ValueError, match="Subscribe, established"):
            server.notify(subscribe, wrong)
    with pytest.raises(ValueError, match="Subscribe"):
        client.notify(subscribe, PublishStateNotify())
    with pytest.raises(ValueError, match="PUBLISH_DONE"):
        server.cancel(subscribe)
    with pytest.raises(ValueError, match="peer's to update"):
        server.update(subscribe, Parameters())
    with pytest.raises(ValueError, match="cannot be updated"):
        client.update(status, Parameters())
    with pytest.raises(ValueError, match="needs no answer"):
        server.respond_update(subscribe, 99)
    update = client.update(subscribe, Parameters())
    pair.run()
    server.respond_update(subscribe, update)
    with pytest.raises(ValueError, match="needs no answer"):
        server.respond_update(subscribe, update)
    server.open_fetch(fetch)
    with pytest.raises(ValueError, match="takes no fetch stream"):
        server.open_fetch(fetch)
    server.respond(RequestOk(namespace))
    pair.run()
    assert not client.is_closed
    assert not server.is_closed
