"""Options that make viewers' links as bad as real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail

if TYPE_CHECKING:
    from fastrelay.local.shaping import Shape

_PANEL = "Viewers' links"

Rate = Annotated[
    str | None,
    typer.Option(help="Bandwidth in each direction, like 3mbit.", rich_help_panel=_PANEL),
]
Loss = Annotated[
    str, typer.Option(help="Packets lost in each direction, like 2%.", rich_help_panel=_PANEL)
]
Delay = Annotated[
    str, typer.Option(help="Delay in each direction, like 40ms.", rich_help_panel=_PANEL)
]


def shape_of(rate: str | None, loss: str, delay: str) -> Shape:
    """The shape that the options ask for; a wrong one ends the command with advice."""
    from fastrelay.local import shaping

    try:
        return shaping.Shape(
            None if rate is None else shaping.parse_rate(rate),
            shaping.parse_loss(loss),
            shaping.parse_delay(delay),
        )
    except ValueError as error:
        fail(Exit.USAGE, str(error))
