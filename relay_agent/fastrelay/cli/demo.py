"""``fastrelay demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.forwarding import FastPath, FastPathOption, NoEncryptionOption
from fastrelay.cli.links import Delay, Loss, Rate, shape_of


def demo(
    seconds: Annotated[
        float, typer.Option(min=5, max=3600, help="How long the viewers watch.")
    ] = 30,
    viewers: Annotated[int, typer.Option(min=1, max=50, help="How many viewers there are.")] = 5,
    fast_path: FastPathOption = FastPath.AUTO,
    insecure_no_encryption: NoEncryptionOption = False,
    rate: Rate = None,
    loss: Loss = "0",
    delay: Delay = "0",
    source: Annotated[
        str, typer.Option(help="What is published: 'test', or what ffmpeg reads.")
    ] = "test",
    output: Annotated[
        Path, typer.Option(help="Directory for recordings, logs and the contact sheet; emptied.")
    ] = Path("out/demo"),
    name: Annotated[str, typer.Option(help="Part of the namespaces' names.")] = "demo",
    third_party: Annotated[
        Path | None,
        typer.Option(
            envvar="FASTRELAY_THIRD_PARTY_PYTHON",
            help="A Python that has aiomoqt and moq-rs; without it all viewers are our own.",
        ),
    ] = None,
) -> None:
    """Watch real video go from a publisher through the relay to several viewers.

    Everything runs in network namespaces of this machine (root needed) and is removed at the
    end, also after Ctrl-C. One viewer joins late, one leaves early. The last words are a
    verdict; exit code 0 means that every frame at every viewer is the publisher's, and, with the
    fast path, that each viewer got at least 95 % of its media packets from the kernel once that
    served it.
    """
    from rich.console import Console

    from fastrelay.local.demo import conductor, plan
    from fastrelay.local.state import Store
    from fastrelay.local.topology import LocalError

    shape = shape_of(rate, loss, delay)
    if os.geteuid():
        fail(Exit.NO_PERMISSION, "network namespaces need root; run this with sudo")
    console = Console()
    if third_party and (problem := plan.third_party_problem(third_party)):
        console.print(f"no third-party viewers: {third_party}: {problem}", highlight=False)
        third_party = None
    options = conductor.DemoOptions(
        seconds,
        viewers,
        shape,
        output,
        name,
        source,
        third_party,
        fast_path.mode,
        insecure_no_encryption,
    )
    try:
        passed = conductor.run(options, console, Store())
    except LocalError as error:
        fail(Exit.FAILURE, str(error))
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    raise typer.Exit(Exit.OK if passed else Exit.FAILURE)
