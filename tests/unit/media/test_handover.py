"""Which session's objects count while a viewer moves."""

from __future__ import annotations

from fastrelay.client import ReceivedObject, SubgroupEnd
from fastrelay.media.handover import Source
from fastrelay.moqt.names import Location, ObjectStatus


def item(group: int, number: int) -> ReceivedObject:
    return ReceivedObject(
        Location(group, number), 0, 128, None, ObjectStatus.NORMAL, b"x", False, 0.0, 0.0
    )


def end(group: int, reset: int | None = None) -> SubgroupEnd:
    return SubgroupEnd(group, 0, reset, end_of_group=reset is None)


def test_the_new_session_begins_with_the_group_after_those_of_the_old_one() -> None:
    old = Source()
    new = Source(old)
    assert old.takes(item(5, 0))
    assert new.takes(item(6, 0))
    assert not old.finished
    assert old.takes(item(5, 1))
    assert not old.takes(item(6, 0))
    assert not old.finished
    assert old.ends(end(5))
    assert old.finished
    assert new.takes(item(6, 1))


def test_a_group_that_the_old_session_has_begun_stays_its_own() -> None:
    old = Source()
    new = Source(old)
    assert old.takes(item(5, 0))
    assert old.ends(end(5))
    assert old.takes(item(6, 0))
    assert not new.takes(item(6, 0))
    assert not new.ends(end(6))
    assert new.takes(item(7, 0))
    assert old.takes(item(6, 1))
    assert old.ends(end(6))
    assert old.finished


def test_the_new_session_may_be_ahead() -> None:
    old = Source()
    new = Source(old)
    assert old.takes(item(5, 0))
    assert new.takes(item(8, 0))
    assert old.ends(end(5))
    assert not old.finished
    assert [old.takes(item(group, 0)) for group in (6, 7, 8)] == [True, True, False]
    assert old.open == {(6, 0), (7, 0)}
    old.ends(end(6))
    old.ends(end(7, reset=1))
    assert old.finished


def test_a_group_that_was_joined_in_its_middle_does_not_count() -> None:
    old = Source()
    new = Source(old)
    assert old.takes(item(5, 0))
    assert not new.takes(item(6, 3))
    assert not new.begun
    assert not new.ends(end(6))
    assert new.takes(item(7, 0))
    assert new.begun


def test_a_session_that_delivered_nothing_is_passed_over() -> None:
    old = Source()
    idle = Source(old)
    new = Source(idle)
    assert old.takes(item(5, 0))
    assert not new.takes(item(5, 0))
    assert new.takes(item(6, 0))
    assert not old.takes(item(6, 0))
