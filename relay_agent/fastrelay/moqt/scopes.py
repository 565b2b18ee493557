"""Which message parameters each message may hold, per draft (draft-18 section 10.2).

REQUEST_OK and REQUEST_UPDATE have a meaning only together with the request they belong to,
so they have tables of their own, by the class of that request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastrelay.moqt.messages import (
    Fetch,
    FetchOk,
    Publish,
    PublishNamespace,
    PublishStateNotify,
    RequestOk,
    RequestUpdate,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    TrackStatus,
)

OBJECT_DELIVERY_TIMEOUT = 0x02
AUTHORIZATION_TOKEN = 0x03
RENDEZVOUS_TIMEOUT = 0x04
SUBGROUP_DELIVERY_TIMEOUT = 0x06
EXPIRES = 0x08
LARGEST_OBJECT = 0x09
FILL_TIMEOUT = 0x0A
FORWARD = 0x10
SUBSCRIBER_PRIORITY = 0x20
LOCATION_FILTER = 0x21
GROUP_ORDER = 0x22
FILL_PARAMETERS = 0x23
SUBGROUP_FILTER = 0x25
OBJECT_FILTER = 0x26
PRIORITY_FILTER = 0x27
OBJECT_PROPERTY_FILTER = 0x28
TRACK_PROPERTY_FILTER = 0x29
NEW_GROUP_REQUEST = 0x32
TRACK_NAMESPACE_PREFIX = 0x34
INCLUDE_PROPERTIES = 0x35

Scope = frozenset[int]
"""Types of parameters."""


@dataclass(frozen=True, slots=True)
class Scopes:
    """One draft's rules. ``answers``: REQUEST_OK by the request answered. ``updates``:
    REQUEST_UPDATE by the request updated. Requests that are not there hold nothing."""

    messages: Mapping[type, Scope]
    answers: Mapping[type, Scope]
    updates: Mapping[type, Scope]
    fill: Scope = frozenset()
    """Parameters within FILL_PARAMETERS."""

    def of(self, message: type) -> Scope:
        """What a message of this class may hold, whatever request it belongs to."""
        if message is RequestOk:
            return _union(self.answers)
        if message is RequestUpdate:
            return _union(self.updates)
        return self.messages.get(message, frozenset())


def _union(table: Mapping[type, Scope]) -> Scope:
    return frozenset[int]().union(*table.values())


_TOKEN = frozenset({AUTHORIZATION_TOKEN})
_DELIVERY = frozenset({FORWARD, SUBSCRIBER_PRIORITY, LOCATION_FILTER})
_OBJECT_FILTERS = frozenset(
    {SUBGROUP_FILTER, OBJECT_FILTER, PRIORITY_FILTER, OBJECT_PROPERTY_FILTER}
)
# Neither SUBSCRIBE_OK nor draft 18's PUBLISH may hold a GROUP_ORDER, but publishers in the
# field put it there. It does no harm, and closing their sessions would.
_SUBSCRIBE_OK = frozenset({EXPIRES, LARGEST_OBJECT, GROUP_ORDER})

_UPDATE_16 = _TOKEN | _DELIVERY | {OBJECT_DELIVERY_TIMEOUT, NEW_GROUP_REQUEST}
_SUBSCRIBE_16 = _UPDATE_16 | {GROUP_ORDER}

_DRAFT_16 = Scopes(
    messages={
        Subscribe: _SUBSCRIBE_16,
        SubscribeOk: _SUBSCRIBE_OK,
        Publish: _TOKEN | {EXPIRES, LARGEST_OBJECT, FORWARD},
        Fetch: _TOKEN | {SUBSCRIBER_PRIORITY, GROUP_ORDER},
        TrackStatus: _TOKEN,
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN | {FORWARD},
    },
    answers={
        Publish: (_SUBSCRIBE_16 - _TOKEN) | {EXPIRES},
        RequestUpdate: frozenset({EXPIRES, LARGEST_OBJECT}),
        TrackStatus: frozenset({EXPIRES, LARGEST_OBJECT}),
    },
    updates={
        Subscribe: _UPDATE_16,
        Publish: _UPDATE_16,
        Fetch: _TOKEN | {SUBSCRIBER_PRIORITY},
        TrackStatus: _TOKEN,
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN | {FORWARD},
    },
)

_UPDATE_18 = _UPDATE_16 | {SUBGROUP_DELIVERY_TIMEOUT}
_SUBSCRIBE_18 = _UPDATE_18 | {GROUP_ORDER, RENDEZVOUS_TIMEOUT}

_DRAFT_18 = Scopes(
    messages={
        Subscribe: _SUBSCRIBE_18,
        SubscribeOk: _SUBSCRIBE_OK,
        Publish: _TOKEN | {EXPIRES, LARGEST_OBJECT, FORWARD, GROUP_ORDER},
        Fetch: _TOKEN | {SUBSCRIBER_PRIORITY, GROUP_ORDER, FILL_TIMEOUT},
        TrackStatus: _TOKEN,
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN,
        SubscribeTracks: _TOKEN | {FORWARD},
    },
    answers={
        Publish: (_UPDATE_18 - _TOKEN) | {GROUP_ORDER, EXPIRES},
        RequestUpdate: frozenset({EXPIRES, LARGEST_OBJECT}),
        TrackStatus: frozenset({EXPIRES, LARGEST_OBJECT}),
    },
    updates={
        Subscribe: _UPDATE_18,
        Publish: _UPDATE_18,
        Fetch: _TOKEN | {SUBSCRIBER_PRIORITY},
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN | {TRACK_NAMESPACE_PREFIX},
        SubscribeTracks: _TOKEN | {TRACK_NAMESPACE_PREFIX, FORWARD},
    },
)

_UPDATE_22 = _UPDATE_18 | _OBJECT_FILTERS | {FILL_PARAMETERS}
_SUBSCRIBE_22 = _UPDATE_22 | {GROUP_ORDER, RENDEZVOUS_TIMEOUT, INCLUDE_PROPERTIES}
_TIMEOUTS = frozenset({OBJECT_DELIVERY_TIMEOUT, SUBGROUP_DELIVERY_TIMEOUT})
_EXPIRES = frozenset({EXPIRES})

_DRAFT_22 = Scopes(
    messages={
        Subscribe: _SUBSCRIBE_22,
        SubscribeOk: _SUBSCRIBE_OK,
        Publish: _TOKEN | _TIMEOUTS | _DELIVERY | {EXPIRES, LARGEST_OBJECT, GROUP_ORDER},
        PublishStateNotify: frozenset({LARGEST_OBJECT, FORWARD, LOCATION_FILTER}),
        Fetch: _TOKEN
        | _OBJECT_FILTERS
        | {FILL_TIMEOUT, SUBSCRIBER_PRIORITY, LOCATION_FILTER, GROUP_ORDER, INCLUDE_PROPERTIES},
        FetchOk: frozenset(),
        TrackStatus: _TOKEN | {INCLUDE_PROPERTIES},
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN,
        SubscribeTracks: _SUBSCRIBE_22 | {TRACK_PROPERTY_FILTER},
    },
    answers={
        Publish: _EXPIRES,
        RequestUpdate: frozenset({EXPIRES, LARGEST_OBJECT}),
        TrackStatus: frozenset({EXPIRES, LARGEST_OBJECT}),
        PublishNamespace: _EXPIRES,
        SubscribeNamespace: _EXPIRES,
        SubscribeTracks: _EXPIRES,
    },
    updates={
        Subscribe: _UPDATE_22,
        Publish: _UPDATE_22,
        Fetch: _TOKEN | {SUBSCRIBER_PRIORITY},
        PublishNamespace: _TOKEN,
        SubscribeNamespace: _TOKEN | {TRACK_NAMESPACE_PREFIX},
        SubscribeTracks: _TOKEN | {TRACK_NAMESPACE_PREFIX, FORWARD, TRACK_PROPERTY_FILTER},
    },
    fill=_OBJECT_FILTERS | {FILL_TIMEOUT, SUBSCRIBER_PRIORITY, LOCATION_FILTER, GROUP_ORDER},
)

SCOPES: dict[int, Scopes] = {16: _DRAFT_16, 18: _DRAFT_18, 22: _DRAFT_22}
"""By draft number."""
