"""What the commands of this package have in common: root, tools, errors for people, and an end that
leaves nothing."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console

from fastrelay.local.topology import LocalError


def run_as_command(
    arguments: Callable[[], argparse.Namespace], run: Callable[[argparse.Namespace, Console], None]
) -> int:
    """:return: the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if os.geteuid():
        console.print("network namespaces need root; run this with sudo")
        return 1
    if not shutil.which("nsenter"):
        console.print("nsenter is missing; 'make setup' installs it")
        return 1
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    try:
        run(arguments(), console)
    except KeyboardInterrupt:
        console.print("[red]interrupted[/red]")
        return 130
    except LocalError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0


def _interrupt(*_: object) -> NoReturn:
    """SIGTERM ends a command as SIGINT does. A second one, such as make's beside that of whoever
    ends make, does not end the tidying up; a second SIGINT does."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise KeyboardInterrupt
