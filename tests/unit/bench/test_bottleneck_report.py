"""What bench/bottleneck.py found, kept and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import bottleneck_report, document
from bench.bottleneck_found import Layered, Member, Phase, Results

LAYERS = ("audio", "base", "middle", "high")


def member() -> Member:
    return Member(
        {layer: Layered(20, 0, 0, 0, 0.03, 0.1, 0.2) for layer in LAYERS[:2]}
        | {layer: Layered(0, 19, 1, 1, *[float("inf")] * 3) for layer in LAYERS[2:]},
        [(0.0, 0.0), (0.1, 0.02), (0.2, 0.1)],
        share=0.25,
        used=0.9,
        limits=[(0.0, 0.0, 0.0), (1.0, 1.9e6, 1.5)],
        curves={"audio": [(0.0, 0.03), (0.1, 0.04)]},
        cpu=(0.05, 0.01),
    )


@pytest.fixture
def results() -> Results:
    phase = Phase(
        180.0,
        {kind: member() for kind in ("streams", "datagrams")},
        Layered(400, 0, 0, 0, 0.01, 0.02, 0.03),
        Layered(800, 0, 0, 0, 0.01, 0.025, 0.04),
        {"relay": (0.3, 0.02)},
    )
    return Results(
        {"shared": 4e6},
        {"kernel": phase, "toggling": phase},
        {"Delay": [1.9e6, 1.7e6]},
        {"Cubic": {"bbr": [0.2e6, 3.6e6]}},
    )


def test_they_are_kept(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "bottleneck.json")
    kept = Results.load(tmp_path / "bottleneck.json")
    for name, table in bottleneck_report.SECTIONS.items():
        assert table(kept) == table(results), name


def test_it_is_said_what_came_how_late_and_who_waited(results: Results) -> None:
    table = bottleneck_report.SECTIONS["kernel"](results)
    assert "| kernel, 180 s | streams | datagrams |" in table
    assert "| base: groups whole / dropped / cut | 20 / 0 / 0 | 20 / 0 / 0 |" in table
    assert "| high: p50 / p99 / latest (ms) | - | - |" in table
    assert "| streams that stopped without an end | 2 | - |" in table
    assert "| queue at the bottleneck: p50 / p99 (ms) | 20 / 100 | 20 / 100 |" in table
    assert "| its CPU: ran / waited (ms/s) | 50 / 10 | 50 / 10 |" in table


def test_it_is_said_what_the_others_got(results: Results) -> None:
    table = bottleneck_report.others(results)
    assert "|  | kernel | toggling |" in table
    assert "| groups whole / dropped / cut, before | 400 / 0 / 0 | 400 / 0 / 0 |" in table
    assert "| p50 / p99 / latest (ms), meanwhile | 10 / 25 / 40 | 10 / 25 / 40 |" in table
    assert "| CPU of relay: ran / waited (ms/s) | 300 / 20 | 300 / 20 |" in table


def test_shares_are_judged(results: Results) -> None:
    fair = bottleneck_report.shares(results)
    assert "| two members behind 4 Mbit/s, Delay | 1.90 and 1.70 | 11% apart, reached |" in fair
    assert "| 0.20 for the member, 3.60 for TCP | nobody starves: **missed** |" in fair
    results.shares, results.tcp = {"Cubic": [1.9e6, 1.4e6]}, {"Delay": {"cubic": [1.0e6, 2.8e6]}}
    unfair = bottleneck_report.shares(results)
    assert "26% apart, **missed**" in unfair
    assert "| 1.00 for the member, 2.80 for TCP | nobody starves: reached |" in unfair


def test_what_was_not_measured_is_said_to_be_so(results: Results) -> None:
    nothing = Results({"shared": 4e6})
    for name, table in bottleneck_report.SECTIONS.items():
        assert name == "run" or "Not measured" in table(nothing)
    assert "Not measured" in bottleneck_report.SECTIONS["user"](results)


def test_the_document_has_a_mark_for_each_table(results: Results) -> None:
    text = (Path(__file__).parents[3] / "docs" / "congestion.md").read_text()
    tables = {name: table(results) for name, table in bottleneck_report.SECTIONS.items()}
    filled = document.fill_in(text, tables)
    assert all(table in filled for table in tables.values())
