import dataclasses
import io
import json

import pytest
from bench import document, report
from rich.console import Console

ROUNDS = [
    {"ours": {"cpu_us@50": 60.0, "join_cpu_ms": 1.0}, "theirs": {"cpu_us@50": 30.0}},
    {"ours": {"cpu_us@50": 120.0, "cpu_us@1": 500.0}, "theirs": {"cpu_us@50": 80.0}},
    {"ours": {"cpu_us@50": 90.0}},
]


def test_ratios_are_formed_within_a_round():
    assert report.ratios(ROUNDS, "cpu_us@50", "ours", "theirs") == [2.0, 1.5]


def test_figures_have_one_order():
    assert report.figures_in(ROUNDS) == ["cpu_us@1", "cpu_us@50", "join_cpu_ms"]


@pytest.mark.parametrize(("values", "text"), [([64.2], "64"), ([70, 61, 64], "64 (61-70)")])
def test_spread(values, text):
    assert report.spread(values, 0) == text


def test_the_table_shows_what_is_there():
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(report.table(ROUNDS, ["ours", "theirs"], [46.0]))
    text = console.export_text()
    assert "CPU per object, relay's process, 50 subscribers (µs)" in text
    assert "1.75 (1.50-2.00)" in text
    assert "needs 46" in text


def results() -> report.Results:
    return report.Results(
        relays={"ours": "a", "theirs": "b"},
        rounds=ROUNDS,
        aioquic_us=[46.0],
        python={},
        distributions={"ours@1:first": [1.0, 2.0]},
        parameters={"rates": {"1": 250.0}, "seconds": 1.0, "subscribers": [1]},
    )


def test_results_are_kept(tmp_path):
    results().save(tmp_path)
    assert report.Results.load(tmp_path / "results.json") == results_at(tmp_path)
    assert "ours / theirs" in (tmp_path / "results.txt").read_text()


def results_at(directory) -> report.Results:
    when = json.loads((directory / "results.json").read_text())["when"]
    return dataclasses.replace(results(), when=when)


def test_only_what_is_marked_in_a_document_is_replaced():
    text = "before\n<!-- costs -->\nold\n<!-- end -->\nafter\n"
    tables = {name: table(results()) for name, table in document.SECTIONS.items()}
    filled = document.fill_in(text, tables)
    assert filled.startswith("before\n<!-- costs -->\n\n| ")
    assert filled.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in filled
    assert "| 90.0 (60.0-120.0) |" in filled
    assert document.fill_in(filled, tables) == filled


def goals_of(*rounds: dict[str, dict[str, float]]) -> str:
    return document.goals(dataclasses.replace(results(), rounds=list(rounds)))


def test_a_goal_is_reached_or_missed():
    text = goals_of({"kernel": {"cpu_us@50": 9.0, "calls@50": 0.5}})
    assert "| at most 8.0 µs | 9.0 µs | **missed**, 1.12 x |" in text
    assert "| at most 0.60 | 0.50 | reached |" in text
    assert "not measured" in text


def test_a_goal_that_is_missed_once_is_missed():
    one, two = ({"kernel": {"cpu_us@50": value}} for value in (7.0, 16.0))
    text = goals_of(one, two)
    assert (
        "| at most 8.0 µs | 11.5 (7.0-16.0) µs | **missed** in 1 of 2 rounds, 1.44 (0.88-2.00) x |"
        in text
    )
    assert "**missed**, 2.00 (2.00-2.00) x" in goals_of(two, two)
    assert "| 7.0 (7.0-7.0) µs | reached |" in goals_of(one, one)


def test_the_floor_of_the_same_round_is_the_measure():
    figure = "first_p50_us@1"
    quick = {"kernel": {figure: 10.0}, "floor": {figure: 12.0}}
    slow = {"kernel": {figure: 20.0}, "floor": {figure: 25.0}}
    without = {"kernel": {figure: 99.0}}
    text = goals_of(quick, slow, without)
    assert "| at most 18 (12-25) µs | 15 (10-20) µs | reached |" in text
