"""User space sends by the bands' rule: whole streams, whole groups."""

from __future__ import annotations

import pytest

from fastrelay.fastpath.bands import MAX_LEVEL, REMEMBERED, SECOND, Bands, Shares, group_hash
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS
from fastrelay.moqt.codes import StreamError
from fastrelay.relay.options import RelayOptions
from unit.relay.harness import TRACK, Client, Publisher, World

LAST = 255


def of(world: World, client: Client) -> Bands:
    return world.relay.bands_of(client.relay_session)


def live(options: RelayOptions | None = None) -> tuple[World, Publisher, Client]:
    world = World(options)
    publisher, client = world.publisher(), world.client()
    publisher.announce(b"live")
    client.session.subscribe(TRACK)
    world.run()
    publisher.accept()
    return world, publisher, client


def test_without_limits_nothing_is_dropped_and_bytes_are_counted() -> None:
    world, publisher, client = live()
    for group, priority in enumerate((0, 100, 128, LAST)):
        publisher.group(group, 2, priority=priority)
    assert len(client.ids) == 8
    assert not world.observer.drops
    bands = of(world, client)
    assert all(bands.bytes(band) and not bands.dropped(band) for band in range(BANDS))


def test_a_band_is_dropped_stream_by_stream_and_the_subscriber_is_told() -> None:
    world, publisher, client = live()
    of(world, client).set_level(BAND_LEVELS)
    publisher.group(0, 2, priority=LAST)
    publisher.group(1, 2, priority=128)
    world.wait(0.1)
    assert client.ids == [(1, 0), (1, 1)]
    said, sent = client.streams.values()
    assert said.header is not None
    assert (said.header.group_id, said.reset, said.objects) == (0, StreamError.EXCESSIVE_LOAD, [])
    assert sent.fin
    assert world.observer.drops == [("priority", "stream")]
    assert of(world, client).dropped(3) == 1


def test_what_is_under_way_goes_on_and_what_is_dropped_stays_so() -> None:
    world, publisher, client = live()
    going = publisher.open(0, priority=LAST)
    going.write(0)
    of(world, client).set_level(MAX_LEVEL)
    dropped = publisher.open(1, priority=LAST)
    dropped.write(0)
    going.write(1)
    of(world, client).set_level(0)
    dropped.write(1)
    going.close()
    dropped.close()
    world.wait(0.1)
    assert client.ids == [(0, 0), (0, 1)]


def test_half_of_a_band_goes_by_group() -> None:
    """All streams of a group that has gone are gone, and its datagrams."""
    world, publisher, client = live()
    of(world, client).set_level(BAND_LEVELS // 2)
    for group in range(20):
        for subgroup in (0, 1):
            stream = publisher.open(group, subgroup, priority=LAST)
            stream.write(2 * subgroup)
            stream.close()
        publisher.datagram(group, 9, priority=LAST)
    wanted = [group for group in range(20) if group_hash(group) < BAND_LEVELS // 2]
    assert 8 <= len(wanted) <= 12
    assert client.ids == [(group, each) for group in wanted for each in (0, 2, 9)]
    drops = [what for _, what in world.observer.drops]
    assert drops.count("stream") == 2 * drops.count("datagram") == 2 * (20 - len(wanted))


def by_hand(world: World, client: Client, level: int) -> None:
    (peer,) = (each for each in world.relay.peers if each.session is client.relay_session)
    peer.limiter.set_by_hand(rate=None, level=level)


def test_a_group_of_datagrams_goes_on_as_it_began() -> None:
    world, publisher, client = live()
    by_hand(world, client, BAND_LEVELS // 2)
    gone, sent, later = (
        next(group for group in range(start, 99) if (group_hash(group) >= BAND_LEVELS // 2) == high)
        for start, high in ((0, True), (0, False), (1, False))
    )
    for group in (gone, sent):
        publisher.datagram(group, 0, priority=LAST)
    by_hand(world, client, MAX_LEVEL)
    for group in (gone, sent, later):
        publisher.datagram(group, 1, priority=LAST)
    by_hand(world, client, 0)
    for group in (gone, sent, later):
        publisher.datagram(group, 2, priority=LAST)
    assert client.ids == [(sent, 0), (sent, 1), (sent, 2)]
    assert of(world, client).limited
    world.wait(REMEMBERED / SECOND + 1.5)
    publisher.datagram(later, 3, priority=LAST)
    assert client.ids[-1] == (later, 3)
    assert not of(world, client).limited


def test_the_subscribers_priority_counts() -> None:
    world, publisher, client = live()
    (request_id,) = (s.request_id for s in world.relay.tracks[TRACK].subscriptions)
    of(world, client).set_level(BAND_LEVELS)
    client.update(request_id, subscriber_priority=0)
    publisher.group(0, 1, priority=LAST)
    client.update(request_id, subscriber_priority=255)
    publisher.group(1, 1, priority=128)
    assert client.ids == [(0, 0)]


def test_a_rate_is_shared_out() -> None:
    """Each band offers twice the rate for ten seconds: the first gets the most, by far."""
    options = RelayOptions(shares=Shares(burst=100_000_000), peer_rate=20_000)
    world, publisher, client = live(options)
    for group in range(400):
        world.clock.now += 0.025
        for priority in (LAST, 150, 100, 0):
            publisher.datagram(group, priority, bytes(1000), priority=priority)
    got = [sum(each == priority for _, each in client.ids) for priority in (0, 100, 150, LAST)]
    assert sum(got) * 1000 < 20_000 * 11
    shares = [40, 100, 40, 20]
    for band, share in enumerate(shares):
        assert got[band] >= 0.8 * share, got
    bands = of(world, client)
    assert [bands.dropped(band) for band in range(BANDS)] == [400 - n for n in got]


@pytest.mark.parametrize("priority", [0, 100, 150, LAST])
def test_who_is_alone_has_all_of_the_rate(priority: int) -> None:
    options = RelayOptions(shares=Shares(burst=500_000_000), peer_rate=20_000)
    world, publisher, client = live(options)
    for group in range(400):
        world.clock.now += 0.05
        publisher.datagram(group, 0, bytes(900), priority=priority)
    assert len(client.ids) == 400


def test_what_sessions_have_counted_stays() -> None:
    world, publisher, client = live()
    of(world, client).set_level(BAND_LEVELS)
    publisher.group(0, 1, priority=LAST)
    publisher.group(1, 1, priority=0)
    sent = of(world, client).bytes(0)
    client.leave()
    assert world.relay.bands.bytes[0] == sent > 0
    assert world.relay.bands.dropped == (0, 0, 0, 1)
