"""Rows of packets: recorded together, settled one connection at a time, against a dict."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.fastpath.layout import REPORT
from fastrelay.quic.ledger import ROWS, Account, Ledger
from ring_records import in_ring

Reported = tuple[int, int, float, int, int, int]
"""Connection, packet number, seconds, size, sequence, position."""


def record(ledger: Ledger, *rows: Reported) -> None:
    records = np.zeros(len(rows), REPORT.dtype)
    for report, (connection, number, time, size, sequence, position) in zip(
        records, rows, strict=True
    ):
        report["connection"], report["packet_number"] = connection, number
        report["time"], report["size"] = round(time * 1e9), size
        report["sequence"], report["position"] = sequence, position
    found = in_ring(records)
    at = ledger.record(found)
    while at < len(rows):
        connection, number, time, size, sequence, position = rows[at]
        ledger.record_one(connection, number, round(time * 1e9), sequence, position, size)
        at = ledger.record(found, at + 1)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(8)


def numbers(account: Account) -> list[int]:
    found = account.give_up(0, account.high)
    return found.numbers if found else []


def test_totals_of_several_connections_in_one_batch(ledger: Ledger) -> None:
    one, two = ledger.open(1), ledger.open(5)
    record(ledger, (5, 100, 1.5, 1200, 7, 3), (1, 11, 2.0, 1000, 8, 0), (5, 101, 2.5, 1300, 9, 3))
    assert (one.live, one.bytes_in_flight, one.bytes_sent, one.last_send) == (1, 1000, 1000, 2.0)
    assert (two.live, two.bytes_in_flight, two.bytes_sent, two.last_send) == (2, 2500, 2500, 2.5)
    assert (two.low, two.high) == (100, 102)
    assert two.acknowledge(100, 101) == (1200, 100, 1.5)
    assert (two.live, two.bytes_in_flight, two.bytes_gone, two.low) == (1, 1300, 1200, 101)
    assert two.acknowledge(0, 101) is None, "the second time"
    assert one.bytes_in_flight == 1000


@pytest.mark.parametrize("count", [3, 200])
def test_an_acknowledgement_of_a_few_and_of_many(ledger: Ledger, count: int) -> None:
    account = ledger.open(0)
    record(ledger, *((0, 2 * n, 1.0 + n, 10 + n, n, 0) for n in range(count)))
    assert account.acknowledge(0, 1000) == (
        sum(range(10, 10 + count)),
        2 * (count - 1),
        float(count),
    )
    assert (account.live, account.bytes_in_flight) == (0, 0)
    assert account.low == account.high == 2 * count - 1


def test_what_is_lost_by_number_and_by_time(ledger: Ledger) -> None:
    account = ledger.open(2)
    record(ledger, *((2, n, 10.0 + n, 100, 50 + n, n) for n in range(8)))
    assert account.acknowledge(6, 7) is not None
    lost, waiting = account.detect(6, 3, 14.5)
    assert lost is not None
    assert lost.numbers == [0, 1, 2, 3, 4]
    assert lost.rows == [(50 + n, n) for n in range(5)]
    assert lost.times == [10.0 + n for n in range(5)]
    assert lost.size == 500
    assert waiting == 15.0, "the one before the largest, which may still come"
    assert account.oldest() == (5, 15.0)
    assert numbers(account) == [5, 7], "what is above the largest is not looked at"
    assert account.detect(100, 100, 100.0) == (None, None)
    assert account.oldest() is None


def test_a_report_that_comes_after_later_ones(ledger: Ledger) -> None:
    account = ledger.open(0)
    record(ledger, (0, 10, 1.0, 100, 1, 0))
    record(ledger, (0, 9, 0.9, 100, 2, 0))
    assert account.low == 9
    account.acknowledge(0, 11)
    record(ledger, (0, 8, 0.8, 100, 3, 0))
    assert account.oldest() == (8, 0.8)
    assert account.last_send == 1.0


def test_the_limit_keeps_two_packets_out_of_one_row(ledger: Ledger) -> None:
    account = ledger.open(0)
    assert account.packet_number_limit >= ROWS // 2
    record(ledger, (0, 10, 1.0, 100, 1, 0))
    assert account.packet_number_limit == 10 + ROWS
    record(ledger, *((0, n, 1.0, 100, n, 0) for n in range(11, 10 + ROWS)))
    assert account.packet_number_limit == 10 + ROWS
    account.acknowledge(10, 20)
    assert account.packet_number_limit == 20 + ROWS
    account.acknowledge(0, 5000)
    assert account.packet_number_limit == 10 + 2 * ROWS
    account.own_number = 100_000  # user space went on alone
    assert 100_000 < account.packet_number_limit <= 100_000 + ROWS
    assert ledger.overwritten == 0
    record(ledger, (0, 200_000, 1.0, 100, 1, 0), (0, 200_001, 1.0, 100, 1, 0))
    record(ledger, (0, 200_000 + ROWS, 1.0, 90, 1, 0))
    assert ledger.overwritten == 1
    assert (account.live, account.bytes_in_flight) == (2, 190)


def test_rows_too_far_apart_in_a_batch_of_many(ledger: Ledger) -> None:
    account, other = ledger.open(0), ledger.open(1)
    record(ledger, *((0, n, 1.0, 100, n, 0) for n in range(40)))
    record(
        ledger,
        *((1, n, 2.0, 10, n, 0) for n in range(40)),
        (0, 20 + ROWS, 2.0, 90, 1, 0),
        (0, 5, 2.0, 90, 1, 0),
    )
    assert ledger.overwritten == 22, "21 that had to go, and the one that came too late"
    assert (account.low, account.live, account.bytes_in_flight) == (21, 20, 19 * 100 + 90)
    assert (other.live, other.last_send) == (40, 2.0)
    assert numbers(account) == [*range(21, 40), 20 + ROWS]


def test_closed_connections_are_not_recorded_and_indices_begin_anew(ledger: Ledger) -> None:
    ledger.open(3)
    record(ledger, (3, 5, 1.0, 100, 77, 0))
    ledger.close(3)
    record(ledger, (3, 6, 1.0, 100, 78, 0), (4, 1, 1.0, 100, 79, 0))
    assert len(ledger.named()) == 0
    again = ledger.open(3)
    assert (again.live, again.bytes_sent, again.high, again.last_send) == (0, 0, 0, 0.0)
    record(ledger, (3, 1, 1.0, 100, 80, 0))
    assert ledger.named().tolist() == [80]


def test_the_sequences_that_rows_name(ledger: Ledger) -> None:
    one, _ = ledger.open(0), ledger.open(7)
    record(ledger, (0, 1, 1.0, 9, 5, 0), (7, 1, 1.0, 9, 5, 1), (7, 2, 1.0, 9, 0xFFFFFFFF, 1))
    assert ledger.named().tolist() == [5, 0xFFFFFFFF]
    one.acknowledge(1, 2)
    assert ledger.named().tolist() == [5, 0xFFFFFFFF]
    ledger.close(7)
    assert ledger.named().tolist() == []


def test_what_packets_in_flight_carry(ledger: Ledger) -> None:
    one, two = ledger.open(1), ledger.open(2)
    assert not one.carries({7}, 0)
    record(ledger, (1, 10, 1.0, 100, 7, 0), (1, 11, 1.0, 100, 8, 0), (2, 10, 1.0, 1, 9, 1))
    assert one.carries({7, 9}, 0)
    assert not one.carries({7}, 1)
    assert not one.carries({9}, 1)
    assert two.carries({9}, 1)
    one.acknowledge(10, 11)
    assert not one.carries({7}, 0)
    assert one.carries({8}, 0)


def test_who_waits_for_nothing_keeps_nobody_from_being_watched(ledger: Ledger) -> None:
    woken: list[int] = []
    ledger.on_rows = lambda: woken.append(1)
    closing, other = ledger.open(0), ledger.open(1)
    closing.expect(float("inf"), 0.0)
    other.expect(0.1, 0.0)
    record(ledger, (0, 1, 10.0, 9, 5, 0))
    assert ledger.next_due() == float("inf")
    record(ledger, (1, 1, 10.0, 9, 5, 1))
    assert woken == [1, 1]
    assert ledger.next_due() == pytest.approx(10.1)


def test_whose_probe_is_due(ledger: Ledger) -> None:
    woken: list[int] = []
    ledger.on_rows = lambda: woken.append(1)
    one, two = ledger.open(0), ledger.open(1)
    one.expect(0.1, 0.0)
    two.expect(0.3, 0.0)
    assert ledger.next_due() == float("inf")
    record(ledger, (0, 1, 10.0, 9, 5, 0), (1, 1, 10.0, 9, 5, 1))
    record(ledger, (0, 2, 10.05, 9, 5, 0))
    assert woken == [1], "once, until there was nothing in flight"
    assert ledger.next_due() == pytest.approx(10.15)
    assert ledger.overdue(10.14) == []
    assert ledger.overdue(10.2) == [one]
    assert ledger.overdue(10.31) == [one, two]
    one.expect(0.2, 10.3)  # a probe was sent
    assert ledger.overdue(10.31) == [two]
    one.acknowledge(0, 3)
    two.acknowledge(0, 3)
    assert ledger.next_due() == float("inf")
    record(ledger, (0, 3, 11.0, 9, 5, 0))
    assert woken == [1, 1]


def test_nobody_probes_for_what_is_acknowledged_and_was_not_heard(ledger: Ledger) -> None:
    one, two = ledger.open(0), ledger.open(1)
    for account in (one, two):
        account.expect(0.1, 0.0)
    record(ledger, *((n, 7, 10.0 + n, 9, 5, 0) for n in range(2)))
    assert ledger.next_due() == pytest.approx(10.1)
    ledger.acked[0] = 8
    assert ledger.next_due() == pytest.approx(11.1)
    assert ledger.overdue(20.0) == [two]
    record(ledger, (0, 8, 12.0, 9, 5, 0))
    ledger.acked[1] = 8
    assert ledger.next_due() == pytest.approx(12.1)
    assert ledger.overdue(20.0) == [one]
    assert (one.live, two.live) == (2, 1)


waits = st.tuples(
    st.sampled_from([0.25, 0.5, float("inf")]),
    st.integers(0, 3).map(lambda quarters: 10.0 + quarters / 4),
    st.sampled_from([0, 4, 5]),
    st.booleans(),
)


@given(st.lists(st.one_of(st.none(), waits), max_size=8))
def test_probes_as_a_list_would_have_them(
    accounts: list[tuple[float, float, int, bool] | None],
) -> None:
    """Of each connection: its timeout, when packet 4 left, what is acknowledged, whether heard."""
    ledger = Ledger(8)
    ledger.acked = np.zeros((8, 3), np.int64)[:, 1]
    due = {}
    for index, wait in enumerate(accounts):
        if wait is None:
            continue
        timeout, sent_at, acked, is_heard = wait
        account = ledger.open(index)
        account.expect(timeout, 0.0)
        record(ledger, (index, 4, sent_at, 9, 5, 0))
        ledger.acked[index] = acked
        if is_heard:
            account.acknowledge(0, 5)
        elif acked < 5:
            due[account] = sent_at + timeout
    assert ledger.next_due() == min(due.values(), default=float("inf"))
    for now in (10.2, 10.25, 10.7, 11.25):
        assert ledger.overdue(now) == [account for account, at in due.items() if at <= now]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400))
def test_as_a_dict_would_do_it(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    ledger = Ledger(3)
    account = ledger.open(1)
    other = ledger.open(2)
    model: dict[int, tuple[float, int, int]] = {}
    number, sent = rng.randrange(5000), 0
    for step in range(steps):
        kind = rng.randrange(6)
        if kind < 3:
            batch = []
            for _ in range(rng.choice([1, 3, 30])):
                number += rng.choice([1, 1, 1, 2, 40])
                if model and number >= account.packet_number_limit:
                    break
                size = rng.randrange(1, 1500)
                model[number] = (float(step), size, step)
                batch.append((1, number, float(step), size, step, number % 7))
                batch.append((2, number, float(step), 1, step, 0))
                sent += size
            rng.shuffle(batch)
            if batch:
                record(ledger, *batch)
            other.acknowledge(0, number + 1)
        elif kind == 3:
            start = number - rng.randrange(200)
            stop = start + rng.choice([1, 2, 10, 200])
            hit = [n for n in sorted(model) if start <= n < stop]
            expected = None
            if hit:
                expected = (sum(model[n][1] for n in hit), hit[-1], model[hit[-1]][0])
            assert account.acknowledge(start, stop) == expected
            for n in hit:
                del model[n]
        elif kind == 4:
            largest, before = number - rng.randrange(20), float(step - rng.randrange(30))
            below = [n for n in sorted(model) if n < largest]
            gone = [n for n in below if n <= largest - 3 or model[n][0] <= before]
            waiting = [model[n][0] for n in below if n not in gone]
            lost, oldest = account.detect(largest, largest - 3, before)
            assert (lost.numbers if lost else []) == gone
            assert (lost.rows if lost else []) == [(model[n][2], n % 7) for n in gone]
            assert oldest == (min(waiting) if waiting else None)
            for n in gone:
                del model[n]
        elif model:
            oldest_row = account.oldest()
            assert oldest_row is not None
            assert oldest_row[0] == min(model)
        assert account.live == len(model)
        assert account.bytes_in_flight == sum(size for _, size, _ in model.values())
        assert account.bytes_gone == sent - account.bytes_in_flight
        assert ledger.overwritten == 0
    assert numbers(account) == sorted(model)
