"""The reference pages in docs/cli say what the program says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastrelay.agent.instance import Reason
from fastrelay.cli.reference import pages
from fastrelay.fastpath.handing import Cause

DOCS = Path(__file__).parents[3] / "docs"
DIRECTORY = DOCS / "cli"


@pytest.mark.parametrize(("name", "text"), pages().items(), ids=list(pages()))
def test_page_is_up_to_date(name: str, text: str) -> None:
    assert (DIRECTORY / name).read_text() == text, (
        "options or fields changed; run: python -m fastrelay.cli.reference docs/cli"
    )


def test_the_runbook_has_every_reason_of_a_node() -> None:
    runbook = (DOCS / "operations.md").read_text().partition("| reason on a node |")[2]
    listed = {
        reason
        for line in runbook.partition("\n\n")[0].splitlines()
        for reason in line.split("|")[1:2]
        for reason in reason.strip().split(", ")
    }
    assert {*Reason, *Cause} - {Reason.ATTACHED} <= listed
