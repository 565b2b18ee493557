"""The reference pages: ``python -m fastrelay.cli.reference docs/cli`` writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from typer.cli import get_docs_for_click
from typer.main import get_command

from fastrelay.api.reference import document
from fastrelay.cli import app


def pages() -> dict[str, str]:
    """File names and texts."""
    command = get_command(app)
    context: Any = command.make_context("fastrelay", ["version"])
    return {
        "fastrelay.md": get_docs_for_click(obj=command, ctx=context).strip() + "\n",
        "moqrelay.yaml": document(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(sys.argv[1]) / name).write_text(text)
