"""The ``fastrelay`` command.

Modules here import only typer at their top, and what they do the work with inside their
commands: ``fastrelay --help`` has to be quick, and a relay has no use for ffmpeg.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fastrelay import __version__
from fastrelay.cli import (
    agent,
    certificate,
    demo,
    explain,
    limit,
    local,
    maps,
    publish,
    quota,
    relay,
    status,
    subscribe,
    top,
    validate,
)

_RELAY, _KERNEL, _MEDIA, _TRY = "Relay", "Forwarding in the kernel", "Media", "Try it"

app = typer.Typer(
    name="fastrelay",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0 all went well; 1 a failure at run time; 2 wrong usage; "
        "65 a wrong MoQRelay; 66 a file is missing; 69 an address is in use or unreachable; "
        "77 no permission; 78 a wrong certificate or other configuration; "
        "130 or 143 cut short by a second signal."
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastrelay {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Relays for Media over QUIC Transport, and the tools around them.

    To see it work: `fastrelay demo`. By hand, in three terminals: `fastrelay certificate` and
    `fastrelay relay --certificate cert.pem --private-key key.pem`;
    `fastrelay publish moqt://localhost:4443 --namespace live/demo --insecure test`;
    `fastrelay subscribe moqt://localhost:4443 --namespace live/demo --insecure --play`.
    """


app.command(rich_help_panel=_RELAY)(relay.relay)
app.command(rich_help_panel=_RELAY)(validate.validate)
app.command(rich_help_panel=_RELAY)(explain.explain)
app.command(rich_help_panel=_RELAY)(certificate.certificate)
app.command(rich_help_panel=_RELAY)(status.status)
app.command(rich_help_panel=_RELAY)(top.top)
app.command(rich_help_panel=_RELAY)(limit.limit)
app.command(rich_help_panel=_RELAY)(quota.quota)
app.command(rich_help_panel=_KERNEL)(agent.agent)
app.command(rich_help_panel=_KERNEL)(maps.maps)
app.command(rich_help_panel=_MEDIA)(publish.publish)
app.command(rich_help_panel=_MEDIA)(subscribe.subscribe)
app.command(rich_help_panel=_TRY)(demo.demo)
app.add_typer(local.app, name="local", rich_help_panel=_TRY)


@app.command(rich_help_panel=_RELAY)
def version() -> None:
    """Print the version."""
    _print_version(True)


def main() -> None:
    """The console script."""
    app()
