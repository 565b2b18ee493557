"""Failures of the system in words and numbers."""

from __future__ import annotations

import errno
import os

import pytest
import typer

from fastrelay.cli.exits import Exit, fail, told


def failure(number: int, filename: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), filename)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (failure(errno.ENOENT, "a.pem"), Exit.NO_INPUT, "a.pem: there is no such file"),
        (failure(errno.ENOENT), Exit.NO_INPUT, "what: there is no such file"),
        (failure(errno.EISDIR, "a"), Exit.NO_INPUT, "a: is a directory; name a file in it"),
        (failure(errno.EACCES, "a.pem"), Exit.NO_PERMISSION, "change its owner or mode"),
        (failure(errno.EACCES, "[::]:443"), Exit.NO_PERMISSION, "CAP_NET_BIND_SERVICE"),
        (failure(errno.EADDRINUSE, "[::]:443"), Exit.UNAVAILABLE, "[::]:443: the port is in use"),
        (failure(errno.EADDRNOTAVAIL, "192.0.2.1:1"), Exit.UNAVAILABLE, "does not have that"),
        (failure(errno.ENOSPC, "log"), Exit.FAILURE, "log: No space left on device"),
    ],
)
def test_system_errors(
    error: OSError, code: Exit, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, told("what"):
        raise error
    assert caught.value.exit_code == code
    assert message in capsys.readouterr().err


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), told("what"):
        raise ZeroDivisionError


def test_failures_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        fail(Exit.DATA, "no")
    assert caught.value.exit_code == 65
    assert capsys.readouterr().err == "error: no\n"
