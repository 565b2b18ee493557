"""Delivery timeouts of subgroups: when they are looked after, also of what the kernel sent."""

from __future__ import annotations

from typing import Any

import pytest

from fastrelay.fastpath.layout import Outcome
from fastrelay.moqt.codes import StreamError
from fastrelay.relay.lateness import LOOK_SECONDS, give_time
from fastrelay.relay.options import RelayOptions
from fastrelay.relay.timers import Timers
from unit.relay.fake_kernel import FakeMember, FastEnd, FastWorld
from unit.relay.harness import TRACK, Client, Clock, content, expect

LATE = [("delivery-timeout", "stream")]
TIMEOUT = {"subgroup_delivery_timeout": 1000}


def losing(*clients: Client) -> Any:
    """The network loses the first packet of each stream to these."""
    ends = [client.relay_end for client in clients]

    def loses(member: FakeMember, _stream: int, offset: int) -> bool:
        return member.link.end in ends and not offset

    return loses


def started() -> tuple[FastWorld, Any, Client, Client]:
    """A member with a timeout of a second, and one without."""
    world = FastWorld()
    publisher, (timed,) = world.live(**TIMEOUT)
    other = world.client()
    other.subscribe()
    world.tick()
    return world, publisher, timed, other


def reset_of(client: Client) -> list[int | None]:
    return [stream.reset for stream in client.streams.values() if not stream.fin]


# The helper


@pytest.mark.parametrize("seconds", [0.5, LOOK_SECONDS, 3.5 * LOOK_SECONDS])
def test_what_has_arrived_is_forgotten_and_the_rest_expires_once(seconds: float) -> None:
    clock = Clock()
    timers = Timers(clock, lambda _: None)
    waits, asked, expired = {"a", "b"}, [], []
    begin = clock.now

    def is_under_way(part: str) -> bool:
        asked.append((clock.now - begin, part))
        return part in waits

    give_time(timers, seconds, ["a", "b", "c"], is_under_way, expired.append)
    waits.discard("b")
    while timers.expire(clock.now) is not None:
        assert expired == []
        clock.now += 0.25
    assert expired == ["a"]
    assert seconds <= clock.now - begin <= seconds + 0.25
    assert sum(part == "c" for _, part in asked) == 1
    assert max(pause for pause, _ in asked) <= seconds + 0.25


def test_a_long_timeout_keeps_nothing_of_what_has_arrived() -> None:
    clock = Clock()
    timers = Timers(clock, lambda _: None)
    give_time(timers, 1e15, ["a"], lambda _: False, pytest.fail)
    clock.now += LOOK_SECONDS
    assert timers.expire(clock.now) is None


# The kernel


def test_what_the_kernel_sent_and_did_not_arrive_in_time_is_reset() -> None:
    world, publisher, timed, other = started()
    world.kernel.loses = losing(timed, other)
    publisher.group(0, 3)
    world.kernel.loses = lambda *_: False
    world.wait(0.9)
    assert reset_of(timed) == []
    world.wait(0.2)
    assert world.observer.drops == LATE
    (leg,) = timed.relay_end.given_up  # type: ignore[attr-defined]
    world.kernel.report_losses()
    world.run()
    assert timed.objects == []
    assert other.objects == expect((0, 0), (0, 1), (0, 2))
    publisher.group(1, 2)
    world.wait(2)
    assert timed.objects == expect((1, 0), (1, 1))
    assert isinstance(timed.relay_end, FastEnd)
    assert timed.relay_end.user_bytes == 0
    assert list(timed.relay_end.arriving).index(leg) == 0
    assert world.observer.drops == LATE
    world.assert_empty()


