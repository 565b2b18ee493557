"""Draft 16: request credit, ids in sequence, and messages that name requests."""

from __future__ import annotations

import pytest

from fastrelay.moqt.codes import RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.drafts import DRAFT_16
from fastrelay.moqt.events import (
    AnswerReceived,
    RequestCancelled,
    RequestEnded,
    RequestReceived,
    RequestUpdated,
    SetupReceived,
    UpdateAnswered,
)
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import (
    Fetch,
    FetchCancel,
    FetchKind,
    GoAway,
    MaxRequestId,
    Message,
    NamespaceAdded,
    Publish,
    PublishDone,
    PublishNamespace,
    PublishNamespaceCancel,
    PublishNamespaceDone,
    RequestError,
    RequestOk,
    RequestsBlocked,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    TrackStatus,
    Unsubscribe,
)
from fastrelay.moqt.names import FullTrackName
from unit.moqt.wires import Pair, Peer

VIOLATION = SessionError.PROTOCOL_VIOLATION


def track(number: int) -> FullTrackName:
    return FullTrackName((b"live",), b"%d" % number)


def received(peer: Peer) -> list[int]:
    return [e.request.request_id for e in peer.events if isinstance(e, RequestReceived)]


def test_credit_is_told_and_obeyed() -> None:
    pair = Pair(
        DRAFT_16,
        client={"limits": SessionLimits(incoming_requests=5)},
        server={"limits": SessionLimits(incoming_requests=3)},
    )
    assert pair.client.peer_setup
    assert pair.client.peer_setup.max_request_id == 6
    assert pair.server.peer_setup
    assert pair.server.peer_setup.max_request_id == 10
    ids = [pair.client.subscribe(track(number)) for number in range(6)]
    pair.run()
    assert ids == [0, 2, 4, 6, 8, 10]
    served = [e.request.request_id for e in pair.server_events if isinstance(e, RequestReceived)]
    assert served == [0, 2, 4]
    for request_id in served:
        pair.server.reject(request_id, RequestErrorCode.DOES_NOT_EXIST)
    pair.run()
    served = [e.request.request_id for e in pair.server_events if isinstance(e, RequestReceived)]
    assert served == ids
    assert not pair.client.is_closed


def test_requests_before_setup_wait_for_credit() -> None:
    pair = Pair(DRAFT_16, start=False)
    pair.client.start()
    pair.server.start()
    request_id = pair.client.subscribe(track(1))
    discovery = pair.client.subscribe_namespace((b"live",))
    pair.run()
    served = [e.request.request_id for e in pair.server_events if isinstance(e, RequestReceived)]
    assert sorted(served) == [request_id, discovery]


def test_without_max_request_id_nothing_is_sent() -> None:
    peer = Peer(DRAFT_16, client=True, setup=Setup())
    request_id = peer.session.subscribe(track(0))
    peer.session.subscribe(track(1))
    assert peer.answers(0) == [RequestsBlocked(0)]
    peer.say(peer.control, MaxRequestId(1))
    assert peer.answers(0)[1:] == [Subscribe(request_id, track(0)), RequestsBlocked(1)]
    peer.say(peer.control, MaxRequestId(100))
    assert len(peer.answers(0)) == 4


def test_a_cancelled_request_that_waits_keeps_the_sequence() -> None:
    peer = Peer(DRAFT_16, client=True, setup=Setup(max_request_id=1))
    session = peer.session
    first = session.subscribe(track(0))
    waiting = session.subscribe(track(1))
    discovery = session.subscribe_namespace((b"x",))
    update = session.update(first, parameters=Subscribe(0, track(0)).parameters)
    session.cancel(waiting)
    session.cancel(discovery)
    session.cancel(first)
    assert peer.answers(0)[1:] == [RequestsBlocked(1)]
    peer.say(peer.control, MaxRequestId(100))
    assert peer.answers(0)[2:] == [
        Subscribe(waiting, track(1)),
        RequestUpdate(update, first),
        Unsubscribe(waiting),
        Unsubscribe(first),
    ]
    [stream_id] = set(peer.wire.sent) - {0}
    assert peer.heard(stream_id) == [SubscribeNamespace(discovery, (b"x",))]
    assert peer.wire.finished[stream_id] == StreamError.CANCELLED
    # Late answers to all of them are ignored.
    peer.say(stream_id, RequestOk(discovery), fin=True)
    peer.say(
        0,
        SubscribeOk(waiting, 1),
        RequestOk(update),
        RequestError(first, 0),
        PublishDone(first, 0, 0),
    )
    assert not session.is_closed
    assert [e for e in peer.events if not isinstance(e, SetupReceived)] == []


