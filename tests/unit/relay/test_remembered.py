"""What is remembered of groups is bounded."""

from __future__ import annotations

from fastrelay.relay.remembered import remember


def test_the_oldest_groups_are_forgotten_first() -> None:
    keys: set[tuple[int, int | None]] = set()
    for key in ((3, None), (1, 0), (2, 7), (1, None)):
        remember(keys, key, 4)
    remember(keys, (2, 7), 4)
    assert keys == {(3, None), (1, 0), (2, 7), (1, None)}, "what is known makes nothing forgotten"
    remember(keys, (4, 0), 4)
    assert keys == {(2, 7), (3, None), (4, 0)}


def test_a_new_one_of_an_old_group_is_kept() -> None:
    keys = {(group, 0) for group in range(4, 8)}
    remember(keys, (1, 0), 4)
    assert keys == {(6, 0), (7, 0), (1, 0)}
