"""``fastrelay quota``: whose connections a running relay counts, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.statuspage import Where, needed, status_page

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {
    "address_connections": "an address has all its connections",
    "address_rate": "an address opens connections too fast",
    "prefix_connections": "a prefix has all its connections",
    "prefix_rate": "a prefix opens connections too fast",
    "total": "all connections are taken",
    "prefix_attempts": "too many first packets in the name of a prefix",
    "attempts": "too many first packets",
}


def quota(
    where: Where = "local",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how many connections addresses and prefixes have, and who may open no more.

    Refused ones come first. Until: when one of theirs ends, or in so many seconds. A line of
    a prefix has the connections of all its addresses.
    """
    with needed():
        document = status_page(where)["quota"]
    if document is None:
        fail(Exit.UNAVAILABLE, "this relay has no quota (spec.quota.mode: Disabled)")
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # of IPv6 addresses
    for line in _headline(document):
        console.print(line, highlight=False)
    console.print(_accounts(document["accounts"]))
    if document["subjects"] > len(document["accounts"]):
        console.print(f"{document['subjects']} in all", highlight=False)


def _headline(document: dict[str, Any]) -> Iterator[str]:
    count, most = document["connections"], document["total"]
    yield f"{count} connections of at most {most}; refused by {document['by']}"
    if document["exempt"]:
        yield f"never refused: {', '.join(document['exempt'])}"
    for reason, count in document["refusals"].items():
        if count:
            yield f"refused {count}: {WORDS[reason]}"


def _accounts(accounts: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("address or prefix", overflow="fold")
    for heading in ("connections", "limit", "refused until"):
        table.add_column(heading, justify="right")
    for each in accounts:
        table.add_row(each["subject"], str(each["connections"]), str(each["limit"]), _until(each))
    return table


def _until(account: dict[str, Any]) -> str:
    seconds = account["refused_seconds"]
    if seconds is None:
        return ""
    return "one ends" if seconds == "full" else f"in {seconds:.1f} s"