@pytest.mark.parametrize("value", [0, 999, 1000])
def test_credit_must_grow(value: int) -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, MaxRequestId(value))
    peer.assert_closed(VIOLATION)


def test_credit_is_granted_again_in_batches() -> None:
    peer = Peer(DRAFT_16, limits=SessionLimits(incoming_requests=4))
    for number in range(4):
        peer.request(Subscribe(2 * number, track(number)))
    peer.session.reject(0, 0)
    assert MaxRequestId(10) not in peer.answers(0)
    peer.session.reject(2, 0)
    assert peer.answers(0)[-1] == MaxRequestId(12)
    peer.session.reject(4, 0)
    peer.say(peer.control, RequestsBlocked(12))
    assert peer.answers(0)[-1] == MaxRequestId(14)
    peer.say(peer.control, RequestsBlocked(14))
    assert peer.answers(0)[-1] == MaxRequestId(14)


def test_an_answered_update_gives_its_credit_back() -> None:
    peer = Peer(DRAFT_16, limits=SessionLimits(incoming_requests=2))
    peer.say(peer.control, Subscribe(0, track(0)), RequestUpdate(2, 0))
    peer.session.respond(SubscribeOk(0, 1))
    peer.session.respond_update(0, 2)
    assert peer.answers(0)[-1] == MaxRequestId(6)


def test_more_than_the_credit() -> None:
    peer = Peer(DRAFT_16, limits=SessionLimits(incoming_requests=2))
    peer.say(peer.control, *(Subscribe(2 * n, track(n)) for n in range(3)))
    peer.assert_closed(SessionError.TOO_MANY_REQUESTS)


@pytest.mark.parametrize("request_id", [1, 0])
def test_an_id_out_of_order(request_id: int) -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, Subscribe(0, track(0)), Subscribe(request_id, track(1)))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


def test_a_missing_id_is_waited_for_and_then_not() -> None:
    peer = Peer(DRAFT_16, limits=SessionLimits(reorder_timeout=3.0))
    peer.request(Subscribe(2, track(1)))
    peer.session.expire(10.0)
    peer.session.expire(12.9)
    assert not peer.session.is_closed
    peer.session.expire(13.0)
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


def test_requests_on_two_streams_are_taken_in_the_order_of_their_ids() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, Subscribe(2, track(1)), RequestUpdate(6, 2), Subscribe(8, track(8)))
    late = peer.new()
    early = peer.new()
    peer.say(late, SubscribeNamespace(4, (b"b",)), fin=True)
    assert received(peer) == []
    peer.say(early, SubscribeNamespace(0, (b"a",)))
    assert received(peer) == [0, 2, 4, 8]
    updates = [e.update_id for e in peer.events if isinstance(e, RequestUpdated)]
    assert updates == [6]
    # The FIN that was waiting ends its request.
    assert RequestCancelled(4) in peer.events
    peer.session.expire(0.0)
    peer.session.expire(100.0)
    assert not peer.session.is_closed


def test_the_same_id_cannot_wait_twice() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.new(), SubscribeNamespace(2, (b"b",)))
    peer.say(peer.new(), SubscribeNamespace(2, (b"c",)))
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


def test_a_reset_stream_leaves_a_hole() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, Subscribe(2, track(1)))
    peer.session.stream_reset(peer.new(), 0)
    assert received(peer) == [2]
    # A second hole is not explained by it.
    peer.say(peer.control, Subscribe(6, track(2)))
    assert received(peer) == [2]
    stream_id = peer.new()
    peer.session.stream_data(stream_id, b"\x11", False)
    peer.session.stream_stopped(stream_id, 0)
    assert received(peer) == [2, 6]
    assert not peer.session.is_closed


def test_a_request_is_given_up_while_it_waits_for_its_turn() -> None:
    peer = Peer(DRAFT_16)
    stream_id = peer.new()
    peer.say(stream_id, SubscribeNamespace(2, (b"b",)))
    peer.session.stream_reset(stream_id, 0)
    peer.say(peer.control, Subscribe(0, track(0)), Subscribe(4, track(4)))
    assert received(peer) == [0, 4]


@pytest.mark.parametrize("control", [True, False])
def test_what_waits_is_bounded(control: bool) -> None:
    peer = Peer(DRAFT_16, limits=SessionLimits(early_bytes=100))
    if control:
        stream_id = peer.say(peer.control, Subscribe(2, track(0)))
    else:
        stream_id = peer.say(peer.new(), SubscribeNamespace(2, (b"a",)))
    peer.session.stream_data(stream_id, bytes(100), False)
    assert not peer.session.is_closed
    peer.session.stream_data(stream_id, bytes(1), False)
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


