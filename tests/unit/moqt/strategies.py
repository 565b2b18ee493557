"""Hypothesis strategies for everything that a draft can say."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from fastrelay.moqt import keyvalue, scopes
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
from fastrelay.moqt.scopes import SCOPES

REQUEST_ID = 6
"""Of the request on whose stream generated answers, updates and notifications are."""

drafts = st.sampled_from((DRAFT_16, DRAFT_18, DRAFT_22))
integers = st.one_of(
    st.integers(0, 300), st.integers(0, (1 << 62) - 2), st.sampled_from((63, 64, 127, 128, 16383))
)
namespaces = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=5).map(tuple)
prefixes = st.lists(st.binary(min_size=1, max_size=9), max_size=5).map(tuple)
tracks = st.builds(FullTrackName, namespaces, st.binary(max_size=9))
locations = st.builds(Location, integers, integers)
reasons = st.text(max_size=20)


@cache
def pairs() -> st.SearchStrategy[tuple[tuple[int, int | bytes], ...]]:
    """Key-value pairs in ascending order that break no rule for properties of an object."""

    def value(kind: int) -> st.SearchStrategy[Any]:
        return st.tuples(st.just(kind), st.binary(max_size=12) if kind & 1 else integers)

    kinds = st.integers(0x40, 1 << 40).filter(lambda kind: kind not in keyvalue.MANDATORY)
    return st.lists(kinds, max_size=4).flatmap(
        lambda chosen: st.tuples(*(value(kind) for kind in sorted(chosen)))
    )


def _location_filters(draft: Draft) -> st.SearchStrategy[LocationFilter]:
    def absolute(start: Location, groups: int | None, last: int | None) -> LocationFilter:
        end_group = None if groups is None else min(start.group + groups, (1 << 62) - 1)
        end_object = None if groups is None or not draft.location_filter else last
        return LocationFilter(
            FilterKind.ABSOLUTE, start, end_group=end_group, end_object=end_object
        )

    forms = [
        st.just(LocationFilter(FilterKind.NEXT_GROUP)),
        st.just(LocationFilter(FilterKind.NEXT_OBJECT)),
        st.builds(absolute, locations, st.none() | integers, st.none() | integers),
    ]
    if draft.location_filter:
        forms.append(st.just(LocationFilter(FilterKind.UNFILTERED)))
        forms.append(
            integers.map(lambda back: LocationFilter(FilterKind.RELATIVE, groups_back=back))
        )
    return st.one_of(forms)


@st.composite
def _range_filter(draw: st.DrawFn, kind: RangeFilterKind) -> RangeFilter:
    bounds = sorted(draw(st.lists(st.integers(0, 1 << 50), min_size=1, max_size=6)))
    ranges: list[tuple[int, int | None]] = list(
        zip(bounds[::2], [*bounds[1::2], None], strict=False)
    )
    property_type = None
    if kind in (RangeFilterKind.OBJECT_PROPERTY, RangeFilterKind.TRACK_PROPERTY):
        property_type = draw(integers)
    return RangeFilter(kind, draw(st.integers(0, 255)), tuple(ranges), property_type)


tokens = st.one_of(
    st.builds(Token, st.just(TokenAction.DELETE), integers),
    st.builds(Token, st.just(TokenAction.USE_ALIAS), integers),
    st.builds(Token, st.just(TokenAction.REGISTER), integers, integers, st.binary(max_size=20)),
    st.builds(Token, st.just(TokenAction.USE_VALUE), st.none(), integers, st.binary(max_size=20)),
)


@cache
def parameters(scope: scopes.Scope, draft: Draft) -> st.SearchStrategy[Parameters]:
    """Any parameters that a message with this scope may hold."""
    timeouts = integers if draft.zero_delivery_timeout else integers.map(lambda v: v or 1)
    fields: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
        "object_delivery_timeout": (scopes.OBJECT_DELIVERY_TIMEOUT, timeouts),
        "subgroup_delivery_timeout": (scopes.SUBGROUP_DELIVERY_TIMEOUT, integers),
        "rendezvous_timeout": (scopes.RENDEZVOUS_TIMEOUT, integers),
        "expires": (scopes.EXPIRES, integers),
        "largest_object": (scopes.LARGEST_OBJECT, locations),
        "fill_timeout": (scopes.FILL_TIMEOUT, integers),
        "forward": (scopes.FORWARD, st.booleans()),
        "subscriber_priority": (scopes.SUBSCRIBER_PRIORITY, st.integers(0, 255)),
        "filter": (scopes.LOCATION_FILTER, _location_filters(draft)),
        "group_order": (scopes.GROUP_ORDER, st.sampled_from(GroupOrder)),
        "new_group_request": (scopes.NEW_GROUP_REQUEST, integers),
        "namespace_prefix": (scopes.TRACK_NAMESPACE_PREFIX, prefixes),
        "include_properties": (scopes.INCLUDE_PROPERTIES, st.booleans()),
    }
    chosen = {name: st.none() | values for name, (kind, values) in fields.items() if kind in scope}
    if scopes.AUTHORIZATION_TOKEN in scope:
        chosen["tokens"] = st.lists(tokens, max_size=2).map(tuple)
    if scopes.FILL_PARAMETERS in scope:
        chosen["fill"] = st.none() | parameters(SCOPES[draft.number].fill, draft)
    kinds = [kind for kind in RangeFilterKind if kind in scope]
    if kinds:
        items = st.one_of([_range_filter(kind) for kind in kinds])
        chosen["range_filters"] = st.lists(items, max_size=3).map(
            lambda found: tuple(sorted(found, key=lambda item: item.kind))
        )
    return st.fixed_dictionaries({}, optional=chosen).map(lambda given: Parameters(**given))


def _of(message: type, draft: Draft) -> st.SearchStrategy[Parameters]:
    return parameters(SCOPES[draft.number].of(message), draft)


@cache
def _properties(draft: Draft) -> st.SearchStrategy[bytes]:
    return pairs().map(lambda chosen: keyvalue.encode(chosen, draft.varints))


@st.composite
def _fetch(draw: st.DrawFn, draft: Draft) -> Fetch:
    params = draw(_of(Fetch, draft))
    kind = FetchKind.STANDALONE if draft.fill else draw(st.sampled_from(FetchKind))
    if kind is not FetchKind.STANDALONE:
        return Fetch(
            draw(integers),
            kind,
            joining_request_id=draw(integers),
            joining_start=draw(integers),
            parameters=params,
        )
    wanted = params.filter
    if wanted and wanted.kind not in (FilterKind.ABSOLUTE, FilterKind.UNFILTERED):
        return Fetch(draw(integers), kind, draw(tracks), parameters=params)
    start = draw(locations)
    end_group: int | None = start.group + draw(st.integers(0, 3))
    end_object = draw(st.none() | integers)
    if draft.fill and draw(st.booleans()):
        end_group = end_object = None
    return Fetch(
        draw(integers),
        kind,
        draw(tracks),
        start,
        end_group,
        end_object,
        parameters=Parameters(tokens=params.tokens, subscriber_priority=params.subscriber_priority),
    )


def _redirect(draft: Draft, code: int) -> st.SearchStrategy[Redirect | None]:
    if code != 0x34 or not draft.redirects:
        return st.none()
    return st.builds(Redirect, st.just("moqt://elsewhere.example/"), tracks)


@cache
def messages(draft: Draft) -> st.SearchStrategy[Message]:
    """Any message of the draft that a server may send, answers to the request ``REQUEST_ID``."""
    here = st.just(REQUEST_ID)
    common: list[st.SearchStrategy[Any]] = [
        st.builds(Subscribe, integers, tracks, _of(Subscribe, draft)),
        st.builds(SubscribeOk, here, integers, _of(SubscribeOk, draft), _properties(draft)),
        st.builds(TrackStatus, integers, tracks, _of(TrackStatus, draft)),
        st.builds(Publish, integers, tracks, integers, _of(Publish, draft), _properties(draft)),
        _fetch(draft),
        st.builds(
            FetchOk,
            here,
            st.booleans(),
            integers,
            st.none() | integers,
            _of(FetchOk, draft),
            _properties(draft),
        ),
        st.builds(
            RequestOk,
            here,
            _of(RequestOk, draft),
            _properties(draft) if draft.redirects else st.just(b""),
        ),
        # 0x34 is REDIRECT, the others are the same in each draft or unknown to all.
        st.sampled_from((0, 1, 2, 0x10, 0x12, 0x34, 0x9D)).flatmap(
            lambda code: st.builds(
                RequestError,
                here,
                st.just(code if draft.redirects or code != 0x34 else 0),
                reasons,
                st.none() | integers,
                _redirect(draft, code),
            )
        ),
        st.builds(RequestUpdate, integers, here, _of(RequestUpdate, draft)),
        st.builds(
            PublishDone,
            here,
            st.sampled_from((0, 1, 2, 4, 5, 6, 8, 0x12, 0x9D)),
            st.none() | st.integers(0, 1 << 40),
            reasons,
        ),
        st.builds(PublishNamespace, integers, namespaces, _of(PublishNamespace, draft)),
        st.builds(
            SubscribeNamespace,
            integers,
            prefixes,
            _of(SubscribeNamespace, draft),
            st.just(1) if draft.request_streams else st.integers(0, 2),
        ),
        st.builds(NamespaceAdded, prefixes),
        st.builds(NamespaceDone, prefixes),
        st.builds(
            GoAway,
            st.just("moqt://elsewhere.example/"),
            integers if draft.goaway_timeout else st.just(0),
            st.none() | integers if draft.goaway_request_id else st.none(),
        ),
        st.builds(
            Setup,
            implementation=st.none() | reasons,
            tokens=st.lists(tokens, max_size=2).map(tuple),
            max_auth_token_cache_size=integers,
            max_request_id=st.none() if draft.request_streams else st.none() | integers,
            max_filter_ranges=integers if draft.range_filters else st.just(0),
            max_request_updates=st.none() | integers if draft.range_filters else st.none(),
        ),
    ]
    if draft.request_streams:
        common += [
            st.builds(SubscribeTracks, integers, prefixes, _of(SubscribeTracks, draft)),
            st.builds(PublishBlocked, prefixes, st.binary(max_size=9)),
        ]
    else:
        common += [
            st.builds(message, integers)
            for message in (
                MaxRequestId,
                RequestsBlocked,
                Unsubscribe,
                FetchCancel,
                PublishNamespaceDone,
            )
        ]
        common.append(st.builds(PublishNamespaceCancel, integers, st.sampled_from((0, 1)), reasons))
    if draft.publish_state_notify:
        common.append(st.builds(PublishStateNotify, _of(PublishStateNotify, draft)))
    return st.one_of(common)
