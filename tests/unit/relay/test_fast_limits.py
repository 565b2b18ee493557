"""The kernel and limits of the relay's own."""

from __future__ import annotations

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.limits import SessionLimits
from fastrelay.relay.options import RelayOptions
from unit.relay.fake_kernel import FastWorld
from unit.relay.harness import TRACK, expect


def test_a_stream_that_the_session_has_no_place_for_is_taken_back() -> None:
    world = FastWorld()
    world.session_limits = SessionLimits(data_streams=3)
    publisher, clients = world.live(2)
    # One is the control stream.
    kept = [publisher.open(group) for group in range(2)]
    refused = publisher.open(2)
    for stream in (*kept, refused):
        stream.write(0)
    world.run()
    for _ in range(2):
        world.tick()
    assert len(world.kernel.loans) == 2, "the third one's place in the kernel is free again"
    for client in clients:
        by_group = {s.header.group_id: s for s in client.streams.values() if s.header}
        assert by_group[2].reset == StreamError.CANCELLED
        assert client.objects[:2] == expect((0, 0), (1, 0))
    for stream in kept:
        stream.close()
    publisher.group(3, 2)
    world.tick()
    for client in clients:
        assert client.objects[-2:] == expect((3, 0), (3, 1))
    assert not world.kernel.loans
    world.assert_empty()


def test_more_subscribers_than_the_kernel_may_serve() -> None:
    world = FastWorld(RelayOptions(kernel_members=2))
    publisher, clients = world.live(3)
    seats = [world.relay._peers[c.relay_session].subscriptions[TRACK].seat for c in clients]
    full = "the kernel serves 2 subscribers of a track at most"
    assert sorted(seat.reason for seat in seats) == ["", "", full]
    publisher.group(0, 2)
    world.tick()
    left = next(i for i, seat in enumerate(seats) if not seat.reason)
    clients.pop(left).leave()
    del seats[left]
    world.wait(2)
    assert [seat.reason for seat in seats] == ["", ""], "it takes the place of who left"
    publisher.group(1, 2)
    world.tick()
    for client in clients:
        assert client.objects == expect((0, 0), (0, 1), (1, 0), (1, 1))
    world.assert_empty()
