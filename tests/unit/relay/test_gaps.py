"""Unknown ranges of fetch streams, in both group orders."""

from __future__ import annotations

import pytest

from fastrelay.moqt import events as ev
from fastrelay.moqt.fetches import NON_EXISTENT_RANGE, UNKNOWN_RANGE
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.relay.coverage import Span
from fastrelay.relay.gaps import LAST_OBJECT, Gaps, between, not_passed
from fastrelay.relay.window import OPEN_END
from unit.relay.harness import World
from unit.relay.test_corners import Answer

END = OPEN_END
LAST = LAST_OBJECT


def span(start: tuple[int, int], end: tuple[int, int]) -> Span:
    return Span(Location(*start), Location(*end))


WHOLE = span((1, 2), (9, 5))


@pytest.mark.parametrize(
    ("descending", "spans", "before", "markers"),
    [
        (False, [span((1, 2), (4, END))], (3, 0), [(2, LAST)]),
        (False, [span((1, 2), (4, END))], (3, 7), [(3, 6)]),
        (False, [span((0, 0), (0, END)), span((9, 4), (11, END))], None, [(9, 5)]),
        (False, [span((2, 0), (4, 3)), span((4, 1), (4, 2)), span((3, 0), (6, 0))], None, [(6, 0)]),
        (False, [span((4, 0), (4, END))], (4, 0), []),
        (False, [span((4, 0), (4, 3))], (4, 0), []),
        (True, [span((3, 0), (8, END))], (5, 0), [(6, LAST)]),
        (True, [span((3, 0), (8, END))], (5, 3), [(5, 2)]),
        (True, [span((3, 4), (8, 2))], None, [(8, 2), (4, LAST), (3, LAST)]),
        (True, [span((3, 4), (4, 2))], None, [(4, 2), (3, LAST)]),
        (True, [span((0, 0), (20, END))], None, [(9, 5), (2, LAST), (1, LAST)]),
        (True, [span((6, 1), (6, 4)), span((2, 0), (3, END))], (5, 0), [(6, 4)]),
    ],
)
def test_markers(descending, spans, before, markers):
    gaps = Gaps(descending=descending)
    gaps.add(spans)
    place = None if before is None else Location(*before)
    assert list(gaps.ahead_of(place, WHOLE)) == markers


@pytest.mark.parametrize("descending", [False, True])
def test_each_marker_is_written_once(descending):
    gaps = Gaps(descending=descending)
    gaps.add([span((3, 0), (7, END))])
    first = list(gaps.ahead_of(Location(5, 1), WHOLE))
    assert first == [(5, 0)]
    assert list(gaps.ahead_of(None, WHOLE)) == [(3, LAST) if descending else (7, LAST)]
    assert list(gaps.ahead_of(None, WHOLE)) == []
    gaps.add([span((3, 0), (7, END))])
    gaps.clear()
    assert list(gaps.ahead_of(None, WHOLE)) == []


@pytest.mark.parametrize(
    ("descending", "last", "until", "stands_for"),
    [
        (False, None, (4, 1), [span((1, 2), (4, 1))]),
        (False, (4, 1), (4, 1), []),
        (False, (4, LAST), (6, LAST), [span((5, 0), (6, END))]),
        (True, None, (9, 5), [span((9, 0), (9, 5))]),
        (True, (8, 1), (8, LAST), [span((8, 2), (8, END))]),
        (True, (8, 1), (8, 1), []),
        (True, (8, LAST), (7, 3), [span((7, 0), (7, 3))]),
        (True, (8, 1), (7, 3), [span((7, 0), (7, 3)), span((8, 2), (8, END))]),
        (
            True,
            (8, 1),
            (4, LAST),
            [span((4, 0), (4, END)), span((5, 0), (7, END)), span((8, 2), (8, END))],
        ),
        (True, (4, 1), (8, 1), []),
    ],
)
def test_what_a_marker_stands_for(descending, last, until, stands_for):
    place = None if last is None else Location(*last)
    assert between(place, Location(*until), WHOLE, descending) == stands_for


def test_what_has_not_passed():
    spans = [span((1, 2), (3, END)), span((5, 0), (6, 4))]
    assert list(not_passed(spans, None, True)) == spans
    assert list(not_passed(spans, 5, True)) == [spans[0], span((5, 0), (5, END))]
    assert list(not_passed(spans, 3, False)) == [span((3, 0), (3, END)), spans[1]]
    assert list(not_passed(spans, 4, False)) == [spans[1]]


def test_unknown_ranges_of_the_publisher_are_passed_on_in_descending_order():
    world = World()
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe(filter=LocationFilter(FilterKind.NEXT_GROUP))
    publisher.accept(largest=(9, 0))
    viewer = world.client()
    request_id = viewer.fetch((2, 0), 7, group_order=GroupOrder.DESCENDING)
    answer = Answer(publisher, (7, None))
    answer.put(7, 0)
    answer.until(6, LAST, UNKNOWN_RANGE)
    answer.put(5, 1)
    answer.until(4, 3, NON_EXISTENT_RANGE)
    answer.until(3, LAST, UNKNOWN_RANGE)
    answer.put(2, 0)
    answer.close()
    stream = viewer.fetched(request_id)
    assert stream.fin
    assert [
        ("unknown", *i.until) if isinstance(i, ev.FetchRange) else tuple(i.location)
        for i in stream.items
    ] == [(7, 0), ("unknown", 6, LAST), (5, 1), ("unknown", 3, LAST), (2, 0)]
    world.assert_empty()
