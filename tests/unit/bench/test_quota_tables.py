"""What bench/quota.py found, kept and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import document, quota_tables
from bench.quota_found import Floor, Found, Results, Window, served


def found(hook: str, per_second: int, cost: float) -> Found:
    """So many transfers of 0.1 s a second, before, during and after."""
    transfers = [(at / per_second - 0.1, 0.1) for at in range(-2 * per_second, 4 * per_second)]
    return Found(
        hook=hook,
        transfers=transfers,
        seconds=2.0,
        calls_attack=10.0 * per_second,
        process_us=cost,
        softirq_us=1.0,
        calls=cost / 10,
    )


@pytest.fixture
def results() -> Results:
    kernel = found("kernel", 20, 0.0)
    kernel.floors = [Floor("TC", 0.75, 0.125)]
    kernel.program_us, kernel.program_flood_us = 0.25, 1.0
    kernel.shares = [(100.0, 99.5), (100.0, 99.1)]
    kernel.paced = [
        (Window(1e6, [0.1] * 99 + [0.2], 0, 0.25), Window(1e6, [0.1] * 98 + [0.3] * 2, 0, 0.26)),
        (Window(1e6, [0.1] * 100, 0, 0.25), Window(0.99e6, [0.1] * 99, 1, 0.27)),
    ]
    kernel.media_us = [([10.0] * 99 + [100.0], [10.0] * 99 + [120.0])]
    variants = {"user space": found("user space", 10, 4.0), "kernel, TC": kernel}
    given = {"seconds": 2.0, "rate": 100.0, "turns": 2, "turn": 1.0, "paced": 10.0}
    return Results({"relay": variants}, given)


def test_they_are_kept(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "quota.json")
    kept = Results.load(tmp_path / "quota.json")
    assert {n: quota_tables.SECTIONS[n](kept) for n in quota_tables.SECTIONS} == {
        n: quota_tables.SECTIONS[n](results) for n in quota_tables.SECTIONS
    }


def test_throughput_is_of_what_ended_then() -> None:
    assert found("", 10, 0.0).throughput(0, 2) == pytest.approx(10 * 262144 / 1e6)


def test_transfers_count_where_they_were_under_way() -> None:
    assert served([(0.0, 1.0)], 0.0, 1.0) == pytest.approx(262144)
    assert served([(0.0, 1.0)], 0.25, 0.75) == pytest.approx(262144)
    assert served([(0.5, 1.0), (-0.5, 1.0)], 0.0, 1.0) == pytest.approx(262144)
    assert served([(-1.0, 1.0), (1.0, 0.5)], 0.0, 1.0) == 0.0


def test_recovery_is_when_a_second_is_as_good_as_one_before() -> None:
    calm = found("", 10, 0.0)
    assert calm.recovery == 0.0
    calm.transfers = [each for each in calm.transfers if not 1.9 <= each[0] < 2.4]
    assert calm.recovery == pytest.approx(0.4, abs=0.11)
    calm.transfers = [each for each in calm.transfers if each[0] < 2.4]
    assert calm.recovery is None


def test_kernel_beside_user_space(results: Results) -> None:
    table = quota_tables.paper(results)
    assert "| throughput under attack | +30.9 % | +100.0 % |" in table
    assert "| CPU for a blocked packet | -26.4 %, to 8 us | -80.0 % |" in table
    assert "| system calls for a blocked packet | - | -100.0 % |" in table


def test_goals(results: Results) -> None:
    table = quota_tables.goals(results).splitlines()
    words = "0.25 us the program, 0.88 in the flood (1.00 with the statistics' own cost)"
    words += "; 1.00 with the way to it, 0.75 the way alone"
    assert f"| CPU of a blocked first packet in TC | at most 1.0 us | {words} | reached |" in table
    kept = "99.3% (standard error 0.2%); in turns 99.1% to 99.5% | not shown"
    assert any(kept in line for line in table)
    paced = "99.5% (standard error 0.5%); p50 100 to 100 ms, p99 100 to 300 ms | not shown"
    assert any(paced in line for line in table)
    late = "+20%: 100 to 120 us (p50: 10 to 10); in turns +20% to +20% | **missed**"
    assert any(late in line for line in table)
    assert any("in XDP | at most 0.5 us | - | not shown" in line for line in table)


@pytest.mark.parametrize(
    ("flooded", "word"),
    [((99.4, 99.6), "reached"), ((90.0, 91.0), "**missed**"), ((90.0, 110.0), "not shown")],
)
def test_what_is_kept_is_known_to_two_standard_errors(
    results: Results, flooded: tuple[float, float], word: str
) -> None:
    results.subjects["relay"]["kernel, TC"].shares = [(100.0, each) for each in flooded]
    (line,) = (each for each in quota_tables.goals(results).splitlines() if "can do" in each)
    assert line.endswith(f"| {word} |")


def test_the_paced_load(results: Results) -> None:
    table = quota_tables.paced(results).splitlines()
    assert table[0] == "| calm, under attack | kernel, TC |"
    assert "| throughput (MB/s) | 1.000, 0.995 |" in table
    assert "| of it kept under attack (standard error) | 99.5% (0.5%) |" in table
    assert "| duration, p99 (ms) | 100, 300 |" in table
    assert "| transfers, of them failed | 200 / 0, 200 / 1 |" in table
    assert "| CPU of the relay's process | 25.0%, 26.5% |" in table


def test_a_document_is_filled(results: Results, tmp_path: Path) -> None:
    tables = {name: table(results) for name, table in quota_tables.SECTIONS.items()}
    text = document.fill_in("before\n<!-- goals -->\nold\n<!-- end -->\nafter\n", tables)
    assert text.startswith("before\n<!-- goals -->\n\n| goal |")
    assert text.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in text
