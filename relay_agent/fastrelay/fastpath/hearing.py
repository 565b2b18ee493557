"""What the kernel's records of acknowledgements say, for all connections at once.

A record settles rows of the ledger, and gives the kernel back what it may send: that is done for
all in a few array operations, or, for a few that are as usual, one after the other. The
connection's engine hears of it later, of many in one piece: it has nothing to do at once, or the
packet would not have ended in the kernel (bpf/acknowledgement.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from fastrelay.fastpath.layout import CONNECTIONS
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.rings import Records
from fastrelay.quic.lease import Heard
from fastrelay.quic.ledger import ROWS, Ledger

_LOW = (1 << 32) - 1
_FEW = 64
"""Up to so many records, a loop is quicker than arrays."""
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
_GIVEN = ("generation", "ack_bytes", "bytes_limit", "ack_floor", "packet_number_limit")
_NOTHING = np.array((-1, -1, -1, 0, 0.0, 0, np.inf, -1, 0.0), _HEARD)

Column = np.ndarray[Any, Any]
Views = dict[str, Any]
"""Of memory, by the name of a column."""


class Listener(Protocol):
    """A connection's link."""

    def heard(self, heard: Heard) -> None: ...


class Hearing:
    """``links``: by index of the connection."""

    def __init__(self, maps: Maps, ledger: Ledger, links: dict[int, Any]) -> None:
        self._ring = maps.acks
        self._rows = maps.connections.rows
        self._ledger = ledger
        self._links: dict[int, Listener] = links
        self._untold = np.full(CONNECTIONS, _NOTHING)
        """What was taken of each connection, and its engine does not know."""
        self._first = self._untold["first_number"].data
        self._untold_views: Views = {name: self._untold[name].data for name in Heard._fields}
        self._row_views: Views = {name: self._rows[name].data for name in _GIVEN}
        self.used = 0.0
        """The largest part of what a connection may send without being heard that the records of
        the last :meth:`take` were about."""

    def take(self, found: bytes) -> None:
        """What was read from the ring; all reports of what it acknowledges have been read."""
        self.used = 0.0
        count = self._ring.count(found)
        taken = self._take_few(self._ring.each(found)) if count <= _FEW else 0
        if taken < count:
            self._take_many(self._ring.array(found)[taken:])

    def _take_few(self, records: Iterable[tuple[int, ...]]) -> int:
        """How many were as usual, before one was not."""
        untold, rows = self._untold_views, self._row_views
        generations, lasts, largests = rows["generation"], untold["last_number"], untold["largest"]
        limits, numbers = rows["ack_bytes"], rows["packet_number_limit"]
        sizes: dict[int, int] = {}
        place = 0
        for time, number, first, largest, delay, index, generation in records:
            account = self._ledger.account(index)
            if account is not None and generations[index] & _LOW == generation:
                last, oldest = lasts[index], account.oldest()
                if (last >= 0 and number != last + 1) or (oldest is not None and oldest[0] < first):
                    return place
                size, newest, sent = account.acknowledge(first, largest + 1) or (0, -1, 0.0)
                lasts[index] = number
                if largest > largests[index]:
                    largests[index] = largest
                if size and oldest is not None:
                    untold["size"][index] += size
                    if oldest[1] < untold["oldest_sent"][index]:
                        untold["oldest_sent"][index] = oldest[1]
                if last < 0:
                    self._first[index] = number
                if size or last < 0:
                    untold["newest"][index], untold["newest_sent"][index] = newest, sent
                    untold["time"][index], untold["delay"][index] = time * 1e-9, delay
                # What Link.window_changed would write.
                low = account.low
                limits[index] = limit = limits[index] + size
                rows["bytes_limit"][index] += size
                rows["ack_floor"][index] = low
                if low + ROWS > numbers[index]:
                    numbers[index] = low + ROWS
                sizes[index] = part = sizes.get(index, 0) + size
                self.used = max(self.used, part / max(limit - account.bytes_gone, 1))
            place += 1
        return place

    def _take_many(self, records: Records) -> None:
        index = records["connection"].astype(np.int64)
        generation = self._rows["generation"][index] & _LOW
        ours = self._ledger.is_open(index) & (generation == records["generation"])
        order = np.argsort(index, kind="stable")
        order = order[ours[order]]
        if not len(order):
            return
        records, index = records[order], index[order]
        number, first, largest = (
            records[name].astype(np.int64) for name in ("packet_number", "first", "largest")
        )
        begins, follows = np.ones((2, len(index)), np.bool_)
        begins[1:] = index[1:] != index[:-1]
        at = np.flatnonzero(begins)
        follows[1:] = (number[1:] == number[:-1] + 1) & (first[1:] <= largest[:-1] + 1)
        follows |= begins
        connection, lowest = index[at], np.minimum.reduceat(first, at)
        last = self._untold["last_number"][connection]
        plain = (
            np.logical_and.reduceat(follows, at)
            & ((last < 0) | (number[at] == last + 1))
            & self._ledger.is_settled_below(connection, lowest)
        )
        counts = np.diff(at, append=len(index))
        highest = np.maximum.reduceat(largest, at)
        # The first that named the largest tells how long the way was.
        places = np.where(largest == np.repeat(highest, counts), np.arange(len(index)), len(index))
        newest = np.minimum.reduceat(places, at)
        ends = number[at + counts - 1]
        if plain.all():
            self._enter(connection, number[at], ends, lowest, highest, newest=records[newest])
            return
        columns = (connection, number[at], ends, lowest, highest)
        self._enter(*(column[plain] for column in columns), newest=records[newest[plain]])
        columns = (index, number, number, first, largest)
        for each in np.flatnonzero(np.repeat(~plain, counts)).tolist():
            one = slice(each, each + 1)
            # Whoever was told may have gone for it.
            if self._ledger.is_open(index[one])[0]:
                self.tell(int(index[each]))
                self._enter(*(column[one] for column in columns), newest=records[one])
                self.tell(int(index[each]))

    def _enter(
        self,
        connection: Column,
        first_number: Column,
        last_number: Column,
        lowest: Column,
        highest: Column,
        *,
        newest: Records,
    ) -> None:
        """Each connection once; ``newest``: the record that was the first to name ``highest``."""
        size, oldest_sent, number, sent = self._ledger.settle(connection, lowest, highest + 1)
        untold = self._untold
        known = untold["first_number"][connection]
        untold["first_number"][connection] = np.where(known < 0, first_number, known)
        untold["last_number"][connection] = last_number
        untold["largest"][connection] = np.maximum(untold["largest"][connection], highest)
        untold["size"][connection] += size
        untold["oldest_sent"][connection] = np.minimum(
            untold["oldest_sent"][connection], oldest_sent
        )
        is_news = (number >= 0) | (known < 0)
        moved = connection[is_news]
        untold["newest"][moved], untold["newest_sent"][moved] = number[is_news], sent[is_news]
        untold["time"][moved] = newest["time"][is_news] * 1e-9
        untold["delay"][moved] = newest["delay"][is_news]
        # What Link.window_changed would write.
        rows, gone = self._rows, size.astype(np.uint64)
        low = self._ledger.low_of(connection)
        limit = rows["ack_bytes"][connection] + gone
        rows["ack_bytes"][connection] = limit
        rows["bytes_limit"][connection] += gone
        rows["ack_floor"][connection] = low
        rows["packet_number_limit"][connection] = np.maximum(
            rows["packet_number_limit"][connection], low + np.uint64(ROWS)
        )
        room = limit.astype(np.int64) - self._ledger.gone_of(connection)
        self.used = max(self.used, float((size / np.maximum(room, 1)).max(initial=0.0)))

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
