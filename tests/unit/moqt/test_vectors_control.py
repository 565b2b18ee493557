"""Every control message against the bytes of an implementation that we did not write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fastrelay.moqt import codec, keyvalue
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.messages import (
    Fetch,
    FetchCancel,
    FetchKind,
    FetchOk,
    FilterKind,
    GoAway,
    LocationFilter,
    MaxRequestId,
    Message,
    NamespaceAdded,
    NamespaceDone,
    Parameters,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishNamespace,
    PublishNamespaceCancel,
    PublishNamespaceDone,
    PublishStateNotify,
    RangeFilter,
    RangeFilterKind,
    Redirect,
    RequestError,
    RequestOk,
    RequestsBlocked,
    RequestUpdate,
    Setup,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    Token,
    TokenAction,
    TrackStatus,
    Unsubscribe,
)
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location

from .vectors import VECTORS

NS = (b"live", b"demo")
TRACK = FullTrackName(NS, b"video")
BIG = 1 << 40
ASC, DESC = GroupOrder.ASCENDING, GroupOrder.DESCENDING
REQUEST_ID = 2


def absolute(group: int, object_id: int = 0, *end: int) -> LocationFilter:
    return LocationFilter(FilterKind.ABSOLUTE, Location(group, object_id), 0, *end)


def properties(*pairs: tuple[int, int | bytes]) -> Callable[[Draft], bytes]:
    return lambda draft: keyvalue.encode(pairs, draft.varints)


def subscribe(**parameters: object) -> Subscribe:
    return Subscribe(2, TRACK, Parameters(**parameters))  # type: ignore[arg-type]


NEXT_OBJECT = LocationFilter(FilterKind.NEXT_OBJECT)
NEXT_GROUP = LocationFilter(FilterKind.NEXT_GROUP)
SETUP = Setup(
    path="/relay?a=b",
    authority="example.com:4443",
    implementation="vectors/1",
    max_auth_token_cache_size=4096,
)
KINDS = RangeFilterKind
FILL = Parameters(
    fill_timeout=300,
    subscriber_priority=5,
    filter=LocationFilter(FilterKind.RELATIVE, groups_back=0),
    group_order=DESC,
)

MEANING: dict[str, Message | Callable[[Draft], Message]] = {
    "setup-client": lambda d: replace(SETUP, max_request_id=100 if d is DRAFT_16 else None),
    "setup-server": Setup(implementation="vectors/1", max_request_id=100),
    "setup-ranges": Setup(implementation="vectors/1", max_filter_ranges=16, max_request_updates=4),
    "setup-token": Setup(tokens=(Token(TokenAction.USE_VALUE, None, 7, b"secret"),)),
    "subscribe": subscribe(),
    "subscribe-next-object": subscribe(
        forward=True, subscriber_priority=10, filter=NEXT_OBJECT, group_order=ASC
    ),
    "subscribe-next-group": subscribe(forward=False, subscriber_priority=200, filter=NEXT_GROUP),
    "subscribe-from": subscribe(filter=absolute(BIG, 70)),
    "subscribe-range": subscribe(filter=absolute(BIG, 1, BIG + 300), group_order=DESC),
    "subscribe-timeouts": lambda d: (
        subscribe(object_delivery_timeout=2000, new_group_request=9)
        if d is DRAFT_16
        else subscribe(
            object_delivery_timeout=2000,
            rendezvous_timeout=500,
            subgroup_delivery_timeout=100000,
            new_group_request=9,
        )
    ),
    "subscribe-token-value": subscribe(tokens=(Token(TokenAction.USE_VALUE, None, 7, b"secret"),)),
    "subscribe-token-register": subscribe(tokens=(Token(TokenAction.REGISTER, 300, 7, b"secret"),)),
    "subscribe-token-use": subscribe(tokens=(Token(TokenAction.USE_ALIAS, 300),)),
    "subscribe-token-delete": subscribe(tokens=(Token(TokenAction.DELETE, 300),)),
    "subscribe-unfiltered": subscribe(filter=LocationFilter(FilterKind.UNFILTERED)),
    "subscribe-groups-back": subscribe(filter=LocationFilter(FilterKind.RELATIVE, groups_back=2)),
    "subscribe-to-object": subscribe(filter=absolute(5, 6, 7, 8)),
    "subscribe-fill": subscribe(filter=NEXT_OBJECT, fill=FILL),
    "subscribe-filters": subscribe(
        range_filters=(
            RangeFilter(KINDS.SUBGROUP, 0, ((0, 2), (10, 20))),
            RangeFilter(KINDS.OBJECT, 1, ((3, None),)),
            RangeFilter(KINDS.PRIORITY, 1, ((0, 128),)),
            RangeFilter(KINDS.OBJECT_PROPERTY, 2, ((1, 1),), 0x3C),
            RangeFilter(KINDS.OBJECT_PROPERTY, 3, ((5, None),), 0x10),
        ),
        include_properties=False,
    ),
    "subscribe-ok": SubscribeOk(2, 3),
    "subscribe-ok-largest": lambda d: SubscribeOk(
        2,
        BIG,
        Parameters(expires=60000, largest_object=Location(BIG, 70)),
        properties((0x02, 500), (0x0B, b"\x3c\x01"), (0x22, 2), (0x30, 1))(d),
    ),
    "request-update": RequestUpdate(4, 2, Parameters(forward=True, subscriber_priority=1)),
    "request-update-prefix": RequestUpdate(4, 2, Parameters(namespace_prefix=NS)),
    "request-update-unfilter": RequestUpdate(
        4,
        2,
        Parameters(
            filter=LocationFilter(FilterKind.UNFILTERED),
            range_filters=(RangeFilter(KINDS.SUBGROUP, None, ()),),
        ),
    ),
    "request-ok": RequestOk(2),
    "request-ok-update": RequestOk(2, Parameters(expires=1000, largest_object=Location(7, 4))),
    "track-status-ok": lambda d: RequestOk(
        2,
        Parameters(largest_object=Location(7, 4)),
        properties((0x04, 10000), (0x0E, 5))(d),
    ),
    "publish-ok": RequestOk(
        2,
        Parameters(forward=False, subscriber_priority=7, group_order=ASC, filter=NEXT_GROUP),
    ),
    "publish-ok-expires": RequestOk(2, Parameters(expires=5000)),
    "request-error": RequestError(2, RequestErrorCode.DOES_NOT_EXIST, "no such track"),
    "request-error-retry": RequestError(2, RequestErrorCode.TIMEOUT, "später", 1000),
    "request-error-redirect": RequestError(
        2, RequestErrorCode.REDIRECT, "", 0, Redirect("moqt://other.example:4443/", TRACK)
    ),
    "publish": lambda d: Publish(
        1,
        TRACK,
        300,
        Parameters(forward=False, largest_object=Location(9, BIG)),
        properties((0x0E, 64), (0x22, 2))(d),
    ),
    "publish-all": Publish(
        1,
        TRACK,
        300,
        Parameters(
            object_delivery_timeout=1,
            subgroup_delivery_timeout=2,
            expires=3,
            subscriber_priority=4,
            filter=NEXT_OBJECT,
            group_order=DESC,
        ),
    ),
    "publish-done-TRACK_ENDED": PublishDone(2, PublishDoneStatus.TRACK_ENDED, 12, "done"),
    "publish-done-EXPIRED": PublishDone(2, PublishDoneStatus.EXPIRED, 12, "done"),
    "publish-done-TOO_FAR_BEHIND": PublishDone(2, PublishDoneStatus.TOO_FAR_BEHIND, 12, "done"),
    "publish-done-uncounted": PublishDone(2, PublishDoneStatus.GOING_AWAY, None),
    "fetch": Fetch(
        2,
        FetchKind.STANDALONE,
        TRACK,
        Location(BIG, 1),
        BIG + 1,
        10,
        parameters=Parameters(subscriber_priority=9, group_order=DESC),
    ),
    "fetch-whole-groups": Fetch(2, FetchKind.STANDALONE, TRACK, Location(7, 0), 8),
    "fetch-relative-join": Fetch(
        4,
        FetchKind.RELATIVE_JOINING,
        joining_request_id=2,
        joining_start=1,
        parameters=Parameters(group_order=ASC),
    ),
    "fetch-absolute-join": Fetch(
        4,
        FetchKind.ABSOLUTE_JOINING,
        joining_request_id=2,
        joining_start=BIG,
        parameters=Parameters(group_order=ASC),
    ),
    "fetch-groups-back": Fetch(
        2,
        FetchKind.STANDALONE,
        TRACK,
        parameters=Parameters(
            fill_timeout=100, filter=LocationFilter(FilterKind.RELATIVE, groups_back=1)
        ),
    ),
    "fetch-ok": lambda d: FetchOk(2, True, BIG, 11, properties=properties((0x30, 1))(d)),
    "fetch-ok-whole-group": FetchOk(2, False, 7, None),
    "track-status": TrackStatus(2, TRACK),
    "publish-namespace": PublishNamespace(2, NS),
    "namespace": NamespaceAdded((b"room", b"1")),
    "namespace-done": NamespaceDone((b"room", b"1")),
    "subscribe-namespace": lambda d: SubscribeNamespace(
        2,
        NS[:1],
        Parameters(tokens=(Token(TokenAction.USE_VALUE, None, 0, b"secret"),)),
        2 if d is DRAFT_16 else 1,
    ),
    "subscribe-tracks": SubscribeTracks(2, NS, Parameters(forward=False)),
    "subscribe-tracks-filter": SubscribeTracks(
        2,
        NS,
        Parameters(
            group_order=ASC,
            range_filters=(RangeFilter(KINDS.TRACK_PROPERTY, 0, ((1, 4),), 0x0E),),
        ),
    ),
    "publish-blocked": PublishBlocked((b"room",), b"video"),
    "publish-state-notify": PublishStateNotify(
        Parameters(forward=False, largest_object=Location(7, 4), filter=absolute(8))
    ),
    "goaway": lambda d: GoAway("moqt://b.example", 0 if d is DRAFT_16 else 10000),
    "goaway-request": GoAway("", 0, 300),
    "max-request-id": MaxRequestId(1000),
    "requests-blocked": RequestsBlocked(1000),
    "unsubscribe": Unsubscribe(2),
    "fetch-cancel": FetchCancel(2),
    "publish-namespace-done": PublishNamespaceDone(2),
    "publish-namespace-cancel": PublishNamespaceCancel(2, RequestErrorCode.UNAUTHORIZED, "no more"),
}

STREAM_VECTORS = ("subgroup", "datagram", "fetch-stream")
CASES = [
    pytest.param(name, draft, id=f"{draft}-{name}")
    for name, entry in VECTORS.items()
    if not name.startswith(STREAM_VECTORS)
    for draft in entry
]


def meaning(name: str, draft: Draft) -> Message:
    value = MEANING[name]
    return value(draft) if callable(value) else value


@pytest.mark.parametrize(("name", "draft"), CASES)
def test_decodes_to_its_meaning(name: str, draft: Draft) -> None:
    data = VECTORS[name][draft]
    split = codec.split(data, 0, draft)
    assert split is not None
    message_type, body, end = split
    assert end == len(data)
    from_client = name not in ("setup-server", "goaway", "request-error-redirect")
    decoded = codec.decode(
        message_type, body, draft, request_id=REQUEST_ID, from_client=from_client
    )
    assert decoded == meaning(name, draft)


@pytest.mark.parametrize(("name", "draft"), CASES)
def test_encodes_to_the_same_bytes(name: str, draft: Draft) -> None:
    encoded = codec.encode(
        meaning(name, draft),
        draft,
        is_client=name != "setup-server",
        publish_ok=name.startswith("publish-ok"),
    )
    assert encoded.hex() == VECTORS[name][draft].hex()


def test_every_message_of_every_draft_has_a_vector() -> None:
    from fastrelay.moqt.kinds import kinds_by_type

    for draft in (DRAFT_16, DRAFT_18, DRAFT_22):
        seen = {
            draft.varints.decode(entry[draft], 0)[0]
            for name, entry in VECTORS.items()
            if draft in entry and not name.startswith(STREAM_VECTORS)
        }
        assert seen == set(kinds_by_type(draft))
