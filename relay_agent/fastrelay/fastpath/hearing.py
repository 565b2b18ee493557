"""What the kernel's records of acknowledgements say, for all connections at once.

A record settles rows of the ledger, and gives the kernel back what it may send: one call does that
for all that are as usual (``native/acknowledgements.c``). The connection's engine hears of it
later, of many in one piece: it has nothing to do at once, or the packet would not have ended in the
kernel (bpf/acknowledgement.h). One that does not follow the packet before it, or that leaves
something in flight below it, is told by itself.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

import numpy as np

from fastrelay.fastpath.layout import CONNECTIONS
from fastrelay.fastpath.maps import Maps
from fastrelay.native import acknowledgements
from fastrelay.quic.lease import Heard
from fastrelay.quic.ledger import Ledger

_HEARD = np.dtype(
    [
        ("first_number", np.int64),
        ("last_number", np.int64),
        ("largest", np.int64),
        ("delay", np.int64),
        ("time", np.float64),
        ("size", np.int64),
        ("oldest_sent", np.float64),
        ("newest", np.int64),
        ("newest_sent", np.float64),
    ]
)
"""As :class:`fastrelay.quic.lease.Heard`."""
assert _HEARD.names == Heard._fields
_PART = np.dtype([("round", np.uint64), ("size", np.int64)])
_NOTHING = np.array((-1, -1, -1, 0, 0.0, 0, np.inf, -1, 0.0), _HEARD)


class Listener(Protocol):
    """A connection's link."""

    def heard(self, heard: Heard) -> None: ...


class Hearing:
    """``links``: by index of the connection."""

    def __init__(self, maps: Maps, ledger: Ledger, links: dict[int, Any]) -> None:
        self._ring = maps.acks
        self._kept = maps, ledger
        """For what is in machine code, which has their addresses."""
        self._links: dict[int, Listener] = links
        self._untold = np.full(CONNECTIONS, _NOTHING)
        """What was taken of each connection, and its engine does not know."""
        self._first = self._untold["first_number"].data
        self._parts = np.zeros(CONNECTIONS, _PART)
        self._native = acknowledgements.Hearing(
            ledger=ctypes.pointer(ledger.columns),
            connections=maps.connections.address,
            untold=self._untold.ctypes.data,
            parts=self._parts.ctypes.data,
        )

    @property
    def used(self) -> float:
        """The largest part of what a connection may send without being heard that the records of
        the last :meth:`take` were about."""
        used: float = self._native.used
        return used

    def take(self, found: bytes) -> None:
        """What was read from the ring; all reports of what it acknowledges have been read."""
        native, count = self._native, self._ring.count(found)
        native.round += 1
        native.used = 0.0
        at = acknowledgements.take(native, found, 0, count)
        while at < count:
            *_, index, _ = self._ring.one(found, at)
            # Whoever is told may go for it.
            self.tell(index)
            acknowledgements.take_one(native, found, at)
            self.tell(index)
            at = acknowledgements.take(native, found, at + 1, count)

    def tell(self, index: int) -> None:
        """The engine is to know what was taken of its connection."""
        if self._first[index] < 0:
            return
        heard = Heard(*self._untold[index].item())
        self._untold[index] = _NOTHING
        link = self._links.get(index)
        if link is not None:
            link.heard(heard)

    def tell_all(self) -> None:
        for index in np.flatnonzero(self._untold["first_number"] >= 0).tolist():
            self.tell(index)
