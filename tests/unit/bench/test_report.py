import io
import json

import pytest
from bench import report
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
    assert "CPU per delivered object, 50 subscribers (µs)" in text
    assert "1.75 (1.50-2.00)" in text
    assert "needs 46" in text


def test_results_are_kept(tmp_path):
    report.save(tmp_path, ROUNDS, {"ours": "a", "theirs": "b"}, [46.0], {"rate": 50})
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["rounds"] == ROUNDS
    assert "ours / theirs" in (tmp_path / "results.txt").read_text()
