"""``fastrelay maps``: what a relay and the kernel share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli import completions
from fastrelay.cli.exits import Exit, fail

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {
    "A_VLAN": "to the pod: with a VLAN tag",
    "A_IP_OPTIONS": "to the pod: IPv4 options or IPv6 extension headers",
    "A_FRAGMENT": "to the pod: fragments",
    "A_TRUNCATED": "to the pod: shorter than they say",
    "A_UNKNOWN_CONNECTION": "to the pod: of connections that the kernel does not serve",
    "A_DISABLED": "to the pod: while forwarding was switched off",
    "A_NOT_RECEIVING": "to the pod: of connections that only receive media",
    "A_WRONG_PATH": "to the pod: from or to another address than the connection's",
    "A_TOO_LARGE": "to the pod: larger than what is looked at",
    "A_NO_KEY": "to the pod: of a key phase without keys here",
    "A_BAD_TAG": "to the pod: not authentic",
    "A_RESERVED_BITS": "to the pod: reserved bits of the header are set",
    "A_REPLAY": "to the pod: seen before",
    "A_OLD_NUMBER": "to the pod: too old to know whether it was seen",
    "A_BAD_FRAME": "to the pod: with a malformed frame",
    "A_NO_MEDIA": "to the pod: without media",
    "A_UNKNOWN_STREAM": "frames of streams whose beginning did not pass here",
    "A_STREAM_ID": "frames of streams whose ids are larger than what is looked at",
    "A_UNKNOWN_TRACK": "frames of tracks without subscribers in the kernel",
    "A_BAD_HEAD": "frames whose head is not understood or incomplete",
    "A_STREAM_USER": "frames of streams that user space has taken over",
    "A_OUT_OF_ORDER": "frames that are not next on their stream",
    "A_BUSY": "frames of streams that another CPU was at work on",
    "A_NO_MEMBERS": "frames of tracks without members",
    "A_NO_SLOT": "packets without a free slot",
    "A_NO_STREAM_SLOT": "streams without a free place",
    "A_RING_FULL": "packets while the ring of intents was full",
    "A_TOO_MANY_FRAMES": "packets with more frames than are taken",
    "A_TOO_MANY_SEGMENTS": "super-packets with more segments than are taken",
    "A_FAILED": "packets that a helper of the kernel refused",
    "A_FORWARDED": "packets of publishers forwarded",
    "A_FRAMES": "frames in them",
    "A_CLONES": "copies made of them",
    "A_CLONE_FAILED": "copies that could not be made",
    "A_ACK": "acknowledgements that ended in the kernel",
    "A_ACK_UNUSUAL": "acknowledgements that user space had to see",
    "A_ACK_CREDIT": "acknowledgements while much of the credit was used",
    "A_ACK_RING_FULL": "acknowledgements while the ring of such was half full",
    "A_NOT_UDP": "to the pod: other protocols than UDP",
    "B_FORGED": "from the pod: with our mark, but not ours",
    "B_STALE": "copies that came too late: their slot is in use again",
    "B_CLAIMED": "copies that user space sent first",
    "B_RING_FULL": "copies while the ring of reports was full",
    "B_AHEAD": "copies whose keystream had been made ahead",
    "B_SKIPPED": "copies outside of what the subscriber asked for",
    "B_DROPPED_LEVEL": "streams and datagrams dropped: beyond the subscriber's level",
    "B_DROPPED_SHARE": "streams and datagrams dropped: their band has used up its share",
    "B_SENT": "copies sent to subscribers",
    "B_CONNECTION_OFF": "copies not sent: the connection is paused",
    "B_MEMBER_OFF": "copies not sent: the subscriber has left",
    "B_NO_LEG": "copies not sent: user space sends that stream",
    "B_NO_NUMBER": "copies not sent: no packet number left",
    "B_NO_STREAM": "copies not sent: the subscriber allows no more streams",
    "B_NO_STREAM_DATA": "copies not sent: flow control of the stream",
    "B_NO_DATA": "copies not sent: flow control of the connection",
    "B_NO_WINDOW": "copies not sent: congestion window",
    "B_TOO_LARGE": "copies not sent: larger than the subscriber's path carries",
    "B_BUSY": "copies not sent: lost a race too often",
    "B_FAILED": "copies not sent: a helper of the kernel refused",
    "B_DROPPED": "copies of which everything was dropped",
    "C_LONG_INITIAL": "from clients: first packets of connections",
    "C_LONG_OTHER": "from clients: other packets of handshakes",
    "C_SHORT_KNOWN": "from clients: of connections that the kernel serves",
    "C_SHORT_UNKNOWN": "from clients: of other connections",
    "C_QUOTA_PASSED": "first packets that may open a connection",
    "C_QUOTA_KNOWN": "first packets of connections that there are",
    "C_QUOTA_EXEMPT": "first packets from exempt addresses",
    "C_QUOTA_MIXED": "segments of which not all are first packets",
    "C_QUOTA_ANSWERED": "refused first packets that user space answers",
    "C_QUOTA_ADDRESS": "first packets refused: the address has its fill",
    "C_QUOTA_PREFIX": "first packets refused: the prefix has its fill",
    "C_QUOTA_TOTAL": "first packets refused: all connections are taken",
    "C_QUOTA_PREFIX_ATTEMPTS": "first packets dropped: too many in the name of a prefix",
    "C_QUOTA_ATTEMPTS": "first packets dropped: too many of all clients",
    "C_QUOTA_AT_DEVICE": "of those refused or dropped: by XDP, at a device of the node",
}
"""Of :func:`fastrelay.fastpath.inspect.counters`, by name."""


_SPENT = {
    "packet_number_limit": ("packet_number", "packet number"),
    "stream_number_limit": ("stream_number", "stream number"),
    "data_limit": ("data_used", "data"),
    "bytes_limit": ("bytes_sent", "bytes"),
}
"""Limits: what they bind, and a heading for both."""
_OPEN = (1 << 64) - 1


def maps(
    name: Annotated[
        str,
        typer.Argument(
            help="What `fastrelay local up` started, or the relay's name below --pins.",
            autocompletion=completions.stacks,
        ),
    ] = "local",
    pins: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Where the node agent pins. Default: where that of `fastrelay local` does, or "
            "`/sys/fs/bpf/fastrelay`.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a relay and the kernel share: connections, tracks, members, streams, counters.

    Keys and media are not shown. Nothing is locked: what a busy relay changes meanwhile may
    contradict itself.
    """
    from fastrelay.agent.pinned import open_pinned
    from fastrelay.fastpath import inspect
    from fastrelay.fastpath.maps import MapsError

    directory = _directory(name, pins)
    try:
        opened = open_pinned(directory)
    except MapsError as error:
        fail(Exit.UNAVAILABLE, str(error))
    tables, counters = inspect.tables(opened), inspect.counters(opened)
    opened.close()
    if as_json:
        typer.echo(json.dumps({**tables, "counters": counters}, indent=2))
        return
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # of IPv6 addresses
    for table in _tables(tables, counters):
        console.print(table)
        console.print()


def _directory(name: str, pins: Path | None) -> Path:
    if pins is not None:
        return pins / name / "maps"
    from fastrelay.local import topology
    from fastrelay.local.stack import RELAY
    from fastrelay.local.state import Store

    store = Store()
    if name in store.names():
        return topology.pins(store, name) / RELAY / "maps"
    return Path("/sys/fs/bpf/fastrelay", name, "maps")


def _tables(tables: dict[str, list[dict[str, Any]]], counters: dict[str, int]) -> Iterator[Table]:
    for title, rows in tables.items():
        yield _table(title, [_together(row) for row in rows])
    yield _table(
        "counters",
        [
            {"packets": count, "which": WORDS.get(name, name), "name": name}
            for name, count in counters.items()
        ],
    )


def _together(row: dict[str, Any]) -> dict[str, Any]:
    """For people: what is spent beside its limit, and no number for what has no end."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if spent := _SPENT.get(name):
            shown[spent[1]] = f"{shown.pop(spent[0])} of {value}"
        else:
            shown[name] = "open" if value == _OPEN else value
    return shown


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in rows[0] if rows else ("none",):
        numeric = bool(rows) and isinstance(rows[0][heading], int | float)
        table.add_column(
            heading.replace("_", " "), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    return table


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
