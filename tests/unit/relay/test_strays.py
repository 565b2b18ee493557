"""What comes too late: for requests, streams and sessions that are over. It changes nothing."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt import messages as ms
from fastrelay.moqt.messages import Parameters
from fastrelay.relay.ports import Sharing
from unit.relay.harness import World, expect

GONE = 4000
"""An id that nothing has (any more)."""
HEADER = ev.SubgroupHeader(GONE, 0, 0, 128, False, False, True)


@pytest.mark.parametrize(
    "event",
    [
        ev.SubgroupRefused(GONE, HEADER),
        ev.SubgroupData(GONE, b"data"),
        ev.FetchData(GONE, b"data"),
        ev.DataStreamReset(GONE, 1),
        ev.DataStreamStopped(GONE, 1),
        ev.TrackMalformed(GONE, "a test says so"),
        ev.TrackMalformed(None, "a test says so", GONE),
        ev.RequestUpdated(GONE, GONE + 2, Parameters()),
        ev.RequestCancelled(GONE),
        ev.AnswerReceived(ms.RequestOk(GONE)),
        ev.UpdateAnswered(GONE, GONE + 2, ms.RequestOk(GONE + 2)),
        ev.NotificationReceived(GONE, ms.PublishDone(GONE, 0, 0, "")),
        ev.RequestEnded(GONE, 0),
        ev.GoAwayReceived(ms.GoAway(), GONE),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_for_something_that_is_over(event: ev.Event) -> None:
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    for client in (publisher, viewer):
        world.relay.on_event(client.relay_session, event)
    world.run()
    assert publisher.closed is None
    assert viewer.closed is None
    publisher.group(0, 2)
    assert viewer.objects == expect((0, 0), (0, 1))
    assert viewer.notifications(ms.PublishDone) == []
    assert not any(peer.going_away for peer in world.relay.peers)
    world.assert_empty()


def test_a_session_that_is_gone() -> None:
    world = World()
    client = world.client()
    session = client.relay_session
    client.leave()
    assert world.relay.idle
    world.relay.writable(session)
    world.relay.share(session, Sharing(None, None))  # type: ignore[arg-type]
    world.relay.session_closed(session)
    world.relay.on_event(session, ev.RequestReceived(ms.TrackStatus(0, ms.FullTrackName((), b""))))
    world.run()
    assert world.relay.idle
    world.assert_empty()


def test_a_transport_that_takes_bytes_again() -> None:
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    viewer = world.client()
    viewer.subscribe()
    publisher.accept()
    viewer.stall()
    publisher.open(0).write(0, bytes(1 << 20))
    publisher.open(1).write(0, bytes(10))
    viewer.relay_end.room = None
    viewer.relay_end.release()
    world.relay.writable(viewer.relay_session)
    world.run()
    assert viewer.ids == [(0, 0), (1, 0)]
    world.assert_empty()
