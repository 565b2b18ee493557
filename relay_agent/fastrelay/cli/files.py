"""Reading a `MoQRelay` for a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail, told

if TYPE_CHECKING:
    from fastrelay.api.spec import MoQRelay

SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A `MoQRelay` in YAML or JSON (`-` is standard input). Options win over it.",
        rich_help_panel="Resource",
    ),
]
SpecName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Which one, if the file holds several.", rich_help_panel="Resource"
    ),
]


def read(path: Path, name: str | None = None) -> MoQRelay:
    """The resource, or the end of the command with all that is wrong."""
    from fastrelay.api.load import SpecError, load, load_file

    with told(str(path)):
        try:
            if str(path) == "-":
                return load(typer.get_binary_stream("stdin").read(), source="-", name=name)
            return load_file(path, name)
        except SpecError as error:
            fail(Exit.DATA, str(error))
