"""Control messages: framing, round trips, and every kind of malformed message with its code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt import codec
from fastrelay.moqt.codes import MoqtError, PublishDoneStatus, RequestErrorCode, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    GoAway,
    MaxRequestId,
    Message,
    Parameters,
    PublishDone,
    PublishStateNotify,
    Redirect,
    RequestError,
    RequestOk,
    Setup,
    Subscribe,
    SubscribeTracks,
    Token,
    TokenAction,
)
from fastrelay.moqt.names import FullTrackName, Location

from .strategies import REQUEST_ID, drafts, messages

DRAFT = pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
TRACK = FullTrackName((b"live",), b"video")
VIOLATION = SessionError.PROTOCOL_VIOLATION


def decode_whole(data: bytes, draft: Draft, *, from_client: bool = False) -> Message:
    split = codec.split(data, 0, draft)
    assert split is not None
    message_type, body, end = split
    assert end == len(data)
    return codec.decode(message_type, body, draft, request_id=REQUEST_ID, from_client=from_client)


def outcome(message_type: int, body: bytes, draft: Draft) -> Message | SessionError:
    try:
        return codec.decode(message_type, body, draft, request_id=REQUEST_ID, from_client=False)
    except MoqtError as error:
        return error.code


@settings(max_examples=150)
@given(data=st.data(), draft=drafts)
def test_round_trip(data: st.DataObject, draft: Draft) -> None:
    message = data.draw(messages(draft))
    assert decode_whole(codec.encode(message, draft, is_client=False), draft) == message


@settings(max_examples=25)
@given(data=st.data(), draft=drafts)
def test_every_truncation_is_refused_or_another_message(data: st.DataObject, draft: Draft) -> None:
    """Never another exception, and never a message that says the same."""
    message = data.draw(messages(draft))
    split = codec.split(codec.encode(message, draft, is_client=False), 0, draft)
    assert split is not None
    message_type, body, _ = split
    expected = (VIOLATION, SessionError.KEY_VALUE_FORMATTING_ERROR)
    for cut in range(len(body)):
        shorter = outcome(message_type, body[:cut], draft)
        assert shorter != message
        assert not isinstance(shorter, SessionError) or shorter in expected


@settings(max_examples=100)
@given(
    draft=drafts, message_type=st.integers(0, 0x60) | st.just(0x2F00), body=st.binary(max_size=40)
)
def test_noise_is_a_message_or_an_error(draft: Draft, message_type: int, body: bytes) -> None:
    message = outcome(message_type, body, draft)
    if not isinstance(message, SessionError):
        again = codec.encode(message, draft, is_client=False)
        assert decode_whole(again, draft) == message


@DRAFT
def test_split_waits_for_the_whole_message(draft: Draft) -> None:
    first = codec.encode(Subscribe(0, TRACK), draft)
    second = codec.encode(GoAway("x" * 200), draft)
    stream = first + second
    for cut in range(len(stream)):
        found = codec.split(stream[:cut], 0, draft)
        assert (found is None) == (cut < len(first))
        if found is not None:
            assert codec.split(stream[:cut], found[2], draft) is None
    for buffer in (stream, bytearray(stream), memoryview(stream)):
        found = codec.split(buffer, len(first), draft)
        assert found is not None
        assert found[2] == len(stream)
        assert isinstance(found[1], bytes)


@DRAFT
def test_answers_get_the_id_of_their_stream(draft: Draft) -> None:
    """On the wire only where all requests share a stream."""
    data = codec.encode(RequestOk(9), draft)
    assert decode_whole(data, draft) == RequestOk(REQUEST_ID if draft.request_streams else 9)


def test_publish_ok_has_a_type_of_its_own_in_draft_16() -> None:
    message = RequestOk(2, Parameters(forward=True))
    types = {
        draft: codec.encode(message, draft, publish_ok=True)[0] for draft in (DRAFT_16, DRAFT_18)
    }
    assert types == {DRAFT_16: 0x1E, DRAFT_18: 0x07}
    assert codec.encode(RequestOk(2), DRAFT_16)[0] == 0x07


@DRAFT
@pytest.mark.parametrize("is_client", [False, True])
def test_setup_of_each_side(draft: Draft, is_client: bool) -> None:
    setup = Setup(implementation="x")
    data = codec.encode(setup, draft, is_client=is_client)
    expected = "af00" if draft.request_streams else "20" if is_client else "21"
    assert data.hex().startswith(expected)
    assert decode_whole(data, draft, from_client=is_client) == setup


def test_the_largest_end_stands_for_what_draft_22_cannot_say() -> None:
    answer = FetchOk(REQUEST_ID, False, 7, None)
    data = codec.encode(answer, DRAFT_22)
    assert data.endswith(b"\xff" * 9 + b"\0")
    assert decode_whole(data, DRAFT_22) == answer


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_18], ids=str)
def test_an_open_fetch_ends_at_the_largest_group(draft: Draft) -> None:
    fetch = Fetch(2, FetchKind.STANDALONE, TRACK, Location(7, 0))
    decoded = decode_whole(codec.encode(fetch, draft), draft)
    assert isinstance(decoded, Fetch)
    assert (decoded.end_group, decoded.end_object) == (draft.varints.maximum, None)


def test_an_absent_fetch_filter_is_everything_in_draft_22() -> None:
    body = bytes.fromhex("02 01 04 6c697665 05 766964656f 00")
    assert codec.decode(0x16, body, DRAFT_22) == Fetch(2, FetchKind.STANDALONE, TRACK)


CODES = [
    (DRAFT_16, RequestError(2, RequestErrorCode.GOING_AWAY), RequestErrorCode.INTERNAL_ERROR),
    (DRAFT_18, RequestError(2, RequestErrorCode.GOING_AWAY), RequestErrorCode.GOING_AWAY),
    (DRAFT_18, RequestError(2, RequestErrorCode.INVALID_FILTER), RequestErrorCode.INTERNAL_ERROR),
    (DRAFT_22, RequestError(2, RequestErrorCode.INVALID_FILTER), RequestErrorCode.INVALID_FILTER),
    (DRAFT_22, RequestError(2, RequestErrorCode.DUPLICATE_SUBSCRIPTION), 0),
    (DRAFT_22, PublishDone(2, PublishDoneStatus.SUBSCRIPTION_ENDED, 1), 0),
    (DRAFT_16, PublishDone(2, PublishDoneStatus.EXCESSIVE_LOAD, 1), 0),
    (DRAFT_16, PublishDone(2, PublishDoneStatus.EXPIRED, 1), PublishDoneStatus.EXPIRED),
]


@pytest.mark.parametrize(("draft", "message", "code"), CODES)
def test_codes_that_a_draft_lacks(draft: Draft, message: Message, code: int) -> None:
    decoded = decode_whole(codec.encode(message, draft), draft)
    assert isinstance(decoded, RequestError | PublishDone)
    assert (decoded.status if isinstance(decoded, PublishDone) else decoded.code) == code


def test_a_redirect_goes_only_with_its_code() -> None:
    redirect = Redirect("moqt://other.example", TRACK)
    for draft, code in (
        (DRAFT_16, RequestErrorCode.REDIRECT),
        (DRAFT_18, RequestErrorCode.TIMEOUT),
    ):
        decoded = decode_whole(codec.encode(RequestError(2, code, redirect=redirect), draft), draft)
        assert isinstance(decoded, RequestError)
        assert decoded.redirect is None


def test_text_that_is_no_utf_8_does_not_end_a_session() -> None:
    decoded = codec.decode(0x05, b"\x01\x00\x02\xff\xfe", DRAFT_18)
    assert decoded == RequestError(0, 1, "\ufffd\ufffd")


def test_unknown_setup_options_are_ignored_however_often() -> None:
    # 0x09 twice, 0x0A, then 0x9D: none is known; then nothing else is wrong either.
    body = bytes.fromhex("09 01 61 00 01 62 01 05") + b"\x80\x93" + b"\x00"
    assert codec.decode(0x2F00, body, DRAFT_18) == Setup()


def test_later_setup_options_are_unknown_to_earlier_drafts() -> None:
    setup = Setup(max_filter_ranges=4, max_request_updates=2, max_request_id=7)
    assert decode_whole(codec.encode(setup, DRAFT_18), DRAFT_18) == Setup()
    body = bytes.fromhex("06 04 00 04 02 02")
    assert codec.decode(0x2F00, body, DRAFT_18) == Setup()


def test_what_cannot_be_encoded() -> None:
    cases: list[tuple[Message, Draft, str]] = [
        (MaxRequestId(1), DRAFT_18, "has no MaxRequestId"),
        (SubscribeTracks(0, ()), DRAFT_16, "has no SubscribeTracks"),
        (PublishStateNotify(), DRAFT_18, "has no PublishStateNotify"),
        (Fetch(0, FetchKind.RELATIVE_JOINING), DRAFT_22, "no joining"),
        (Fetch(0, FetchKind.STANDALONE), DRAFT_18, "without a track"),
        (GoAway("x" * 8193), DRAFT_18, "8193 bytes"),
        (RequestError(0, 0, "x" * 1025), DRAFT_18, "1025 bytes"),
        (MaxRequestId(1 << 62), DRAFT_16, "does not fit"),
        (Setup(tokens=(Token(TokenAction.REGISTER, None, 0),)), DRAFT_18, "needs an alias"),
        (Setup(tokens=(Token(TokenAction.USE_VALUE),)), DRAFT_18, "needs a token type"),
        (Setup(path="/" * 65536), DRAFT_18, "65536 bytes"),
        (
            Subscribe(
                0, TRACK, Parameters(tokens=(Token(TokenAction.USE_VALUE, None, 0, bytes(65533)),))
            ),
            DRAFT_18,
            "more than 65535",
        ),
    ]
    for message, draft, reason in cases:
        with pytest.raises(ValueError, match=reason):
            codec.encode(message, draft)


@dataclass(frozen=True)
class Malformed:
    name: str
    type: int
    body: str
    code: SessionError = VIOLATION
    drafts: tuple[Draft, ...] = (DRAFT_18, DRAFT_22)
    from_client: bool = True


LATER = (DRAFT_18, DRAFT_22)
OLD = (DRAFT_16,)
LONG = "10" * 16
BAD = SessionError.KEY_VALUE_FORMATTING_ERROR
TRACK_HEX = "01 04 6c697665 05 766964656f"

MALFORMED = [
    # Messages
    Malformed("unknown type", 0x3F, "", drafts=(*OLD, *LATER)),
    Malformed("client setup after draft 16", 0x20, "00"),
    Malformed("publish ok after draft 16", 0x1E, "00"),
    Malformed("max request id after draft 16", 0x15, "01"),
    Malformed("setup of draft 17 on", 0x2F00, "", drafts=OLD),
    Malformed("state notify before draft 20", 0x22, "00", drafts=(*OLD, DRAFT_18)),
    Malformed("body too long", 0x08, "00 00", drafts=(*OLD, *LATER)),
    Malformed("body too short", 0x08, "01 04 6c69", drafts=(*OLD, *LATER)),
    Malformed("ends within an integer", 0x0A, "40", drafts=OLD),
    # Names
    Malformed("namespace of 33 fields", 0x08, "21" + "01 61" * 33, drafts=(*OLD, *LATER)),
    Malformed("empty namespace field", 0x08, "01 00", drafts=(*OLD, *LATER)),
    Malformed("namespace of 4097 bytes", 0x08, "01 9001" + "61" * 4097),
    Malformed("namespace of 4097 bytes, draft 16", 0x08, "01 5001" + "61" * 4097, drafts=OLD),
    Malformed("track name of 4097 bytes", 0x03, "00 01 01 61 9000" + "62" * 4096 + "00"),
    Malformed("namespace without fields", 0x06, "00 00 00", drafts=OLD),
    Malformed("track without namespace", 0x03, "00 00 01 61 00", drafts=OLD),
    # Requests
    Malformed("fetch type 0", 0x16, "00 00" + TRACK_HEX, drafts=(DRAFT_16, DRAFT_18)),
    Malformed("fetch type 4", 0x16, "00 04" + TRACK_HEX, drafts=(DRAFT_16, DRAFT_18)),
    Malformed("namespace options 3", 0x11, "00 00 03 00", drafts=OLD),
    # Answers
    Malformed("end of track 2", 0x18, "02 00 00 00"),
    Malformed("properties in a request ok", 0x07, "00 00 02 01", drafts=OLD),
    Malformed("reason of 1025 bytes", 0x05, "00 00 8401" + "61" * 1025),
    Malformed("reason beyond the message", 0x05, "00 00 05 61"),
    Malformed("redirect of a client", 0x05, "34 00 00 01 61 00 00"),
    Malformed("redirect cut short", 0x05, "34 00 00 01 61 00", from_client=False),
    # Track properties
    Malformed("property cut short", 0x04, "00 00 0b 05 61"),
    Malformed("property value cut short", 0x04, "00 00 02"),
    Malformed("property of 65536 bytes", 0x04, "00 00 0b c10000"),
    Malformed("property type overflow", 0x04, "00 00 02 00 ffffffffffffffffff 00"),
    Malformed("delivery timeout property 0", 0x04, "00 00 00 02 00", drafts=OLD),
    Malformed("default priority 256", 0x04, "00 00 0e 8100"),
    Malformed("default group order 0", 0x04, "00 00 22 00"),
    Malformed("default group order 3", 0x04, "00 00 22 03"),
    Malformed("dynamic groups 2", 0x04, "00 00 30 02"),
    Malformed("immutable properties nested", 0x04, "00 00 0b 02 0b 00"),
    Malformed("immutable properties twice", 0x04, "00 00 0b 00 00 00"),
    Malformed("immutable properties unreadable", 0x04, "00 00 0b 02 02 80"),
    # GOAWAY
    Malformed("goaway of a client with a URI", 0x10, "01 61 00"),
    Malformed("goaway URI of 8193 bytes", 0x10, "a001" + "61" * 8193 + "00", from_client=False),
    Malformed("goaway without timeout", 0x10, "00"),
    Malformed("goaway with a request id", 0x10, "00 00 01", drafts=(DRAFT_22,)),
    Malformed("goaway with a timeout", 0x10, "00 00", drafts=OLD),
    # SETUP
    Malformed("setup of the wrong side", 0x21, "00", drafts=OLD),
    Malformed("setup of the wrong side, server", 0x20, "00", drafts=OLD, from_client=False),
    Malformed("setup option cut short", 0x2F00, "01 05 2f"),
    Malformed("setup path twice", 0x2F00, "01 01 2f 00 01 2f"),
    Malformed("setup count too small", 0x20, "00 02 01", drafts=OLD),
    Malformed("setup count too large", 0x20, "02 02 01", drafts=OLD),
    Malformed(
        "setup path of a server", 0x2F00, "01 01 2f", SessionError.INVALID_PATH, from_client=False
    ),
    Malformed(
        "setup authority of a server",
        0x2F00,
        "05 01 61",
        SessionError.INVALID_AUTHORITY,
        from_client=False,
    ),
    Malformed("setup path without slash", 0x2F00, "01 01 61", SessionError.MALFORMED_PATH),
    Malformed("setup path with a space", 0x2F00, "01 02 2f20", SessionError.MALFORMED_PATH),
    Malformed("setup path that is no text", 0x2F00, "01 02 2fff", SessionError.MALFORMED_PATH),
    Malformed("setup authority", 0x2F00, "05 01 2f", SessionError.MALFORMED_AUTHORITY),
    Malformed("setup token unreadable", 0x2F00, "03 01 07", BAD),
    Malformed("setup token deleted by a client", 0x2F00, "03 02 00 01"),
    Malformed("setup token used by a client", 0x2F00, "03 02 02 01"),
]


@pytest.mark.parametrize(
    ("case", "draft"),
    [
        pytest.param(case, draft, id=f"{case.name}-{draft}")
        for case in MALFORMED
        for draft in case.drafts
    ],
)
def test_malformed(case: Malformed, draft: Draft) -> None:
    with pytest.raises(MoqtError) as caught:
        codec.decode(case.type, bytes.fromhex(case.body), draft, from_client=case.from_client)
    assert caught.value.code is case.code
    assert caught.value.reason


@pytest.mark.parametrize(
    "authority", ["", "a", "user:pass@h.example:443", "[2001:db8::1]:4443", "%41.b", "10.0.0.1:"]
)
def test_authorities(authority: str) -> None:
    setup = Setup(authority=authority, path="/a//b;c=%20?x=/?&y")
    assert decode_whole(codec.encode(setup, DRAFT_18), DRAFT_18, from_client=True) == setup