# Streams


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize(
    "message",
    [Subscribe(0, track(0)), RequestOk(0), NamespaceAdded((b"a",)), RequestUpdate(0, 0)],
    ids=lambda message: type(message).__name__,
)
def test_a_stream_begins_with_subscribe_namespace(client: bool, message: Message) -> None:
    peer = Peer(DRAFT_16, client=client)
    peer.say(peer.new(), message)
    peer.assert_closed(VIOLATION)


def test_another_bidirectional_stream_before_setup() -> None:
    peer = Peer(DRAFT_16, start=False)
    peer.say(peer.new(), Subscribe(0, track(0)))
    peer.assert_closed(VIOLATION)


def test_a_type_in_pieces() -> None:
    """Integers may be longer than needed, and streams may begin with no byte at all."""
    peer = Peer(DRAFT_16, start=False)
    peer.session.stream_data(0, b"", False)
    peer.session.stream_data(0, b"\x40", False)
    peer.session.stream_data(0, b"\x20\0\1\0", False)
    assert [type(event) for event in peer.events] == [SetupReceived]
    stream_id = 4
    for byte in b"\x40" + peer.bytes_of(SubscribeNamespace(0, (b"a",))):
        peer.session.stream_data(stream_id, bytes([byte]), False)
    assert received(peer) == [0]


@pytest.mark.parametrize("begun", [False, True])
def test_a_server_goes_away_before_setup(begun: bool) -> None:
    peer = Peer(DRAFT_16, start=False)
    setup = peer.bytes_of(Setup())
    if begun:
        peer.session.stream_data(0, setup[:2], False)
    peer.session.goaway("moqt://other")
    peer.session.stream_data(0, setup[2 * begun :], False)
    assert [type(message) for message in peer.heard(0)] == [Setup, GoAway]


def test_the_first_message_is_setup() -> None:
    peer = Peer(DRAFT_16, client=True, start=False)
    peer.control = 0
    peer.say(0, Subscribe(1, track(0)))
    peer.assert_closed(VIOLATION)


def test_setup_of_the_wrong_side() -> None:
    peer = Peer(DRAFT_16, client=True, start=False)
    peer.session.stream_data(0, b"\x20\0\1\0", False)
    peer.assert_closed(VIOLATION)


def test_subscribe_namespace_on_the_control_stream() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, SubscribeNamespace(0, (b"a",)))
    peer.assert_closed(VIOLATION)


def test_an_update_on_the_stream_of_its_request() -> None:
    peer = Peer(DRAFT_16)
    stream_id = peer.say(peer.new(), SubscribeNamespace(0, (b"a",)), RequestUpdate(2, 0))
    peer.session.respond(RequestOk(0))
    peer.session.respond_update(0, 2)
    assert peer.heard(stream_id) == [RequestOk(0)]
    assert peer.answers(0) == [RequestOk(2)]


def test_an_update_on_the_stream_of_another_request() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, Subscribe(0, track(0)))
    peer.say(peer.new(), SubscribeNamespace(2, (b"a",)), RequestUpdate(4, 0))
    peer.assert_closed(VIOLATION)


# Messages that name a request


