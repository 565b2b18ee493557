"""Requests, objects and their ends between two clients."""

from __future__ import annotations

import asyncio

import pytest

from fastrelay.client import (
    Client,
    PublishedTrack,
    QueueLimits,
    ReceivedObject,
    RequestFailedError,
    SessionLostError,
    SubgroupEnd,
    Subscription,
    TooSlowError,
    receiving,
)
from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.events import FetchRange
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters, PublishDone
from fastrelay.moqt.names import FullTrackName, GroupOrder, Location, ObjectStatus
from unit.client.wire import Wire, joined, settle

ALL = pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22, DRAFT_16], ids=str)
NAME = FullTrackName((b"a", b"b"), b"track")
PROPERTIES = [(0x10, 1 << 40), (0x2001, b"unknown")]


def encoded(pairs: list[tuple[int, int | bytes]]) -> bytes:
    return keyvalue.encode(pairs, DRAFT_18.varints)


def wire_of(client: Client) -> Wire:
    assert isinstance(client.transport, Wire)
    return client.transport


async def ended(track: PublishedTrack, subscription: Subscription) -> list[SubgroupEnd]:
    """The ends of streams that a subscription has got until its track's end."""
    track.end()
    return [item async for item in subscription if isinstance(item, SubgroupEnd)]


@ALL
async def test_a_track_from_begin_to_end(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME, priority=7, properties=encoded([(0x30, 1)]))
        subscription = await sink.subscribe(NAME)
        assert subscription.largest is None
        assert sink.decode_properties(subscription.properties) == [(0x30, 1)]
        assert track.subscribers == 1
        subgroup = track.open_subgroup(4, 2, priority=9, properties=True, end_of_group=True)
        subgroup.write(b"x", properties=encoded(PROPERTIES))
        subgroup.write(b"y" * 5000, object_id=8)
        subgroup.close()
        track.send_datagram(5, 0, b"datagram", priority=3)
        ended = track.open_subgroup(6)
        ended.write(b"", status=ObjectStatus.END_OF_TRACK)
        ended.close()
        track.end()
        items = [item async for item in subscription]
        objects = [item for item in items if isinstance(item, ReceivedObject)]
        assert [(o.location, o.subgroup_id, o.priority, o.payload) for o in objects] == [
            ((4, 2), 2, 9, b"x"),
            ((4, 8), 2, 9, b"y" * 5000),
            ((5, 0), 0, 3, b"datagram"),
            ((6, 0), 0, 7, b""),
        ]
        assert sink.decode_properties(objects[0].properties) == PROPERTIES
        assert [o.datagram for o in objects] == [False, False, True, False]
        assert objects[-1].status is ObjectStatus.END_OF_TRACK
        assert [item for item in items if isinstance(item, SubgroupEnd)] == [
            SubgroupEnd(4, 2, None, True),
            SubgroupEnd(6, 0, None, False),
        ]
        assert subscription.done is not None
        assert subscription.done.status == PublishDoneStatus.TRACK_ENDED
        assert subscription.done.stream_count == 2


