"""Control messages as values, the same for all drafts.

A field means what draft-18 section 10 says. Where drafts write the same thing
differently (end locations, filters, request ids), these classes hold the
meaning and :mod:`fastrelay.moqt.codec` holds each draft's way of writing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, Namespace

Properties = bytes
"""Key-value pairs exactly as on the wire of the session's varint family (section 2.5)."""


class FilterKind(Enum):
    """Where a subscription begins (sections 5.1.2, 10.2.8)."""

    UNFILTERED = "unfiltered"
    NEXT_GROUP = "next-group"
    NEXT_OBJECT = "next-object"
    RELATIVE = "relative"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True)
class LocationFilter:
    """Which locations a subscription or fetch wants.

    ``groups_back`` (RELATIVE only, draft 20 on): 0 is the group of the largest
    object, 1 the one before. ``start``, ``end_group``, ``end_object`` (ABSOLUTE
    only): absolute and inclusive; no ``end_group`` is open-ended, no
    ``end_object`` is that whole group.
    """

    kind: FilterKind
    start: Location = Location(0, 0)
    groups_back: int = 0
    end_group: int | None = None
    end_object: int | None = None


class TokenAction(IntEnum):
    """How a token is given (section 10.2.2)."""

    DELETE = 0
    REGISTER = 1
    USE_ALIAS = 2
    USE_VALUE = 3


@dataclass(frozen=True, slots=True)
class Token:
    action: TokenAction
    alias: int | None = None
    type: int | None = None
    value: bytes = b""


class RangeFilterKind(IntEnum):
    """Range filters of draft 19 on, by parameter type."""

    SUBGROUP = 0x25
    OBJECT = 0x26
    PRIORITY = 0x27
    OBJECT_PROPERTY = 0x28
    TRACK_PROPERTY = 0x29


@dataclass(frozen=True, slots=True)
class RangeFilter:
    """Filters of one ``set_id`` are ANDed, sets are ORed. Ranges are inclusive, the last
    may be open (end None). ``set_id`` None in a REQUEST_UPDATE removes the kind's filters."""

    kind: RangeFilterKind
    set_id: int | None
    ranges: tuple[tuple[int, int | None], ...]
    property_type: int | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    """Message parameters; None is "not on the wire". Times are milliseconds."""

    object_delivery_timeout: int | None = None
    subgroup_delivery_timeout: int | None = None
    tokens: tuple[Token, ...] = ()
    rendezvous_timeout: int | None = None
    expires: int | None = None
    largest_object: Location | None = None
    fill_timeout: int | None = None
    forward: bool | None = None
    subscriber_priority: int | None = None
    filter: LocationFilter | None = None
    group_order: GroupOrder | None = None
    fill: Parameters | None = None
    range_filters: tuple[RangeFilter, ...] = ()
    new_group_request: int | None = None
    """The wire's value: group id + 1, 0 for "any new group"."""
    namespace_prefix: Namespace | None = None
    include_properties: bool | None = None


NO_PARAMETERS = Parameters()


@dataclass(frozen=True, slots=True)
class Setup:
    """SETUP, or CLIENT_SETUP / SERVER_SETUP in draft 16. Unknown options are dropped."""

    path: str | None = None
    authority: str | None = None
    implementation: str | None = None
    tokens: tuple[Token, ...] = ()
    max_auth_token_cache_size: int = 0
    max_request_id: int | None = None
    max_filter_ranges: int = 0
    max_request_updates: int | None = None


@dataclass(frozen=True, slots=True)
class GoAway:
    new_session_uri: str = ""
    timeout: int = 0
    request_id: int | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    uri: str
    track: FullTrackName


# Requests. ``request_id`` is always known here, whatever the draft writes.


@dataclass(frozen=True, slots=True)
class Subscribe:
    request_id: int
    track: FullTrackName
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class TrackStatus:
    request_id: int
    track: FullTrackName
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class Publish:
    request_id: int
    track: FullTrackName
    track_alias: int
    parameters: Parameters = NO_PARAMETERS
    properties: Properties = b""


class FetchKind(IntEnum):
    """The wire's fetch types; draft 20 on knows only the first."""

    STANDALONE = 1
    RELATIVE_JOINING = 2
    ABSOLUTE_JOINING = 3