@pytest.mark.parametrize(
    "message",
    [
        SubscribeOk(2, 1),
        RequestOk(4),
        RequestError(3, 0),
        PublishDone(2, 0, 0),
        Unsubscribe(7),
        FetchCancel(7),
        PublishNamespaceDone(7),
        PublishNamespaceCancel(8, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_request_that_never_was(message: Message) -> None:
    peer = Peer(DRAFT_16, client=True)
    peer.session.subscribe(track(0))
    peer.say(peer.control, message)
    peer.assert_closed(SessionError.INVALID_REQUEST_ID)


def test_an_update_of_a_request_that_never_was() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, RequestUpdate(0, 2))
    peer.assert_closed(VIOLATION)


def test_an_update_of_a_request_that_is_over() -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, Subscribe(0, track(0)))
    peer.session.reject(0, RequestErrorCode.DOES_NOT_EXIST)
    peer.say(peer.control, RequestUpdate(2, 0))
    [answer] = peer.answers(0)[1:]
    assert isinstance(answer, RequestError)
    assert (answer.request_id, answer.code) == (2, RequestErrorCode.DOES_NOT_EXIST)
    # So is a cancellation of it.
    peer.say(peer.control, Unsubscribe(0))
    assert not peer.session.is_closed


@pytest.mark.parametrize("wrong", [Unsubscribe, FetchCancel, PublishNamespaceDone])
@pytest.mark.parametrize(
    ("request_", "right"),
    [
        (Subscribe(0, track(0)), Unsubscribe),
        (Fetch(0, FetchKind.STANDALONE, track(0), end_group=1), FetchCancel),
        (PublishNamespace(0, (b"a",)), PublishNamespaceDone),
        (Publish(0, track(0), 1), None),
        (TrackStatus(0, track(0)), None),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_cancellation_of_another_kind(
    request_: Message, right: type | None, wrong: type[Unsubscribe]
) -> None:
    peer = Peer(DRAFT_16)
    peer.say(peer.control, request_, wrong(0))
    if wrong is right:
        assert peer.last == RequestCancelled(0)
        assert not peer.session.is_closed
    else:
        peer.assert_closed(VIOLATION)


def test_a_namespace_is_revoked() -> None:
    peer = Peer(DRAFT_16, client=True)
    peer.session.publish_namespace((b"a",))
    peer.say(0, RequestOk(0), PublishNamespaceCancel(0, RequestErrorCode.EXPIRED_AUTH_TOKEN))
    assert peer.last == RequestEnded(0, RequestErrorCode.EXPIRED_AUTH_TOKEN)
    peer = Peer(DRAFT_16, client=True)
    peer.session.subscribe(track(0))
    peer.say(0, PublishNamespaceCancel(0, 0))
    peer.assert_closed(VIOLATION)


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (StreamError.CANCELLED, RequestErrorCode.UNINTERESTED),
        (StreamError.EXPIRED_AUTH_TOKEN, RequestErrorCode.EXPIRED_AUTH_TOKEN),
        (StreamError.INTERNAL_ERROR, RequestErrorCode.INTERNAL_ERROR),
    ],
)
def test_we_revoke_a_namespace(code: StreamError, wire: RequestErrorCode) -> None:
    peer = Peer(DRAFT_16)
    peer.say(0, PublishNamespace(0, (b"a",)))
    peer.session.respond(RequestOk(0))
    peer.session.cancel(0, code)
    assert peer.answers(0)[-1] == PublishNamespaceCancel(0, wire)


def test_we_cancel_what_has_no_message() -> None:
    peer = Peer(DRAFT_16)
    peer.say(0, Fetch(0, FetchKind.STANDALONE, track(0), end_group=1))
    stream_id = peer.session.open_fetch(0)
    peer.session.cancel(0)
    assert peer.wire.finished[stream_id] == StreamError.CANCELLED
    status = peer.session.track_status(track(1))
    peer.session.cancel(status)
    assert peer.answers(0) == [TrackStatus(status, track(1))]
    peer.say(0, RequestOk(status))
    assert not peer.session.is_closed


def test_publish_ok_has_a_type_of_its_own() -> None:
    for publish_ok in (True, False):
        peer = Peer(DRAFT_16, client=True)
        peer.session.publish(track(0), 1)
        data = peer.bytes_of(RequestOk(0), publish_ok=publish_ok)
        peer.session.stream_data(0, data, False)
        assert peer.closed_with == (None if publish_ok else VIOLATION)
    peer = Peer(DRAFT_16, client=True)
    peer.session.publish_namespace((b"a",))
    peer.session.stream_data(0, peer.bytes_of(RequestOk(0), publish_ok=True), False)
    peer.assert_closed(VIOLATION)


def test_a_publish_is_answered_with_its_own_type() -> None:
    peer = Peer(DRAFT_16)
    peer.say(0, Publish(0, track(0), 1))
    before = len(peer.wire.sent[0])
    peer.session.respond(RequestOk(0))
    assert peer.wire.sent[0][before] == 0x1E
    peer.say(0, RequestUpdate(2, 0))
    before = len(peer.wire.sent[0])
    peer.session.respond_update(0, 2)
    assert peer.wire.sent[0][before] == 0x07


def test_an_answer_for_the_peers_own_request() -> None:
    peer = Peer(DRAFT_16)
    peer.say(0, Subscribe(0, track(0)), SubscribeOk(0, 1))
    peer.assert_closed(VIOLATION)


def test_updates_are_matched_by_id() -> None:
    peer = Peer(DRAFT_16, client=True)
    peer.session.subscribe(track(0))
    first = peer.session.update(0, Subscribe(0, track(0)).parameters)
    second = peer.session.update(0, Subscribe(0, track(0)).parameters)
    peer.say(0, RequestOk(second), SubscribeOk(0, 1), RequestOk(first))
    answers = [e for e in peer.events if isinstance(e, UpdateAnswered | AnswerReceived)]
    assert [getattr(e, "update_id", None) for e in answers] == [second, None, first]
