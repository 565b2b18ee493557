"""The status page of a running relay, for commands that show it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fastrelay.cli import completions
from fastrelay.cli.exits import Exit, fail

TIMEOUT = 5.0

Where = Annotated[
    str,
    typer.Argument(
        metavar="URL|NAME",
        help="The relay's status port, like `http://10.0.0.2:9464`, or the name of what "
        "`fastrelay local up` started.",
        autocompletion=completions.stacks,
    ),
]


def status_page(where: str) -> dict[str, Any]:
    """What the relay says of itself; the command ends with a message if it cannot be had."""
    return _from_url(where) if "://" in where else _from_stack(where)


def _from_url(url: str) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    if urlsplit(url).scheme not in ("http", "https"):
        fail(Exit.USAGE, f"{url!r} is no status port; write it like http://10.0.0.2:9464")
    page = url.rstrip("/")
    if not urlsplit(page).path:
        page += "/statusz"
    try:
        with urlopen(page, timeout=TIMEOUT) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        error.close()
        fail(Exit.UNAVAILABLE, f"{page}: {error.reason}")
    except URLError as error:
        fail(Exit.UNAVAILABLE, f"{page}: {error.reason}")
    except (OSError, ValueError, TypeError) as error:
        fail(Exit.UNAVAILABLE, f"{page} is no status page of a relay: {error}")


def _from_stack(name: str) -> dict[str, Any]:
    from fastrelay.local import report
    from fastrelay.local.state import Store

    store = Store()
    try:
        state = store.load(name)
        if state is None:
            fail(Exit.UNAVAILABLE, f"{name!r} is not up; 'fastrelay local status' shows what is")
        page = report.status_page(store, state)
    except ValueError as error:
        fail(Exit.FAILURE, str(error))
    except PermissionError:
        fail(Exit.NO_PERMISSION, "network namespaces need root; run this with sudo")
    if page is None:
        fail(Exit.UNAVAILABLE, f"the relay of {name!r} does not answer; see its log")
    return page
