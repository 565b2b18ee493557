"""The pages of a running relay, for commands that show them, and its control socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from fastrelay.cli import completions
from fastrelay.cli.exits import Exit, fail

TIMEOUT = 5.0
ENVIRONMENT = "FASTRELAY_RELAY"
"""Which relay is meant where the command line names none."""

Where = Annotated[
    str,
    typer.Argument(
        metavar="URL|SOCKET|NAME",
        help="The relay's status port, like `http://10.0.0.2:9464`, its control socket "
        "(`fastrelay relay --control`), or the name of what `fastrelay local up` started.",
        envvar=ENVIRONMENT,
        autocompletion=completions.stacks,
    ),
]


class UnreachableError(Exception):
    """What was asked for cannot be had; ``code``: how a command ends that needs it."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def needed() -> Iterator[None]:
    """The command ends with a message where something is :class:`UnreachableError`."""
    try:
        yield
    except UnreachableError as error:
        fail(error.code, str(error))


def status_page(where: str) -> dict[str, Any]:
    """What the relay says of itself.

    :raises UnreachableError: the page cannot be had.
    """
    if "://" in where:
        return _from_url(where)
    if "/" in where:
        status, document = _exchange(Path(where), "GET", "/statusz")
        if status != HTTPStatus.OK or "sessions" not in document:
            raise UnreachableError(Exit.UNAVAILABLE, f"{where} is no control socket of a relay")
        return document
    return _from_stack(where)


def set_limits(where: str, wanted: dict[str, Any]) -> tuple[list[str], str]:
    """What a person wants of a member or of all, told to the relay.

    :returns: the members that it concerned, and why there are none.
    :raises UnreachableError: there is no way to tell it.
    """
    status, answer = _exchange(_control_socket(where), "POST", "/limits", wanted)
    return list(answer.get("changed", ())), "" if status == HTTPStatus.OK else str(
        answer.get("error", status)
    )


def _control_socket(where: str) -> Path:
    if "://" in where:
        raise UnreachableError(
            Exit.USAGE,
            "limits are not set through the status port; name the relay's control socket "
            "(fastrelay relay --control SOCKET)",
        )
    if "/" in where:
        return Path(where)
    from fastrelay.local.stack import control_socket
    from fastrelay.local.state import Store

    store = Store()
    try:
        if store.load(where) is None:
            raise UnreachableError(
                Exit.UNAVAILABLE, f"{where!r} is not up; 'fastrelay local status' shows what is"
            )
    except ValueError as error:
        raise UnreachableError(Exit.FAILURE, str(error)) from error
    return control_socket(store, where)


def _exchange(
    path: Path, method: str, target: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    import socket
    from http.client import HTTPConnection, HTTPException

    from fastrelay.relay.unixpath import address_of

    connection = HTTPConnection("relay", timeout=TIMEOUT)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(TIMEOUT)
    try:
        with address_of(path) as address:
            connection.sock.connect(address)
        connection.request(method, target, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, dict(json.loads(answer.read()))
    except PermissionError as error:
        raise UnreachableError(
            Exit.NO_PERMISSION, f"{path}: only the relay's own user and root may use it"
        ) from error
    except OSError as error:
        raise UnreachableError(
            Exit.UNAVAILABLE, f"{path}: {error.strerror or error}; is the relay running?"
        ) from error
    except (HTTPException, ValueError, TypeError) as error:
        raise UnreachableError(
            Exit.UNAVAILABLE, f"{path} is no control socket of a relay: {error}"
        ) from error
    finally:
        connection.close()


def _from_url(url: str) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    if urlsplit(url).scheme not in ("http", "https"):
        raise UnreachableError(
            Exit.USAGE, f"{url!r} is no status port; write it like http://10.0.0.2:9464"
        )
    page = url.rstrip("/")
    if not urlsplit(page).path:
        page += "/statusz"
    try:
        with urlopen(page, timeout=TIMEOUT) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        error.close()
        raise UnreachableError(Exit.UNAVAILABLE, f"{page}: {error.reason}") from error
    except URLError as error:
        raise UnreachableError(Exit.UNAVAILABLE, f"{page}: {error.reason}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UnreachableError(
            Exit.UNAVAILABLE, f"{page} is no status page of a relay: {error}"
        ) from error


def _from_stack(name: str) -> dict[str, Any]:
    from fastrelay.local import report
    from fastrelay.local.state import Store

    store = Store()
    try:
        state = store.load(name)
        if state is None:
            raise UnreachableError(
                Exit.UNAVAILABLE, f"{name!r} is not up; 'fastrelay local status' shows what is"
            )
        page = report.status_page(store, state)
    except ValueError as error:
        raise UnreachableError(Exit.FAILURE, str(error)) from error
    except PermissionError as error:
        raise UnreachableError(
            Exit.NO_PERMISSION, "network namespaces need root; run this with sudo"
        ) from error
    if page is None:
        raise UnreachableError(
            Exit.UNAVAILABLE, f"the relay of {name!r} does not answer; see its log"
        )
    return page
