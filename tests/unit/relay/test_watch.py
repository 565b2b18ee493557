"""Members for which something waits are looked at, limited while that helps, then left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastrelay.relay.options import RelayOptions
from fastrelay.relay.peer import Peer
from fastrelay.relay.watch import CAREFUL_SECONDS
from unit.relay.harness import LOW_WATER, STILL, TRACK, Client, Publisher, World

MEASURED = replace(
    STILL, min_rtt=0.02, smoothed_rtt=0.02, latest_rtt=0.02, congestion_window=48_000
)
STEP = 0.1
BASE, HIGH = 64, 224
"""Priorities."""
SIZES = {BASE: 8_000, HIGH: 24_000}
"""Bytes of a group, of which there is one in a step."""
NARROW = 12_000
"""Bytes that go in a step."""


class Path:
    """A client's: it takes so much in each step, and says how much that was."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.room: int | None = None
        self.delivered = 0
        self.peer: Peer = world.relay._peers[client.relay_session]
        self.peer.measure = lambda: replace(MEASURED, delivered=self.delivered)

    def run(self, publisher: Publisher, first: int, steps: int) -> None:
        end = self.client.relay_end
        for group in range(first, first + steps):
            before = sum(len(stream.body) for stream in self.client.streams.values())
            end.room = None if self.room is None else min(end.room or 0, 0) + self.room
            for priority, size in SIZES.items():
                stream = publisher.open(2 * group + (priority == HIGH), priority=priority)
                stream.write(0, bytes(size))
                stream.close()
            end.release()
            self.client.relay_session.writable()
            self.world.wait(STEP)
            after = sum(len(stream.body) for stream in self.client.streams.values())
            self.delivered += after - before


def playing(*, follows: bool = True) -> tuple[Publisher, Path]:
    world = World(RelayOptions(limit_by_path=follows))
    publisher, client = world.publisher(), world.client()
    publisher.announce(b"live")
    client.session.subscribe(TRACK)
    world.run()
    publisher.accept()
    return publisher, Path(world, client)


def whole(client: Client, kind: Callable[[int], bool]) -> set[int]:
    """Groups that came."""
    return {group // 2 for group, _, _ in client.objects if kind(group)}


def test_a_member_on_a_narrow_path_is_limited_until_it_is_wide_again() -> None:
    publisher, path = playing()
    peer, client = path.peer, path.client
    path.run(publisher, 0, 20)
    assert peer.limiter.why == ""
    high_water = peer.high_water
    path.room = NARROW
    path.run(publisher, 20, 60)
    assert peer.limiter.why == "path"
    assert peer.bands.level > 0
    assert peer.bands.reserve(0) == 0 < peer.bands.reserve(3)
    assert peer.ahead[3] < peer.ahead[0] == peer.high_water < high_water
    assert client.relay_end.low_water < LOW_WATER
    path.run(publisher, 80, 60)
    came = whole(client, lambda group: group % 2 == 0)
    assert came >= set(range(80, 135))
    assert len(whole(client, lambda group: group % 2 == 1) & set(range(80, 140))) < 40
    path.room = None
    path.run(publisher, 140, 150)
    assert peer.limiter.why == ""
    assert (peer.bands.rate, peer.bands.level, peer.bands.reserve(3)) == (0, 0, 0)
    assert peer.high_water < high_water, "the path may become narrow again"
    path.world.wait(CAREFUL_SECONDS + 1)
    assert peer.high_water == high_water
    assert set(peer.ahead) == {high_water}
    assert client.relay_end.low_water == high_water // 4


def test_who_fetches_is_not_limited_for_that() -> None:
    publisher, path = playing()
    path.run(publisher, 0, 20)
    path.peer.fetches = 1
    path.room = NARROW
    path.run(publisher, 20, 60)
    assert path.peer.limiter.why == ""
    path.peer.fetches = 0


def test_unless_it_was_asked_for_nothing_is_dropped_but_the_order_is_kept() -> None:
    publisher, path = playing(follows=False)
    peer, client = path.peer, path.client
    path.run(publisher, 0, 20)
    high_water = peer.high_water
    path.room = NARROW
    path.run(publisher, 20, 60)
    assert peer.limiter.why == ""
    assert not peer.bands.limited
    assert peer.high_water < high_water
    came = whole(client, lambda group: group % 2 == 0)
    assert came >= set(range(20, 79))
    assert (
        len(whole(client, lambda group: group % 2 == 1))
        <= 20 + 60 * (NARROW - SIZES[BASE]) / (SIZES[HIGH])
    )
    path.room = None
    path.run(publisher, 80, 2)
    assert whole(client, lambda group: True) == set(range(82))
    path.world.wait(CAREFUL_SECONDS + 1)
    assert peer.high_water == high_water


def test_a_transport_without_measurements_is_left_alone() -> None:
    publisher, path = playing()
    path.peer.measure = None
    path.room = NARROW
    path.run(publisher, 0, 60)
    assert path.peer.limiter.why == ""
