"""``fastrelay explain``: the resource, its defaults and its conditions, from the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli import completions
from fastrelay.cli.exits import Exit, fail

if TYPE_CHECKING:
    from fastrelay.api.reference import Field


def explain(
    topic: Annotated[
        str,
        typer.Argument(
            help="A path like `spec.cache.maxSize`, or `conditions`.",
            autocompletion=completions.topics,
        ),
    ] = "spec",
) -> None:
    """Describe the fields of a `MoQRelay`.

    Without an argument: the whole spec as a commented YAML file that can be used as it is.
    """
    from fastrelay.api.reference import conditions, document, lookup

    if topic == "conditions":
        typer.echo(conditions())
        return
    if topic in ("spec", ""):
        typer.echo(document(), nl=False)
        return
    try:
        field = lookup(topic)
    except LookupError as error:
        fail(Exit.USAGE, str(error))
    _print(field)


def _print(field: Field) -> None:
    typer.echo(f"{field.path}: {field.description}")
    typer.echo(f"  write    {field.fits}")
    if field.default is not None:
        typer.echo(f"  default  {field.default}")
    for child in field.children:
        typer.echo(f"  .{child.name}: {child.description}")
