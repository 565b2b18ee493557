"""Exit codes (those of BSD's sysexits.h, where one fits) and how failures are told."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer


class Exit(IntEnum):
    """How a command ends."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    """typer's own, for unknown options and the like."""
    DATA = 65
    """A `MoQRelay` is wrong."""
    NO_INPUT = 66
    UNAVAILABLE = 69
    """An address is in use, or a peer cannot be reached."""
    NO_PERMISSION = 77
    CONFIGURATION = 78
    """A certificate or another file is there, but wrong."""
    INTERRUPTED = 130
    """Cut short by a second SIGINT."""
    TERMINATED = 143
    """Cut short by a second SIGTERM."""


def fail(code: Exit, message: str) -> NoReturn:
    """Say it on standard error, and end."""
    typer.secho("error: ", err=True, fg=typer.colors.RED, bold=True, nl=False)
    typer.echo(message, err=True)
    raise typer.Exit(code)


@contextmanager
def told(what: str = "") -> Iterator[None]:
    """Turn failures of the system into a sentence and an exit code.

    :param what: what was tried, for errors that name no file.
    """
    try:
        yield
    except FileNotFoundError as error:
        fail(Exit.NO_INPUT, f"{error.filename or what}: there is no such file")
    except PermissionError as error:
        fail(Exit.NO_PERMISSION, _permission(error, what))
    except IsADirectoryError as error:
        fail(Exit.NO_INPUT, f"{error.filename or what}: is a directory; name a file in it")
    except OSError as error:
        subject = error.filename or what
        if error.errno == errno.EADDRINUSE:
            fail(
                Exit.UNAVAILABLE,
                f"{subject}: the port is in use; stop what listens there "
                "(ss -lnptu shows it) or choose another port",
            )
        if error.errno == errno.EADDRNOTAVAIL:
            fail(
                Exit.UNAVAILABLE,
                f"{subject}: this machine does not have that address; ip address lists its own",
            )
        fail(Exit.FAILURE, f"{subject}: {error.strerror or error}")


def _permission(error: PermissionError, what: str) -> str:
    subject = str(error.filename or what)
    if re.search(r":\d+$", subject):
        return f"{subject}: no permission; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return f"{subject}: no permission; change its owner or mode"
