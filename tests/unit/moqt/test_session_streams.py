"""Streams and datagrams of the peer: before SETUP, in pieces, unwanted, and too slow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt.codes import SessionError, StreamError
from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import (
    DatagramReceived,
    DataStreamReset,
    DataStreamStopped,
    Event,
    FetchData,
    FetchOpened,
    RequestReceived,
    SessionClosed,
    SetupReceived,
    SubgroupData,
    SubgroupHeader,
    SubgroupOpened,
    SubgroupRefused,
    TrackMalformed,
)
from fastrelay.moqt.fetches import FetchEncoder, encode_fetch_header
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.messages import (
    Parameters,
    RequestOk,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
)
from fastrelay.moqt.names import FullTrackName, Location, ObjectStatus
from fastrelay.moqt.objects import (
    PADDING_DATAGRAM,
    PADDING_STREAM,
    encode_object,
    encode_subgroup_header,
)
from unit.moqt.wires import Pair, Peer

TRACK = FullTrackName((b"live",), b"video")

STREAM_DRAFTS = pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22], ids=str)
ALL_DRAFTS = pytest.mark.parametrize("draft", list(DRAFTS.values()), ids=str)


def subgroup(draft: Draft, *payloads: bytes, alias: int = 7) -> bytes:
    """A whole subgroup stream."""
    data = encode_subgroup_header(SubgroupHeader(alias, 1, 0, None, False, False, False), draft)
    for number, payload in enumerate(payloads):
        previous = number - 1 if number else None
        data += encode_object(number, previous, len(payload), draft.varints) + payload
    return data


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


# Before SETUP


@ALL_DRAFTS
def test_what_comes_before_setup_is_kept(draft: Draft) -> None:
    peer = Peer(draft, start=False)
    data = subgroup(draft, b"abc")
    stream_id = peer.data(data[:2])
    peer.session.stream_data(stream_id, data[2:], True)
    datagram = encode_datagram(7, Location(1, 0), 0, b"x", draft)
    peer.session.datagram(datagram)
    early = peer.new() if draft.request_streams else 4
    request = SubscribeNamespace(0, (b"a",))
    encoded = peer.bytes_of(request)
    for number in range(len(encoded)):
        peer.session.stream_data(early, encoded[number : number + 1], False)
    assert peer.events == []
    peer.set_up(Setup())
    assert kinds(peer.events) == [
        SetupReceived,
        SubgroupOpened,
        SubgroupData,
        RequestReceived,
        DatagramReceived,
    ]
    peer.session.respond(RequestOk(0))
    assert peer.heard(early) == [RequestOk(0)]


@ALL_DRAFTS
def test_early_streams_may_end_early(draft: Draft) -> None:
    peer = Peer(draft, start=False)
    stream_id = peer.data(subgroup(draft, b"abc"))
    peer.session.stream_reset(stream_id, 0)
    for fin in (False, True):
        early = peer.new() if draft.request_streams else 4 + 4 * fin
        peer.session.stream_data(early, peer.bytes_of(SubscribeNamespace(0, (b"a",))), fin)
        peer.session.stream_stopped(early, 0)
        assert peer.wire.stopped[early] == StreamError.CANCELLED
    peer._next[False] = 0 if not draft.request_streams else peer._next[False]
    peer.set_up(Setup())
    assert kinds(peer.events) == [SetupReceived]
    assert len(peer.session._context.bidi) == (not draft.request_streams)


@ALL_DRAFTS
def test_what_comes_before_setup_is_bounded(draft: Draft) -> None:
    peer = Peer(draft, start=False, limits=SessionLimits(early_bytes=50))
    first = peer.data(subgroup(draft, bytes(30)))
    second = peer.data(subgroup(draft, bytes(30)))
    excessive = draft.stream_error_to_wire(StreamError.EXCESSIVE_LOAD)
    assert peer.wire.stopped == {second: excessive}
    peer.session.datagram(encode_datagram(7, Location(1, 0), 0, bytes(30), draft))
    request = peer.new() if draft.request_streams else 4
    peer.session.stream_data(request, peer.bytes_of(SubscribeNamespace(0, (b"a" * 30,))), False)
    assert peer.wire.finished == {request: excessive}
    last = peer.data(subgroup(draft, bytes(30)), fin=True)
    assert last not in peer.session._context.uni
    assert second not in peer.session._context.uni
    assert request not in peer.session._context.bidi
    peer.set_up(Setup())
    assert kinds(peer.events) == [SetupReceived, SubgroupOpened, SubgroupData]
    peer.session.stream_reset(first, 0)
    assert isinstance(peer.last, DataStreamReset)


@STREAM_DRAFTS
def test_an_early_violation_closes_when_setup_is_there(draft: Draft) -> None:
    peer = Peer(draft, start=False)
    peer.say(peer.new(), RequestOk(0))
    peer.say(peer.new(), Subscribe(0, TRACK))
    assert not peer.session.is_closed
    peer.set_up(Setup())
    peer.assert_closed(SessionError.PROTOCOL_VIOLATION)
    assert kinds(peer.events) == [SetupReceived, SessionClosed]


@ALL_DRAFTS
def test_the_owner_may_close_when_setup_is_there(draft: Draft) -> None:
    peer = Peer(draft, start=False)
    peer.handler = lambda event: peer.session.close(SessionError.UNAUTHORIZED)
    peer.data(subgroup(draft, b"abc"))
    peer.set_up(Setup())
    assert kinds(peer.events) == [SetupReceived, SessionClosed]


@ALL_DRAFTS
def test_nothing_comes_after_the_owner_has_closed(draft: Draft) -> None:
    peer = Peer(draft)
    closing = {RequestReceived}
    peer.handler = lambda event: peer.session.close() if type(event) in closing else None
    stream_id = peer.new() if draft.request_streams else peer.control
    peer.say(stream_id, Subscribe(0, TRACK), RequestUpdate(2, 0), fin=draft.request_streams)
    assert kinds(peer.events) == [SetupReceived, RequestReceived, SessionClosed]


# In pieces


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(DRAFTS.values())),
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.integers(1, 40), max_size=40),
    st.booleans(),
)
def test_pieces_do_not_matter(
    draft: Draft, payloads: list[bytes], sizes: list[int], early: bool
) -> None:
    peer = Peer(draft, start=not early)
    data = subgroup(draft, *payloads)
    stream_id, position = peer.new(unidirectional=True), 0
    for size in sizes:
        if position + size >= len(data):
            break
        peer.session.stream_data(stream_id, data[position : position + size], False)
        position += size
    peer.session.stream_data(stream_id, data[position:], True)
    if early:
        peer.set_up(Setup())
    assert kinds(peer.events)[:2] == [SetupReceived, SubgroupOpened]
    pieces = [e for e in peer.events if isinstance(e, SubgroupData)]
    body = b"".join(piece.body for piece in pieces)
    assert body == subgroup(draft, *payloads)[len(subgroup(draft)) :]
    found = [body[o.payload_start : o.end] for piece in pieces for o in piece.objects]
    assert found == payloads
    assert len(peer.session._context.deadlines) == 0


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(DRAFTS.values())), st.integers(0, 1 << 30))
def test_the_order_of_streams_does_not_matter(draft: Draft, seed: int) -> None:
    """Many requests at once, cut and mixed at random: all are served."""
    pair = Pair(draft, chunks=seed)
    ids = [pair.client.subscribe(FullTrackName((b"n",), bytes([n]))) for n in range(6)]
    ids.append(pair.client.subscribe_namespace((b"a",)))
    ids.append(pair.client.fetch(track=TRACK, end_group=1))
    ids.append(pair.client.subscribe_namespace((b"b",)))
    ids.append(pair.client.track_status(TRACK))
    pair.client.update(ids[0], Parameters(subscriber_priority=3))
    pair.run()
    served = [e.request.request_id for e in pair.server_events if isinstance(e, RequestReceived)]
    assert sorted(served) == ids
    for request_id in served:
        pair.server.reject(request_id, 0)
    pair.run()
    assert not pair.server.is_closed
    assert len(pair.client._table) == len(pair.server._table) == 0


@ALL_DRAFTS
def test_a_header_in_pieces(draft: Draft) -> None:
    peer = Peer(draft)
    data = subgroup(draft, b"abc", alias=5000)
    stream_id = peer.new(unidirectional=True)
    for number in range(3):
        peer.session.stream_data(stream_id, data[number : number + 1], False)
    assert len(peer.session._context.deadlines) == 1
    peer.session.stream_data(stream_id, data[3:], False)
    assert kinds(peer.events) == [SetupReceived, SubgroupOpened, SubgroupData]
    assert len(peer.session._context.deadlines) == 0
    # A piece that completes nothing is no event.
    peer.session.stream_data(stream_id, b"\0", False)
    assert len(peer.events) == 3


@ALL_DRAFTS
def test_a_stream_is_reset_within_its_header(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.data(subgroup(draft)[:2])
    peer.session.stream_reset(stream_id, 0)
    peer.session.stream_reset(peer.new(unidirectional=True), 0)
    assert kinds(peer.events) == [SetupReceived]
    assert len(peer.session._context.deadlines) == 0


# Unwanted


@STREAM_DRAFTS
@pytest.mark.parametrize("start", [True, False])
def test_padding_is_dropped(draft: Draft, start: bool) -> None:
    peer = Peer(draft, start=start)
    kind = draft.varints.encode(PADDING_STREAM)
    stream_id = peer.data(kind + bytes(1000))
    peer.session.stream_data(stream_id, bytes(1000), False)
    whole = peer.data(kind + bytes(5), fin=True)
    assert whole not in peer.session._context.uni
    peer.session.stream_data(stream_id, b"", True)
    assert stream_id not in peer.session._context.uni
    cancelled = peer.data(kind)
    peer.session.stream_reset(cancelled, 0)
    peer.session.datagram(draft.varints.encode(PADDING_DATAGRAM) + bytes(100))
    if not start:
        peer.set_up(Setup())
    assert kinds(peer.events) == [SetupReceived]
    assert len(peer.session._context.uni) == 1


def test_draft_16_has_no_padding_datagrams() -> None:
    peer = Peer(DRAFT_16)
    peer.session.datagram(DRAFT_16.varints.encode(PADDING_DATAGRAM) + bytes(100))
    peer.assert_closed(SessionError.PROTOCOL_VIOLATION)


@ALL_DRAFTS
@pytest.mark.parametrize("close", [True, False], ids=["close", "stop"])
def test_the_owner_stops_a_stream_at_its_header(draft: Draft, close: bool) -> None:
    peer = Peer(draft, client=True)
    request_id = peer.session.fetch(track=TRACK, end_group=3)

    def stop(event: Event) -> None:
        if isinstance(event, SubgroupOpened | FetchOpened):
            if close:
                peer.session.close()
            else:
                peer.session.stop(event.stream_id, StreamError.CANCELLED)

    peer.handler = stop
    peer.data(subgroup(draft, b"abc"), fin=True)
    fetched = encode_fetch_header(request_id, draft)
    fetched += FetchEncoder(draft).object(Location(1, 0), 0, 128, 1) + b"x"
    peer.data(fetched)
    expected = [SetupReceived, SubgroupOpened, SessionClosed if close else FetchOpened]
    assert kinds(peer.events) == expected


@ALL_DRAFTS
def test_the_owner_closes_while_it_reads_a_fetch(draft: Draft) -> None:
    peer = Peer(draft, client=True)
    request_id = peer.session.fetch(track=TRACK, end_group=3)
    peer.handler = lambda event: peer.session.close() if isinstance(event, FetchData) else None
    peer.data(encode_fetch_header(request_id, draft), fin=True)
    assert isinstance(peer.last, SessionClosed)


@ALL_DRAFTS
def test_too_many_data_streams(draft: Draft) -> None:
    control = draft.request_streams
    peer = Peer(draft, client=True, limits=SessionLimits(data_streams=2 + control))
    request_id = peer.session.fetch(track=TRACK, end_group=3)
    first, _ = (peer.data(subgroup(draft)) for _ in range(2))
    third = peer.data(subgroup(draft))
    fetch = peer.data(encode_fetch_header(request_id, draft))
    excessive = draft.stream_error_to_wire(StreamError.EXCESSIVE_LOAD)
    assert peer.wire.stopped == {third: excessive, fetch: excessive}
    opened = [SubgroupOpened, SubgroupOpened, SubgroupRefused]
    assert kinds(peer.events) == [SetupReceived, *opened]
    assert peer.last.stream_id == third
    peer.session.stream_data(first, b"", True)
    peer.data(subgroup(draft))
    assert isinstance(peer.last, SubgroupOpened)


@ALL_DRAFTS
def test_a_stream_that_was_reset(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.data(subgroup(draft, b"abc"))
    peer.session.stream_reset(stream_id, draft.stream_error_to_wire(StreamError.CANCELLED))
    assert peer.last == DataStreamReset(stream_id, StreamError.CANCELLED)


@ALL_DRAFTS
def test_codes_of_streams_are_translated(draft: Draft) -> None:
    peer = Peer(draft)
    code = StreamError.UNKNOWN_OBJECT_STATUS
    wire = 4 if draft is DRAFT_16 else 6
    stream_id = peer.data(subgroup(draft, b"abc"))
    peer.session.stream_reset(stream_id, wire)
    assert peer.last == DataStreamReset(stream_id, code)
    ours = peer.session.open_subgroup(SubgroupHeader(1, 1, 0, None, False, False, False))
    peer.session.reset(ours, code)
    assert peer.wire.finished[ours] == wire
    other = peer.session.open_subgroup(SubgroupHeader(1, 2, 0, None, False, False, False))
    peer.session.stream_stopped(other, wire)
    assert peer.last == DataStreamStopped(other, code)


@ALL_DRAFTS
def test_stopping_a_stream_that_is_over_leaves_nothing(draft: Draft) -> None:
    peer = Peer(draft)
    stream_id = peer.data(subgroup(draft, b"abc"), fin=True)
    peer.session.stop(stream_id, StreamError.CANCELLED)
    assert stream_id not in peer.session._context.uni


@ALL_DRAFTS
def test_late_data_of_our_own_streams_is_ignored(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.stream_data(1, b"\xff\xff", True)
    peer.session.stream_data(3, b"\xff\xff", True)
    peer.session.stream_reset(1, 0)
    assert not peer.session.is_closed


# Malformed tracks


@ALL_DRAFTS
@pytest.mark.parametrize("fin", [False, True])
def test_a_malformed_subgroup(draft: Draft, fin: bool) -> None:
    peer = Peer(draft)
    end = encode_object(0, None, 0, draft.varints, status=ObjectStatus.END_OF_GROUP)
    more = encode_object(1, 0, 1, draft.varints) + b"x"
    stream_id = peer.data(subgroup(draft) + end + more, fin=fin)
    assert isinstance(peer.last, TrackMalformed)
    assert peer.last.stream_id == stream_id
    assert peer.wire.stopped == {stream_id: StreamError.MALFORMED_TRACK}
    assert kinds(peer.events) == [SetupReceived, SubgroupOpened, TrackMalformed]
    assert not peer.session.is_closed
    assert len(peer.session._context.uni) == draft.request_streams


@ALL_DRAFTS
@pytest.mark.parametrize("fin", [False, True])
def test_a_malformed_fetch(draft: Draft, fin: bool) -> None:
    peer = Peer(draft, client=True)
    request_id = peer.session.fetch(track=TRACK, end_group=3)
    encoder = FetchEncoder(draft)
    data = encode_fetch_header(request_id, draft)
    # PRIOR_GROUP_ID_GAP larger than the group.
    gap = draft.varints.encode(0x3C) + draft.varints.encode(9)
    data += encoder.object(Location(1, 0), 0, 128, 1, properties=gap) + b"x"
    stream_id = peer.data(data, fin=fin)
    assert isinstance(peer.last, TrackMalformed)
    assert peer.wire.stopped == {stream_id: StreamError.MALFORMED_TRACK}
    peer.session.cancel(request_id)
    assert not peer.session.is_closed
    assert len(peer.session._table) == 0


@ALL_DRAFTS
def test_a_malformed_datagram(draft: Draft) -> None:
    peer = Peer(draft)
    gap = draft.varints.encode(0x3C) + draft.varints.encode(9)
    data = encode_datagram(5000, Location(1, 0), 0, b"x", draft, properties=gap)
    peer.session.datagram(data)
    assert isinstance(peer.last, TrackMalformed)
    assert (peer.last.stream_id, peer.last.track_alias) == (None, 5000)


@ALL_DRAFTS
def test_a_datagram(draft: Draft) -> None:
    pair = Pair(draft)
    data = encode_datagram(7, Location(3, 4), 1, b"payload", draft)
    assert pair.server.send_datagram(data)
    assert not pair.server.send_datagram(bytes(1201))
    pair.run()
    event = pair.client_events[-1]
    assert isinstance(event, DatagramReceived)
    assert (event.track_alias, event.location, event.payload) == (7, (3, 4), b"payload")
    assert event.raw == data


# Too slow


LIMITS = SessionLimits(setup_timeout=5, message_timeout=5, answer_timeout=20)


@ALL_DRAFTS
@pytest.mark.parametrize("client", [False, True])
def test_no_setup(draft: Draft, client: bool) -> None:
    peer = Peer(draft, client=client, start=False, limits=LIMITS)
    peer.session.expire(100.0)
    peer.session.expire(104.9)
    assert not peer.session.is_closed
    peer.session.expire(105.0)
    peer.assert_closed(SessionError.CONTROL_MESSAGE_TIMEOUT)


@ALL_DRAFTS
def test_a_peer_that_does_not_read(draft: Draft) -> None:
    peer = Peer(draft, limits=SessionLimits(unread_bytes=1000))
    peer.wire.backlog = 1000
    peer.session.expire(1.0)
    assert not peer.session.is_closed
    peer.wire.backlog = 1001
    peer.session.expire(2.0)
    peer.assert_closed(SessionError.CONTROL_MESSAGE_TIMEOUT)


@ALL_DRAFTS
def test_half_a_control_message(draft: Draft) -> None:
    peer = Peer(draft, limits=LIMITS)
    data = peer.bytes_of(Subscribe(0, TRACK))
    stream_id = peer.new() if draft.request_streams else peer.control
    peer.session.expire(0.0)
    peer.session.stream_data(stream_id, data[:2], False)
    peer.session.expire(100.0)
    peer.session.stream_data(stream_id, data[2:4], False)
    peer.session.expire(104.0)
    assert not peer.session.is_closed
    peer.session.expire(105.0)
    peer.assert_closed(SessionError.CONTROL_MESSAGE_TIMEOUT)


@ALL_DRAFTS
def test_a_whole_control_message_is_in_time(draft: Draft) -> None:
    peer = Peer(draft, limits=LIMITS)
    data = peer.bytes_of(Subscribe(0, TRACK))
    stream_id = peer.new() if draft.request_streams else peer.control
    peer.session.stream_data(stream_id, data[:2], False)
    peer.session.expire(100.0)
    peer.session.stream_data(stream_id, data[2:], False)
    peer.session.expire(1000.0)
    assert not peer.session.is_closed


@ALL_DRAFTS
def test_half_a_stream_header(draft: Draft) -> None:
    peer = Peer(draft, limits=LIMITS)
    peer.data(subgroup(draft)[:2])
    peer.session.expire(0.0)
    peer.session.expire(5.0)
    peer.assert_closed(SessionError.DATA_STREAM_TIMEOUT)


@ALL_DRAFTS
def test_no_answer(draft: Draft) -> None:
    peer = Peer(draft, client=True, limits=LIMITS)
    rendezvous = 10_000 if draft.request_streams else None
    peer.session.subscribe(TRACK, Parameters(rendezvous_timeout=rendezvous))
    peer.session.expire(0.0)
    peer.session.expire(29.9 if rendezvous else 19.9)
    assert not peer.session.is_closed
    peer.session.expire(30.0 if rendezvous else 20.0)
    peer.assert_closed(SessionError.CONTROL_MESSAGE_TIMEOUT)


@ALL_DRAFTS
def test_an_answer_in_time(draft: Draft) -> None:
    peer = Peer(draft, client=True, limits=LIMITS)
    peer.session.subscribe(TRACK)
    peer.session.expire(0.0)
    peer.say(0, SubscribeOk(0, 1))
    peer.session.cancel(peer.session.subscribe(FullTrackName((b"x",), b"")))
    peer.session.expire(1000.0)
    assert not peer.session.is_closed


@ALL_DRAFTS
def test_goaway_has_a_time_limit(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.goaway(timeout=2000)
    peer.session.expire(0.0)
    peer.session.expire(1.9)
    assert not peer.session.is_closed
    peer.session.expire(2.0)
    peer.assert_closed(SessionError.GOAWAY_TIMEOUT)


@ALL_DRAFTS
def test_goaway_without_a_time_limit(draft: Draft) -> None:
    peer = Peer(draft)
    peer.session.goaway()
    peer.session.expire(0.0)
    peer.session.expire(1e6)
    assert not peer.session.is_closed
