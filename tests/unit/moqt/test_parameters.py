"""Message parameters: which are allowed where, and every malformed value with its code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fastrelay.moqt import codec, scopes
from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.filters import range_filter_fault
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FilterKind,
    LocationFilter,
    Message,
    Parameters,
    Publish,
    PublishNamespace,
    RangeFilter,
    RangeFilterKind,
    Request,
    RequestOk,
    RequestUpdate,
    Subscribe,
    SubscribeNamespace,
    SubscribeTracks,
    TrackStatus,
)
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location
from fastrelay.moqt.parameters import check_scope
from fastrelay.moqt.scopes import SCOPES

TRACK = FullTrackName((b"live",), b"video")
SUBSCRIBE = "00 01 04 6c697665 05 766964656f"
"""A SUBSCRIBE up to its parameters."""
EVERY = tuple(DRAFTS.values())
LATER = (DRAFT_18, DRAFT_22)
OLD = (DRAFT_16,)


def subscribe(parameters: str, draft: Draft) -> Parameters:
    message = codec.decode(0x03, bytes.fromhex(SUBSCRIBE + parameters), draft)
    assert isinstance(message, Subscribe)
    return message.parameters


@dataclass(frozen=True)
class Malformed:
    name: str
    parameters: str
    drafts: tuple[Draft, ...] = EVERY
    code: SessionError = SessionError.PROTOCOL_VIOLATION


MALFORMED = [
    Malformed("unknown", "01 01 00"),
    Malformed("grease", "01 809d 00", LATER),
    Malformed("unknown beyond the known", "01 37 00"),
    Malformed("count too large", "02 10 01"),
    Malformed("count too small", "01 10 01 10 05"),
    Malformed("no count", ""),
    Malformed("cut short", "01 10"),
    Malformed("type overflow", "02 10 01 ffffffffffffffffff 01", LATER),
    Malformed("twice", "02 10 01 00 01"),
    Malformed("twice, filter", "02 21 01 02 00 01 02", (DRAFT_16, DRAFT_18)),
    Malformed("forward 2", "01 10 02"),
    Malformed("group order 3", "01 22 03"),
    Malformed("priority 256", "01 20 4100", OLD),
    Malformed("include properties 2", "01 35 02", (DRAFT_22,)),
    Malformed("delivery timeout 0", "01 02 00", OLD),
    Malformed("misplaced expires", "01 08 01", LATER),
    Malformed("misplaced largest object", "01 09 01 01", LATER),
    Malformed("misplaced fill timeout", "01 0a 01", LATER),
    Malformed("parameter of a later draft", "01 04 01", OLD),
    Malformed("range filter before draft 19", "01 25 00", (DRAFT_16, DRAFT_18)),
    Malformed("token unreadable", "01 03 01 07", code=SessionError.KEY_VALUE_FORMATTING_ERROR),
    Malformed("token empty", "01 03 00", code=SessionError.KEY_VALUE_FORMATTING_ERROR),
    Malformed("token alias missing", "01 03 01 02", code=SessionError.KEY_VALUE_FORMATTING_ERROR),
    Malformed(
        "token alias with more", "01 03 03 020100", code=SessionError.KEY_VALUE_FORMATTING_ERROR
    ),
    Malformed("token beyond the message", "01 03 05 03"),
    Malformed("token of 65536 bytes", "01 03 80010000", OLD),
    Malformed("token of 65536 bytes", "01 03 c10000", LATER),
    Malformed("filter type 0", "01 21 01 00", (DRAFT_16, DRAFT_18)),
    Malformed("filter type 5", "01 21 01 05", (DRAFT_16, DRAFT_18)),
    Malformed("filter empty", "01 21 00", (DRAFT_16, DRAFT_18)),
    Malformed("filter too long", "01 21 02 02 00", (DRAFT_16, DRAFT_18)),
    Malformed("filter too short", "01 21 02 03 01 00", (DRAFT_16, DRAFT_18)),
    Malformed("filter end overflow", "01 21 0c 04 01 00 ffffffffffffffffff", (DRAFT_18,)),
    Malformed("filter type 6", "01 21 06", (DRAFT_22,)),
    Malformed("filter cut short", "01 21 04 01 01 01", (DRAFT_22,)),
    Malformed("filter end overflow", "01 21 03 01 00 ffffffffffffffffff", (DRAFT_22,)),
    Malformed("fill with a forward", "01 23 03 01 10 01", (DRAFT_22,)),
    Malformed("fill with a forward, no count", "01 23 02 10 01", (DRAFT_22,)),
    Malformed("fill count too small", "01 23 05 01 0a 01 16 01", (DRAFT_22,)),
    Malformed("fill count too large", "01 23 03 02 0a 01", (DRAFT_22,)),
    Malformed("fill within fill", "01 23 02 23 00", (DRAFT_22,)),
    Malformed("range filter beyond the message", "01 25 02 00", (DRAFT_22,)),
    Malformed("range filter cut short", "01 25 02 00 80", (DRAFT_22,)),
    Malformed("property filter without property", "01 28 01 00", (DRAFT_22,)),
    Malformed("track filter in a subscribe", "01 29 00", (DRAFT_22,)),
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
        subscribe(case.parameters, draft)
    assert caught.value.code is case.code


@pytest.mark.parametrize("draft", EVERY, ids=str)
def test_group_order_zero_is_no_order(draft: Draft) -> None:
    assert subscribe("01 22 00", draft) == Parameters()


def test_draft_16_ignores_what_is_in_the_wrong_message() -> None:
    # EXPIRES and LARGEST_OBJECT, malformed as a location even, around a FORWARD.
    assert subscribe("03 08 01 01 01 ff 07 01", DRAFT_16) == Parameters(forward=True)


def test_both_forms_of_fill_parameters() -> None:
    fill = Parameters(subscriber_priority=9, group_order=GroupOrder.DESCENDING)
    for value in ("05 02 20 09 02 02", "04 20 09 02 02"):
        assert subscribe("01 23" + value, DRAFT_22).fill == fill
    for value in ("00", "01 00"):
        assert subscribe("01 23" + value, DRAFT_22).fill == Parameters()


@pytest.mark.parametrize("draft", LATER, ids=str)
def test_a_delivery_timeout_of_zero_is_legal_later(draft: Draft) -> None:
    assert subscribe("01 02 00", draft) == Parameters(object_delivery_timeout=0)


def written(draft: Draft, message: Message) -> Message:
    split = codec.split(codec.encode(message, draft), 0, draft)
    assert split is not None
    return codec.decode(*split[:2], draft)


@pytest.mark.parametrize("draft", EVERY, ids=str)
def test_hints_are_left_out_where_the_draft_has_no_place_for_them(draft: Draft) -> None:
    hints = Parameters(expires=1, largest_object=Location(1, 2), fill_timeout=3)
    assert written(draft, Subscribe(0, TRACK, hints)) == Subscribe(0, TRACK)


@pytest.mark.parametrize(
    ("draft", "parameters"),
    [
        (DRAFT_18, Parameters(fill=Parameters())),
        (DRAFT_18, Parameters(range_filters=(RangeFilter(RangeFilterKind.OBJECT, 0, ()),))),
        (DRAFT_22, Parameters(namespace_prefix=())),
        (DRAFT_18, Parameters(filter=LocationFilter(FilterKind.RELATIVE))),
        (
            DRAFT_16,
            Parameters(filter=LocationFilter(FilterKind.ABSOLUTE, end_group=1, end_object=1)),
        ),
        (DRAFT_16, Parameters(filter=LocationFilter(FilterKind.ABSOLUTE, Location(2, 0), 0, 1))),
        (DRAFT_22, Parameters(filter=LocationFilter(FilterKind.ABSOLUTE, Location(2, 0), 0, 1))),
        (DRAFT_16, Parameters(expires=1, rendezvous_timeout=1, object_delivery_timeout=1 << 62)),
        (DRAFT_18, Parameters(subscriber_priority=256)),
    ],
)
def test_what_a_draft_cannot_say_is_an_error(draft: Draft, parameters: Parameters) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.encode(Subscribe(0, TRACK, parameters), draft)


@pytest.mark.parametrize(
    ("kind", "ranges", "property_type"),
    [
        (RangeFilterKind.OBJECT, ((1, None), (2, 3)), None),
        (RangeFilterKind.OBJECT, ((5, 6), (2, 3)), None),
        (RangeFilterKind.OBJECT, ((5, 4),), None),
        (RangeFilterKind.OBJECT, ((5, 6),), 2),
        (RangeFilterKind.OBJECT_PROPERTY, ((5, 6),), None),
    ],
)
def test_range_filters_that_are_none(
    kind: RangeFilterKind,
    ranges: tuple[tuple[int, int | None], ...],
    property_type: int | None,
) -> None:
    parameters = Parameters(range_filters=(RangeFilter(kind, 0, ranges, property_type),))
    with pytest.raises(ValueError, match=r"."):
        codec.encode(Subscribe(0, TRACK, parameters), DRAFT_22)


def test_unfiltered_is_from_the_beginning_in_earlier_drafts() -> None:
    message = RequestUpdate(4, 0, Parameters(filter=LocationFilter(FilterKind.UNFILTERED)))
    decoded = written(DRAFT_18, message)
    assert isinstance(decoded, RequestUpdate)
    assert decoded.parameters.filter == LocationFilter(FilterKind.ABSOLUTE)


# What only the session knows: the request that a REQUEST_OK or REQUEST_UPDATE belongs to.

REQUESTS: dict[type, Request] = {
    Subscribe: Subscribe(0, TRACK),
    TrackStatus: TrackStatus(0, TRACK),
    Publish: Publish(0, TRACK, 1),
    Fetch: Fetch(0, FetchKind.STANDALONE, TRACK),
    PublishNamespace: PublishNamespace(0, (b"live",)),
    SubscribeNamespace: SubscribeNamespace(0, (b"live",)),
    SubscribeTracks: SubscribeTracks(0, (b"live",)),
}
ALL_PARAMETERS: dict[int, Parameters] = {
    scopes.OBJECT_DELIVERY_TIMEOUT: Parameters(object_delivery_timeout=1),
    scopes.EXPIRES: Parameters(expires=1),
    scopes.LARGEST_OBJECT: Parameters(largest_object=Location(1, 1)),
    scopes.FORWARD: Parameters(forward=True),
    scopes.SUBSCRIBER_PRIORITY: Parameters(subscriber_priority=1),
    scopes.LOCATION_FILTER: Parameters(filter=LocationFilter(FilterKind.NEXT_GROUP)),
    scopes.GROUP_ORDER: Parameters(group_order=GroupOrder.ASCENDING),
    scopes.FILL_PARAMETERS: Parameters(fill=Parameters()),
    scopes.OBJECT_FILTER: Parameters(
        range_filters=(RangeFilter(RangeFilterKind.OBJECT, 0, ((0, 1),)),)
    ),
    scopes.TRACK_NAMESPACE_PREFIX: Parameters(namespace_prefix=(b"a",)),
}


@pytest.mark.parametrize("draft", EVERY, ids=str)
@pytest.mark.parametrize("request_class", REQUESTS, ids=lambda c: c.__name__)
def test_scopes_of_updates_and_answers(draft: Draft, request_class: type) -> None:
    request = REQUESTS[request_class]
    rules = SCOPES[draft.number]
    for kind, parameters in ALL_PARAMETERS.items():
        update, answer = RequestUpdate(2, 0, parameters), RequestOk(0, parameters)
        if kind in rules.updates.get(request_class, ()):
            assert check_scope(update, request, draft) is update
        else:
            with pytest.raises(MoqtError) as caught:
                check_scope(update, request, draft)
            assert caught.value.code is SessionError.PROTOCOL_VIOLATION
        if kind in rules.answers.get(request_class, ()):
            assert check_scope(answer, request, draft) is answer
        elif draft is DRAFT_16:
            assert check_scope(answer, request, draft).parameters != parameters
        else:
            with pytest.raises(MoqtError):
                check_scope(answer, request, draft)


def test_only_some_requests_can_be_updated() -> None:
    """A few rules of the table above as the draft's text has them."""
    allowed = [
        (DRAFT_18, Subscribe, scopes.FORWARD),
        (DRAFT_18, Fetch, scopes.SUBSCRIBER_PRIORITY),
        (DRAFT_18, SubscribeNamespace, scopes.TRACK_NAMESPACE_PREFIX),
        (DRAFT_22, Subscribe, scopes.FILL_PARAMETERS),
    ]
    forbidden = [
        (DRAFT_18, Subscribe, scopes.GROUP_ORDER),
        (DRAFT_18, Fetch, scopes.FORWARD),
        (DRAFT_18, Subscribe, scopes.FILL_PARAMETERS),
        (DRAFT_22, Subscribe, scopes.GROUP_ORDER),
        (DRAFT_22, PublishNamespace, scopes.FORWARD),
    ]
    for draft, request, kind in allowed:
        assert kind in SCOPES[draft.number].updates[request]
    for draft, request, kind in forbidden:
        assert kind not in SCOPES[draft.number].updates[request]


