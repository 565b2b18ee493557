"""What the commands of this package have in common: root, tools, errors for people."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable

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
    try:
        run(arguments(), console)
    except LocalError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0