def test_what_arrives_in_time_is_left_alone() -> None:
    world, publisher, timed, other = started()
    publisher.group(0, 3)
    world.kernel.loses = losing(timed)
    publisher.group(1, 3)
    world.kernel.report_losses()
    world.wait(3)
    assert timed.objects == other.objects == expect(*((g, o) for g in range(2) for o in range(3)))
    assert world.observer.drops == []
    assert not timed.relay_end.given_up  # type: ignore[attr-defined]
    world.assert_empty()


def test_a_stream_that_does_not_end_has_time() -> None:
    world, publisher, timed, _ = started()
    world.kernel.loses = losing(timed)
    stream = publisher.open(0)
    stream.write(0)
    world.wait(3)
    assert world.observer.drops == []
    world.kernel.report_losses()
    stream.close()
    world.wait(3)
    assert timed.objects == expect((0, 0))
    assert world.observer.drops == []
    world.assert_empty()


def test_copies_that_the_kernel_has_not_sent_by_then_are_never_sent() -> None:
    world, publisher, timed, other = started()
    world.kernel.late = True
    publisher.group(0, 2)
    world.wait(1.5)
    assert world.observer.drops == LATE
    world.kernel.run_clones()
    world.tick()
    assert timed.objects == []
    assert other.objects == expect((0, 0), (0, 1))
    world.assert_empty()


def test_a_stream_that_user_space_goes_on_with() -> None:
    """The beginning was the kernel's, and is lost; the rest was sent by user space, and arrived."""
    world, publisher, timed, other = started()
    world.kernel.loses = losing(timed)
    stream = publisher.open(0)
    stream.write(0)
    timed.relay_end.link.reason = "the cipher is another one"  # type: ignore[attr-defined]
    world.wait(1)
    stream.write(1)
    stream.close()
    assert isinstance(timed.relay_end, FastEnd)
    assert timed.relay_end.user_bytes > 0
    world.wait(0.9)
    assert world.observer.drops == []
    world.wait(0.2)
    assert world.observer.drops == LATE
    assert len(timed.relay_end.given_up) == 1
    assert timed.objects == []
    assert other.objects == expect((0, 0), (0, 1))
    world.kernel.report_losses()
    world.assert_empty()


def test_what_waits_in_the_relay_or_its_transport() -> None:
    """The kernel has no window left: a cursor goes on, and its lane or its transport gives up."""
    world = FastWorld(RelayOptions(high_water_bytes=1000))
    publisher, (timed,) = world.live(**TIMEOUT)
    streams = [publisher.open(group) for group in range(2)]
    for stream in streams:
        stream.write(0)
    world.kernel.outcome = lambda *_: Outcome.NO_WINDOW
    timed.stall()
    for stream in streams:
        stream.write(1, bytes(1500))
        stream.close()
    world.wait(3)
    assert sorted(world.observer.drops) == 2 * LATE
    timed.resume()
    assert reset_of(timed) == [StreamError.DELIVERY_TIMEOUT] * 2
    assert [o[:2] for o in timed.objects] == [(0, 0), (1, 0)]
    world.kernel.outcome = lambda *_: Outcome.SENT
    world.wait(1)
    publisher.group(2, 1)
    assert timed.objects[-1] == (2, 0, content(2, 0))
    world.assert_empty()


def test_a_timeout_that_is_set_later_counts_for_what_begins_then() -> None:
    world = FastWorld()
    publisher, (client,) = world.live()
    (request_id,) = (s.request_id for s in world.relay.tracks[TRACK].subscriptions)
    publisher.group(0, 1)
    client.update(request_id, subgroup_delivery_timeout=1000)
    world.tick()
    world.kernel.loses = losing(client)
    publisher.group(1, 1)
    world.wait(2)
    assert world.observer.drops == LATE
    assert client.objects == expect((0, 0))
    world.assert_empty()


def test_a_session_that_goes_meanwhile() -> None:
    world, publisher, timed, _ = started()
    world.kernel.loses = losing(timed)
    publisher.group(0, 3)
    timed.leave()
    world.wait(3)
    assert world.observer.drops == []
    world.assert_empty()