def test_publish_ok_of_draft_22_holds_expires_alone() -> None:
    assert SCOPES[22].answers[Publish] == {scopes.EXPIRES}
    with pytest.raises(ValueError, match="forward"):
        codec.encode(RequestOk(0, Parameters(forward=False)), DRAFT_22, publish_ok=True)
    assert codec.encode(
        RequestOk(0, Parameters(subscriber_priority=3)), DRAFT_22, publish_ok=True
    ) == codec.encode(RequestOk(0), DRAFT_22)


def test_a_publish_ok_has_no_largest_object() -> None:
    answer = RequestOk(0, Parameters(largest_object=Location(1, 1), expires=5))
    assert codec.encode(answer, DRAFT_18, publish_ok=True) == codec.encode(
        RequestOk(0, Parameters(expires=5)), DRAFT_18
    )
    assert written(DRAFT_18, answer) == answer


def test_track_properties_answer_nothing_but_a_track_status() -> None:
    answer = RequestOk(0, properties=b"\x02\x05")
    assert check_scope(answer, REQUESTS[TrackStatus], DRAFT_18) is answer
    with pytest.raises(MoqtError, match="track properties"):
        check_scope(answer, REQUESTS[Publish], DRAFT_18)


def test_an_answer_to_an_update_holds_the_largest_object() -> None:
    answer = RequestOk(0, Parameters(largest_object=Location(1, 1), expires=3))
    for draft in EVERY:
        assert check_scope(answer, RequestUpdate(2, 0), draft) is answer


