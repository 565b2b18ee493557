"""What bench/bottleneck.py found, kept and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import bottleneck_report, document
from bench.bottleneck_found import Layered, Phase, Results

LAYERS = ("audio", "base", "middle", "high")


def phase(name: str, seconds: float = 20.0) -> Phase:
    return Phase(
        name,
        seconds,
        {layer: Layered(20, 0, 0, 0, 0.03, 0.1, 0.2) for layer in LAYERS[:2]}
        | {layer: Layered(0, 19, 1, 1, *[float("inf")] * 3) for layer in LAYERS[2:]},
        Layered(400, 0, 0, 0, 0.01, 0.02, 0.03),
        Layered(800, 0, 0, 0, 0.01, 0.025, 0.04),
        [(0.0, 0.0), (0.1, 0.02), (0.2, 0.1)],
        share=0.25,
        used=0.9,
        limits=[(0.0, 0.0, 0.0), (1.0, 1.9e6, 1.5)],
        curves={"audio": [(0.0, 0.03), (0.1, 0.04)]},
        waited={"member": 0.01, "others": 0.02, "relay": 0.003},
    )


@pytest.fixture
def results() -> Results:
    given = {"controller": "Delay", "shared": 4e6}
    phases = [phase("streams, kernel"), phase("datagrams, kernel")]
    return Results(given, phases, [1.9e6, 1.7e6], {"bbr": [0.2e6, 3.6e6]})


def test_they_are_kept(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "bottleneck.json")
    kept = Results.load(tmp_path / "bottleneck.json")
    for name, table in bottleneck_report.SECTIONS.items():
        assert table(kept) == table(results), name


def test_it_is_said_what_came_how_late_and_who_waited(results: Results) -> None:
    table = bottleneck_report.phases(results)
    assert "| base: groups whole / dropped / cut | 20 / 0 / 0 | 20 / 0 / 0 |" in table
    assert "| high: p50 / p99 / latest (ms) | - | - |" in table
    assert "| streams that stopped without an end | 2 | - |" in table
    assert "| queue at the bottleneck: p50 / p99 (ms) | 20 / 100 | 20 / 100 |" in table
    assert "| others: p50 / p99 / latest (ms), meanwhile | 10 / 25 / 40 | 10 / 25 / 40 |" in table
    assert "| 10 / 20 / 3 | 10 / 20 / 3 |" in table


def test_long_phases_have_a_table_of_their_own(results: Results) -> None:
    assert "180" not in bottleneck_report.phases(results)
    before = bottleneck_report.phases(results)
    results.phases.append(phase("streams, kernel", 180.0))
    assert bottleneck_report.phases(results) == before
    assert "| seconds | 180 |" in bottleneck_report.long(results)


def test_shares_are_judged(results: Results) -> None:
    fair = bottleneck_report.shares(results)
    assert "1.90 and 1.70 | 11% apart, reached" in fair
    assert "**missed**" in fair
    results.shares, results.tcp = [1.9e6, 1.4e6], {"cubic": [1.0e6, 2.8e6]}
    unfair = bottleneck_report.shares(results)
    assert "26% apart, **missed**" in unfair
    assert (
        "(CUBIC) behind 4 Mbit/s | 1.00 for the member, 2.80 for TCP | nobody starves: reached"
        in unfair
    )


def test_what_was_not_measured_is_said_to_be_so() -> None:
    nothing = Results({"controller": "Delay", "shared": 4e6})
    assert bottleneck_report.phases(nothing) == bottleneck_report.shares(nothing)
    assert "Not measured" in bottleneck_report.phases(nothing)


def test_the_document_has_a_mark_for_each_table(results: Results) -> None:
    text = (Path(__file__).parents[3] / "docs" / "congestion.md").read_text()
    tables = {name: table(results) for name, table in bottleneck_report.SECTIONS.items()}
    filled = document.fill_in(text, tables)
    assert all(table in filled for table in tables.values())
