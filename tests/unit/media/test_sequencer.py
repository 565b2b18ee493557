"""Groups in order again, without waiting longer than is good."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.media.sequencer import GroupSequencer


def test_what_arrives_in_order_passes_at_once() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer()
    assert sequencer.push(5, 0, 0, "5/0", 0.0) == ["5/0"]
    assert sequencer.push(5, 0, 1, "5/1", 0.1) == ["5/1"]
    assert sequencer.end(5, 0, 0.2) == []
    assert sequencer.push(6, 0, 0, "6/0", 0.2) == ["6/0"]


def test_a_group_that_overtakes_waits_for_the_end_of_the_one_before() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer()
    sequencer.push(5, 0, 0, "5/0", 0.0)
    assert sequencer.push(6, 0, 0, "6/0", 0.1) == []
    assert sequencer.push(5, 0, 1, "5/1", 0.2) == ["5/1"]
    assert sequencer.push(6, 0, 1, "6/1", 0.2) == []
    assert sequencer.end(5, 0, 0.3) == ["6/0", "6/1"]
    assert sequencer.push(6, 0, 2, "6/2", 0.3) == ["6/2"]


def test_a_whole_group_may_overtake() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer()
    sequencer.push(5, 0, 0, "5", 0.0)
    sequencer.push(7, 0, 0, "7", 0.1)
    sequencer.end(7, 0, 0.1)
    assert sequencer.end(5, 0, 0.2) == []
    assert sequencer.push(6, 0, 0, "6", 0.3) == ["6"]
    assert sequencer.end(6, 0, 0.4) == ["7"]


def test_patience_ends() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer(patience=1.0)
    sequencer.push(5, 0, 0, "5/0", 0.0)
    sequencer.push(6, 0, 0, "6/0", 0.5)
    assert sequencer.advance(1.4) == []
    assert sequencer.advance(1.5) == ["6/0"]
    assert sequencer.push(5, 0, 1, "5/1", 1.6) == []
    assert sequencer.late == 1


def test_a_missing_group_is_waited_for_and_then_skipped() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer(patience=1.0)
    sequencer.push(5, 0, 0, "5", 0.0)
    sequencer.end(5, 0, 0.0)
    assert sequencer.push(7, 0, 0, "7", 0.1) == []
    assert sequencer.advance(1.1) == ["7"]


def test_objects_on_streams_of_their_own_are_put_in_order() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer()
    sequencer.push(5, 0, 0, "5/0", 0.0)
    sequencer.push(6, 1, 1, "6/1", 0.1)
    sequencer.push(6, 0, 0, "6/0", 0.1)
    assert sequencer.end(5, 0, 0.2) == ["6/0", "6/1"]


def test_the_end_of_a_track_releases_everything() -> None:
    sequencer: GroupSequencer[str] = GroupSequencer()
    sequencer.push(5, 0, 0, "5", 0.0)
    sequencer.push(9, 0, 0, "9", 0.0)
    sequencer.push(7, 0, 0, "7", 0.0)
    assert sequencer.flush() == ["7", "9"]
    assert sequencer.flush() == []


@settings(max_examples=80)
@given(st.data())
def test_any_order_of_streams_loses_nothing_while_patience_lasts(data: st.DataObject) -> None:
    """Streams of groups 0 to 4 interleaved at will, but group 0 begins."""
    streams = {group: [(group, n) for n in range(3)] + [(group, -1)] for group in range(5)}
    sequencer: GroupSequencer[tuple[int, int]] = GroupSequencer()
    out = sequencer.push(0, 0, 0, streams[0].pop(0), 0.0)
    while streams:
        group = data.draw(st.sampled_from(sorted(streams)))
        item = streams[group].pop(0)
        if not streams[group]:
            del streams[group]
        if item[1] < 0:
            out += sequencer.end(group, 0, 0.0)
        else:
            out += sequencer.push(group, 0, item[1], item, 0.0)
    assert out == [(group, n) for group in range(5) for n in range(3)]
    assert sequencer.late == 0
