"""Datagrams that the kernel forwards; they are not sent again when they are lost."""

from __future__ import annotations

from typing import Any, cast

from fastrelay.fastpath import ports
from fastrelay.fastpath.connections import Link
from fastrelay.fastpath.intents import Intent
from fastrelay.fastpath.layout import Outcome
from fastrelay.fastpath.ports import DatagramBorrower
from fastrelay.fastpath.tracks import Version

Key = tuple[Link, int, int]
"""Publisher's connection, upstream packet number, place among the packet's datagrams."""


class Datagram:
    """One of an intent."""

    __slots__ = ("_borrower", "_early", "_key", "_registry", "low", "ordinal", "version")

    def __init__(self, registry: Datagrams, key: Key, version: Version, ordinal: int) -> None:
        self.version = version
        self.ordinal = ordinal
        self.low = 0
        """Of the intent's sequence."""
        self._registry = registry
        self._key = key
        self._borrower: DatagramBorrower | None = None
        self._early: list[int] = []

    def bind(self, borrower: DatagramBorrower) -> None:
        self._borrower = borrower
        for position in self._early:
            borrower.missed(position)
        self._early.clear()

    # -- intents.Freight

    def begin(self, intent: Intent) -> None:
        self.low = intent.low
        self.version.uses += 1
        self.version.track.began(self.ordinal)
        self._registry.waiting[self._key] = self

    def failed(self, position: int, start: int, stop: int, fin: bool) -> None:
        """Nobody asks what of it was not sent."""

    def tell(self, position: int, start: int, stop: int, fin: bool, outcome: int) -> None:
        member = self.version.members[position]
        if outcome == Outcome.DROPPED or member.link.closed or not member.wants(self.ordinal):
            return
        if self._borrower is None:
            self._early.append(position)
        else:
            self._borrower.missed(position)

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        """That is what datagrams are for."""

    def settle(self, intent: Intent) -> None:
        self.version.uses -= 1

    def forget(self) -> None:
        if self._registry.waiting.get(self._key) is self:
            del self._registry.waiting[self._key]


class Departures:
    """Implements :class:`fastpath.ports.Departures`."""

    __slots__ = ("_low", "_ordinal", "_version", "members")

    def __init__(self, datagram: Datagram) -> None:
        self._version, self._ordinal = datagram.version, datagram.ordinal
        self._low = datagram.low
        self.members = datagram.version.members

    def has(self, link: ports.Link, owner: Any) -> bool:
        position = self._version.place(cast(Link, link), owner)
        return position is not None and self.members[position].wants(self._ordinal)

    def sent_at(self, link: ports.Link, owner: Any) -> float | None:
        own = cast(Link, link)
        position = self._version.place(own, owner)
        return None if position is None else own.account.sent_at(self._low, position)


class Datagrams:
    """Those that user space has not read yet."""

    def __init__(self) -> None:
        self.waiting: dict[Key, Datagram] = {}

    def take(self, link: Link, packet_number: int, index: int) -> Datagram | None:
        return self.waiting.pop((link, packet_number, index), None)
