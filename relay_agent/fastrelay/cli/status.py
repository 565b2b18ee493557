"""``fastrelay status``: what a running relay does, session by session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail

if TYPE_CHECKING:
    from rich.table import Table

TIMEOUT = 5.0


def status(
    where: Annotated[
        str,
        typer.Argument(
            metavar="URL|NAME",
            help="The relay's status port, like `http://10.0.0.2:9464`, or the name of what "
            "`fastrelay local up` started.",
        ),
    ] = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="The relay's own page, for programs.")
    ] = False,
) -> None:
    """Show a relay's sessions and tracks, and which of them the kernel serves.

    A session that the kernel does not serve says why: its cipher, its path, a key that is being
    changed. Such a session is served by user space; nothing is missing there.
    """
    document = _from_url(where) if "://" in where else _from_stack(where)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console()
    console.print(_headline(document), highlight=False)
    console.print(_sessions(document["sessions"]))
    console.print(_tracks(document["tracks"]))


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


def _headline(document: dict[str, Any]) -> str:
    process, relay = document["process"], document["relay"]
    listen = process["listen"]
    lines = [
        f"relay {relay['id']}  {process['version']}, up {process['uptime_seconds']:.0f} s, "
        f"{'ready' if process['ready'] else 'not ready: ' + str(process['reason'])}, "
        f"port {listen[1]}"
    ]
    lines += process.get("warnings", [])
    if fast_path := document.get("fast_path"):
        reason = f": {fast_path['reason']}" if fast_path["reason"] else ""
        kernel, user = fast_path["kernel_packets"], fast_path["user_packets"]
        lines.append(
            f"fast path {fast_path['state']}{reason}; "
            f"media packets: {kernel} by the kernel, {user} by user space"
        )
    return "\n".join(lines)


def _sessions(sessions: list[dict[str, Any]]) -> Table:
    table = _table(
        *("peer", "draft", "transport", "publishes", "subscribes", "RTT ms", "lost"),
        *("packets", "by kernel", "sent by"),
    )
    for session in sessions:
        reason = session.get("fast_path")
        table.add_row(
            session["upstream"] or session["address"],
            str(session["draft"]),
            session["transport"],
            str(len(session["publishes"])),
            str(len(session["subscriptions"])),
            f"{session['path']['rtt_ms']:.1f}",
            str(session["path"]["packets_lost"]),
            *_packets(session),
            _sender(reason),
        )
    return table


def _packets(session: dict[str, Any]) -> tuple[str, str]:
    """Media packets to it, and the kernel's part of them."""
    kernel, total = session["kernel_packets"], session["kernel_packets"] + session["user_packets"]
    return str(total), f"{kernel / total:.1%}" if total else "-"


def _sender(reason: str | None) -> str:
    if reason == "":
        return "[green]kernel[/green]"
    return f"user space: {_plain(reason)}" if reason else "user space"


def _tracks(tracks: list[dict[str, Any]]) -> Table:
    table = _table("track", "publishers", "subscribers", "groups", "bytes", "forwarded by")
    for track in tracks:
        table.add_row(
            _plain(track["track"]),
            str(len(track["publishers"])),
            str(track["subscribers"]),
            str(track["groups"]),
            str(track["bytes"]),
            _sender(track.get("fast_path")),
        )
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    *narrow, last = headings
    for heading in narrow:
        table.add_column(heading, no_wrap=True)
    table.add_column(last, overflow="fold")
    return table


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
