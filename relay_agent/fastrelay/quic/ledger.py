"""Packets that the kernel sent: rows of columns for all connections at once.

A connection's row of packet number ``n`` is column ``n % ROWS``; the limit that is published
for the kernel (:attr:`Account.packet_number_limit`) keeps two live packets out of one row.
Times are seconds of CLOCK_MONOTONIC, sizes are bytes of UDP payload.

Reports are recorded with a few array operations, whatever the number of connections. An
acknowledgement concerns one connection and mostly one or two rows: for these, single elements
are read through memoryviews, which cost a tenth of numpy's own scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple, cast

import numpy as np

ROWS = 1024
_MASK = ROWS - 1
_FEW = 16
"""Up to so many rows, a loop is quicker than arrays."""
_FEW_REPORTS = 16
_FIELDS = ("connection", "packet_number", "time", "size", "sequence", "position")
_NEVER = float("inf")


class Settled(NamedTuple):
    """Rows that are in flight no longer: ``(sequence, position)`` each, ``numbers`` ascending."""

    numbers: list[int]
    times: list[float]
    size: int
    """Of all of them together."""
    rows: list[tuple[int, int]]


Flights = tuple[
    np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]
]
"""What was settled of several connections, in their order: bytes, send time of the oldest packet
(``inf``: there was none), number of the newest one (-1), and its send time."""

Acknowledged = tuple[int, int, float]
"""What an acknowledgement settled: bytes; number and send time of the newest of the packets."""


class Ledger:
    """The rows of all connections.

    Columns are two-dimensional, [connection, packet number % ROWS]; ``number`` holds 1 + the
    packet number, 0 if the row is free, so that memory nobody used costs nothing.
    """

    def __init__(self, connections: int = 1024) -> None:
        shape = (connections, ROWS)
        self._number = np.zeros(shape, np.uint64)
        self._time = np.zeros(shape, np.float64)
        self._size = np.zeros(shape, np.uint16)
        self._sequence = np.zeros(shape, np.uint32)
        self._position = np.zeros(shape, np.uint16)
        self._low = np.zeros(connections, np.int64)
        self._high = np.zeros(connections, np.int64)
        self._live = np.zeros(connections, np.int64)
        self._in_flight = np.zeros(connections, np.int64)
        self._sent = np.zeros(connections, np.int64)
        self._last_send = np.zeros(connections, np.float64)
        self._timeout = np.full(connections, _NEVER)
        self._open = np.zeros(connections, np.bool_)
        self._accounts: dict[int, Account] = {}
        self.overwritten = 0
        """Rows that were still live when another packet came: the limit was not kept."""
        self.on_rows: Callable[[], None] = _ignore
        """Called when there are rows in flight, once until :meth:`overdue` was asked."""
        self.catch_up: Callable[[], None] = _ignore
        """Called to hear of all acknowledgements that have come."""
        self._watched = False

    def open(self, index: int) -> Account:
        """The account of a connection that now has this index."""
        account = self._accounts[index] = Account(self, index)
        for column in (self._number[index], *self._totals(index)):
            column[:] = 0
        self._timeout[index] = _NEVER
        self._open[index] = True
        return account

    def account(self, index: int) -> Account | None:
        """None: nobody has this index."""
        return self._accounts.get(index)

    def close(self, index: int) -> None:
        """The connection is gone, its rows name nothing any more."""
        del self._accounts[index]
        self._open[index] = False
        self._number[index] = 0
        for total in self._totals(index):
            total[:] = 0

    def _totals(self, index: int) -> list[np.ndarray[Any, Any]]:
        totals = (
            self._low,
            self._high,
            self._live,
            self._in_flight,
            self._sent,
            self._last_send,
        )
        return [total[index : index + 1] for total in totals]

    def record(self, reports: np.ndarray[Any, Any]) -> None:
        """Packets that were sent, of any connections, in any order.

        :param reports: has at least the fields ``packet_number``, ``time`` (nanoseconds),
            ``sequence``, ``connection``, ``position``, ``size``.
        """
        if len(reports) <= _FEW_REPORTS:
            self._record_few(reports)
        else:
            self._record_many(reports)
        if not self._watched and self._live.any():
            self._watched = True
            self.on_rows()

    def _record_few(self, reports: np.ndarray[Any, Any]) -> None:
        names = reports.dtype.names
        assert names is not None
        fields = [names.index(name) for name in _FIELDS]
        for report in reports.tolist():
            index, number, time, size, sequence, position = (report[field] for field in fields)
            account = self._accounts.get(index)
            if account is not None:
                account._record(number, time / 1e9, size, sequence, position)

    def _record_many(self, reports: np.ndarray[Any, Any]) -> None:
        connection = reports["connection"]
        if not self._open[connection].all():
            reports = reports[self._open[connection]]
            connection = reports["connection"]
        if not len(reports):
            return
        number = reports["packet_number"].astype(np.int64)
        size = reports["size"].astype(np.int64)
        time = reports["time"] / 1e9
        cell = connection.astype(np.int64) * ROWS + (number & _MASK)
        self._make_room(connection, cell)
        self._number.reshape(-1)[cell] = number + 1
        self._time.reshape(-1)[cell] = time
        self._size.reshape(-1)[cell] = size
        self._sequence.reshape(-1)[cell] = reports["sequence"]
        self._position.reshape(-1)[cell] = reports["position"]
        # An account without rows does not know where they begin.
        first = connection[self._live[connection] == 0]
        self._low[first] = np.iinfo(np.int64).max
        np.minimum.at(self._low, connection, number)
        np.maximum.at(self._high, connection, number + 1)
        np.maximum.at(self._last_send, connection, time)
        np.add.at(self._live, connection, 1)
        np.add.at(self._in_flight, connection, size)
        np.add.at(self._sent, connection, size)

    def _make_room(self, connection: np.ndarray[Any, Any], cell: np.ndarray[Any, Any]) -> None:
        taken = self._number.reshape(-1)[cell] != 0
        if taken.any():
            self.overwritten += int(taken.sum())
            np.add.at(self._live, connection[taken], -1)
            np.add.at(
                self._in_flight,
                connection[taken],
                -self._size.reshape(-1)[cell[taken]].astype(np.int64),
            )

    def is_open(self, index: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether connections have accounts."""
        found: np.ndarray[Any, np.dtype[np.bool_]] = self._open[index]
        return found

    def is_settled_below(
        self, index: np.ndarray[Any, Any], number: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether connections have no row in flight below these packet numbers, for sure."""
        settled: np.ndarray[Any, np.dtype[np.bool_]]
        settled = (self._low[index] >= number) | (self._live[index] == 0)
        return settled

    def low_of(self, index: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """:attr:`Account.low` of each."""
        low: np.ndarray[Any, np.dtype[np.uint64]] = self._low[index].astype(np.uint64)
        return low

    def gone_of(self, index: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """:attr:`Account.bytes_gone` of each."""
        gone: np.ndarray[Any, np.dtype[np.int64]] = self._sent[index] - self._in_flight[index]
        return gone

    def settle(
        self, index: np.ndarray[Any, Any], start: np.ndarray[Any, Any], stop: np.ndarray[Any, Any]
    ) -> Flights:
        """The packets from ``start`` to ``stop``, excluded, of each connection are acknowledged.

        :param index: names each connection once.
        """
        low, high = self._low[index], self._high[index]
        start, stop = np.maximum(start, low), np.minimum(stop, high)
        counts = np.maximum(stop - start, 0)
        before = np.cumsum(counts) - counts
        of = np.repeat(np.arange(len(index)), counts)
        number = np.arange(len(of)) + (start - before)[of]
        cell = index[of] * ROWS + (number & _MASK)
        numbers = self._number.reshape(-1)
        there = numbers[cell] == number.astype(np.uint64) + np.uint64(1)
        if not there.all():
            of, number, cell = of[there], number[there], cell[there]
        numbers[cell] = 0
        size = np.bincount(of, self._size.reshape(-1)[cell], len(index)).astype(np.int64)
        live = self._live[index] - np.bincount(of, minlength=len(index))
        self._live[index] = live
        self._in_flight[index] -= size
        below = np.where(start <= low, np.maximum(low, stop), low)
        self._low[index] = np.where(live == 0, high, below)
        time = self._time.reshape(-1)[cell]
        # Of several for one connection, the last one stays.
        newest, newest_sent = np.full(len(index), -1), np.zeros(len(index))
        newest[of], newest_sent[of] = number, time
        oldest_sent = np.full(len(index), _NEVER)
        oldest_sent[of[::-1]] = time[::-1]
        return size, oldest_sent, newest, newest_sent

    def overdue(self, now: float) -> list[Account]:
        """Whose probe timeout is over, with nothing acknowledged since (RFC 9002 section 6.2).

        Ask at :meth:`next_due`; when that is never, ``on_rows`` tells when to begin again.
        """
        if not len(self._due(now)):
            return []
        self.catch_up()
        return [self._accounts[index] for index in self._due(now).tolist()]

    def _due(self, now: float) -> np.ndarray[Any, np.dtype[np.intp]]:
        return np.flatnonzero((self._live > 0) & (self._last_send + self._timeout <= now))

    def next_due(self) -> float:
        """When the first probe timeout of all accounts is over; ``inf``: nobody waits for one."""
        due = (self._last_send + self._timeout)[self._live > 0].min(initial=_NEVER)
        # A connection that closes waits for nothing, whatever is in flight.
        self._watched = due < _NEVER
        return float(due)

    def named(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """The sequences that rows in flight name, each once."""
        names = [
            self._sequence[index][self._number[index] != 0]
            for index in np.flatnonzero(self._live > 0)
        ]
        return np.unique(np.concatenate(names)) if names else np.empty(0, np.uint32)


class Account:
    """One connection's part of the ledger."""

    __slots__ = (
        "_high",
        "_in_flight",
        "_index",
        "_last_send",
        "_ledger",
        "_live",
        "_low",
        "_number",
        "_position",
        "_sent",
        "_sequence",
        "_size",
        "_time",
        "_timeout",
        "on_due",
        "own_number",
    )

    def __init__(self, ledger: Ledger, index: int) -> None:
        self._ledger = ledger
        self._index = index
        self._number = ledger._number[index].data
        self._time = _floats(ledger._time[index])
        self._size = ledger._size[index].data
        self._sequence = ledger._sequence[index].data
        self._position = ledger._position[index].data
        self._low = ledger._low.data
        self._high = ledger._high.data
        self._live = ledger._live.data
        self._in_flight = ledger._in_flight.data
        self._sent = ledger._sent.data
        self._last_send = _floats(ledger._last_send)
        self._timeout = _floats(ledger._timeout)
        self.own_number = 0
        """The latest packet number that user space took for the connection."""
        self.on_due: Callable[[float], None] = _ignore
        """Called with the time when the probe timeout is over."""

    # -- totals

    @property
    def live(self) -> int:
        """Rows in flight."""
        return self._live[self._index]

    @property
    def bytes_in_flight(self) -> int:
        return self._in_flight[self._index]

    @property
    def bytes_sent(self) -> int:
        """Of all packets that were recorded."""
        return self._sent[self._index]

    @property
    def bytes_gone(self) -> int:
        """Of the packets that are not in flight any more: acknowledged, lost or given up."""
        index = self._index
        return self._sent[index] - self._in_flight[index]

    @property
    def low(self) -> int:
        """No row in flight is below this number."""
        return self._low[self._index]

    @property
    def high(self) -> int:
        """1 + the largest number that was recorded."""
        return self._high[self._index]

    @property
    def last_send(self) -> float:
        return self._last_send[self._index]

    @property
    def packet_number_limit(self) -> int:
        """What the kernel may not reach, so that no two live packets share a row."""
        index = self._index
        if self._live[index]:
            return self._low[index] + ROWS
        # Half of the rows are left to what the kernel has sent and not yet reported.
        return max(self._high[index], self.own_number - ROWS // 2) + ROWS

    def expect(self, timeout: float, last_send: float) -> None:
        """When a probe is due: so long after the last packet of either side.

        :param last_send: of user space's packets, or 0.
        """
        index = self._index
        self._timeout[index] = timeout
        if last_send > self._last_send[index]:
            self._last_send[index] = last_send

    def _record(self, number: int, time: float, size: int, sequence: int, position: int) -> None:
        index, cell = self._index, number & _MASK
        if self._number[cell]:
            self._ledger.overwritten += 1
            self._live[index] -= 1
            self._in_flight[index] -= self._size[cell]
        self._number[cell] = number + 1
        self._time[cell], self._size[cell] = time, size
        self._sequence[cell], self._position[cell] = sequence, position
        if not self._live[index] or number < self._low[index]:
            self._low[index] = number
        if number >= self._high[index]:
            self._high[index] = number + 1
        if time > self._last_send[index]:
            self._last_send[index] = time
        self._live[index] += 1
        self._in_flight[index] += size
        self._sent[index] += size

    # -- settling

    def acknowledge(self, start: int, stop: int) -> Acknowledged | None:
        """The packets from ``start`` to ``stop``, excluded. None: nothing of it was in flight."""
        index, numbers = self._index, self._number
        low, high = self._low[index], self._high[index]
        if start < low:
            start = low
        if stop > high:
            stop = high
        if stop - start > _FEW:
            return self._acknowledge_many(start, stop)
        if start == low and stop == high and 0 < stop - start == self._live[index]:
            # All that is in flight: the usual case on a path that loses nothing.
            for number in range(start, stop):
                numbers[number & _MASK] = 0
            size = self._in_flight[index]
            self._live[index] = self._in_flight[index] = 0
            self._low[index] = high
            return size, number, self._time[number & _MASK]
        sizes = self._size
        size = count = newest = 0
        for number in range(start, stop):
            cell = number & _MASK
            if numbers[cell] == number + 1:
                numbers[cell] = 0
                size += sizes[cell]
                count += 1
                newest = number
        if not count:
            return None
        self._leave(count, size)
        return size, newest, self._time[newest & _MASK]

    def _acknowledge_many(self, begin: int, end: int) -> Acknowledged | None:
        numbers = self._find(begin, end)
        if not len(numbers):
            return None
        cells = numbers & _MASK
        index = self._index
        self._ledger._number[index][cells] = 0
        size = int(self._ledger._size[index][cells].sum(dtype=np.int64))
        self._leave(len(numbers), size)
        newest = int(numbers[-1])
        return size, newest, self._time[newest & _MASK]

    def detect(
        self, largest: int, number_threshold: int, sent_before: float
    ) -> tuple[Settled | None, float | None]:
        """Rows below ``largest`` that are lost by number or time (RFC 9002 section 6.1).

        :param largest: largest acknowledged packet.
        :param number_threshold: this number and all below are lost.
        :return: the lost rows, and when the oldest of the others was sent.
        """
        numbers = self._find(self.low, min(largest, self.high))
        if not len(numbers):
            return None, None
        times = self._ledger._time[self._index][numbers & _MASK]
        lost = (numbers <= number_threshold) | (times <= sent_before)
        kept = times[~lost]
        waiting = float(kept.min()) if len(kept) else None
        return (self._settle(numbers[lost]) if lost.any() else None), waiting

    def sent_at(self, sequence: int, position: int) -> float | None:
        """When the packet left that was reported by this name, settled or not; None: another one
        has its row."""
        index, ledger = self._index, self._ledger
        found = np.flatnonzero(
            (ledger._sequence[index] == sequence) & (ledger._position[index] == position)
        )
        return max(ledger._time[index][found].tolist(), default=None)

    def carries(self, sequences: Container[int], position: int) -> bool:
        """Whether a packet is in flight that was reported by one of these names."""
        if not self.live:
            return False
        numbers = self._find(self.low, self.high)
        return any(at == position and name in sequences for name, at in self._names(numbers))

    def oldest(self) -> tuple[int, float] | None:
        """Number and send time of the first packet in flight."""
        if not self.live:
            return None
        number = self.low
        while self._number[number & _MASK] != number + 1:
            number += 1
        return number, self._time[number & _MASK]

    def give_up(self, start: int, stop: int) -> Settled | None:
        """Take these rows for lost."""
        numbers = self._find(max(start, self.low), min(stop, self.high))
        return self._settle(numbers) if len(numbers) else None

    def _settle(self, numbers: np.ndarray[Any, Any]) -> Settled:
        index = self._index
        cells = numbers & _MASK
        settled = Settled(
            numbers.tolist(),
            self._ledger._time[index][cells].tolist(),
            int(self._ledger._size[index][cells].sum(dtype=np.int64)),
            self._names(numbers),
        )
        self._ledger._number[index][cells] = 0
        self._leave(len(numbers), settled.size)
        return settled

    def _names(self, numbers: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
        ledger, index, cells = self._ledger, self._index, numbers & _MASK
        return list(
            zip(
                ledger._sequence[index][cells].tolist(),
                ledger._position[index][cells].tolist(),
                strict=True,
            )
        )

    def _find(self, begin: int, end: int) -> np.ndarray[Any, Any]:
        """The numbers from ``begin`` to ``end``, excluded, that are in flight."""
        if begin >= end:
            return np.empty(0, np.int64)
        numbers = np.arange(max(begin, end - ROWS), end)
        live = self._ledger._number[self._index][numbers & _MASK] == numbers + 1
        return np.compress(live, numbers)

    def _leave(self, count: int, size: int) -> None:
        """So many rows are free again; find where the first of the others is."""
        index = self._index
        self._in_flight[index] -= size
        live = self._live[index] - count
        self._live[index] = live
        number = self._low[index]
        if not live:
            self._low[index] = self._high[index]
            return
        numbers = self._number
        while numbers[number & _MASK] != number + 1:
            number += 1
        self._low[index] = number


def _floats(column: np.ndarray[Any, np.dtype[np.float64]]) -> memoryview[float]:
    view: Any = column.data
    return cast("memoryview[float]", view)


def _ignore(*_arguments: object) -> None: ...