@ALL
@pytest.mark.parametrize("time", ["OPEN_TIMEOUT", "UNSEEN_TIMEOUT"])
async def test_the_rest_is_waited_for(
    draft: Draft, time: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After PUBLISH_DONE: an open stream is given up after one of the times, not the other."""
    monkeypatch.setattr(receiving, time, 0.0)
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        subscription = await sink.subscribe(NAME)
        subgroup = track.open_subgroup(0)
        subgroup.write(b"first")
        await settle()
        subscription.publish_done(
            PublishDone(subscription.request_id, PublishDoneStatus.TRACK_ENDED, 1)
        )
        await settle()
        assert subscription.inbox.ended == (time == "OPEN_TIMEOUT")
        subgroup.write(b"second")
        subgroup.close()
        items = [item async for item in subscription]
        payloads = [item.payload for item in items if isinstance(item, ReceivedObject)]
        assert payloads == [b"first", b"second"][: 1 if time == "OPEN_TIMEOUT" else 2]


@ALL
async def test_pushed_track(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        with pytest.raises(RequestFailedError) as refused:
            await track.publish()
        assert refused.value.code == RequestErrorCode.UNINTERESTED
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        wanted = asyncio.create_task(sink.subscribe_tracks((b"a",)))
        with pytest.raises(RequestFailedError):
            await wanted  # a publisher is not a relay


@ALL
async def test_refusals(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        for request in (
            sink.subscribe(NAME),
            sink.track_status(NAME),
            sink.fetch(NAME, Location(0, 0), 1),
        ):
            with pytest.raises(RequestFailedError) as refused:
                await request
            assert refused.value.code == RequestErrorCode.DOES_NOT_EXIST
        source.add_track(NAME)
        with pytest.raises(RequestFailedError) as refused:
            await sink.fetch(NAME, Location(0, 0), 1)
        assert refused.value.code == RequestErrorCode.INVALID_RANGE
        subscription = await sink.subscribe(NAME)
        with pytest.raises(RequestFailedError) as refused:
            await subscription.joining_fetch()
        assert refused.value.code == RequestErrorCode.INVALID_RANGE


@ALL
async def test_late_subscriptions(draft: Draft) -> None:
    """What each filter gets of two groups that are there and of what follows."""
    filters = {
        LocationFilter(FilterKind.NEXT_OBJECT): [(1, 2), (2, 0)],
        LocationFilter(FilterKind.NEXT_GROUP): [(2, 0)],
        LocationFilter(FilterKind.ABSOLUTE, Location(0, 1)): [
            (0, 1),
            (1, 0),
            (1, 1),
            (1, 2),
            (2, 0),
        ],
        LocationFilter(FilterKind.ABSOLUTE, Location(1, 1), end_group=1): [(1, 1), (1, 2)],
    }
    for wanted, expected in filters.items():
        async with joined(draft) as (source, sink):
            track = source.add_track(NAME)
            first = track.open_subgroup(0)
            first.write(b"")
            first.write(b"")
            first.close()
            second = track.open_subgroup(1)
            second.write(b"")
            second.write(b"")
            subscription = await sink.subscribe(NAME, Parameters(filter=wanted))
            assert subscription.largest == (1, 1)
            second.write(b"")
            second.close()
            third = track.open_subgroup(2)
            third.write(b"")
            third.close()
            track.end()
            items = [item async for item in subscription]
            got = [item.location for item in items if isinstance(item, ReceivedObject)]
            assert got == expected, wanted


@ALL
@pytest.mark.parametrize("late", [True, False], ids=["after-fin", "before-fin"])
async def test_who_joins_behind_the_last_object_is_told_that_the_group_is_over(
    draft: Draft, late: bool
) -> None:
    """By a stream without objects. The group itself is for FETCH."""
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        subgroup = track.open_subgroup(3, 7, properties=True, end_of_group=True)
        subgroup.write(b"")
        subgroup.write(b"")
        if late:
            subgroup.close()
        subscription = await sink.subscribe(
            NAME, Parameters(filter=LocationFilter(FilterKind.NEXT_OBJECT))
        )
        subgroup.close()
        assert await ended(track, subscription) == [SubgroupEnd(3, 7, None, False)]
        assert subscription.done is not None
        assert subscription.done.stream_count == 1


async def test_of_many_subgroups_that_are_over_one_is_told() -> None:
    async with joined(DRAFT_18) as (source, sink):
        track = source.add_track(NAME)
        for subgroup_id in range(3):
            subgroup = track.open_subgroup(3, subgroup_id)
            subgroup.write(b"")
            subgroup.close()
        subscription = await sink.subscribe(NAME)
        await subscription.update(Parameters(forward=False))
        await subscription.update(Parameters(forward=True))
        assert await ended(track, subscription) == [SubgroupEnd(3, 2, None, False)] * 2


@pytest.mark.parametrize(
    "wanted",
    [
        LocationFilter(FilterKind.NEXT_GROUP),
        LocationFilter(FilterKind.ABSOLUTE, Location(3, 9)),
    ],
    ids=["next-group", "behind"],
)
async def test_who_begins_elsewhere_is_told_nothing(wanted: LocationFilter) -> None:
    async with joined(DRAFT_18) as (source, sink):
        track = source.add_track(NAME)
        subgroup = track.open_subgroup(3)
        subgroup.write(b"")
        subgroup.close()
        track.open_subgroup(4).close()
        subscription = await sink.subscribe(NAME, Parameters(filter=wanted))
        assert await ended(track, subscription) == []


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("first", [0, 1])
async def test_a_subgroup_that_was_reset_is_not_told_to_be_whole(first: int, late: bool) -> None:
    async with joined(DRAFT_18) as (source, sink):
        track = source.add_track(NAME)
        subgroup = track.open_subgroup(3)
        subgroup.write(b"")
        if late:
            subgroup.reset()
        wanted = LocationFilter(FilterKind.ABSOLUTE, Location(3, first))
        subscription = await sink.subscribe(NAME, Parameters(filter=wanted))
        subgroup.reset()
        resets = [SubgroupEnd(3, 0, StreamError.CANCELLED, False)]
        assert await ended(track, subscription) == ([] if first else resets)


@ALL
async def test_fetches(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME, keep_groups=3)
        for group in range(4):
            subgroup = track.open_subgroup(group)
            subgroup.write(b"%d" % group)
            subgroup.write(b"")
            subgroup.close()
        subscription = await sink.subscribe(NAME)
        items = [item async for item in await sink.fetch(NAME, Location(0, 0), 2, 0)]
        assert isinstance(items[0], FetchRange)
        assert items[0].until.group == 0
        assert [i.location for i in items[1:] if isinstance(i, ReceivedObject)] == [
            (1, 0),
            (1, 1),
            (2, 0),
        ]
        descending = Parameters(group_order=GroupOrder.DESCENDING)
        fetch = await sink.fetch(NAME, Location(2, 1), 9, None, descending)
        assert fetch.ok is not None
        assert (fetch.ok.end_group, fetch.ok.end_object) == (3, 1)
        got = [item.location async for item in fetch if isinstance(item, ReceivedObject)]
        assert got == [(3, 0), (3, 1), (2, 1)]
        joining = await subscription.joining_fetch(1)
        got = [item.location async for item in joining if isinstance(item, ReceivedObject)]
        assert got == [(2, 0), (2, 1), (3, 0), (3, 1)]


async def test_fill() -> None:
    async with joined(DRAFT_22) as (source, sink):
        track = source.add_track(NAME)
        subgroup = track.open_subgroup(0)
        subgroup.write(b"before")
        parameters = Parameters(
            filter=LocationFilter(FilterKind.NEXT_OBJECT),
            fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE)),
        )
        subscription = await sink.subscribe(NAME, parameters)
        subgroup.write(b"after")
        assert subscription.fill is not None
        assert [i.payload async for i in subscription.fill if isinstance(i, ReceivedObject)] == [
            b"before"
        ]
        item = await anext(aiter(subscription))
        assert isinstance(item, ReceivedObject)
        assert item.payload == b"after"


@ALL
async def test_forward_off_and_on(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        subscription = await sink.subscribe(NAME)
        subgroup = track.open_subgroup(0)
        subgroup.write(b"0")
        await subscription.update(Parameters(forward=False))
        assert track.subscribers == 0
        subgroup.write(b"1")
        await subscription.update(Parameters(forward=True))
        subgroup.write(b"2")
        subgroup.close()
        track.end()
        items = [item async for item in subscription]
        assert [i.payload for i in items if isinstance(i, ReceivedObject)] == [b"0", b"2"]
        ends = [i.reset for i in items if isinstance(i, SubgroupEnd)]
        assert ends == [StreamError.CANCELLED, None]


@ALL
async def test_streams_before_their_answer(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        asked = asyncio.create_task(sink.subscribe(NAME))
        await settle()
        subscription = await asked
        subscription.close()
        await settle()
        # Again, but now the answer comes last.
        asked = asyncio.create_task(sink.subscribe(NAME))
        wire = wire_of(source)
        wire.held = []
        await settle()
        subgroup = track.open_subgroup(0)
        subgroup.write(b"early")
        subgroup.close()
        wire.held.sort(key=lambda call: call[0] == "stream_data" and call[1][0] in (0, 4, 1, 5))
        wire.release()
        item = await anext(aiter(await asked))
        assert isinstance(item, ReceivedObject)
        assert item.payload == b"early"


@ALL
async def test_slow_reader_loses_whole_subgroups(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        subscription = await sink.subscribe(NAME, queue=QueueLimits(objects=3))
        first = track.open_subgroup(0)
        for _ in range(10):
            first.write(b"")
        await settle()
        reader = aiter(subscription)
        items = [await anext(reader) for _ in range(4)]
        assert [i.location.object for i in items if isinstance(i, ReceivedObject)] == [0, 1, 2]
        assert items[3] == SubgroupEnd(0, 0, StreamError.TOO_FAR_BEHIND, False)
        first.write(b"not sent again")
        second = track.open_subgroup(1)
        second.write(b"")
        item = await anext(reader)
        assert isinstance(item, ReceivedObject)
        assert item.location == (1, 0)


@ALL
async def test_slow_reader_loses_a_fetch(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        subgroup = source.add_track(NAME).open_subgroup(0)
        for _ in range(10):
            subgroup.write(b"")
        fetch = await sink.fetch(NAME, Location(0, 0), 0, queue=QueueLimits(objects=3))
        await settle()
        with pytest.raises(TooSlowError):
            _ = [item async for item in fetch]


@ALL
async def test_congested_publisher_opens_no_more_subgroups(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME, max_backlog=1000)
        subscription = await sink.subscribe(NAME)
        wire_of(source).backlog = 2000
        skipped = track.open_subgroup(0)
        skipped.write(b"")
        wire_of(source).backlog = 0
        skipped.write(b"")
        track.open_subgroup(1).write(b"")
        item = await anext(aiter(subscription))
        assert isinstance(item, ReceivedObject)
        assert item.location == (1, 0)


@ALL
async def test_unsubscribed(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        async with await sink.subscribe(NAME) as subscription:
            track.open_subgroup(0).write(b"")
            await settle()
        await settle()
        assert track.subscribers == 0
        assert [item async for item in subscription] == []


@ALL
async def test_end_of_the_session(draft: Draft) -> None:
    async with joined(draft) as (source, sink):
        source.add_track(NAME)
        subscription = await sink.subscribe(NAME)
        wire_of(source).held = []
        pending = asyncio.create_task(sink.subscribe(FullTrackName((b"a",), b"other")))
        await settle()
        wire_of(source).release()
        source.close(0, "bye")
        with pytest.raises(SessionLostError, match="bye"):
            _ = [item async for item in subscription]
        with pytest.raises((SessionLostError, RequestFailedError)):
            await pending
        assert sink.closed
        with pytest.raises(SessionLostError):
            await sink.subscribe(NAME)


@ALL
async def test_impatient_asker(draft: Draft) -> None:
    """A request that nobody waits for any more is cancelled."""
    async with joined(draft) as (source, sink):
        track = source.add_track(NAME)
        wire_of(source).held = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.subscribe(NAME)
        wire_of(source).release()
        await settle()
        assert track.subscribers == 0


async def test_new_group_request() -> None:
    async with joined(DRAFT_18) as (source, sink):
        track = source.add_track(NAME, properties=encoded([(0x30, 1)]))
        asked: list[int] = []
        track.on_new_group = asked.append
        subscription = await sink.subscribe(NAME)
        await subscription.update(Parameters(new_group_request=5))
        assert asked == [5]


async def test_misuse() -> None:
    async with joined(DRAFT_18) as (source, _):
        track = source.add_track(NAME)
        with pytest.raises(ValueError, match="exists already"):
            source.add_track(NAME)
        subgroup = track.open_subgroup(0)
        subgroup.write(b"", object_id=3)
        with pytest.raises(ValueError, match="does not follow"):
            subgroup.write(b"", object_id=3)
        with pytest.raises(ValueError, match="properties=True"):
            subgroup.write(b"", properties=encoded(PROPERTIES))
        with pytest.raises(ValueError, match="exists already"):
            track.open_subgroup(0)
        subgroup.close()
        with pytest.raises(ValueError, match="closed"):
            subgroup.write(b"")
