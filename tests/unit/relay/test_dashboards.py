"""Dashboards ask for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fastrelay.cli.reference import pages

DASHBOARDS = Path(__file__).parents[3] / "deploy/helm/fastrelay/files/dashboards"
VARIABLES = re.compile(r"\$(__rate_interval|[a-z]+)")
PANELS = {"EWMA", "delay", "jitter", "moving average", "variance", "deviation"}
"""What the thesis shows."""


def dashboard(name: str) -> Any:
    return json.loads((DASHBOARDS / f"{name}.json").read_text())


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Kinds and labels of a relay's metrics, by name."""
    rows = re.findall(r"^\| `(\S+)` \| (\S+) \| (.*?) \|", pages()["metrics.md"], re.MULTILINE)
    return {name: (kind, set(labels.split(", "))) for name, kind, labels in rows}


@pytest.mark.parametrize("name", ["relays", "members"])
def test_every_query_is_for_what_a_relay_has(name: str) -> None:
    board, metrics = dashboard(name), exposed()
    variables = {each["name"] for each in board["templating"]["list"]} | {"__rate_interval"}
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            assert set(VARIABLES.findall(query)) <= variables, panel["title"]
            # What is compared is a label.
            for asked in re.findall(r"\bfastrelay_\w++(?![!=])", query):
                found = asked.removesuffix("_bucket")
                assert found in metrics, (panel["title"], asked)
                kind, labels = metrics[found]
                assert (kind == "histogram") == asked.endswith("_bucket"), asked
                assert (kind == "counter") == asked.endswith("_total"), asked
                if kind != "gauge":
                    assert f"rate({asked}" in query
                if "member=~" in query:
                    assert "member" in labels, asked
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"pod", "namespace"}
            assert shown <= set(re.findall(r"\w+", query)), panel["title"]


@pytest.mark.parametrize("path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def test_panels_are_whole_and_beside_each_other(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"fastrelay-{path.stem}"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_six_panels_are_there() -> None:
    titles = [panel["title"] for panel in dashboard("members")["panels"]]
    assert all(any(title.endswith(each) for title in titles) for each in PANELS), titles
