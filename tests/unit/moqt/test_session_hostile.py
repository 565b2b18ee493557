"""What a peer must not do, one by one, and the code with which the session closes."""

from __future__ import annotations

import pytest

from fastrelay.moqt.codec import encode
from fastrelay.moqt.codes import RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import RequestReceived
from fastrelay.moqt.fetches import encode_fetch_header
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    GoAway,
    Message,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishNamespace,
    PublishStateNotify,
    Redirect,
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
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.moqt.objects import CONTROL_STREAM
from unit.moqt.wires import Peer

TRACK = FullTrackName((b"live", b"demo"), b"video")
OTHER = FullTrackName((b"live", b"demo"), b"audio")
VIOLATION = SessionError.PROTOCOL_VIOLATION

STREAM_DRAFTS = pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22], ids=str)
ALL_DRAFTS = pytest.mark.parametrize("draft", list(DRAFTS.values()), ids=str)
BOTH_SIDES = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


def subscribe(request_id: int, track: FullTrackName = TRACK) -> Subscribe:
    return Subscribe(request_id, track)


def register(alias: int, value: bytes = b"x") -> Parameters:
    return Parameters(tokens=(Token(TokenAction.REGISTER, alias=alias, type=0, value=value),))


# Streams and framing


@ALL_DRAFTS
@BOTH_SIDES
def test_unknown_message_type(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.session.stream_data(peer.control, draft.varints.encode(0x3F) + b"\0\0", False)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
def test_unknown_message_type_on_a_request_stream(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.stream_data(peer.new(), draft.varints.encode(0x3F) + b"\0\0", False)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("kind", [0x00, 0x04, 0x06, 0x16, 0x80, 0x2F01])
def test_unknown_stream_type(draft: Draft, kind: int) -> None:
    peer = Peer(draft)
    peer.data(draft.varints.encode(kind) + bytes(10))
    peer.assert_closed(VIOLATION)


def test_draft_16_knows_no_control_and_padding_streams() -> None:
    for kind in (CONTROL_STREAM, 0x132B3E28):
        peer = Peer(DRAFT_16)
        peer.data(DRAFT_16.varints.encode(kind) + bytes(10))
        peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("data", [b"", b"\x10", b"\x22\0\0\0", b"\x3f\0\0", b"\0\0"])
def test_wrong_datagram(draft: Draft, data: bytes) -> None:
    peer = Peer(draft)
    peer.session.datagram(data)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@BOTH_SIDES
def test_control_stream_is_finished(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.session.stream_data(peer.control, b"", True)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@BOTH_SIDES
def test_control_stream_is_finished_with_setup(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client, start=False)
    stream_id = peer.new(unidirectional=True) if draft.request_streams else 0
    peer.say(stream_id, Setup(), fin=True)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@BOTH_SIDES
def test_control_stream_is_reset(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.session.stream_reset(peer.control, 0)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@BOTH_SIDES
def test_our_control_stream_is_stopped(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.session.stream_stopped(peer.session_control, 0)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
def test_second_control_stream(draft: Draft) -> None:
    peer = Peer(draft)
    peer.say(peer.new(unidirectional=True), Setup())
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@BOTH_SIDES
def test_second_setup(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.say(peer.control, Setup())
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
@pytest.mark.parametrize(
    "message", [subscribe(0), RequestOk(0), PublishDone(0, 0, 0), NamespaceAdded((b"a",))], ids=repr
)
def test_control_stream_carries_setup_and_goaway_only(draft: Draft, message: Message) -> None:
    peer = Peer(draft)
    peer.say(peer.control, message)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
@pytest.mark.parametrize(
    "message",
    [
        RequestOk(0),
        SubscribeOk(0, 1),
        FetchOk(0, False, 1, None),
        RequestError(0, 0),
        PublishDone(0, 0, 0),
        RequestUpdate(0, 0),
        NamespaceAdded((b"a",)),
        NamespaceDone((b"a",)),
        PublishBlocked((b"a",), b"b"),
        GoAway(),
        Setup(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_request_stream_begins_with_a_request(draft: Draft, message: Message) -> None:
    peer = Peer(draft)
    peer.say(peer.new(), message)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_a_message_is_longer_than_its_fields(draft: Draft) -> None:
    peer = Peer(draft)
    data = bytearray(peer.bytes_of(subscribe(0)))
    data[2] += 1
    stream_id = peer.new() if draft.request_streams else peer.control
    peer.session.stream_data(stream_id, bytes(data) + b"\0", False)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_request_stream_ends_within_its_request(draft: Draft, size: int) -> None:
    peer = Peer(draft)
    peer.session.stream_data(peer.new(), peer.bytes_of(subscribe(0))[:size], True)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
def test_a_request_stream_ends_within_an_update(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(subscribe(0))
    peer.session.stream_data(stream_id, peer.bytes_of(RequestUpdate(2, 0))[:2], True)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("data", [b"", b"\x14", b"\x14\x07", b"\x05"])
def test_a_data_stream_ends_within_its_header(draft: Draft, data: bytes) -> None:
    peer = Peer(draft)
    peer.data(data, fin=True)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("data", [b"\0", b"\0\x05", b"\0\x05abcd"])
def test_a_data_stream_ends_within_an_object(draft: Draft, data: bytes) -> None:
    peer = Peer(draft)
    peer.data(b"\x14\x07\x00\x00\x80" + data, fin=True)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_an_unknown_object_status(draft: Draft) -> None:
    peer = Peer(draft)
    peer.data(b"\x14\x07\x00\x00\x80" + b"\0\0\x02", fin=True)
    peer.assert_closed(VIOLATION)


# SETUP


@ALL_DRAFTS
@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (Setup(path="/a"), SessionError.INVALID_PATH),
        (Setup(authority="a"), SessionError.INVALID_AUTHORITY),
    ],
    ids=["path", "authority"],
)
def test_a_server_names_itself(draft: Draft, setup: Setup, code: SessionError) -> None:
    peer = Peer(draft, client=True, setup=setup)
    peer.assert_closed(code)


@ALL_DRAFTS
@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (Setup(path="/a"), SessionError.INVALID_PATH),
        (Setup(path=""), SessionError.INVALID_PATH),
        (Setup(authority="a"), SessionError.INVALID_AUTHORITY),
    ],
    ids=["path", "empty path", "authority"],
)
def test_the_uri_over_webtransport(draft: Draft, setup: Setup, code: SessionError) -> None:
    peer = Peer(draft, webtransport=True, setup=setup)
    peer.assert_closed(code)


@ALL_DRAFTS
@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (Setup(path="no slash"), SessionError.MALFORMED_PATH),
        (Setup(authority="a b"), SessionError.MALFORMED_AUTHORITY),
    ],
    ids=["path", "authority"],
)
def test_a_malformed_uri(draft: Draft, setup: Setup, code: SessionError) -> None:
    peer = Peer(draft, setup=setup)
    peer.assert_closed(code)


# Request ids


@STREAM_DRAFTS
@BOTH_SIDES
def test_request_id_of_the_other_side(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.request(subscribe(0 if client else 1))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


@STREAM_DRAFTS
def test_request_id_twice(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(subscribe(4))
    peer.request(subscribe(0, OTHER))
    assert not peer.session.is_closed
    peer.request(TrackStatus(4, OTHER))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


@STREAM_DRAFTS
def test_update_id_twice(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(subscribe(0))
    peer.say(stream_id, RequestUpdate(0, 0))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


# Answers


def ask(peer: Peer, kind: type) -> int:
    """A request of the session; returns the stream on which the peer answers."""
    session = peer.session
    before = set(peer.wire.sent)
    if kind is Subscribe:
        session.subscribe(TRACK)
    elif kind is Fetch:
        session.fetch(track=TRACK, start=Location(5, 5), end_group=7)
    elif kind is TrackStatus:
        session.track_status(TRACK)
    elif kind is Publish:
        session.publish(TRACK, 3)
    elif kind is PublishNamespace:
        session.publish_namespace((b"live",))
    elif kind is SubscribeNamespace:
        session.subscribe_namespace((b"live",))
    else:
        session.subscribe_tracks((b"live",))
    new = set(peer.wire.sent) - before
    return new.pop() if new else peer.control


ANSWERS: dict[type, Message] = {
    Subscribe: SubscribeOk(0, 9),
    Fetch: FetchOk(0, False, 7, None),
    TrackStatus: RequestOk(0),
    Publish: RequestOk(0),
    PublishNamespace: RequestOk(0),
    SubscribeNamespace: RequestOk(0),
    SubscribeTracks: RequestOk(0),
}


def say_answer(peer: Peer, stream_id: int, answer: Message, kind: type) -> None:
    data = peer.bytes_of(answer, publish_ok=kind is Publish)
    peer.session.stream_data(stream_id, data, False)


@ALL_DRAFTS
@pytest.mark.parametrize("kind", list(ANSWERS), ids=lambda kind: kind.__name__)
def test_an_answer_of_another_kind(draft: Draft, kind: type) -> None:
    for answer in (SubscribeOk(0, 9), FetchOk(0, False, 7, None), RequestOk(0)):
        if type(answer) is not type(ANSWERS[kind]):
            peer = Peer(draft, client=True)
            peer.say(ask(peer, kind), answer)
            peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize(
    "kind",
    [Subscribe, Fetch, Publish, PublishNamespace, SubscribeNamespace, SubscribeTracks],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("failed", [False, True], ids=["ok", "error"])
def test_a_second_answer(draft: Draft, kind: type, failed: bool) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, kind)
    say_answer(peer, stream_id, ANSWERS[kind], kind)
    assert not peer.session.is_closed
    say_answer(peer, stream_id, RequestError(0, 0) if failed else ANSWERS[kind], kind)
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("kind", list(ANSWERS), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "notification",
    [
        PublishDone(0, 0, 0),
        NamespaceAdded((b"a",)),
        NamespaceDone((b"a",)),
        PublishBlocked((b"a",), b"b"),
        PublishStateNotify(),
        GoAway(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_notification_out_of_place(draft: Draft, kind: type, notification: Message) -> None:
    fits = {
        (Subscribe, PublishDone),
        (Subscribe, PublishStateNotify),
        (SubscribeNamespace, NamespaceAdded),
        (SubscribeTracks, PublishBlocked),
        # Draft 16's way to ask for tracks is to ask for namespaces.
        *([(SubscribeTracks, NamespaceAdded)] if not draft.request_streams else []),
    }
    unknown = {
        DRAFT_16: (PublishBlocked, PublishStateNotify),
        DRAFT_18: (PublishStateNotify,),
        DRAFT_22: (),
    }[draft]
    if isinstance(notification, unknown):
        data = draft.varints.encode(0x22) + b"\0\1\0"
    else:
        data = encode(notification, draft)
    for answered in (False, True):
        peer = Peer(draft, client=True)
        stream_id = ask(peer, kind)
        if answered:
            say_answer(peer, stream_id, ANSWERS[kind], kind)
        peer.session.stream_data(stream_id, data, False)
        ok = answered and (kind, type(notification)) in fits
        ok = ok and not isinstance(notification, unknown)
        if isinstance(notification, GoAway) and (draft.request_streams or stream_id == 0):
            ok = True
        # A TRACK_STATUS is over with its answer: nothing is read, or meant by its id, then.
        over = answered and kind is TrackStatus
        ok |= over and (draft.request_streams or isinstance(notification, PublishDone))
        assert peer.closed_with == (None if ok else VIOLATION)


@ALL_DRAFTS
def test_namespace_done_without_namespace(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, SubscribeNamespace)
    peer.say(stream_id, RequestOk(0), NamespaceAdded((b"a",)), NamespaceDone((b"a",)))
    assert not peer.session.is_closed
    peer.say(stream_id, NamespaceDone((b"a",)))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_a_namespace_with_too_many_fields(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, SubscribeNamespace)
    peer.say(stream_id, RequestOk(0), NamespaceAdded((b"a",) * 32))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("end", [(4, None), (5, 4)])
def test_fetch_ok_ends_before_the_start(draft: Draft, end: tuple[int, int | None]) -> None:
    peer = Peer(draft, client=True)
    peer.say(ask(peer, Fetch), FetchOk(0, False, *end))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("end", [(5, None), (5, 5), (6, 0)])
def test_fetch_ok_ends_after_the_start(draft: Draft, end: tuple[int, int | None]) -> None:
    peer = Peer(draft, client=True)
    peer.say(ask(peer, Fetch), FetchOk(0, False, *end))
    assert not peer.session.is_closed


@STREAM_DRAFTS
def test_a_client_redirects_its_server(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = ask(peer, Subscribe)
    redirect = Redirect("moqt://elsewhere", TRACK)
    peer.say(stream_id, RequestError(0, RequestErrorCode.REDIRECT, redirect=redirect))
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
@pytest.mark.parametrize(
    "kind", [PublishNamespace, SubscribeNamespace, SubscribeTracks], ids=lambda kind: kind.__name__
)
def test_a_namespace_is_redirected_to_a_track(draft: Draft, kind: type) -> None:
    redirect = Redirect("", TRACK)
    error = RequestError(0, RequestErrorCode.REDIRECT, redirect=redirect)
    peer = Peer(draft, client=True)
    peer.say(ask(peer, kind), error)
    peer.assert_closed(VIOLATION)
    peer = Peer(draft, client=True)
    stream_id = ask(peer, kind)
    peer.say(stream_id, RequestOk(0))
    peer.session.update(0, Parameters())
    peer.say(stream_id, error)
    peer.assert_closed(VIOLATION)


@STREAM_DRAFTS
def test_an_answer_to_the_peers_own_request(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(subscribe(0))
    peer.say(stream_id, RequestOk(0))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_an_update_is_answered_by_something_else(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, Subscribe)
    peer.say(stream_id, SubscribeOk(0, 1))
    update_id = peer.session.update(0, Parameters())
    peer.say(stream_id, SubscribeOk(update_id, 1))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_track_properties_answer_a_publish(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, Publish)
    data = bytearray(peer.bytes_of(RequestOk(0), publish_ok=True))
    data[2] += 2
    peer.session.stream_data(stream_id, bytes(data) + b"\x0e\x01", False)
    peer.assert_closed(VIOLATION)


# Updates


@ALL_DRAFTS
def test_an_update_of_a_track_status(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(TrackStatus(0, TRACK))
    peer.say(stream_id, RequestUpdate(2, 0))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_the_publisher_updates_a_subscribe(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    stream_id = ask(peer, Subscribe)
    peer.say(stream_id, SubscribeOk(0, 1), RequestUpdate(1, 0))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_too_many_updates(draft: Draft) -> None:
    peer = Peer(draft, limits=SessionLimits(request_updates=2))
    stream_id = peer.request(subscribe(0))
    peer.say(stream_id, RequestUpdate(2, 0), RequestUpdate(4, 0))
    assert not peer.session.is_closed
    peer.say(stream_id, RequestUpdate(6, 0))
    limited = draft.range_filters
    peer.assert_closed(
        SessionError.TOO_MANY_REQUEST_UPDATES if limited else SessionError.INTERNAL_ERROR
    )


# Aliases and tokens


@ALL_DRAFTS
def test_an_alias_for_two_tracks(draft: Draft) -> None:
    for second in ("subscribe_ok", "publish"):
        peer = Peer(draft, client=True)
        say_answer(peer, ask(peer, Subscribe), SubscribeOk(0, 9), Subscribe)
        if second == "publish":
            peer.request(Publish(1, OTHER, 9))
        else:
            before = set(peer.wire.sent)
            peer.session.subscribe(OTHER)
            new = set(peer.wire.sent) - before
            peer.say(new.pop() if new else peer.control, SubscribeOk(2, 9))
        peer.assert_closed(SessionError.DUPLICATE_TRACK_ALIAS)


@ALL_DRAFTS
def test_a_refused_publish_does_not_hold_its_alias(draft: Draft) -> None:
    peer = Peer(draft)
    peer.request(Publish(0, TRACK, 9))
    peer.session.reject(0, RequestErrorCode.UNINTERESTED)
    peer.request(Publish(2, OTHER, 9))
    assert not peer.session.is_closed


@ALL_DRAFTS
@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ([register(1, b"x" * 100)], SessionError.AUTH_TOKEN_CACHE_OVERFLOW),
        ([register(1), register(1)], SessionError.DUPLICATE_AUTH_TOKEN_ALIAS),
        (
            [Parameters(tokens=(Token(TokenAction.USE_ALIAS, alias=5),))],
            SessionError.UNKNOWN_AUTH_TOKEN_ALIAS,
        ),
        (
            [Parameters(tokens=(Token(TokenAction.DELETE, alias=5),))],
            SessionError.UNKNOWN_AUTH_TOKEN_ALIAS,
        ),
    ],
    ids=["overflow", "duplicate", "unknown", "unknown delete"],
)
@pytest.mark.parametrize("update", [False, True], ids=["request", "update"])
def test_tokens(
    draft: Draft, parameters: list[Parameters], code: SessionError, update: bool
) -> None:
    peer = Peer(draft, limits=SessionLimits(token_cache=64))
    if update:
        stream_id = peer.request(subscribe(0))
        for number, item in enumerate(parameters, 1):
            peer.say(stream_id, RequestUpdate(2 * number, 0, item))
    else:
        for number, item in enumerate(parameters):
            track = FullTrackName((b"live",), bytes([number]))
            peer.request(Subscribe(2 * number, track, item))
    peer.assert_closed(code)


@ALL_DRAFTS
@pytest.mark.parametrize("action", [TokenAction.DELETE, TokenAction.USE_ALIAS])
def test_a_token_alias_in_a_clients_setup(draft: Draft, action: TokenAction) -> None:
    peer = Peer(draft, setup=Setup(tokens=(Token(action, alias=1),)))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_a_token_twice_in_setup(draft: Draft) -> None:
    token = Token(TokenAction.USE_VALUE, type=0, value=b"x")
    peer = Peer(draft, setup=Setup(tokens=(token, token)))
    peer.assert_closed(SessionError.MALFORMED_AUTH_TOKEN)


@ALL_DRAFTS
def test_a_registration_too_large_in_setup_is_no_error(draft: Draft) -> None:
    token = Token(TokenAction.REGISTER, alias=1, type=0, value=b"x" * 100)
    peer = Peer(draft, setup=Setup(tokens=(token,)), limits=SessionLimits(token_cache=64))
    assert peer.events[0].tokens == ((0, b"x" * 100),)  # type: ignore[union-attr]


# GOAWAY


@ALL_DRAFTS
@BOTH_SIDES
def test_goaway_twice(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client)
    peer.say(peer.control, GoAway())
    assert not peer.session.is_closed
    peer.say(peer.control, GoAway())
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_a_client_sends_the_server_elsewhere(draft: Draft) -> None:
    peer = Peer(draft)
    data = encode(GoAway("moqt://other"), draft)
    peer.session.stream_data(peer.control, data, False)
    peer.assert_closed(VIOLATION)


@BOTH_SIDES
def test_goaway_names_a_request_of_its_sender(client: bool) -> None:
    peer = Peer(DRAFT_18, client=client)
    peer.say(peer.control, GoAway(request_id=1 if client else 0))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


@STREAM_DRAFTS
def test_goaway_twice_for_one_request(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.request(subscribe(0))
    peer.say(stream_id, GoAway())
    assert not peer.session.is_closed
    peer.say(stream_id, GoAway())
    peer.assert_closed(VIOLATION)


def test_goaway_for_one_request_names_another() -> None:
    peer = Peer(DRAFT_18)
    peer.say(peer.request(subscribe(0)), GoAway(request_id=1))
    peer.assert_closed(VIOLATION)


# Fetch streams


@ALL_DRAFTS
@pytest.mark.parametrize("request_id", [0, 2, 3])
def test_a_fetch_stream_nobody_asked_for(draft: Draft, request_id: int) -> None:
    peer = Peer(draft, client=True)
    ask(peer, Subscribe)
    peer.request(Fetch(1, FetchKind.STANDALONE, TRACK, end_group=1))
    peer.data(encode_fetch_header(request_id, draft))
    peer.assert_closed(VIOLATION)


@ALL_DRAFTS
def test_a_second_fetch_stream(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    ask(peer, Fetch)
    peer.data(encode_fetch_header(0, draft))
    assert not peer.session.is_closed
    peer.data(encode_fetch_header(0, draft))
    peer.assert_closed(VIOLATION)


def test_a_second_fill_stream() -> None:
    peer = Peer(DRAFT_22, client=True)
    peer.session.subscribe(TRACK, Parameters(fill=Parameters()))
    peer.data(encode_fetch_header(0, DRAFT_22))
    assert not peer.session.is_closed
    peer.data(encode_fetch_header(0, DRAFT_22))
    peer.assert_closed(VIOLATION)


# Nothing of this is the end of a session


@STREAM_DRAFTS
def test_an_unknown_error_code_is_no_violation(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    peer.say(ask(peer, Subscribe), RequestError(0, 0x7777))
    assert not peer.session.is_closed


@STREAM_DRAFTS
def test_a_request_stream_is_reset_before_it_says_anything(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.new()
    peer.session.stream_reset(stream_id, 0)
    other = peer.new()
    peer.session.stream_data(other, peer.bytes_of(subscribe(0))[:3], False)
    peer.session.stream_reset(other, 0)
    third = peer.new()
    peer.session.stream_data(third, peer.bytes_of(subscribe(0))[:3], False)
    peer.session.stream_stopped(third, 0)
    assert peer.events[1:] == []
    assert not peer.session.is_closed
    assert peer.session._context.bidi == {}
    assert peer.wire.stopped == {third: StreamError.CANCELLED}
    assert len(peer.session._context.deadlines) == 0


@ALL_DRAFTS
def test_a_stream_of_ours_is_dead_after_its_end(draft: Draft) -> None:
    """Late frames for streams that are over are ignored."""
    peer = Peer(draft)
    stream_id = ask(peer, SubscribeNamespace)
    peer.say(stream_id, RequestError(1, 0), fin=True)
    peer.session.stream_data(stream_id, b"\xff\xff\xff", True)
    peer.session.stream_reset(stream_id, 0)
    peer.session.stream_stopped(stream_id, 0)
    assert not peer.session.is_closed


@ALL_DRAFTS
def test_one_session_does_not_disturb_another(draft: Draft) -> None:
    bad, good = Peer(draft), Peer(draft)
    bad.data(b"\x00")
    bad.assert_closed(VIOLATION)
    good.request(subscribe(0))
    assert isinstance(good.last, RequestReceived)