@dataclass(frozen=True, slots=True)
class Fetch:
    """``track``, ``start`` and ``end_group``/``end_object`` (inclusive; object None: whole
    group) with STANDALONE, in every draft; the joining fields with the two others.
    A range in draft 22 that is not absolute stays in ``parameters.filter``."""

    request_id: int
    kind: FetchKind
    track: FullTrackName | None = None
    start: Location = Location(0, 0)
    end_group: int | None = None
    end_object: int | None = None
    joining_request_id: int = 0
    joining_start: int = 0
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class PublishNamespace:
    request_id: int
    namespace: Namespace
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class SubscribeNamespace:
    """``options`` is draft 16's choice: 0 PUBLISH, 1 NAMESPACE, 2 both."""

    request_id: int
    prefix: Namespace
    parameters: Parameters = NO_PARAMETERS
    options: int = 1


@dataclass(frozen=True, slots=True)
class SubscribeTracks:
    """Draft 17 on: wants a PUBLISH for every track under the prefix."""

    request_id: int
    prefix: Namespace
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True)
class RequestUpdate:
    """``existing_request_id`` is on the wire in draft 16 only; the session fills it in."""

    request_id: int
    existing_request_id: int
    parameters: Parameters = NO_PARAMETERS


# Answers. ``request_id`` is that of the request, on the wire in draft 16 only.


@dataclass(frozen=True, slots=True)
class SubscribeOk:
    request_id: int
    track_alias: int
    parameters: Parameters = NO_PARAMETERS
    properties: Properties = b""


@dataclass(frozen=True, slots=True)
class RequestOk:
    """Also PUBLISH_OK (0x1E in draft 16)."""

    request_id: int
    parameters: Parameters = NO_PARAMETERS
    properties: Properties = b""


@dataclass(frozen=True, slots=True)
class FetchOk:
    """``end`` as in :class:`Fetch`: inclusive, ``end_object`` None for the whole group."""

    request_id: int
    end_of_track: bool
    end_group: int
    end_object: int | None
    parameters: Parameters = NO_PARAMETERS
    properties: Properties = b""


@dataclass(frozen=True, slots=True)
class RequestError:
    """``retry_after``: milliseconds, None for "do not retry"."""

    request_id: int
    code: int
    reason: str = ""
    retry_after: int | None = None
    redirect: Redirect | None = None


# What follows on an established request.


@dataclass(frozen=True, slots=True)
class PublishDone:
    """``stream_count`` None: unknown (2**62-1 or 2**64-1 on the wire)."""

    request_id: int
    status: int
    stream_count: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NamespaceAdded:
    """NAMESPACE: the rest of a namespace under the prefix that was asked for."""

    suffix: Namespace


@dataclass(frozen=True, slots=True)
class NamespaceDone:
    suffix: Namespace


@dataclass(frozen=True, slots=True)
class PublishBlocked:
    """PUBLISH_BLOCKED (draft 18), PUBLISH_SKIPPED (19 on)."""

    suffix: Namespace
    name: bytes


@dataclass(frozen=True, slots=True)
class PublishStateNotify:
    """Draft 20 on."""

    parameters: Parameters = NO_PARAMETERS


# Draft 16's messages on its one control stream. Sessions keep them to themselves.


@dataclass(frozen=True, slots=True)
class MaxRequestId:
    request_id: int


@dataclass(frozen=True, slots=True)
class RequestsBlocked:
    maximum: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    request_id: int


@dataclass(frozen=True, slots=True)
class FetchCancel:
    request_id: int


@dataclass(frozen=True, slots=True)
class PublishNamespaceDone:
    request_id: int


@dataclass(frozen=True, slots=True)
class PublishNamespaceCancel:
    request_id: int
    code: int
    reason: str = ""


Request = (
    Subscribe
    | TrackStatus
    | Publish
    | Fetch
    | PublishNamespace
    | SubscribeNamespace
    | SubscribeTracks
)
Answer = SubscribeOk | RequestOk | FetchOk | RequestError
Notification = NamespaceAdded | NamespaceDone | PublishBlocked | PublishStateNotify | PublishDone
Message = (
    Setup
    | GoAway
    | Request
    | RequestUpdate
    | Answer
    | Notification
    | MaxRequestId
    | RequestsBlocked
    | Unsubscribe
    | FetchCancel
    | PublishNamespaceDone
    | PublishNamespaceCancel
)
