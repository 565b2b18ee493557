"""Whose time it was: the arithmetic, and a load whose parts are known."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from bench.accounting import Accounting, Spent, divide, scheduled_seconds

RELAY, OTHER = 70, 80


def test_softirqs_that_interrupt_the_process_are_not_its_own() -> None:
    counted = [(0, RELAY, True, 2_000_000), (1, RELAY, False, 1_000_000)]
    assert divide(counted, 0.010, RELAY, cpu=0).process == pytest.approx(0.007)


def test_the_networks_work_counts_whomever_it_interrupts() -> None:
    counted = [
        (1, RELAY, True, 2_000_000),
        (1, OTHER, True, 5_000_000),
        (1, 0, True, 1_000_000),
        (1, OTHER, False, 9_000_000),
        (0, OTHER, True, 9_000_000),
    ]
    found = divide(counted, 0.010, RELAY, cpu=1)
    assert found.network == pytest.approx(0.008)
    assert found.process == pytest.approx(0.008)


def test_an_interval_is_a_difference() -> None:
    passed = Spent(1.5, 0.75).since(Spent(1.0, 0.5))
    assert passed == Spent(0.5, 0.25)


def test_nothing_is_counted_twice_or_forgotten() -> None:
    counted = [(1, RELAY, True, 3_000_000), (1, OTHER, True, 4_000_000)]
    found = divide(counted, 0.020, RELAY, cpu=1)
    others = 0.004
    assert found.process + found.network == pytest.approx(0.020 + others)


def test_the_schedulers_account_is_of_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for thread, nanoseconds in (("7", 1_500_000_000), ("8", 500_000_000)):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(f"{nanoseconds} 5 6\n")
    monkeypatch.setattr("bench.accounting.Path", lambda _: tmp_path)
    assert scheduled_seconds(7) == pytest.approx(2.0)


def test_without_a_counter_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no bcc here' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("bench.accounting.INTERPRETERS", (str(broken),))
    monkeypatch.setattr("bench.accounting.headers.find", lambda _: None)
    monkeypatch.setattr("bench.accounting.tracing.mounted", nullcontext)
    with pytest.raises(RuntimeError, match="no bcc here"), Accounting():
        pass


def test_what_the_counter_says_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = json.dumps([[1, 1, True, 4_000_000]])
    counter = tmp_path / "python"
    counter.write_text(f"#!/bin/sh\necho ready\nwhile read -r _; do echo '{counted}'; done\n")
    counter.chmod(0o755)
    monkeypatch.setattr("bench.accounting.INTERPRETERS", (str(counter),))
    monkeypatch.setattr("bench.accounting.headers.find", lambda _: None)
    monkeypatch.setattr("bench.accounting.tracing.mounted", nullcontext)
    with Accounting() as accounting:
        before = accounting.spent(1, 1)
        assert before.network == pytest.approx(0.004)
        assert accounting.spent(1, 1).since(before).network == 0
