"""What ``fastrelay top`` shows, and what its keys do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastrelay.cli.amounts import (
    LEVELS_PER_BAND,
    automatic_or_level,
    automatic_or_rate,
    shown,
)
from fastrelay.cli.members import SORTS, Member, ordered

HELP = "arrows: choose, sort  r: reverse  + - l: level  b: rate  a: automatic  q: quit"
STEP = 0.25
"""Bands, of the keys that raise and lower a level."""
_LEVELS = 4.0
_WRITTEN = {"rate": "like 250k, 2M, 0: none, automatic", "level": "0 to 4, like 1.5, automatic"}
"""How what is asked for is typed."""
_HEADINGS = {
    "member": "member",
    "rtt": "RTT ms",
    "jitter": "jitter",
    "delay": "delay",
    "loss": "loss",
    "rate": "B/s",
    "path": "path B/s",
    "limit": "limit B/s",
    "level": "level",
    "flight": "in flight",
    "drops": "drops",
    "rendition": "rendition",
    "kernel": "kernel",
}
_COLUMNS = list(SORTS)
_EXPENDABLE = ("flight", "jitter", "path", "kernel", "delay", "rendition", "loss", "drops", "rtt")
"""What a narrow terminal does without, in this order."""
_CHROME = 6
"""Lines that are no members'."""


class Key(Enum):
    """Keys that are more than a character."""

    UP = "\x1b[A"
    DOWN = "\x1b[B"
    RIGHT = "\x1b[C"
    LEFT = "\x1b[D"
    ENTER = "\r"
    ESCAPE = "\x1b"
    RUBOUT = "\x7f"


def keys(typed: str) -> Iterator[Key | str]:
    """What a terminal sent, key by key; sequences that we do not know are left out."""
    while typed:
        for key in Key:
            if typed.startswith(key.value) and (key is not Key.ESCAPE or typed[1:2] != "["):
                yield key
                typed = typed[len(key.value) :]
                break
        else:
            if typed.startswith("\x1b["):
                end = next((at for at, each in enumerate(typed[2:], 2) if each.isalpha()), None)
                typed = "" if end is None else typed[end + 1 :]
                continue
            first = {"\n": Key.ENTER, "\b": Key.RUBOUT}.get(typed[0], typed[0])
            if isinstance(first, Key) or first.isprintable():
                yield first
            typed = typed[1:]


