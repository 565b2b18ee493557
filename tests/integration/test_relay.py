"""Publishers and subscribers of our own through a real relay: what every draft must do."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from fastrelay.client import ReceivedObject, RequestFailedError, SubgroupEnd
from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.events import FetchRange
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location
from integration.harness import Certificate, RelayProcess, connect, running_relay
from integration.pair import (
    PROPERTIES,
    PROPERTY_VALUES,
    TIMEOUT,
    Pair,
    everything,
    places,
    receive,
    write_group,
)

ALL = pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22, DRAFT_16], ids=str)


@pytest.fixture
def pair(
    shared_relay: RelayProcess, certificate: Certificate, request: pytest.FixtureRequest
) -> Pair:
    return Pair(shared_relay, certificate, request.node.name)


@ALL
@pytest.mark.parametrize("source", [DRAFT_18, DRAFT_22, DRAFT_16], ids=lambda d: f"from-{d}")
async def test_objects_of_any_draft_reach_any_draft(
    draft: Draft, source: Draft, pair: Pair
) -> None:
    """Ids, priorities, payloads and properties, unknown ones too, whatever the varints."""
    async with pair.track(source) as track, pair.client(draft, webtransport=True) as client:
        subscription = await client.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        first = track.open_subgroup(7, priority=11, properties=True)
        second = track.open_subgroup(7, 1, priority=12, end_of_group=True)
        for obj in (0, 2, 300):
            first.write(b"first %d" % obj, object_id=obj, properties=PROPERTIES)
            second.write(b"second %d" % (obj + 1) * 2000, object_id=obj + 1)
        first.close()
        second.close()
        track.end()
        async with asyncio.timeout(TIMEOUT):
            items = [item async for item in subscription]
        assert subscription.done is not None
        assert subscription.done.status == PublishDoneStatus.TRACK_ENDED
        ends = [item for item in items if isinstance(item, SubgroupEnd)]
        assert sorted((end.subgroup_id, end.reset, end.end_of_group) for end in ends) == [
            (0, None, False),
            (1, None, True),
        ]
        objects = [item for item in items if isinstance(item, ReceivedObject)]
        assert sorted(places(objects)) == [(7, 0), (7, 1), (7, 2), (7, 3), (7, 300), (7, 301)]
        for item in objects:
            odd = item.location.object % 2
            assert (item.subgroup_id, item.priority) == ((1, 12) if odd else (0, 11))
            if odd:
                assert item.payload == b"second %d" % item.location.object * 2000
            else:
                assert item.payload == b"first %d" % item.location.object
                assert client.decode_properties(item.properties) == PROPERTY_VALUES


@ALL
async def test_datagrams(draft: Draft, pair: Pair) -> None:
    async with pair.track(DRAFT_18) as track, pair.client(draft) as client:
        subscription = await client.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        for obj in range(5):
            track.send_datagram(0, obj, b"datagram %d" % obj, properties=PROPERTIES, priority=3)
        objects = await receive(subscription, 5)
        assert all(item.datagram and item.priority == 3 for item in objects)
        assert {item.payload for item in objects} == {b"datagram %d" % n for n in range(5)}
        assert client.decode_properties(objects[0].properties) == PROPERTY_VALUES


@ALL
async def test_upstream_is_asked_once(draft: Draft, pair: Pair) -> None:
    async with pair.track(draft) as track, pair.client(draft) as a, pair.client(DRAFT_18) as b:
        subscriptions = [await client.subscribe(pair.name) for client in (a, b)]
        assert track.subscribers == 1
        write_group(track, 0)
        for subscription in subscriptions:
            assert places(await receive(subscription, 3)) == [(0, 0), (0, 1), (0, 2)]


@ALL
async def test_unknown_track(draft: Draft, pair: Pair) -> None:
    async with pair.client(draft) as client:
        with pytest.raises(RequestFailedError) as error:
            await client.subscribe(pair.name)
        assert error.value.code == RequestErrorCode.DOES_NOT_EXIST
    async with pair.track(draft), pair.client(draft) as client:
        with pytest.raises(RequestFailedError) as error:
            await client.subscribe(FullTrackName(pair.name.namespace, b"another"))
        assert error.value.code == RequestErrorCode.DOES_NOT_EXIST


@ALL
async def test_fetch(draft: Draft, pair: Pair) -> None:
    """From the publisher, through the relay, and from the relay's cache."""
    async with pair.track(DRAFT_16) as track, pair.client(draft) as client:
        for group in range(5):
            write_group(track, group)
        objects = await everything(await client.fetch(pair.name, Location(1, 1), 3, 0))
        assert places(objects) == [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)]
        assert objects[0].payload == b"1/1"
        assert client.decode_properties(objects[0].properties) == PROPERTY_VALUES
        whole = await everything(await client.fetch(pair.name, Location(4, 0), 4))
        assert places(whole) == [(4, 0), (4, 1), (4, 2)]