KIND = RangeFilterKind


@pytest.mark.parametrize(
    ("filters", "fault"),
    [
        ([], None),
        ([RangeFilter(KIND.OBJECT, 0, ((0, 1), (5, None)))], None),
        ([RangeFilter(KIND.OBJECT, 0, ((0, 1),)), RangeFilter(KIND.OBJECT, 1, ((0, 1),))], None),
        ([RangeFilter(KIND.OBJECT, 0, ((0, 1),)), RangeFilter(KIND.OBJECT, 0, ())], "twice"),
        ([RangeFilter(KIND.OBJECT_PROPERTY, 0, ((0, 1),), 0x3D)], "no integer"),
        ([RangeFilter(KIND.PRIORITY, 0, ((0, 255),))], None),
        ([RangeFilter(KIND.PRIORITY, 0, ((0, 256),))], "beyond 255"),
        ([RangeFilter(KIND.PRIORITY, 0, ((256, None),))], "beyond 255"),
        ([RangeFilter(KIND.SUBGROUP, 0, ((1, 1 << 64),))], "beyond"),
        ([RangeFilter(KIND.SUBGROUP, 0, ((0, 1), (3, 4), (6, 7)))], "3 ranges, more than 2"),
    ],
)
def test_range_filter_fault(filters: list[RangeFilter], fault: str | None) -> None:
    found = range_filter_fault(Parameters(range_filters=tuple(filters)), 2)
    assert (found is None) == (fault is None)
    assert fault is None or fault in (found or "")


def test_ranges_beyond_the_integers_are_left_to_the_request() -> None:
    """A delta that overflows is for REQUEST_ERROR, not for the end of the session."""
    parameters = subscribe("01 26 0b 00 02 ffffffffffffffffff", DRAFT_22)
    assert parameters.range_filters[0].ranges == ((2, (1 << 64) + 1),)
    assert range_filter_fault(parameters, 9)
