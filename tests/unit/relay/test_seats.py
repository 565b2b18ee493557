"""Why the kernel does not serve somebody, and members that go while it is ahead."""

from __future__ import annotations

import pytest

from fastrelay.fastpath.layout import Outcome
from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.drafts import DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import Location
from fastrelay.relay import subgroup
from fastrelay.relay.options import CacheOptions, RelayOptions
from unit.relay.fake_kernel import FastWorld
from unit.relay.harness import TRACK, Client, expect
from unit.relay.test_fast import kernel_streams, seat_of, user_bytes, whole

REVIEWED = 1.5
"""Seconds within which the relay has looked at all links again."""


def in_range(*numbers: int) -> LocationFilter:
    """Start group and object, end group and, if there is one, end object."""
    group, start, end_group, *end = numbers
    end_object = end[0] if end else None
    return LocationFilter(
        FilterKind.ABSOLUTE, Location(group, start), end_group=end_group, end_object=end_object
    )


@pytest.mark.parametrize("numbers", [(5, 1, 5), (5, 0, 5, 3)], ids=["its end", "its beginning"])
def test_a_part_of_one_group(numbers: tuple[int, ...]) -> None:
    world = FastWorld()
    publisher, _ = world.live()
    client = world.client(DRAFT_22)
    client.subscribe(filter=in_range(*numbers))
    assert seat_of(world, client).reason == "it wants no whole group"
    publisher.group(5, 6)
    first, last = numbers[1], numbers[3] if len(numbers) > 3 else 5
    assert client.ids == [(5, number) for number in range(first, last + 1)]
    world.assert_empty()


def test_a_range_that_ends_within_a_group() -> None:
    """The kernel serves the groups before that, which are wanted whole."""
    world = FastWorld()
    publisher, _ = world.live()
    client = world.client(DRAFT_22)
    client.subscribe(filter=in_range(1, 0, 2, 0))
    world.tick()
    for group in range(4):
        publisher.group(group, 2)
    world.tick()
    assert client.objects == expect((1, 0), (1, 1), (2, 0))
    assert kernel_streams(client) == 1
    world.assert_empty()


def test_a_session_that_is_going_away() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    link = client.relay_end.link  # type: ignore[attr-defined]
    link.reason = "the cipher is another one"
    world.wait(REVIEWED)
    client.session.goaway()
    link.reason = ""
    world.wait(REVIEWED)
    assert seat_of(world, client).reason == "the session is going away"
    publisher.group(0, 1)
    assert client.objects == expect((0, 0))
    world.assert_empty()


def test_a_subscription_behind_a_fetch_of_its_session() -> None:
    world = FastWorld(RelayOptions(high_water_bytes=10))
    publisher, _ = world.live()
    publisher.group(0, 3)
    late = world.client()
    late.stall(0)
    late.fetch((0, 0), 0)
    late.subscribe(filter=LocationFilter(FilterKind.NEXT_GROUP))
    seat = seat_of(world, late)
    assert seat.reason == "a FETCH of its session goes first"
    late.resume()
    world.wait(1)
    assert seat.member is not None
    world.assert_empty()


def test_the_kernel_is_off_for_a_while() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    world.kernel.reason = "the agent is gone"
    world.wait(REVIEWED)
    assert seat_of(world, client).reason == "the agent is gone"
    publisher.group(0, 1)
    world.kernel.reason = ""
    world.wait(REVIEWED)
    world.tick()
    publisher.group(1, 1)
    assert client.objects == expect((0, 0), (1, 0))
    assert kernel_streams(client) == 1
    world.assert_empty()


def test_a_publisher_that_the_kernel_does_not_know() -> None:
    world = FastWorld()
    world.shared = False
    publisher = world.publisher()
    world.shared = True
    publisher.announce(b"live")
    client = world.client()
    client.subscribe()
    publisher.accept()
    world.tick()
    assert "publisher's connection is not shared" in seat_of(world, client).reason
    publisher.group(0, 1)
    publisher.datagram(1, 0)
    assert client.objects == expect((0, 0), (1, 0))
    assert kernel_streams(client) == 0
    world.assert_empty()