@ALL
async def test_late_joiner_gets_the_current_group(draft: Draft, pair: Pair) -> None:
    """The catalog of a player that comes late: subscription and joining fetch, no gap, nothing
    twice."""
    async with pair.track(draft) as track, pair.client(draft) as early, pair.client(draft) as late:
        first = await early.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        subgroup = track.open_subgroup(3)
        subgroup.write(b"one")
        subgroup.write(b"two")
        await receive(first, 2)
        live = Parameters(filter=LocationFilter(FilterKind.NEXT_GROUP))
        subscription = await late.subscribe(pair.name, live)
        assert subscription.largest == Location(3, 1)
        past = await everything(await subscription.joining_fetch(0))
        assert [(tuple(o.location), o.payload) for o in past] == [
            ((3, 0), b"one"),
            ((3, 1), b"two"),
        ]
        subgroup.close()
        write_group(track, 4, 1)
        assert places(await receive(subscription, 1)) == [(4, 0)]


@ALL
async def test_start_in_the_past_replays(draft: Draft, pair: Pair) -> None:
    async with pair.track(draft) as track, pair.client(draft) as early, pair.client(draft) as late:
        first = await early.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        for group in range(3):
            write_group(track, group)
        await receive(first, 9)
        everything_ = Parameters(filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)))
        subscription = await late.subscribe(pair.name, everything_)
        write_group(track, 3, 1)
        objects = await receive(subscription, 10)
        assert sorted(places(objects)) == [(g, o) for g in range(3) for o in range(3)] + [(3, 0)]


async def test_fill(pair: Pair) -> None:
    """Draft 22's way to get the past with the subscription."""
    async with (
        pair.track(DRAFT_22) as track,
        pair.client(DRAFT_22) as client,
        pair.client(DRAFT_18) as early,
    ):
        first = await early.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        for group in range(3):
            write_group(track, group)
        await receive(first, 9)
        wanted = Parameters(
            filter=LocationFilter(FilterKind.NEXT_OBJECT),
            fill=Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=1)),
        )
        subscription = await client.subscribe(pair.name, wanted)
        assert subscription.fill is not None
        past = await everything(subscription.fill)
        assert places(past) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
        write_group(track, 3, 1)
        assert places(await receive(subscription, 1)) == [(3, 0)]


@ALL
async def test_track_status(draft: Draft, pair: Pair) -> None:
    async with pair.track(draft) as track, pair.client(draft) as client:
        write_group(track, 9)
        status = await client.track_status(pair.name)
        assert status.parameters.largest_object == Location(9, 2)


@ALL
async def test_forward_can_be_switched(draft: Draft, pair: Pair) -> None:
    async with pair.track(draft) as track, pair.client(draft) as client:
        subscription = await client.subscribe(pair.name, Parameters(forward=False))
        await subscription.update(Parameters(forward=True))
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        write_group(track, 0)
        assert places(await receive(subscription, 3)) == [(0, 0), (0, 1), (0, 2)]


@ALL
async def test_namespaces_come_and_go(draft: Draft, pair: Pair) -> None:
    async with pair.client(draft) as watcher, pair.client(DRAFT_18) as publisher:
        changes = await watcher.subscribe_namespace(pair.name.namespace[:2])
        namespace = (*pair.name.namespace, b"camera")
        announcement = await publisher.publish_namespace(namespace)
        async with asyncio.timeout(TIMEOUT):
            change = await anext(changes)
            assert (change.namespace, change.live) == (namespace, True)
            announcement.withdraw()
            change = await anext(changes)
            assert (change.namespace, change.live) == (namespace, False)


@ALL
async def test_published_tracks_are_pushed(draft: Draft, pair: Pair) -> None:
    """PUBLISH at one end, SUBSCRIBE_TRACKS at the other."""
    async with pair.client(draft) as watcher, pair.client(draft) as publisher:
        tracks = await watcher.subscribe_tracks(pair.name.namespace)
        track = publisher.add_track(pair.name)
        await track.publish()
        async with asyncio.timeout(TIMEOUT):
            subscription = await anext(tracks)
            await track.wait_subscribed()
        assert subscription.track == pair.name
        write_group(track, 0)
        assert places(await receive(subscription, 3)) == [(0, 0), (0, 1), (0, 2)]


