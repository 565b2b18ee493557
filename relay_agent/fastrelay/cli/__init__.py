"""The ``fastrelay`` command.

A command's module is loaded when that command is asked for. It imports only typer at its top, and
what it does the work with inside the command: ``fastrelay --help`` has to be quick, and a relay has
no use for ffmpeg.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from fastrelay import __version__

_RELAY, _KERNEL, _MEDIA, _TRY = "Relay", "Forwarding in the kernel", "Media", "Try it"
_PANELS = {
    "relay": _RELAY,
    "validate": _RELAY,
    "explain": _RELAY,
    "certificate": _RELAY,
    "status": _RELAY,
    "top": _RELAY,
    "limit": _RELAY,
    "quota": _RELAY,
    "agent": _KERNEL,
    "maps": _KERNEL,
    "publish": _MEDIA,
    "subscribe": _MEDIA,
    "demo": _TRY,
    "version": _RELAY,
    "local": _TRY,
}
"""Of each command in the help. Its module has the same name, and in it the function, or an ``app``
of further commands."""
_YOUNG = 50_000
"""Objects made before the youngest are looked through for garbage. What is imported is none, and
at Python's 700 would be looked through a thousand times."""


@cache
def _command(name: str) -> Any:
    panel = _PANELS[name]
    module = import_module(f"fastrelay.cli.{name}")
    maker = typer.Typer(rich_markup_mode="markdown")
    if hasattr(module, "app"):
        maker.add_typer(module.app, name=name, rich_help_panel=panel)
    else:
        maker.command(rich_help_panel=panel)(getattr(module, name))
    return get_group(maker).commands[name]


class _Commands(Mapping[str, Any]):
    """typer's commands by their names, made when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_PANELS)

    def __len__(self) -> int:
        return len(_PANELS)


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]


app = typer.Typer(
    name="fastrelay",
    cls=_Group,
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


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastrelay {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Relays for Media over QUIC Transport, and the tools around them.

    To see it work: `fastrelay demo`. By hand, in three terminals: `fastrelay certificate` and
    `fastrelay relay --certificate cert.pem --private-key key.pem`;
    `fastrelay publish moqt://localhost:4443 --namespace live/demo --insecure test`;
    `fastrelay subscribe moqt://localhost:4443 --namespace live/demo --insecure --play`.
    """


def main() -> None:
    """The console script."""
    gc.set_threshold(_YOUNG)
    # What is left at the end goes with the process, without another look at it.
    atexit.register(gc.freeze)
    app()
