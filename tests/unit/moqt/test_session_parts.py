"""Small parts of the session on their own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.deadlines import Deadlines
from fastrelay.moqt.drafts import DRAFT_22
from fastrelay.moqt.events import FetchOpened
from fastrelay.moqt.fetches import encode_fetch_header
from fastrelay.moqt.messages import Parameters
from fastrelay.moqt.names import FullTrackName
from fastrelay.moqt.requester import MAX_FILLS
from fastrelay.moqt.requests import MAX_GAPS, TrackAliases, UsedIds
from unit.moqt.wires import Peer


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1), st.lists(st.integers(0, 40), max_size=80))
def test_used_ids_are_a_set(first: int, numbers: list[int]) -> None:
    used, model = UsedIds(first), set()
    for number in numbers:
        request_id = first + 2 * number
        assert (request_id in used) is (request_id in model)
        assert used.add(request_id) is (request_id not in model)
        model.add(request_id)
        assert used.next == max(model) + 2
    for number in range(45):
        assert (first + 2 * number in used) is (first + 2 * number in model)


def test_used_ids_are_bounded() -> None:
    used = UsedIds(0)
    for number in range(2 * MAX_GAPS):
        assert used.add(4 * number + 2)
    assert len(used._starts) == len(used._ends) == MAX_GAPS
    # The oldest holes count as used, the newest do not.
    assert not used.add(0)
    assert not used.add(4 * (MAX_GAPS - 2))
    assert used.add(8 * MAX_GAPS - 4)
    assert 8 * MAX_GAPS - 8 not in used


def test_an_alias_is_held_by_each_subscription_to_its_track() -> None:
    one, two = FullTrackName((b"a",), b"1"), FullTrackName((b"a",), b"2")
    aliases = TrackAliases()
    assert aliases.hold(7, one, 0)
    assert aliases.hold(7, one, 2)
    assert not aliases.hold(7, two, 4)
    aliases.release(7, 0)
    assert aliases.track(7) == one
    aliases.release(7, 2)
    assert aliases.track(7) is None
    assert aliases.hold(7, two, 4)


def test_deadlines_begin_when_they_are_first_seen() -> None:
    deadlines = Deadlines()
    deadlines.start("a", 5, SessionError.GOAWAY_TIMEOUT, "")
    deadlines.start("a", 1, SessionError.NO_ERROR, "")
    deadlines.start("b", 2, SessionError.NO_ERROR, "")
    assert deadlines.expired(1000) is None
    deadlines.stop("b")
    deadlines.stop("never")
    assert deadlines.expired(1004.9) is None
    deadline = deadlines.expired(1005)
    assert deadline is not None
    assert deadline.code is SessionError.GOAWAY_TIMEOUT


def test_expected_fills_are_bounded() -> None:
    peer = Peer(DRAFT_22, client=True)
    request_id = peer.session.subscribe(FullTrackName((b"a",), b"1"))
    for _ in range(MAX_FILLS + 1):
        last = peer.session.update(request_id, Parameters(fill=Parameters()))
    peer.data(encode_fetch_header(last, DRAFT_22))
    assert isinstance(peer.last, FetchOpened)
    # The oldest is forgotten: its stream is only dropped.
    stream_id = peer.data(encode_fetch_header(request_id + 2, DRAFT_22))
    assert stream_id in peer.wire.stopped
    assert stream_id not in peer.session._context.uni
    assert not peer.session.is_closed