@ALL
async def test_reset_is_passed_on(draft: Draft, pair: Pair) -> None:
    async with pair.track(draft) as track, pair.client(draft) as client:
        subscription = await client.subscribe(pair.name)
        async with asyncio.timeout(TIMEOUT):
            await track.wait_subscribed()
        subgroup = track.open_subgroup(0)
        subgroup.write(b"one")
        await receive(subscription, 1)
        subgroup.reset()
        async with asyncio.timeout(TIMEOUT):
            item = await anext(aiter(subscription))
        assert isinstance(item, SubgroupEnd)
        assert item.reset is not None


@ALL
async def test_publisher_comes_back(draft: Draft, pair: Pair) -> None:
    async with pair.client(draft) as client:
        async with pair.track(draft) as track:
            subscription = await client.subscribe(pair.name)
            async with asyncio.timeout(TIMEOUT):
                await track.wait_subscribed()
            write_group(track, 0)
            await receive(subscription, 3)
            track.end()
            await everything(subscription)
        async with pair.track(draft) as track:
            subscription = await client.subscribe(pair.name)
            async with asyncio.timeout(TIMEOUT):
                await track.wait_subscribed()
            write_group(track, 1)
            assert places(await receive(subscription, 3)) == [(1, 0), (1, 1), (1, 2)]


@ALL
async def test_goaway_on_sigterm(draft: Draft, certificate: Certificate, tmp_path: Path) -> None:
    """New requests are refused, what is established goes on, and the relay ends with code 0."""
    with running_relay(certificate, tmp_path / "relay.log", grace=60) as relay:
        pair = Pair(relay, certificate, "goaway")
        async with pair.track(draft) as track, pair.client(draft) as client:
            subscription = await client.subscribe(pair.name)
            async with asyncio.timeout(TIMEOUT):
                await track.wait_subscribed()
            relay.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT):
                await client.wait_goaway()
            write_group(track, 0)
            assert places(await receive(subscription, 3)) == [(0, 0), (0, 1), (0, 2)]
            with pytest.raises(RequestFailedError):
                await client.subscribe(FullTrackName(pair.name.namespace, b"another"))
        assert await asyncio.to_thread(relay.process.wait, TIMEOUT) == 0


async def test_goaway_timeout_ends_the_session(certificate: Certificate, tmp_path: Path) -> None:
    with running_relay(certificate, tmp_path / "relay.log", grace=1) as relay:
        pair = Pair(relay, certificate, "goaway")
        async with pair.client(DRAFT_18) as client:
            relay.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT):
                closed = await client.wait_closed()
            assert closed.code == SessionError.GOAWAY_TIMEOUT
        assert await asyncio.to_thread(relay.process.wait, TIMEOUT) == 0


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
async def test_ipv6(webtransport: bool, certificate: Certificate, tmp_path: Path) -> None:
    with running_relay(certificate, tmp_path / "relay.log", host="::1") as relay:
        pair = Pair(relay, certificate, "ipv6")
        async with (
            pair.track(DRAFT_18) as track,
            pair.client(DRAFT_18, webtransport=webtransport) as client,
        ):
            subscription = await client.subscribe(pair.name)
            write_group(track, 0)
            assert places(await receive(subscription, 3)) == [(0, 0), (0, 1), (0, 2)]


async def test_tokens(certificate: Certificate, tmp_path: Path) -> None:
    """Without the token nobody publishes under the prefix."""
    secret = tmp_path / "token"
    secret.write_text("open sesame")
    arguments = ("--publish-token", f"test={secret}")
    with running_relay(certificate, tmp_path / "relay.log", arguments=arguments) as relay:
        options = certificate.client_options
        async with connect(relay.url(), options=options) as client:
            with pytest.raises(RequestFailedError) as error:
                await client.publish_namespace((b"test", b"tokens"))
            assert error.value.code == RequestErrorCode.UNAUTHORIZED
        async with connect(relay.url(), options=options, token=b"open sesame") as client:
            await client.publish_namespace((b"test", b"tokens"))


async def test_fetch_of_what_is_gone(pair: Pair) -> None:
    """A range that nobody has any more is said to be unknown, not empty."""
    async with pair.client(DRAFT_18) as publisher, pair.client(DRAFT_22) as client:
        track = publisher.add_track(pair.name, keep_groups=2)
        await publisher.publish_namespace(pair.name.namespace)
        for group in range(6):
            write_group(track, group)
        fetch = await client.fetch(pair.name, Location(0, 0), 5)
        items = []
        async with asyncio.timeout(TIMEOUT):
            async for item in fetch:
                items.append(item)
        assert isinstance(items[0], FetchRange)
        assert places([i for i in items if isinstance(i, ReceivedObject)])[-1] == (5, 2)
