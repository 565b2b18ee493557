"""The kernel forwards, user space does the rest: no byte is missing, none is sent by both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fastrelay.fastpath.layout import Outcome
from fastrelay.moqt import messages as ms
from fastrelay.moqt.codes import PublishDoneStatus, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import FullTrackName, Location
from fastrelay.relay import subgroup, takeover
from fastrelay.relay.options import CacheOptions, Deviations, Limits, RelayOptions
from unit.relay.fake_kernel import FakeMember, FastEnd, FastWorld
from unit.relay.harness import TRACK, Client, content, expect


def user_bytes(*clients: Client) -> int:
    """Sent by user space on streams that the kernel began."""
    return sum(end.user_bytes for c in clients if isinstance(end := c.relay_end, FastEnd))


def kernel_streams(client: Client) -> int:
    assert isinstance(client.relay_end, FastEnd)
    return len(client.relay_end.arriving)


def seat_of(world: FastWorld, client: Client) -> Any:
    return world.relay._peers[client.relay_session].subscriptions[TRACK].seat


def whole(client: Client) -> bool:
    return all(stream.fin for stream in client.streams.values())


def refuse_at(outcome: Outcome, *offsets: int, member: int | None = None) -> Any:
    """One outcome for copies of frames at these places; the others are sent."""

    def decide(who: FakeMember, stream_id: int, offset: int) -> Outcome:
        hit = offset in offsets and (member is None or who.link.index == member)
        return outcome if hit else Outcome.SENT

    return decide


def test_the_kernel_sends_everything() -> None:
    world = FastWorld()
    publisher, clients = world.live(3)
    for group in range(4):
        publisher.group(group, 3)
    world.tick()
    for client in clients:
        assert client.objects == expect(*((g, o) for g in range(4) for o in range(3)))
        assert kernel_streams(client) == 4
        assert whole(client)
    assert user_bytes(*clients) == 0
    assert world.relay.counters.streams_out == 12
    assert world.relay.counters.objects_out == 36
    assert len(world.observer.joins) == 3
    assert not world.kernel.loans
    world.assert_empty()


def test_a_joiner_gets_the_current_group_from_the_cache() -> None:
    world = FastWorld()
    publisher, (first,) = world.live()
    publisher.group(0, 2)
    publisher.group(1, 2)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(1, 0)))
    world.tick()
    publisher.group(2, 2)
    world.tick()
    assert late.objects == expect((1, 0), (1, 1), (2, 0), (2, 1))
    assert kernel_streams(late) == 1
    assert kernel_streams(first) == 3
    world.assert_empty()


def test_a_joiner_in_the_middle_of_a_stream() -> None:
    world = FastWorld()
    publisher, (first,) = world.live()
    stream = publisher.open(0)
    stream.write(0)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.ABSOLUTE, Location(0, 0)))
    world.tick()
    stream.write(1)
    stream.close()
    assert late.objects == first.objects == expect((0, 0), (0, 1))
    assert kernel_streams(late) == 0
    publisher.group(1, 1)
    assert kernel_streams(late) == 1
    world.assert_empty()


def test_who_asks_for_the_next_object_is_served_from_the_next_group_on() -> None:
    world = FastWorld(RelayOptions(deviations=Deviations(replay_current_group=False)))
    publisher, _ = world.live()
    publisher.group(0, 1)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.NEXT_OBJECT))
    world.tick()
    stream = publisher.open(0, 1)
    stream.write(1)
    stream.close()
    assert late.objects == expect((0, 1))
    assert kernel_streams(late) == 0
    publisher.group(1, 1)
    assert kernel_streams(late) == 1
    world.assert_empty()


@pytest.mark.parametrize(("upstream", "downstream"), [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("fault", [None, Outcome.FAILED, Outcome.NO_WINDOW])
def test_webtransport_on_either_side(upstream: int, downstream: int, fault: Outcome | None) -> None:
    world = FastWorld()
    world.webtransport = bool(upstream)
    publisher = world.publisher()
    publisher.announce(b"live")
    world.webtransport = bool(downstream)
    client = world.client()
    client.subscribe()
    publisher.accept()
    world.tick()
    seen: list[int] = []

    def outcome(member: FakeMember, stream_id: int, offset: int) -> Outcome:
        seen.append(offset)
        return fault if fault is not None and len(seen) == 3 else Outcome.SENT

    world.kernel.outcome = outcome
    publisher.group(0, 4)
    publisher.datagram(0, 9)
    assert client.objects == expect((0, 0), (0, 1), (0, 2), (0, 3), (0, 9))
    assert kernel_streams(client) == 1
    assert bool(user_bytes(client)) is (fault is not None)
    world.assert_empty()


def test_an_alias_that_is_taken() -> None:
    world = FastWorld()
    other = FullTrackName((b"other",), b"video")
    publishers = [world.publisher(), world.publisher()]
    publishers[0].announce(b"live")
    publishers[1].announce(b"other")
    client = world.client()
    client.subscribe()
    publishers[0].accept()
    client.subscribe(other)
    publishers[1].accept()
    world.tick()
    world.kernel.outcome = refuse_at(Outcome.FAILED, 0)
    for publisher in publishers:
        publisher.group(0, 2)
    assert sorted(s.header.track_alias for s in client.streams.values() if s.header) == [6, 7]
    assert client.objects == sorted(expect((0, 0), (0, 1)) * 2)
    assert kernel_streams(client) == 2
    world.assert_empty()


@pytest.mark.parametrize("outcome", list(Outcome)[1:12])
@pytest.mark.parametrize("place", range(4))
def test_what_the_kernel_refuses_user_space_sends(outcome: Outcome, place: int) -> None:
    world = FastWorld()
    publisher, clients = world.live(3)
    victim = clients[1].relay_end.link.index  # type: ignore[attr-defined]
    seen: list[int] = []

    def decide(member: FakeMember, stream_id: int, offset: int) -> Outcome:
        if member.link.index != victim:
            return Outcome.SENT
        seen.append(offset)
        return outcome if len(seen) == place + 1 else Outcome.SENT

    world.kernel.outcome = decide
    publisher.group(0, 3)
    publisher.group(1, 3)
    world.tick()
    for client in clients:
        assert client.objects == expect(*((g, o) for g in range(2) for o in range(3)))
        assert whole(client)
    assert user_bytes(clients[0], clients[2]) == 0
    world.wait(1)
    world.tick()
    publisher.group(2, 1)
    assert kernel_streams(clients[1]) >= 2 - (outcome in (Outcome.NO_STREAM,))
    world.assert_empty()


def test_a_slow_member_leaves_until_nothing_waits_for_it() -> None:
    world = FastWorld(RelayOptions(high_water_bytes=100))
    publisher, (fast, slow) = world.live(2)
    seat = seat_of(world, slow)
    assert not seat.reason
    slow.stall(0)
    index = slow.relay_end.link.index  # type: ignore[attr-defined]
    world.kernel.outcome = lambda member, *_: (
        Outcome.NO_WINDOW if member.link.index == index else Outcome.SENT
    )
    publisher.group(0, 6)
    assert seat.reason == "it is behind"
    assert seat.falls == 1
    world.kernel.outcome = lambda *_: Outcome.SENT
    publisher.group(1, 3)
    world.wait(2)
    assert seat.member is None
    assert slow.objects == []
    slow.resume()
    assert slow.objects == fast.objects
    assert seat.member is None
    world.wait(1)
    assert seat.member is not None
    world.tick()
    publisher.group(2, 1)
    assert slow.objects == fast.objects
    assert kernel_streams(slow) == 2
    world.assert_empty()


def test_a_fetch_goes_before_the_next_group() -> None:
    """The kernel would overtake it; user space sends what is older first."""
    world = FastWorld()
    publisher, (early,) = world.live(1)
    publisher.group(0, 3)
    world.tick()
    late = world.client()
    request_id = late.subscribe()
    world.tick()
    late.stall(0)
    late.joining_fetch(request_id)
    seat = seat_of(world, late)
    assert seat.reason == "a FETCH of its session goes first"
    publisher.group(1, 3)
    world.wait(1)
    assert seat.member is None
    assert seat_of(world, early).member is not None
    late.resume()
    world.wait(1)
    assert seat.member is not None
    world.tick()
    publisher.group(2, 3)
    world.tick()
    assert late.objects[-3:] == expect((2, 0), (2, 1), (2, 2))
    assert kernel_streams(late) == 1


def test_lost_packets_are_sent_again_by_user_space() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    world.kernel.loses = lambda member, stream_id, offset: offset % 2 == 0
    for group in range(3):
        publisher.group(group, 4)
    assert clients[0].objects == []
    world.kernel.report_losses()
    world.run()
    for client in clients:
        assert client.objects == expect(*((g, o) for g in range(3) for o in range(4)))
        assert whole(client)
    world.assert_empty()


def test_lost_after_the_group_has_left_the_cache() -> None:
    world = FastWorld(RelayOptions(cache=CacheOptions(seconds=1)))
    publisher, (client,) = world.live()
    world.kernel.loses = lambda *_: True
    publisher.group(0, 4)
    publisher.group(1, 1)
    world.wait(5)
    world.kernel.report_losses()
    world.run()
    assert client.objects == expect((0, 0), (0, 1), (0, 2), (0, 3), (1, 0))
    world.assert_empty()


def test_copies_that_vanish_are_sent_by_user_space_when_it_has_waited() -> None:
    world = FastWorld()
    world.kernel.late = True
    publisher, clients = world.live(2)
    publisher.group(0, 2)
    assert clients[0].objects == []
    world.kernel.run_clones(1)
    world.kernel.claim()
    world.tick()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1))
        assert whole(client)
    world.assert_empty()


def test_what_the_kernel_took_nothing_of_ends_the_loan() -> None:
    world = FastWorld()
    publisher, clients = world.live(3)
    stream = publisher.open(0)
    stream.write(0)
    world.kernel.enabled = False
    stream.write(1)
    world.kernel.enabled = True
    stream.write(2)
    stream.close()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1), (0, 2))
        assert whole(client)
    assert user_bytes(*clients) > 0
    publisher.group(1, 1)
    assert all(kernel_streams(client) == 2 for client in clients)
    world.assert_empty()


def test_only_the_end_is_missing() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    stream = publisher.open(0)
    stream.write(0)
    world.kernel.enabled = False
    stream.close()
    assert whole(client)
    assert user_bytes(client) == 0
    world.assert_empty()


def test_a_hole_is_filled_for_everybody() -> None:
    world = FastWorld()
    publisher, clients = world.live(3)
    stream = publisher.open(0)
    stream.write(0)
    taken: list[int] = []

    def takes(stream_id: int, offset: int) -> bool:
        taken.append(offset)
        return len(taken) != 1

    world.kernel.takes = takes
    pieces = [stream.encode(number) for number in (1, 2, 3)]
    for piece in pieces:
        publisher.session.send(stream.stream_id, piece)
    world.run()
    stream.write(4)
    stream.close()
    for client in clients:
        assert client.objects == expect(*((0, o) for o in range(5)))
        assert user_bytes(client) == len(pieces[0])
    (group,) = world.relay.tracks[TRACK].store.groups.values()
    assert group.subgroups[0].lending is not None
    world.assert_empty()


def test_a_hole_and_then_nothing_more() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    taken: list[int] = []

    def takes(stream_id: int, offset: int) -> bool:
        taken.append(offset)
        return len(taken) == 2

    world.kernel.takes = takes
    for number in (1, 2, 3):
        publisher.session.send(stream.stream_id, stream.encode(number))
    world.run()
    stream.close()
    for client in clients:
        assert client.objects == expect(*((0, o) for o in range(4)))
        assert whole(client)
    world.assert_empty()


def test_an_object_that_comes_in_pieces() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0, properties=True)
    raw = stream.encode(0, properties=b"\x02\x05" * 3)
    for index in range(len(raw)):
        world.kernel.enabled = index < len(raw) // 2
        stream.raw(raw[index : index + 1])
    stream.close()
    for client in clients:
        assert client.objects == expect((0, 0))
        assert whole(client)
    world.assert_empty()


def test_the_kernel_is_ahead_within_a_header() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0, properties=True)
    stream.raw(stream.encode(0, properties=b"\x02\x05"))
    raw = stream.encode(1, properties=b"\x02\x05")
    stream.raw(raw[:2])
    world.kernel.enabled = False
    stream.raw(raw[2:])
    stream.close()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1))
        assert whole(client)
    world.assert_empty()


def test_missed_before_user_space_has_it() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0, properties=True)
    stream.raw(stream.encode(0, properties=b"\x02\x05"))
    raw = stream.encode(1, properties=b"\x02\x05")
    world.kernel.outcome = lambda *_: Outcome.FAILED
    stream.raw(raw[:2])
    world.kernel.outcome = lambda *_: Outcome.SENT
    stream.raw(raw[2:])
    stream.close()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1))
        assert user_bytes(client) == 2
        # The kernel charges what it sends itself.
        assert sum(world.relay.bands_of(client.relay_session).counted().bytes) == 2
    world.assert_empty()


def test_reset_upstream() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    stream.reset(StreamError.DELIVERY_TIMEOUT)
    for client in clients:
        (got,) = client.streams.values()
        assert got.reset == StreamError.DELIVERY_TIMEOUT
        assert client.objects == expect((0, 0))
    world.assert_empty()


def test_a_stream_that_is_sent_again_after_a_reset() -> None:
    world = FastWorld()
    publisher, (client, picky) = world.live(2)
    stream = publisher.open(0)
    (stream_id,) = picky.streams
    picky.session.stop(stream_id, StreamError.CANCELLED)
    world.run()
    stream.reset()
    publisher.group(0, 2)
    publisher.group(1, 1)
    assert client.objects == expect((0, 0), (0, 1), (1, 0))
    assert picky.objects == expect((1, 0))
    world.assert_empty()


def test_stop_sending() -> None:
    world = FastWorld()
    publisher, (client, picky) = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    (stream_id,) = picky.streams
    picky.session.stop(stream_id, StreamError.CANCELLED)
    world.run()
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    assert client.objects == expect((0, 0), (0, 1), (1, 0))
    assert picky.objects == expect((0, 0), (1, 0))
    assert isinstance(picky.relay_end, FastEnd)
    assert picky.relay_end.arriving[stream_id].over
    world.assert_empty()


def test_unsubscribe_under_way() -> None:
    world = FastWorld()
    publisher, (stays, goes) = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    (request_id,) = world.relay._peers[goes.relay_session].handles
    goes.session.cancel(request_id)
    world.run()
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    assert stays.objects == expect((0, 0), (0, 1), (1, 0))
    assert goes.objects == expect((0, 0))
    world.assert_empty()


def test_a_session_goes_under_way() -> None:
    world = FastWorld()
    publisher, (stays, goes) = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    goes.leave()
    stream.write(1)
    stream.close()
    assert stays.objects == expect((0, 0), (0, 1))
    world.assert_empty()


def test_the_publisher_goes_under_way() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    publisher.leave()
    for client in clients:
        assert client.objects == expect((0, 0))
        assert next(iter(client.streams.values())).reset is not None
    world.assert_empty()


@pytest.mark.parametrize("late", [False, True])
def test_the_end_of_the_track_counts_streams_and_waits_for_the_kernel(late: bool) -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    publisher.group(0, 1)
    world.kernel.late = late
    (feed_id,) = publisher.relay_feeds()
    publisher.group(1, 1)
    publisher.session.notify(feed_id, ms.PublishDone(feed_id, PublishDoneStatus.TRACK_ENDED, 2, ""))
    world.run()
    if late:
        assert not clients[0].notifications(ms.PublishDone)
        world.kernel.claim()
        world.tick()
    for client in clients:
        (done,) = client.notifications(ms.PublishDone)
        assert done.stream_count == 2
        assert client.objects == expect((0, 0), (1, 0))
    world.assert_empty()


def test_forward_off_and_on() -> None:
    world = FastWorld()
    publisher, (stays, client) = world.live(2)
    seat = seat_of(world, client)
    (request_id,) = world.relay._peers[client.relay_session].handles
    stream = publisher.open(0)
    stream.write(0)
    client.update(request_id, forward=False)
    assert seat.reason == "forward is off"
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    assert client.objects == expect((0, 0))
    client.update(request_id, forward=True)
    world.tick()
    assert seat.member is not None
    publisher.group(2, 1)
    assert client.ids == [(0, 0), (2, 0)]
    assert stays.ids == [(0, 0), (0, 1), (1, 0), (2, 0)]
    world.assert_empty()


def test_priority_and_filter_updates_lose_nothing() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    (request_id,) = world.relay._peers[client.relay_session].handles
    stream = publisher.open(0)
    stream.write(0)
    client.update(request_id, subscriber_priority=3)
    world.tick()
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    assert client.objects == expect((0, 0), (0, 1), (1, 0))
    member = seat_of(world, client).member
    assert member.terms.priority == 3
    client.update(
        request_id,
        filter=LocationFilter(FilterKind.ABSOLUTE, Location(3, 0), end_group=4),
    )
    world.tick()
    for group in range(2, 7):
        publisher.group(group, 1)
    assert client.ids == [(0, 0), (0, 1), (1, 0), (3, 0), (4, 0)]
    world.assert_empty()


def test_a_second_publisher_ends_the_fast_path_and_its_end_brings_it_back() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    stream = publisher.open(0)
    stream.write(0)
    second = world.publisher()
    second.announce(b"live")
    second.accept()
    lane = world.relay.tracks[TRACK].fast
    assert lane.reason == "more than one publisher"
    other = second.open(0)
    other.write(0)
    other.write(1)
    stream.write(1)
    stream.close()
    other.close()
    assert client.objects == expect((0, 0), (0, 1))
    second.leave()
    world.tick()
    assert lane.reason == ""
    publisher.group(1, 2)
    assert client.objects == expect((0, 0), (0, 1), (1, 0), (1, 1))
    assert kernel_streams(client) == 2
    world.assert_empty()


def test_a_stream_that_brings_nothing_new_is_taken_back() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    publisher.group(0, 2)
    publisher.group(0, 2)
    streams = list(client.streams.values())
    assert streams[0].fin
    assert streams[1].reset == StreamError.CANCELLED
    world.assert_empty()


def test_reasons() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    assert seat_of(world, client).reason == ""
    other = world.client(DRAFT_16)
    other.subscribe()
    assert seat_of(world, other).reason == "the publisher writes other integers"
    same = world.client(DRAFT_22)
    same.subscribe()
    assert seat_of(world, same).reason == ""
    world.shared = False
    alone = world.client()
    alone.subscribe()
    assert "not shared" in seat_of(world, alone).reason
    world.shared = True
    publisher.group(0, 1)
    assert {c.ids[0] for c in (client, other, same, alone)} == {(0, 0)}
    world.assert_empty()


def test_a_link_that_becomes_slow_and_fast_again() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    seat = seat_of(world, client)
    stream = publisher.open(0)
    stream.write(0)
    link = client.relay_end.link  # type: ignore[attr-defined]
    link.reason = "the cipher is another one"
    world.wait(1.5)
    assert seat.reason == link.reason
    stream.write(1)
    stream.close()
    link.reason = ""
    world.wait(1.5)
    assert seat.member is not None
    publisher.group(1, 1)
    assert client.objects == expect((0, 0), (0, 1), (1, 0))
    publisher.relay_end.link.reason = "it is gone"  # type: ignore[attr-defined]
    world.wait(1.5)
    assert "it is gone" in seat.reason
    publisher.group(2, 1)
    assert client.ids[-1] == (2, 0)
    world.assert_empty()


def test_datagrams() -> None:
    world = FastWorld()
    publisher, clients = world.live(3)
    before = [c.relay_end.link.index for c in clients]  # type: ignore[attr-defined]
    world.kernel.outcome = refuse_at(Outcome.NO_WINDOW, 0, member=before[1])
    late = world.client()
    late.subscribe()
    for object_id in range(3):
        publisher.datagram(5, object_id)
    for client in [*clients, late]:
        assert client.objects == expect((5, 0), (5, 1), (5, 2))
    assert world.relay.counters.datagrams_out == 12
    world.kernel.enabled = False
    publisher.datagram(5, 3)
    for client in [*clients, late]:
        assert client.ids[-1] == (5, 3)
        assert len(client.datagrams) == 4
    world.assert_empty()


def test_datagrams_before_the_range() -> None:
    world = FastWorld()
    publisher, _ = world.live()
    publisher.datagram(5, 0)
    late = world.client()
    late.subscribe(filter=LocationFilter(FilterKind.NEXT_GROUP))
    world.tick()
    publisher.datagram(5, 1)
    publisher.datagram(6, 0)
    assert late.ids == [(6, 0)]
    world.assert_empty()


@pytest.mark.parametrize("begun", [0, 4])
def test_a_group_of_datagrams_that_the_kernel_has_begun_is_not_cut(begun: int) -> None:
    """Of those that wait, groups go that have not begun: by whom does not matter. Nor does the
    kernel go on with one that was given up."""
    world = FastWorld(RelayOptions(high_water_bytes=10, limits=Limits(streams_behind=25)))
    publisher, (client,) = world.live()
    seat = seat_of(world, client)
    for number in range(begun):
        publisher.datagram(5, number)
    client.stall(0)
    world.kernel.outcome = lambda *_: Outcome.NO_WINDOW
    publisher.group(4, 1)
    for group in range(5, 9):
        for number in range(begun if group == 5 else 0, 8):
            publisher.datagram(group, number)
    assert seat.member is None
    client.resume()
    came = Counter(event.location.group for event in client.datagrams)
    assert came == {5 if begun else 6: 8, 7: 8, 8: 8}
    world.kernel.outcome = lambda *_: Outcome.SENT
    world.wait(1)
    world.tick()
    assert seat.member is not None
    sent = world.kernel.packets
    publisher.datagram(6 if begun else 5, 8)
    publisher.datagram(9, 0)
    assert client.ids[-1] == (9, 0)
    assert len(client.datagrams) == 25
    assert world.kernel.packets == sent + 1
    world.assert_empty()


def test_no_room_in_the_kernel() -> None:
    world = FastWorld()
    world.kernel.room = 1
    publisher, clients = world.live(2)
    publisher.group(0, 2)
    reasons = sorted(seat_of(world, client).reason for client in clients)
    assert reasons == ["", "the kernel has no room for another subscription"]
    assert clients[0].objects == clients[1].objects == expect((0, 0), (0, 1))
    world.assert_empty()


def test_policy_drops_a_stream() -> None:
    world = FastWorld(RelayOptions(deviations=Deviations(replay_current_group=False)))
    publisher, (client,) = world.live()
    world.kernel.outcome = lambda *_: Outcome.DROPPED
    stream = publisher.open(0)
    stream.write(0)
    world.kernel.outcome = lambda *_: Outcome.SENT
    stream.write(1)
    stream.close()
    publisher.group(1, 1)
    world.wait(0.1)
    assert client.ids == [(1, 0)]
    assert world.observer.drops == [("priority", "stream")]
    said, other = client.streams.values()
    assert said.header is not None
    assert (said.header.group_id, said.reset, said.objects) == (0, StreamError.EXCESSIVE_LOAD, [])
    assert other.fin
    assert (world.relay.counters.streams_out, world.relay.counters.objects_out) == (2, 1)
    world.assert_empty()


def test_what_the_kernel_has_dropped_is_not_sent_when_user_space_takes_over() -> None:
    """The program has dropped the stream, but the relay has not been told yet."""
    world = FastWorld(RelayOptions(deviations=Deviations(replay_current_group=False)))
    publisher, clients = world.live(2)
    victim = clients[0].relay_end.link.index  # type: ignore[attr-defined]
    world.kernel.outcome = refuse_at(Outcome.DROPPED, 0, member=victim)
    stream = publisher.open(0)
    stream.write(0)
    for loan in world.kernel.loans.values():
        loan.queue.clear()
    world.kernel.enabled = False
    stream.write(1)
    stream.close()
    world.wait(0.1)
    assert clients[0].ids == []
    assert clients[1].ids == [(0, 0), (0, 1)]
    world.assert_empty()


def test_objects_that_are_put_before_a_stream_under_way() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    publisher.group(0, 1)
    late = publisher.open(1, 1)
    late.write(5)
    late.reset()
    world.kernel.loses = lambda *_: True
    stream = publisher.open(1, first_object=False)
    stream.write(2)
    world.kernel.loses = lambda *_: False
    stream.write(3)
    reader = world.client()
    fetch_id = reader.fetch((1, 0), 1, 4)
    publisher.serve_fetch([(g, o, content(g, o)) for g, o in ((1, 0), (1, 1), (1, 2), (1, 3))])
    assert [o[:2] for o in reader.fetched(fetch_id).objects][:4] == [
        (1, 0), (1, 1), (1, 2), (1, 3),
    ]  # fmt: skip
    world.kernel.report_losses()
    world.run()
    stream.write(4)
    stream.close()
    assert client.ids == [(0, 0), (1, 2), (1, 3), (1, 4), (1, 5)]
    world.assert_empty()


class Takeover:
    """A second publisher sends a subgroup of which the kernel has sent more than user space has."""

    def __init__(self, world: FastWorld, viewers: int = 1) -> None:
        self.world = world
        self.publisher, self.clients = world.live(viewers)
        self.first = self.publisher.open(0)
        self.first.write(0)
        raw = self.first.encode(1)
        self.first.raw(raw[:1])  # not a whole header: user space does not see it yet
        self.rest = raw[1:]
        self.second = world.publisher()
        self.second.announce(b"live")
        self.second.accept()
        self.other = self.second.open(0)
        for number in range(3):
            self.other.write(number)

    def assert_merged(self, *clients: Client) -> None:
        """The subgroup was taken over before the first publisher had brought all of it: who was
        ahead does not get it."""
        for client in clients or self.clients:
            assert client.objects == expect((0, 0))
            assert [stream.reset is not None for stream in client.streams.values()] == [True]
        assert self.world.observer.drops == [("merged", "stream")] * len(clients or self.clients)


@pytest.mark.parametrize("kernel", [False, True])
def test_a_second_publisher_when_the_kernel_is_ahead(kernel: bool) -> None:
    world = FastWorld()
    world.kernel.enabled = kernel
    scene = Takeover(world, 2)
    scene.other.close()
    for client in scene.clients:
        assert client.objects[:1] == expect((0, 0))
    scene.first.raw(scene.rest)
    scene.first.write(2)
    scene.first.close()
    for client in scene.clients:
        assert client.objects == expect((0, 0), (0, 1), (0, 2))
        assert len(client.streams) == 1
        assert whole(client)
    assert world.observer.drops == []
    world.assert_empty()


def test_a_second_publisher_goes_on_where_the_first_ends() -> None:
    world = FastWorld()
    scene = Takeover(world)
    scene.first.raw(scene.rest)
    scene.publisher.leave()
    scene.other.write(3)
    scene.other.close()
    (client,) = scene.clients
    assert client.objects == expect((0, 0), (0, 1), (0, 2), (0, 3))
    assert whole(client)
    world.assert_empty()


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("way", ["resets", "leaves"])
def test_a_second_publisher_that_gives_up_while_it_waits(way: str, kernel: bool) -> None:
    world = FastWorld()
    world.kernel.enabled = kernel
    scene = Takeover(world)
    if way == "resets":
        scene.other.reset()
    else:
        scene.second.leave()
    scene.first.raw(scene.rest)
    scene.first.write(2)
    scene.first.write(3)
    scene.first.close()
    (client,) = scene.clients
    assert client.objects == expect((0, 0), (0, 1), (0, 2), (0, 3))
    assert whole(client)
    world.assert_empty()


def test_two_further_publishers_wait_for_the_first() -> None:
    world = FastWorld()
    scene = Takeover(world)
    third = world.publisher()
    third.announce(b"live")
    third.accept()
    stream = third.open(0, None)  # its subgroup is known with the first object
    stream.write(0)
    stream.write(1)
    scene.first.raw(scene.rest)
    stream.close()
    scene.other.close()
    scene.first.write(2)
    scene.first.close()
    (client,) = scene.clients
    assert client.objects == expect((0, 0), (0, 1), (0, 2))
    assert whole(client)
    world.assert_empty()


def test_a_member_misses_what_user_space_has_not_when_a_second_publisher_comes() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    stream = publisher.open(0)
    stream.write(0)
    one, two = stream.encode(1), stream.encode(2)
    link = publisher.relay_end.link  # type: ignore[attr-defined]
    # The kernel has both packets before user space has one; the second has the stream's end.
    for data, fin, outcome in ((one, False, Outcome.FAILED), (two, True, Outcome.SENT)):
        world.kernel.outcome = lambda *_, outcome=outcome: outcome
        world.kernel.packet(link, "stream_data", (stream.stream_id, data, fin))
    world.tick()
    second = world.publisher()
    second.announce(b"live")
    second.accept()
    other = second.open(0)
    for number in range(3):
        other.write(number)
    publisher.relay_session.stream_data(stream.stream_id, one, False)
    publisher.relay_session.stream_data(stream.stream_id, two, True)
    world.run()
    other.close()
    assert client.objects == expect((0, 0), (0, 1), (0, 2))
    assert whole(client)
    assert world.observer.drops == []
    world.assert_empty()


@pytest.mark.parametrize("way", ["leaves", "is silent"])
def test_the_first_publisher_is_gone_and_members_are_ahead(way: str) -> None:
    world = FastWorld()
    scene = Takeover(world)
    late = world.client()
    late.subscribe()
    if way == "leaves":
        scene.publisher.leave()
    else:
        world.wait(takeover.PATIENCE - 0.01)
        assert world.observer.drops == []
        world.wait(0.02)
    scene.assert_merged()
    scene.other.write(3)
    scene.other.close()
    assert late.objects == expect((0, 0), (0, 1), (0, 2), (0, 3))
    scene.second.group(1, 1)
    assert scene.clients[0].ids == [(0, 0), (1, 0)]
    if way == "is silent":
        scene.publisher.leave()
    world.assert_empty()


@pytest.mark.parametrize("way", ["loss", "slow", "never begun"])
def test_a_stream_that_outgrows_every_memory(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subgroup, "KEPT_FOR_LOSSES", 1000)
    world = FastWorld(RelayOptions(cache=CacheOptions(bytes=5000)))
    publisher, (client, other) = world.live(2)
    index = client.relay_end.link.index  # type: ignore[attr-defined]
    if way == "loss":
        world.kernel.loses = lambda member, *_: member.link.index == index
    stream = publisher.open(0)
    stream.write(0, bytes(200))
    if way == "loss":
        world.kernel.loses = lambda *_: False
    elif way == "slow":
        world.kernel.late = True
    for number in range(1, 40):
        stream.write(number, bytes(500))
    if way == "loss":
        world.kernel.report_losses()
    elif way == "slow":
        world.kernel.claim()
    world.tick()
    assert ("congestion", "stream") in world.observer.drops or way == "never begun"
    stream.close()
    world.kernel.late = False
    publisher.group(1, 1)
    assert other.ids[-1] == client.ids[-1] == (1, 0)
    world.assert_empty()


def test_a_stream_without_objects() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    publisher.open(0, None).close()
    publisher.open(1, None).reset()
    assert client.objects == []
    publisher.group(2, 1)
    assert client.objects == expect((2, 0))
    world.assert_empty()


def test_who_left_before_the_stream_was_read() -> None:
    """The kernel began it for members that user space has taken out meanwhile."""
    world = FastWorld(RelayOptions(high_water_bytes=100))
    publisher, (gone, off, back, lost) = world.live(4)
    for group in range(2):
        publisher.group(group, 1)
    (request_id,) = world.relay._peers[off.relay_session].handles
    stream = publisher.open(2, None)
    raw = stream.encode(0)
    world.clients.remove(publisher)
    publisher.session.send(stream.stream_id, raw)
    link = publisher.relay_end.link  # type: ignore[attr-defined]
    batch = list(publisher.end.queue)
    publisher.end.queue.clear()
    for method, values in batch:
        world.kernel.packet(link, method, values)
    (other,) = world.relay._peers[gone.relay_session].handles
    gone.session.cancel(other)
    off.update(request_id, forward=False)
    seat_of(world, back).withdraw()
    lost.leave()
    world.tick()
    for method, values in batch:
        getattr(publisher.relay_session, method)(*values)
    world.clients.append(publisher)
    world.run()
    stream.close()
    assert back.ids == [(0, 0), (1, 0), (2, 0)]
    assert gone.ids[:2] == off.ids[:2] == [(0, 0), (1, 0)]
    assert not any(s.fin for s in (*gone.streams.values(), *off.streams.values()) if s.header
                   and s.header.group_id == 2)  # fmt: skip
    world.assert_empty()


def test_the_kernel_goes_in_the_middle_of_everything() -> None:
    world = FastWorld()
    publisher, clients = world.live(2)
    stream = publisher.open(0)
    stream.write(0)
    world.kernel.late = True
    stream.write(1)
    world.relay.end_forwarding()
    world.run()
    world.kernel.enabled = False
    stream.write(2)
    stream.close()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1), (0, 2))
        assert seat_of(world, client).reason == "the fast path is not configured"
    world.relay.end_forwarding()
    world.assert_empty()


def test_packets_of_the_kernel_are_counted_for_a_session() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()

    def counted() -> tuple[int, list[int]]:
        session = world.relay.status()["sessions"][1]
        return session["kernel_packets"], [s["kernel_packets"] for s in session["subscriptions"]]

    publisher.group(0, 1)
    assert counted() == (3, [3])  # head, object, end
    world.kernel.outcome = refuse_at(Outcome.NO_WINDOW, 0)
    publisher.group(1, 1)  # it leaves the kernel for a while
    assert counted() == (3, [3])
    world.kernel.outcome = lambda *_: Outcome.SENT
    world.wait(1)
    world.tick()
    publisher.group(2, 1)
    assert counted() == (6, [6])
    (request_id,) = world.relay._peers[client.relay_session].handles
    client.session.cancel(request_id)
    world.run()
    assert counted() == (6, [])
    client.subscribe()
    world.tick()
    publisher.group(3, 1)
    assert counted() == (9, [3])
    world.assert_empty()


def test_a_limit_of_members() -> None:
    world = FastWorld(RelayOptions(kernel_members=1))
    publisher, clients = world.live(2)
    publisher.group(0, 1)
    assert sorted(kernel_streams(client) for client in clients) == [0, 1]
    world.assert_empty()


def test_no_room_for_another_track() -> None:
    world = FastWorld()
    world.kernel.room = 0
    publisher, (client,) = world.live()
    assert seat_of(world, client).reason == "the kernel has no room for another track"
    publisher.group(0, 1)
    world.kernel.room = 2
    world.wait(1.5)
    world.tick()
    publisher.group(1, 1)
    assert kernel_streams(client) == 1
    assert client.ids == [(0, 0), (1, 0)]
    world.assert_empty()


def test_what_is_told_of_it() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    publisher.group(0, 1)
    world.shared = False
    world.client().subscribe()
    status = world.relay.status()
    assert [session["fast_path"] for session in status["sessions"]] == [
        "", "", "the kernel does not forward",
    ]  # fmt: skip
    (told,) = status["sessions"][1]["subscriptions"]
    assert (told["fast_path"], told["kernel_streams"], told["streams"]) == ("", 1, 1)
    assert told["kernel_packets"] == 3
    assert status["tracks"][0]["fast_path"] == ""
    assert client.ids
    world.assert_empty()
