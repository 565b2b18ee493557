"""The table against a dictionary, and read between any two of its writes."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.fastpath import layout, tables
from fastrelay.fastpath.layout import BUCKET_PAIRS, TABLE_ERASED, TABLE_NONE
from fastrelay.fastpath.tables import REST, Pair, Table, new_seed, table_hash

SEED = (0x0123456789ABCDEF, 0xFEDCBA9876543211)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(scope="module", autouse=True)
def clock() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        made = Clock()
        patch.setattr(tables, "time", made)
        yield made


class Words(list[int]):
    """Memory of which every state is kept."""

    def __init__(self, buckets: int) -> None:
        super().__init__([0] * (2 * BUCKET_PAIRS * buckets))
        self.states: list[list[int]] = [list(self)]

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self.states.append(list(self))


def small(buckets: int = 2) -> Table:
    memory = memoryview(bytearray(16 * BUCKET_PAIRS * buckets)).cast("Q")
    table = Table(memory, SEED)
    table.clear()
    return table


def collide(table: Table, count: int) -> list[int]:
    """Keys of owner 1 that are looked for in the same bucket, twice."""
    return [
        key
        for key in range(1000 * count)
        if (table_hash(SEED, key, 1) & 1, table_hash(SEED, key, 1) >> 16 & 1) == (0, 0)
    ][:count]


KEYS = st.one_of(st.integers(0, 5), st.integers(0, TABLE_ERASED - 1))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "remove", "clear", "wait"]),
            KEYS,
            st.integers(1, 3),
            st.integers(0, TABLE_NONE - 1),
        ),
        max_size=60,
    )
)
def test_it_is_a_dictionary_that_may_be_full(
    clock: Clock, steps: list[tuple[str, int, int, int]]
) -> None:
    table = small()
    model: dict[tuple[int, int], int] = {}
    for step, key, owner, value in steps:
        if step == "put" and (key, owner) not in model:
            if table.put(key, owner, value):
                model[key, owner] = value
            else:
                # Two of its own, or all places that rest.
                assert len(model) + len(table._resting) >= BUCKET_PAIRS
        elif step == "remove":
            assert table.remove(key, owner) == (model.pop((key, owner), None) is not None)
        elif step == "clear":
            table.clear()
            model.clear()
        else:
            clock.now += REST / 2
        assert {(pair.key, pair.owner): pair.value for pair in table.pairs()} == model
        assert table.find(key, owner) == model.get((key, owner))


def test_full_is_said_and_nothing_is_overwritten(clock: Clock) -> None:
    table = small()
    keys = collide(table, BUCKET_PAIRS + 1)
    assert [table.put(key, 1, key) for key in keys] == [True] * BUCKET_PAIRS + [False]
    assert sorted(table.pairs()) == [Pair(key, 1, key) for key in keys[:-1]]
    assert table.remove(keys[0], 1)
    # The place rests.
    assert not table.put(keys[-1], 1, 5)
    clock.now += REST
    assert table.put(keys[-1], 1, 5)


def test_a_program_reads_nothing_that_was_never_put(clock: Clock) -> None:
    """It reads a pair's words at any two moments that lie closer together than a rest."""
    words = Words(2)
    table = Table(words, SEED)  # type: ignore[arg-type]
    table.clear()
    keys = collide(table, 3 * BUCKET_PAIRS)
    words.states = [list(words)]
    moments: list[tuple[float, list[int]]] = []
    put = set()

    def note() -> None:
        moments.extend((clock.now, state) for state in words.states)
        words.states.clear()

    for key in keys:
        if not table.put(key, 1, key):
            clock.now += REST
            assert table.put(key, 1, key)
        put.add((key, 1 << 32 | key))
        note()
        if len(table.pairs()) == BUCKET_PAIRS:
            table.remove(table.pairs()[0].key, 1)
            note()
    mixed = 0
    for (early, one), (late, two) in combinations_with_replacement(moments, 2):
        if late - early >= REST:
            continue
        for place in range(2 * BUCKET_PAIRS):
            for key, value in (
                (one[2 * place], two[2 * place + 1]),
                (two[2 * place], one[2 * place + 1]),
            ):
                mixed += one != two
                assert not value or key == TABLE_ERASED or (key, value) in put
    assert mixed > 1000


def test_keys_in_a_row_spread(clock: Clock) -> None:
    """As track aliases and connections go: with any seed, a full set finds room."""
    for _ in range(5):
        memory = memoryview(bytearray(64 * layout.CHANNELS_BUCKETS)).cast("Q")
        table = Table(memory, new_seed())
        table.clear()
        for number in range(layout.TRACKS):
            assert table.put(number % 8, 1 + number // 8, number)
        used = Counter(
            table_hash(new_seed(), number, 1) & (layout.CHANNELS_BUCKETS - 1)
            for number in range(layout.TRACKS)
        )
        assert max(used.values()) <= layout.TRACKS // 16
