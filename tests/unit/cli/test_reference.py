"""The reference pages in docs/cli say what the program says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastrelay.cli.reference import pages

DIRECTORY = Path(__file__).parents[3] / "docs" / "cli"


@pytest.mark.parametrize(("name", "text"), pages().items(), ids=list(pages()))
def test_page_is_up_to_date(name: str, text: str) -> None:
    assert (DIRECTORY / name).read_text() == text, (
        "options or fields changed; run: python -m fastrelay.cli.reference docs/cli"
    )