@dataclass(slots=True)
class Screen:
    """The state of what is shown: order, chosen member, what is being typed."""

    sort: str = "rate"
    reverse: bool = True
    chosen: str = ""
    """Address of a member."""
    message: str = ""
    done: bool = False
    members: list[Member] = field(default_factory=list)
    """In the order that is shown."""
    _asking: str = ""
    """``rate`` or ``level``, while it is typed."""
    _typed: str = ""

    def update(self, found: Sequence[Member]) -> None:
        """New numbers."""
        self.members = ordered(found, self.sort, reverse=self.reverse)
        if self._chosen() is None and self.members:
            self.chosen = self.members[0].member

    def press(self, key: Key | str) -> dict[str, Any] | None:
        """A key; what is to be told to the relay, if anything."""
        if self._asking:
            return self._answer(key)
        self.message = ""
        match key:
            case "q":
                self.done = True
            case Key.UP | "k":
                self._move(-1)
            case Key.DOWN | "j":
                self._move(1)
            case Key.LEFT | "<":
                self._sort_by(-1)
            case Key.RIGHT | ">":
                self._sort_by(1)
            case "r":
                self.reverse = not self.reverse
                self.update(self.members)
            case "+" | "=":
                return self._step(STEP)
            case "-":
                return self._step(-STEP)
            case "l" | "b" if self._chosen() is not None:
                self._asking, self._typed = {"l": "level", "b": "rate"}[str(key)], ""
            case "a":
                return self._told(rate=None, level=None)
        return None

    def _answer(self, key: Key | str) -> dict[str, Any] | None:
        if key is Key.ESCAPE:
            self._asking = ""
        elif key is Key.RUBOUT:
            self._typed = self._typed[:-1]
        elif isinstance(key, str):
            self._typed += key
        elif key is Key.ENTER:
            asked, self._asking = self._asking, ""
            read = automatic_or_rate if asked == "rate" else automatic_or_level
            try:
                return self._told(**{asked: read(self._typed.strip())})
            except ValueError as error:
                self.message = str(error)
        return None

    def _step(self, bands: float) -> dict[str, Any] | None:
        member = self._chosen()
        if member is None:
            return None
        level = min(_LEVELS, max(0.0, member.level + bands))
        return self._told(level=automatic_or_level(f"{level:g}"))

    def _told(self, **limits: int | None) -> dict[str, Any] | None:
        return {"member": self.chosen, **limits} if self._chosen() is not None else None

    def _chosen(self) -> Member | None:
        return next((each for each in self.members if each.member == self.chosen), None)

    def _move(self, by: int) -> None:
        addresses = [member.member for member in self.members]
        if self.chosen in addresses:
            place = addresses.index(self.chosen) + by
            self.chosen = addresses[min(max(place, 0), len(addresses) - 1)]

    def _sort_by(self, step: int) -> None:
        place = (_COLUMNS.index(self.sort) + step) % len(_COLUMNS)
        self.sort, self.reverse = _COLUMNS[place], _COLUMNS[place] != "member"
        self.update(self.members)

    def render(self, document: dict[str, Any], width: int, height: int) -> RenderableType:
        """All of it, no larger than that."""
        room = max(1, height - _CHROME)
        addresses = [member.member for member in self.members]
        place = addresses.index(self.chosen) if self.chosen in addresses else 0
        first = min(max(0, place - room // 2), max(0, len(addresses) - room))
        shown_members = self.members[first : first + room]
        more = len(self.members) - len(shown_members)
        lines: list[RenderableType] = [
            _headline(document, len(self.members)),
            table(
                shown_members,
                sort=self.sort,
                reverse=self.reverse,
                width=width,
                chosen=self.chosen,
            ),
        ]
        if more:
            lines.append(Text(f"{more} more", style="dim"))
        lines.append(self._footer())
        return Group(*lines)

    def _footer(self) -> Text:
        if self._asking:
            return Text(
                f"{self._asking} of {self.chosen} ({_WRITTEN[self._asking]}): {self._typed}_",
                style="bold",
            )
        return Text(self.message or HELP, style="bold" if self.message else "dim", overflow="fold")


def _headline(document: dict[str, Any], count: int) -> Text:
    process, relay = document["process"], document["relay"]
    fast_path = document.get("fast_path") or {}
    kernel, user = fast_path.get("kernel_packets", 0), fast_path.get("user_packets", 0)
    share = f", kernel {kernel / (kernel + user):.1%}" if kernel + user else ""
    return Text(
        f"{'ready' if process['ready'] else process['reason']}, "
        f"up {timedelta(seconds=round(process['uptime_seconds']))}; "
        f"{count} members{share}; {relay['sessions']} sessions, {relay['tracks']} tracks; "
        f"relay {relay['id']}",
        no_wrap=True,
        overflow="crop",
    )


def told(wanted: dict[str, Any]) -> str:
    """What a person has set, as it is shown when the relay has taken it."""
    rate, level = wanted.get("rate", 0), wanted.get("level", 0)
    if rate is None and level is None:
        return f"{wanted['member']}: automatic"
    if "rate" in wanted:
        what = "automatic rate" if rate is None else f"rate {shown(rate)}" if rate else "no limit"
    else:
        what = "automatic level" if level is None else f"level {level / LEVELS_PER_BAND:g}"
    return f"{wanted['member']}: {what}"


def table(
    found: Sequence[Member], *, sort: str, reverse: bool, width: int, chosen: str = ""
) -> Table:
    """One line a member. A star: a person has set it. What does not fit is left out, columns in
    which there is nothing first."""
    rows = [dict(zip(_COLUMNS, _cells(member), strict=True)) for member in found]
    headings = dict(_HEADINGS)
    headings[sort] += " v" if reverse else " ^"
    made = Table(box=None, pad_edge=False)
    names = _fitting(headings, rows, width, sort)
    for name in names:
        left = name in ("member", "rendition")
        made.add_column(headings[name], justify="left" if left else "right", no_wrap=True)
    for member, row in zip(found, rows, strict=True):
        style = "reverse" if member.member == chosen else ""
        made.add_row(*(Text(row[name]) for name in names), style=style)
    return made


def _fitting(
    headings: dict[str, str], rows: list[dict[str, str]], width: int, sort: str
) -> list[str]:
    widths = {
        name: max([len(heading), *(len(row[name]) for row in rows)])
        for name, heading in headings.items()
    }
    names = list(headings)
    empty = [name for name in _EXPENDABLE if all(row[name] == "-" for row in rows)]
    for name in [*empty, *_EXPENDABLE]:
        if sum(widths[each] + 2 for each in names) - 2 <= width:
            break
        if name in names and name != sort:
            names.remove(name)
    return names


def _cells(member: Member) -> Iterator[str]:
    drops = "/".join(map(str, member.drops)) if any(member.drops) else "-"
    rate = "-" if member.rate is None else shown(member.rate)
    yield member.member
    yield f"{member.rtt_ms:.1f}"
    yield f"{member.jitter_ms:.1f}"
    yield "-" if member.delay_ms is None else f"{member.delay_ms:.1f}"
    yield f"{member.loss:.1%}" if member.loss else "-"
    yield shown(member.delivery_rate)
    yield shown(member.bandwidth)
    yield rate + ("*" if member.rate_by_hand is not None else "")
    yield f"{member.level:g}" + ("*" if member.level_by_hand is not None else "")
    yield f"{shown(member.bytes_in_flight)}/{shown(member.window)}"
    yield drops
    yield ",".join(member.renditions) or "-"
    yield "-" if member.kernel is None else f"{member.kernel:.0%}"


def plain(found: Sequence[Member]) -> str:
    """For programs."""
    from dataclasses import asdict

    return json.dumps([asdict(member) for member in found], indent=2)
