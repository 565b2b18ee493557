"""The reference pages: ``python -m fastrelay.cli.reference docs/cli`` writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from typer.cli import get_docs_for_click
from typer.main import get_command

from fastrelay.api.conditions import REASONS, ConditionType
from fastrelay.api.reference import document
from fastrelay.cli import app
from fastrelay.fastpath.bands import BandCounters
from fastrelay.quic.counters import EndpointCounters
from fastrelay.quic.measurements import Measurements
from fastrelay.relay.delays import DelayStatistics
from fastrelay.relay.member_metrics import MemberCounts, MemberState
from fastrelay.relay.metrics import KernelCounters, Metrics, QuotaCounters, State
from fastrelay.relay.ports import Counters

MEMBER = MemberState(
    address="",
    measured=Measurements(0, 0, 0, 0, 0, 0, False, 0, 0, 0, 0, 0, 0),
    rate=1,
    level=0,
    counted=BandCounters(),
    delay=DelayStatistics(0, 0, 0, 0, 0, 0, 0),
    rank=0,
)
"""One about whom all is known."""


def pages() -> dict[str, str]:
    """File names and texts."""
    command = get_command(app)
    context: Any = command.make_context("fastrelay", ["version"])
    return {
        "fastrelay.md": get_docs_for_click(obj=command, ctx=context).strip() + "\n",
        "moqrelay.yaml": document(),
        "metrics.md": _metrics(),
        "conditions.md": _conditions(),
    }


def _conditions() -> str:
    lines = ["# Conditions", "", "What the operator says of a `MoQRelay`, and what to do."]
    for kind in ConditionType:
        lines += ["", f"## {kind}", "", "| status | reason | meaning | what to do |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {each.status} | {each.name} | {each.meaning} | {each.action} |"
            for each in REASONS
            if each.type is kind
        ]
    return "\n".join(lines) + "\n"


def _metrics() -> str:
    # One sample of everything that has labels, so that the page can name them.
    state = State(
        Counters(requests_rejected={"": 0}),
        EndpointCounters(),
        half_open=0,
        socket_drops=0,
        sessions={("", ""): 0},
        upstreams={"": False},
        draining=False,
        certificate_expires=0.0,
        kernel=KernelCounters(refused={"": 0}, programs={"": 0}),
        quota=QuotaCounters(refused={"": 0}),
        counts=MemberCounts({"": 0}, {0: 0}),
        members=[MEMBER],
    )
    metrics = Metrics(lambda: state)
    metrics.sessions_opened["", ""] = metrics.sessions_closed[""] = metrics.drops["", ""] = 0
    lines = [
        "# Metrics",
        "",
        "What `/metrics` of a relay has, beside the usual `process_*`.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        if family.name.startswith("fastrelay_") and not family.name.endswith("_created"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = sorted({label for sample in family.samples for label in sample.labels})
            shown = ", ".join(label for label in labels if label != "le")
            lines.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(sys.argv[1]) / name).write_text(text)
