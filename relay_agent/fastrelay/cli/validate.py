"""``fastrelay validate``: is this `MoQRelay` right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastrelay.cli.files import SpecName, read


def validate(
    file: Annotated[
        Path,
        typer.Option(
            "--file", "-f", metavar="FILE", help="The resource to check (`-`: standard input)."
        ),
    ],
    name: SpecName = None,
) -> None:
    """Say what is wrong with a `MoQRelay`.

    Every wrong field is told on a line of its own: file, line, path, value, and what to write
    instead. Nothing is started and no other file is read.
    """
    relay = read(file, name)
    typer.echo(f"{file}: MoQRelay {relay.metadata.name} is right")
