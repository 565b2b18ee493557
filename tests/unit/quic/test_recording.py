"""Reports that machine code enters into the ledger's rows: as a loop over them would do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.fastpath.layout import REPORT, Outcome
from fastrelay.quic.ledger import ROWS, Ledger
from ring_records import in_ring

CONNECTIONS = 4
USED = 3
"""Of them; the last is never open."""
FIELDS = ("connection", "packet_number", "time", "sequence", "position", "size")

Report = tuple[int, int, int, int, int, int]
"""A connection, and what is added to the latest packet number of all; time, sequence, position,
size."""

USUAL = st.sampled_from([1, 1, 1, 1, 2, 3, -1, -2, 0])
STEP = USUAL | st.sampled_from([-ROWS, 1 - ROWS, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS])
REPORTS = st.lists(
    st.tuples(
        st.integers(0, CONNECTIONS),
        STEP,
        st.integers(0, 1 << 50),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 16) - 1),
        st.integers(1, 1500),
    ),
    min_size=1,
    max_size=40,
)
ACTIONS = st.lists(
    st.one_of(
        REPORTS,
        st.tuples(st.just("acknowledge"), st.integers(0, USED - 1), st.integers(0, 50)),
        st.tuples(st.just("lose"), st.integers(0, USED - 1), st.integers(0, 50)),
        st.tuples(st.just("open or close"), st.integers(0, USED - 1), st.just(0)),
    ),
    max_size=30,
)


def reports_of(rows: list[tuple[int, ...]]) -> np.ndarray[Any, Any]:
    records = np.zeros(len(rows), REPORT.dtype)
    for record, row in zip(records, rows, strict=True):
        for name, value in zip(FIELDS, row, strict=True):
            record[name] = value
    return records


class Both:
    """A ledger that gets reports together, and one that gets them one by one."""

    def __init__(self) -> None:
        self.ledgers = together, one_by_one = Ledger(CONNECTIONS), Ledger(CONNECTIONS)
        self._together, self._one_by_one = together, one_by_one
        self._number = 5 * ROWS
        self._seen: set[tuple[int, int]] = set()

    def record(self, reports: list[Report]) -> None:
        rows: list[tuple[int, ...]] = []
        for connection, step, *rest in reports:
            self._number = max(self._number + step, 0)
            if (connection, self._number) not in self._seen:
                rows.append((connection, self._number, *rest))
                self._seen.add((connection, self._number))
        found = in_ring(reports_of(rows))
        at = self._together.record(found)
        while at < len(rows):
            self._together.record_one(*rows[at])  # type: ignore[arg-type]
            at = self._together.record(found, at + 1)
        for row in rows:
            self._one_by_one.record_one(*row)  # type: ignore[arg-type]

    def act(self, kind: str, index: int, count: int) -> None:
        for ledger in self.ledgers:
            account = ledger.account(index)
            if kind == "open or close":
                if account is None:
                    ledger.open(index)
                else:
                    ledger.close(index)
            elif account is not None and kind == "acknowledge":
                account.acknowledge(account.low, account.low + count)
            elif account is not None:
                account.give_up(account.high - count, account.high)

    def check(self) -> None:
        together, one_by_one = self.ledgers
        assert together.overwritten == one_by_one.overwritten
        for name in ("rows", "low", "high", "live", "gone", "sent", "last_send", "open"):
            column, expected = (getattr(ledger, f"_{name}") for ledger in self.ledgers)
            assert column.tobytes() == expected.tobytes(), name


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_together_as_one_by_one(actions: list[Any]) -> None:
    both = Both()
    both.act("open or close", 0, 0)
    for action in actions:
        if isinstance(action, list):
            both.record(action)
        else:
            both.act(*action)
        both.check()


@pytest.mark.parametrize("field", ["outcome", "dropped"])
def test_it_ends_at_a_report_that_says_more(field: str) -> None:
    ledger = Ledger(CONNECTIONS)
    account = ledger.open(1)
    records = reports_of([(1, number, 1, 1, 1, 100) for number in range(5)])
    records[2][field] = Outcome.NO_DATA
    found = in_ring(records)
    assert (ledger.record(found), account.live) == (2, 2)
    assert (ledger.record(found, 2), account.live) == (2, 2)
    assert (ledger.record(found, 3), account.live) == (5, 4)
    assert (ledger.record(found, 5), account.live) == (5, 4)


@pytest.mark.parametrize("number", [(1 << 64) - 1, 1 << 63, 1 << 62])
def test_no_row_is_of_a_number_that_no_packet_has(number: int) -> None:
    ledger = Ledger(CONNECTIONS)
    account = ledger.open(0)
    assert ledger.record(in_ring(reports_of([(0, number, 1, 1, 1, 100)]))) == 0
    assert account.live == 0


def test_no_row_is_of_a_connection_that_there_is_not() -> None:
    ledger = Ledger(CONNECTIONS)
    found = in_ring(reports_of([(index, 1, 1, 1, 1, 100) for index in (4, 1024, (1 << 32) - 1)]))
    assert ledger.record(found) == 3
    assert not ledger._live.any()
