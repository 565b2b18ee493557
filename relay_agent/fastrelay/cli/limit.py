"""``fastrelay limit``: what a member may be sent, set by hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fastrelay.cli import completions
from fastrelay.cli.amounts import automatic_or_level, automatic_or_rate
from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.statuspage import ENVIRONMENT, needed, set_limits


def limit(
    member: Annotated[
        str,
        typer.Argument(
            metavar="MEMBER",
            help="Its address, as `fastrelay top` shows it, or `all`: every subscriber there is "
            "now.",
            autocompletion=completions.members,
        ),
    ],
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Bytes a second that it is sent at most, like `2M` or `250k`; `0`: no limit; "
            "`automatic`: the relay decides.",
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="How many priority bands are dropped, from the last one up, `0` to `4`: `1.5` is "
            "the last one and half of the groups of the one before; `automatic`: the relay "
            "decides.",
        ),
    ] = None,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="The relay decides on both again.")
    ] = False,
    at: Annotated[
        str,
        typer.Option(
            "--relay",
            metavar="SOCKET|NAME",
            help="The relay's control socket (`fastrelay relay --control`), or the name of what "
            "`fastrelay local up` started.",
            envvar=ENVIRONMENT,
            autocompletion=completions.stacks,
        ),
    ] = "local",
) -> None:
    """Set by hand how much of its tracks a member gets.

    What is not given stays as it is. It counts from the next stream or datagram on; what is under
    way is not cut. It lasts until it is set again or the session ends.
    """
    wanted: dict[str, Any] = {"rate": None, "level": None} if automatic else {}
    try:
        if rate is not None:
            wanted["rate"] = automatic_or_rate(rate)
        if level is not None:
            wanted["level"] = automatic_or_level(level)
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    if not wanted:
        fail(Exit.USAGE, "give --rate, --level or --automatic")
    with needed():
        changed, problem = set_limits(at, {"member": member, **wanted})
    if problem:
        fail(Exit.FAILURE, problem)
    for address in changed:
        typer.echo(address)