def test_a_datagram_of_unknown_place() -> None:
    """Read before its track was known: nobody can tell any more which packet brought it."""
    world = FastWorld()
    publisher = world.publisher()
    publisher.announce(b"live")
    (client,) = world.viewers(1)
    publisher.datagram(0, 0)
    assert client.objects == []
    publisher.accept()
    assert client.objects == expect((0, 0))
    world.assert_empty()


def unsubscribe(client: Client) -> None:
    (request_id,) = client.world.relay._peers[client.relay_session].handles
    client.session.cancel(request_id)
    client.world.run()


def test_unsubscribe_when_all_of_a_stream_was_sent() -> None:
    """It is left as it is, while the copies for others still wait."""
    world = FastWorld()
    publisher, clients = world.live(2)
    world.kernel.late = True
    stream = publisher.open(0)
    stream.raw(stream.encode(0), fin=True)
    world.kernel.run_clones(3)
    world.run()
    stays, goes = sorted(clients, key=lambda client: client.ids)
    unsubscribe(goes)
    world.kernel.run_clones()
    world.tick()
    assert goes.objects == stays.objects == expect((0, 0))
    assert whole(goes)
    assert user_bytes(goes, stays) == 0
    world.assert_empty()


def test_unsubscribe_when_the_end_of_a_stream_is_missing() -> None:
    world = FastWorld()
    publisher, (goes, stays) = world.live(2)
    world.kernel.late = True
    stream = publisher.open(0)
    stream.raw(stream.encode(0), fin=True)
    world.kernel.run_clones(2)
    unsubscribe(goes)
    world.kernel.run_clones()
    world.tick()
    assert [each.reset for each in goes.streams.values()] == [StreamError.CANCELLED]
    assert stays.objects == expect((0, 0))
    world.assert_empty()


@pytest.mark.parametrize("begun", [True, False])
def test_who_leaves_the_kernel_when_the_bytes_are_gone(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User space cannot go on where the kernel stopped: it gives the stream up."""
    monkeypatch.setattr(subgroup, "KEPT_FOR_LOSSES", 1000)
    world = FastWorld(RelayOptions(cache=CacheOptions(bytes=5000)))
    publisher, (goes, stays) = world.live(2)
    world.kernel.late = True
    stream = publisher.open(0)
    world.kernel.run_clones(2 if begun else 0)
    for number in range(40):
        stream.write(number, bytes(500))
    (request_id,) = world.relay._peers[goes.relay_session].handles
    goes.update(request_id, subscriber_priority=1)
    assert world.observer.drops == [("congestion", "stream")]
    world.kernel.run_clones()
    world.kernel.late = False
    stream.close()
    publisher.group(1, 1)
    assert goes.ids == [(1, 0)]
    assert [each.reset is not None for each in goes.streams.values()] == [True] * begun + [False]
    assert stays.ids[-1] == (1, 0)
    world.assert_empty()


def test_datagrams_for_who_has_left() -> None:
    """The kernel says that it has not sent them after the subscription is over."""
    world = FastWorld()
    publisher, (goes, stays) = world.live(2)
    world.kernel.outcome = lambda *_: Outcome.FAILED
    link = publisher.relay_end.link  # type: ignore[attr-defined]
    assert link is not None
    unsubscribe(goes)
    publisher.datagram(0, 0)
    assert goes.objects == []
    assert stays.objects == expect((0, 0))
    world.assert_empty()


def test_the_kernel_goes_while_it_is_ahead() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    world.kernel.loses = lambda *_: True
    publisher.group(0, 2)
    world.kernel.late = True
    stream = publisher.open(1)
    stream.write(0)
    assert len(world.relay.tracks[TRACK].fast.lendings) > 0
    world.relay.end_forwarding()
    world.kernel.loses = lambda *_: False
    assert world.relay.tracks[TRACK].fast.lendings == {}
    stream.write(1)
    stream.close()
    assert client.objects[-2:] == expect((1, 0), (1, 1))
    assert seat_of(world, client).reason == "the fast path is not configured"
