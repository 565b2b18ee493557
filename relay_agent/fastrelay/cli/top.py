"""``fastrelay top``: a relay's members, live."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.statuspage import UnreachableError, Where, needed, set_limits, status_page

_SORT = "What to sort by at first: member, rtt, jitter, delay, loss, rate, path, limit, level, "
_SORT += "flight, drops, rendition or kernel."
_WIDE = 200
"""Characters, where nobody's terminal has to hold them."""

if TYPE_CHECKING:
    from rich.console import Console

    from fastrelay.cli.topscreen import Screen


def top(
    where: Where = "local",
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, max=60.0, help="Between two looks."),
    ] = 1.0,
    sort: Annotated[str, typer.Option(metavar="COLUMN", help=_SORT)] = "rate",
    as_json: Annotated[
        bool, typer.Option("--json", help="Two looks, then one answer for programs.")
    ] = False,
) -> None:
    """Show who gets how much of a relay, and how well: live, and to be set by hand.

    Columns: round trip time and its jitter; one-way delay above the least that was seen, where the
    member tells (`fastrelay subscribe --feedback`); share that is lost lately; bytes a second that
    arrive; what the path carries at least; the limit, and the level: how many priority bands are
    dropped (`*`: set by hand); bytes in flight and the congestion window; what was dropped, by
    band; the rendition, where the relay chooses it; the kernel's share of the packets.

    Keys: up and down choose a member, left and right the column to sort by, r turns the order
    round; + and - change the member's level by a quarter of a band, l sets it, b sets a rate, a
    leaves both to the relay again; q ends. Without a terminal: one table.
    """
    from rich.console import Console

    from fastrelay.cli.members import SORTS, members
    from fastrelay.cli.topscreen import Screen, plain, table

    if sort not in SORTS:
        fail(Exit.USAGE, f"there is no column {sort!r}; there are {', '.join(SORTS)}")
    console = Console(markup=False, emoji=False)
    screen = Screen(sort=sort, reverse=sort != "member")
    with needed():
        first = status_page(where)
    if console.is_terminal and sys.stdin.isatty() and not as_json:
        _live(where, interval, console, screen, first)
        return
    time.sleep(interval)
    with needed():
        second = status_page(where)
    screen.update(members(second, first, _apart(first, second)))
    if as_json:
        typer.echo(plain(screen.members))
    else:
        made = table(screen.members, sort=screen.sort, reverse=screen.reverse, width=_WIDE)
        Console(markup=False, emoji=False, width=_WIDE).print(made)


def _apart(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Seconds between two pages, by the relay's clock."""
    return float(second["process"]["uptime_seconds"] - first["process"]["uptime_seconds"])


def _live(
    where: str, interval: float, console: Console, screen: Screen, page: dict[str, Any]
) -> None:
    from rich.live import Live

    from fastrelay.cli.members import members

    screen.update(members(page))
    due = time.monotonic() + interval
    with _keys() as typed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not screen.done:
            live.update(screen.render(page, console.width, console.height), refresh=True)
            pressed = typed(max(0.0, due - time.monotonic()))
            _obey(screen, where, pressed)
            if not pressed or time.monotonic() >= due:
                due = time.monotonic() + interval
                page = _look(screen, where, page)


def _look(screen: Screen, where: str, before: dict[str, Any]) -> dict[str, Any]:
    from fastrelay.cli.members import members

    try:
        page = status_page(where)
    except UnreachableError as error:
        screen.message = str(error)
        return before
    screen.update(members(page, before, _apart(before, page)))
    return page


def _obey(screen: Screen, where: str, pressed: str) -> None:
    from fastrelay.cli.topscreen import keys, told

    for key in keys(pressed):
        wanted = screen.press(key)
        if wanted is None:
            continue
        try:
            _, problem = set_limits(where, wanted)
        except UnreachableError as error:
            problem = str(error)
        screen.message = problem or told(wanted)


@contextmanager
def _keys() -> Iterator[Any]:
    """What is typed within so many seconds, unechoed; empty: nothing."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def typed(seconds: float) -> str:
        try:
            ready, _, _ = select.select([descriptor], [], [], seconds)
            data = os.read(descriptor, 256) if ready else b""
        except KeyboardInterrupt:
            return "q"
        if ready and not data:
            return "q"  # the terminal is gone
        return data.decode(errors="ignore")

    tty.setcbreak(descriptor)
    try:
        yield typed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
