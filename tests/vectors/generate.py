"""Writes vectors.json: the same values encoded by aiomoqt, an implementation we did not write.

Run it with an interpreter that has aiomoqt 0.13.3; it is not needed to run the tests, which
compare our codec with the checked-in file::

    python tests/vectors/generate.py

Each entry is ``name -> {draft: hex}``. What the bytes mean in our own terms is in
``tests/unit/moqt/test_vectors_*.py`` under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiomoqt.context import PROFILES, DraftProfile
from aiomoqt.messages import data, fetch, namespace, publish, request, session_setup, subscribe
from aiomoqt.messages.base import AuthToken, AuthTokenRef
from aiomoqt.messages.d18 import Setup as Setup18
from aiomoqt.messages.d20 import PublishStateNotify
from aiomoqt.messages.d20 import Setup as Setup22
from aiomoqt.messages.params import LocationFilter, RangeFilter
from aiomoqt.types import MOQTDraft, ObjectStatus, SubscribeDoneCode

ALL = (16, 18, 22)
STREAMS = (18, 22)
NS = (b"live", b"demo")
NAME = b"video"
BIG = 1 << 40
"""An id that takes several bytes in each family of integers."""

Vectors = dict[str, dict[str, str]]
vectors: Vectors = {}


def profile(draft: int) -> DraftProfile:
    return PROFILES[MOQTDraft(draft)]


def add(name: str, drafts: tuple[int, ...], make: Callable[[int], Any]) -> None:
    """``make(draft)`` returns an aiomoqt message, or bytes."""
    entry = vectors.setdefault(name, {})
    for draft in drafts:
        made = make(draft)
        if not isinstance(made, bytes):
            buffer = made.serialize(prof=profile(draft))
            made = bytes(buffer.data_slice(0, buffer.tell()))
        entry[str(draft)] = made.hex()


def subscribe_with(**fields: Any) -> Callable[[int], Any]:
    return lambda draft: subscribe.Subscribe(
        request_id=2, track_namespace=NS, track_name=NAME, **fields
    )


def control() -> None:
    client = {0x01: b"/relay?a=b", 0x05: b"example.com:4443", 0x07: b"vectors/1"}
    add(
        "setup-client",
        (16,),
        lambda d: session_setup.ClientSetup(parameters={**client, 0x02: 100, 0x04: 4096}),
    )
    add(
        "setup-server",
        (16,),
        lambda d: session_setup.ServerSetup(parameters={0x02: 100, 0x07: b"vectors/1"}),
    )
    add("setup-client", (18,), lambda d: Setup18(options={**client, 0x04: 4096}))
    add("setup-client", (22,), lambda d: Setup22(options={**client, 0x04: 4096}))
    add("setup-ranges", (22,), lambda d: Setup22(options={0x06: 16, 0x07: b"vectors/1", 0x08: 4}))
    add(
        "setup-token",
        STREAMS,
        lambda d: (Setup18 if d == 18 else Setup22)(options={0x03: AuthToken(b"secret", 7)}),
    )

    add("subscribe", ALL, subscribe_with())
    add(
        "subscribe-next-object",
        ALL,
        subscribe_with(priority=10, group_order=1, forward=1, filter_type=2),
    )
    add("subscribe-next-group", ALL, subscribe_with(priority=200, forward=0, filter_type=1))
    add("subscribe-from", ALL, subscribe_with(filter_type=3, start_group=BIG, start_object=70))
    add(
        "subscribe-range",
        ALL,
        subscribe_with(
            group_order=2, filter_type=4, start_group=BIG, start_object=1, end_group=BIG + 300
        ),
    )
    add("subscribe-timeouts", (16,), subscribe_with(parameters={0x02: 2000, 0x32: 9}))
    add(
        "subscribe-timeouts",
        STREAMS,
        subscribe_with(parameters={0x02: 2000, 0x04: 500, 0x06: 100000, 0x32: 9}),
    )
    add("subscribe-token-value", ALL, subscribe_with(parameters={0x03: AuthToken(b"secret", 7)}))
    add(
        "subscribe-token-register",
        ALL,
        subscribe_with(parameters={0x03: AuthTokenRef(1, 300, 7, b"secret")}),
    )
    add("subscribe-token-use", ALL, subscribe_with(parameters={0x03: AuthTokenRef(2, 300)}))
    add("subscribe-token-delete", ALL, subscribe_with(parameters={0x03: AuthTokenRef(0, 300)}))
    add("subscribe-unfiltered", (22,), subscribe_with(location_filter=LocationFilter.none()))
    add("subscribe-groups-back", (22,), subscribe_with(location_filter=LocationFilter.relative(3)))
    add(
        "subscribe-to-object",
        (22,),
        subscribe_with(location_filter=LocationFilter.absolute(5, 6, 7, 8)),
    )
    add(
        "subscribe-fill",
        (22,),
        subscribe_with(
            filter_type=2,
            parameters={0x23: {0x0A: 300, 0x20: 5, 0x21: LocationFilter.relative(1), 0x22: 2}},
        ),
    )
    add(
        "subscribe-filters",
        (22,),
        subscribe_with(
            parameters={
                0x25: [RangeFilter(0, ((0, 2), (10, 20)))],
                0x26: [RangeFilter(1, ((3, None),))],
                0x27: [RangeFilter(1, ((0, 128),))],
                0x28: [RangeFilter(2, ((1, 1),), 0x3C), RangeFilter(3, ((5, None),), 0x10)],
                0x35: 0,
            }
        ),
    )

    add("subscribe-ok", ALL, lambda d: subscribe.SubscribeOk(request_id=2, track_alias=3))
    add(
        "subscribe-ok-largest",
        ALL,
        lambda d: subscribe.SubscribeOk(
            request_id=2,
            track_alias=BIG,
            expires=60000,
            largest_group_id=BIG,
            largest_object_id=70,
            group_order=2,
            track_extensions={0x02: 500, 0x0B: b"\x3c\x01", 0x30: 1},
        ),
    )
    add(
        "request-update",
        ALL,
        lambda d: request.RequestUpdate(
            request_id=4, existing_request_id=2, parameters={0x10: 1, 0x20: 1}
        ),
    )
    add(
        "request-update-prefix",
        (22,),
        lambda d: request.RequestUpdate(request_id=4, parameters={0x34: NS}),
    )
    add(
        "request-update-unfilter",
        (22,),
        lambda d: request.RequestUpdate(
            request_id=4, parameters={0x21: LocationFilter.none(), 0x25: [RangeFilter(None)]}
        ),
    )
    add("request-ok", ALL, lambda d: request.RequestOk(request_id=2))
    add(
        "request-ok-update",
        STREAMS,
        lambda d: request.RequestOk(parameters={0x08: 1000, 0x09: (7, 4)}),
    )
    add(
        "track-status-ok",
        STREAMS,
        lambda d: request.RequestOk(
            parameters={0x09: (7, 4)}, track_properties={0x04: 10000, 0x0E: 5}
        ),
    )
    add(
        "publish-ok",
        (16, 18),
        lambda d: publish.PublishOk(
            request_id=2, forward=0, priority=7, group_order=1, filter_type=1
        ),
    )
    add("publish-ok-expires", (22,), lambda d: publish.PublishOk(request_id=2, expires=5000))
    add(
        "request-error",
        ALL,
        lambda d: request.RequestError(
            request_id=2, error_code=0x10, retry_interval=0, reason="no such track"
        ),
    )
    add(
        "request-error-retry",
        ALL,
        lambda d: request.RequestError(
            request_id=2, error_code=0x2, retry_interval=1001, reason="später"
        ),
    )
    add(
        "request-error-redirect",
        STREAMS,
        lambda d: request.RequestError(
            error_code=0x34,
            retry_interval=1,
            reason="",
            redirect=(b"moqt://other.example:4443/", NS, NAME),
        ),
    )
    add(
        "publish",
        ALL,
        lambda d: publish.Publish(
            request_id=1,
            track_namespace=NS,
            track_name=NAME,
            track_alias=300,
            forward=0,
            largest_group_id=9,
            largest_object_id=BIG,
            group_order=2,
            track_extensions={0x0E: 64},
        ),
    )
    add(
        "publish-all",
        (22,),
        lambda d: publish.Publish(
            request_id=1,
            track_namespace=NS,
            track_name=NAME,
            track_alias=300,
            parameters={
                0x02: 1,
                0x06: 2,
                0x08: 3,
                0x20: 4,
                0x21: LocationFilter.next_object(),
                0x22: 2,
            },
        ),
    )
    for code in ("TRACK_ENDED", "EXPIRED", "TOO_FAR_BEHIND"):
        add(
            f"publish-done-{code}",
            ALL,
            lambda d, code=code: subscribe.SubscribeDone(
                request_id=2, status_code=SubscribeDoneCode[code], stream_count=12, reason="done"
            ),
        )
    add(
        "publish-done-uncounted",
        ALL,
        lambda d: subscribe.SubscribeDone(
            request_id=2,
            status_code=SubscribeDoneCode.GOING_AWAY,
            stream_count=(1 << (64 if d == 22 else 62)) - 1,
            reason="",
        ),
    )
    add(
        "fetch",
        ALL,
        lambda d: fetch.Fetch(
            fetch_type=1,
            request_id=2,
            namespace=NS,
            track_name=NAME,
            subscriber_priority=9,
            group_order=2,
            start_group=BIG,
            start_object=1,
            end_group=BIG + 1,
            end_object=11,
        ),
    )
    add(
        "fetch-whole-groups",
        ALL,
        lambda d: fetch.Fetch(
            fetch_type=1,
            request_id=2,
            namespace=NS,
            track_name=NAME,
            subscriber_priority=None,
            group_order=None,
            start_group=7,
            start_object=0,
            end_group=8,
            end_object=0,
        ),
    )
    add(
        "fetch-relative-join",
        (16, 18),
        lambda d: fetch.Fetch(
            fetch_type=2,
            request_id=4,
            joining_request_id=2,
            joining_start=1,
            subscriber_priority=None,
            group_order=1,
        ),
    )
    add(
        "fetch-absolute-join",
        (16, 18),
        lambda d: fetch.Fetch(
            fetch_type=3,
            request_id=4,
            joining_request_id=2,
            joining_start=BIG,
            subscriber_priority=None,
            group_order=1,
        ),
    )
    add(
        "fetch-groups-back",
        (22,),
        lambda d: fetch.Fetch(
            fetch_type=1,
            request_id=2,
            namespace=NS,
            track_name=NAME,
            subscriber_priority=None,
            group_order=None,
            location_filter=LocationFilter.relative(2),
            parameters={0x0A: 100},
        ),
    )
    add(
        "fetch-ok",
        ALL,
        lambda d: fetch.FetchOk(
            request_id=2,
            group_order=None,
            end_of_track=1,
            largest_group_id=BIG,
            largest_object_id=12,
            track_extensions={0x30: 1},
        ),
    )
    add(
        "fetch-ok-whole-group",
        (16, 18),
        lambda d: fetch.FetchOk(
            request_id=2, group_order=None, end_of_track=0, largest_group_id=7, largest_object_id=0
        ),
    )
    add(
        "track-status",
        ALL,
        lambda d: subscribe.TrackStatus(request_id=2, track_namespace=NS, track_name=NAME),
    )
    add(
        "publish-namespace",
        ALL,
        lambda d: namespace.PublishNamespace(request_id=2, namespace=NS, parameters={}),
    )
    add("namespace", ALL, lambda d: request.Namespace(namespace_suffix=(b"room", b"1")))
    add("namespace-done", ALL, lambda d: request.NamespaceDone(namespace_suffix=(b"room", b"1")))
    add(
        "subscribe-namespace",
        ALL,
        lambda d: namespace.SubscribeNamespace(
            request_id=2,
            namespace_prefix=NS[:1],
            subscribe_options=2,
            parameters={0x03: AuthToken(b"secret", 0)},
        ),
    )
    add(
        "subscribe-tracks",
        STREAMS,
        lambda d: namespace.SubscribeTracks(
            request_id=2, namespace_prefix=NS, parameters={0x10: 0}
        ),
    )
    add(
        "subscribe-tracks-filter",
        (22,),
        lambda d: namespace.SubscribeTracks(
            request_id=2,
            namespace_prefix=NS,
            parameters={0x22: 1, 0x29: [RangeFilter(0, ((1, 4),), 0x0E)]},
        ),
    )
    add(
        "publish-blocked",
        STREAMS,
        lambda d: namespace.PublishBlocked(namespace_suffix=(b"room",), track_name=NAME),
    )
    add(
        "publish-state-notify",
        (22,),
        lambda d: PublishStateNotify(
            forward=0,
            largest_group_id=7,
            largest_object_id=4,
            location_filter=LocationFilter.absolute(8),
        ),
    )
    add("goaway", (16,), lambda d: session_setup.GoAway(new_session_uri="moqt://b.example"))
    add(
        "goaway",
        STREAMS,
        lambda d: session_setup.GoAway(new_session_uri="moqt://b.example", timeout=10000),
    )
    add(
        "goaway-request",
        (18,),
        lambda d: session_setup.GoAway(new_session_uri="", timeout=0, request_id=300),
    )
    add("max-request-id", (16,), lambda d: subscribe.MaxSubscribeId(request_id=1000))
    add("requests-blocked", (16,), lambda d: subscribe.SubscribesBlocked(maximum_request_id=1000))
    add("unsubscribe", (16,), lambda d: subscribe.Unsubscribe(request_id=2))
    add("fetch-cancel", (16,), lambda d: fetch.FetchCancel(request_id=2))
    add("publish-namespace-done", (16,), lambda d: namespace.PublishNamespaceDone(request_id=2))
    add(
        "publish-namespace-cancel",
        (16,),
        lambda d: namespace.PublishNamespaceCancel(request_id=2, error_code=1, reason="no more"),
    )


def taken(buffer: Any) -> bytes:
    return bytes(buffer.data_slice(0, buffer.tell()))


def subgroup(draft: int, objects: list[tuple[Any, ...]], **fields: Any) -> bytes:
    """A whole subgroup stream; objects are (id, payload, properties, status)."""
    header = data.SubgroupHeader(prof=profile(draft), **fields)
    out = taken(header.serialize())
    for object_id, payload, properties, status in objects:
        out += taken(header.next_object(payload, properties, status, object_id))
    return out


def streams() -> None:
    normal, end = ObjectStatus.NORMAL, ObjectStatus.END_OF_GROUP
    plain = [(0, b"first", None, normal), (1, b"x" * 200, None, normal), (5, b"", None, normal)]
    add(
        "subgroup-zero",
        ALL,
        lambda d: subgroup(
            d, plain, track_alias=3, group_id=7, subgroup_id_mode=0, publisher_priority=64
        ),
    )
    add(
        "subgroup-first-object",
        ALL,
        lambda d: subgroup(
            d,
            [(BIG, b"one", None, normal)],
            track_alias=BIG,
            group_id=BIG,
            subgroup_id=None,
            subgroup_id_mode=1,
            default_priority=True,
            end_of_group=True,
            first_object=False,
        ),
    )
    add(
        "subgroup-properties",
        ALL,
        lambda d: subgroup(
            d,
            [
                (0, b"a", {0x10: 1234567, 0x3D: b"abc"}, normal),
                (1, b"b", None, normal),
                (2, b"", None, end),
            ],
            track_alias=300,
            group_id=1,
            subgroup_id=BIG,
            subgroup_id_mode=2,
            publisher_priority=0,
            extensions_present=True,
        ),
    )

    def datagram(draft: int, **fields: Any) -> bytes:
        return taken(data.ObjectDatagram(track_alias=300, **fields).serialize(profile(draft)))

    add(
        "datagram",
        ALL,
        lambda d: datagram(d, group_id=BIG, object_id=9, publisher_priority=1, payload=b"payload"),
    )
    add(
        "datagram-zero",
        ALL,
        lambda d: datagram(
            d, group_id=1, object_id=0, publisher_priority=1, payload=b"payload", end_of_group=True
        ),
    )
    add(
        "datagram-properties",
        ALL,
        lambda d: datagram(
            d,
            group_id=1,
            object_id=1,
            publisher_priority=1,
            payload=b"payload",
            extensions={0x10: 99999},
        ),
    )
    add(
        "datagram-status",
        ALL,
        lambda d: datagram(
            d, group_id=1, object_id=1, publisher_priority=1, status=ObjectStatus.END_OF_TRACK
        ),
    )

    def fetched(draft: int, order: int) -> bytes:
        prof = profile(draft)
        out = taken(data.FetchHeader(request_id=300).serialize(prof))
        groups = (7, 8) if order == 1 else (8, 7)
        objects = [
            data.FetchObject(groups[0], 0, 0, 128, None, normal, b"a"),
            data.FetchObject(groups[0], 0, 1, 128, {0x10: 5}, normal, b"b" * 100),
            data.FetchObject(groups[0], 3, 9, 1, None, normal, b""),
            data.FetchObject(groups[1], 3, 2, 1, None, normal, b"c"),
            data.FetchObject(groups[1], 4, 3, 1, None, normal, b"d"),
            data.FetchObject(groups[1], 0, 4, 1, None, normal, b"e", datagram=True),
            data.FetchObject(groups[1], 0, 20, end_of_range=0x10C),
        ]
        prior = None
        for item in objects:
            out += taken(item.serialize(prof=prof, prior=prior, group_order=order))
            prior = item
        return out

    add("fetch-stream", ALL, lambda d: fetched(d, 1))
    add("fetch-stream-descending", ALL, lambda d: fetched(d, 2))


if __name__ == "__main__":
    control()
    streams()
    target = Path(__file__).with_name("vectors.json")
    target.write_text(json.dumps(vectors, indent=1) + "\n")
    print(f"{sum(map(len, vectors.values()))} vectors in {target}")
