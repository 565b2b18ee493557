"""``fastrelay status``: what a running relay does, session by session."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.statuspage import Where, needed, status_page

if TYPE_CHECKING:
    from rich.table import Table

_KERNEL, _USER_SPACE = "[green]kernel[/green]", "user space"


def status(
    where: Where = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="The relay's own page, for programs.")
    ] = False,
) -> None:
    """Show a relay's sessions and tracks, and which of them the kernel serves.

    MoQT: draft and transport. Packets: those with media to that peer; kernel: the kernel's part of
    them. What the kernel does not serve says why: the cipher, the path, a key that is being
    changed, a subscriber that is behind. User space serves it then; nothing is missing there.
    """
    with needed():
        document = status_page(where)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console(emoji=False)  # of parts of IPv6 addresses, :b: and the like
    console.print(_headline(document), highlight=False)
    console.print(_sessions(document["sessions"]))
    for line in _objections(document["sessions"]):
        console.print(line, highlight=False)
    console.print(_tracks(document["tracks"], document["sessions"]))


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
    table = _table(*("peer", "MoQT", "pub", "sub", "RTT ms", "lost", "packets", "kernel", "by"))
    for session in sessions:
        path = session["path"]
        table.add_row(
            _peer(session),
            f"{session['draft']} {session['transport']}",
            str(len(session["publishes"])),
            str(len(session["subscriptions"])),
            f"{path['rtt_ms']:.1f}",
            str(path["packets_lost"]),
            *_packets(session),
            _sender(session),
        )
    return table


def _packets(session: dict[str, Any]) -> tuple[str, str]:
    """Media packets to it, and the kernel's part of them."""
    kernel, total = session["kernel_packets"], session["kernel_packets"] + session["user_packets"]
    return str(total), f"{kernel / total:.1%}" if total else "-"


def _sender(session: dict[str, Any]) -> str:
    if session["fast_path"]:
        return "user"
    reasons = [subscription["fast_path"] for subscription in session["subscriptions"]]
    served = reasons.count("")
    if served == len(reasons):
        return _KERNEL
    return f"{_KERNEL} {served} of {len(reasons)}" if served else "user"


def _objections(sessions: list[dict[str, Any]]) -> Iterator[str]:
    """Why user space serves, and whom."""
    found: dict[str, dict[str, None]] = {}
    for session in sessions:
        reasons = [subscription["fast_path"] for subscription in session["subscriptions"]]
        for reason in filter(None, [session["fast_path"], *reasons]):
            found.setdefault(reason, {})[_peer(session)] = None
    for reason, peers in found.items():
        yield f"user space, as {_plain(reason)}: {', '.join(peers)}"


def _peer(session: dict[str, Any]) -> str:
    return _plain(session["upstream"] or session["path"]["address"])


def _tracks(tracks: list[dict[str, Any]], sessions: list[dict[str, Any]]) -> Table:
    table = _table("track", "publishers", "subscribers", "groups", "bytes", "forwarded by")
    served = Counter(
        subscription["track"]
        for session in sessions
        for subscription in session["subscriptions"]
        if not subscription["fast_path"]
    )
    for track in tracks:
        label, subscribers = track["track"], track["subscribers"]
        sender = _KERNEL
        if track["fast_path"]:
            sender = f"{_USER_SPACE}: {_plain(track['fast_path'])}"
        elif served[label] != subscribers:
            sender += f": to {served[label]} of {subscribers} subscribers"
        table.add_row(
            _plain(label),
            str(len(track["publishers"])),
            str(subscribers),
            str(track["groups"]),
            str(track["bytes"]),
            sender,
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
