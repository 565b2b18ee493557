"""Packets that the kernel sent: rows of columns for all connections at once.

A connection's row of packet number ``n`` is its row ``n % ROWS``; the limit that is published
for the kernel (:attr:`Account.packet_number_limit`) keeps two live packets out of one row.
Times are seconds of CLOCK_MONOTONIC, sizes are bytes of UDP payload.

Reports are recorded in machine code: their rows are copied as they are, 16 bytes each. So are
acknowledgements that the kernel has read (``native/acknowledgements.c``). One that user space reads
concerns one connection and mostly one or two rows: for these, single elements are read through
memoryviews, which cost a tenth of numpy's own scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple, cast

import numpy as np

from fastrelay.native import probes
from fastrelay.native.ledger import columns
from fastrelay.native.reports import record

ROWS = 1024
_MASK = ROWS - 1
_FEW = 16
"""Up to so many rows, a loop is quicker than arrays."""
ROW = np.dtype([("time", "u8"), ("sequence", "u4"), ("position", "u2"), ("size", "u2")])
"""A packet, as its report has it in one piece: nanoseconds; bytes, 0 if it is not in flight."""
_NEVER = float("inf")
_NOWHERE = 1 << 62
"""Where the rows in flight begin if there are none: beyond all packet numbers."""


class Settled(NamedTuple):
    """Rows that are in flight no longer: ``(sequence, position)`` each, ``numbers`` ascending."""

    numbers: list[int]
    times: list[float]
    size: int
    """Of all of them together."""
    rows: list[tuple[int, int]]


Acknowledged = tuple[int, int, float]
"""What an acknowledgement settled: bytes; number and send time of the newest of the packets."""


class Ledger:
    """The rows of all connections.

    A row is that of the only number from ``low`` to ``high`` which belongs there, as these are
    never more than ``ROWS`` apart. Memory that nobody used costs nothing.
    """

    def __init__(self, connections: int = 1024) -> None:
        self._rows = np.zeros((connections, ROWS), ROW)
        self._low = np.full(connections, _NOWHERE, np.int64)
        self._high = np.zeros(connections, np.int64)
        self._live = np.zeros(connections, np.int64)
        self._gone = np.zeros(connections, np.int64)
        self._sent = np.zeros(connections, np.int64)
        self._last_send = np.zeros(connections, np.float64)
        self._timeout = np.full(connections, _NEVER)
        self._open = np.zeros(connections, np.bool_)
        self.columns = columns(
            rows=self._rows,
            low=self._low,
            high=self._high,
            live=self._live,
            gone=self._gone,
            sent=self._sent,
            last_send=self._last_send,
            timeout=self._timeout,
            open=self._open,
        )
        """For what is in machine code."""
        self._used = 0
        """Beyond all connections that ever were."""
        self._accounts: dict[int, Account] = {}
        self.overwritten = 0
        """Rows that were still live when another packet came: the limit was not kept."""
        self.on_rows: Callable[[], None] = _ignore
        """Called when there are rows in flight, once until :meth:`overdue` was asked."""
        self.catch_up: Callable[[], None] = _ignore
        """Called to hear of all acknowledgements that have come."""
        self.acked = np.zeros(connections, np.int64)
        self._watched = False

    @property
    def acked(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Below these numbers all is acknowledged, whether it was heard or not; 0: not known. Who
        lends the connections keeps it. Nobody waits for a probe of what is in flight no more."""
        return self._acked

    @acked.setter
    def acked(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        assert len(numbers) >= len(self._open)
        self._acked = numbers
        self.columns.acked = numbers.ctypes.data
        self.columns.acked_stride = numbers.strides[0]

    def open(self, index: int) -> Account:
        """The account of a connection that now has this index."""
        account = self._accounts[index] = Account(self, index)
        self._used = max(self._used, index + 1)
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
        if self._high[index]:
            self._rows[index]["size"] = 0
        self._low[index] = _NOWHERE
        for total in (self._high, self._live, self._gone, self._sent, self._last_send):
            total[index] = 0

    def record(self, reports: bytes, start: int = 0) -> int:
        """Packets that were sent, of any connections, in any order: from a report on up to one
        that says more than that, or whose row is in use.

        :param reports: as they are in the ring.
        :return: where that is (:meth:`record_one` is for it), or how many they are.
        """
        end = record(self.columns, reports, start)
        if end > start:
            self._tell_of_rows()
        return end

    def record_one(
        self, index: int, number: int, time: int, sequence: int, position: int, size: int
    ) -> None:
        """A packet that was sent: its connection and packet number, and the fields of
        :data:`ROW`. What is in its way is given up."""
        account = self.account(index)
        if account is not None:
            account._record(number, time, sequence, position, size)
            self._tell_of_rows()

    def _tell_of_rows(self) -> None:
        if not self._watched:
            self._watched = True
            self.on_rows()

    def overdue(self, now: float) -> list[Account]:
        """Whose probe timeout is over, with nothing acknowledged since (RFC 9002 section 6.2).

        Ask at :meth:`next_due`; when that is never, ``on_rows`` tells when to begin again.
        """
        if probes.overdue(self.columns, 0, self._used, now) == self._used:
            return []
        self.catch_up()
        found = []
        index = probes.overdue(self.columns, 0, self._used, now)
        while index < self._used:
            found.append(self._accounts[index])
            index = probes.overdue(self.columns, index + 1, self._used, now)
        return found

    def next_due(self) -> float:
        """When the first probe timeout of all accounts is over; ``inf``: nobody waits for one."""
        due: float = probes.next_due(self.columns, self._used)
        # A connection that closes waits for nothing, whatever is in flight.
        self._watched = due < _NEVER
        return due

    def named(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """The sequences that rows in flight name, each once."""
        index = np.flatnonzero(self._live)
        low = self._low[index]
        counts = self._high[index] - low
        before = np.cumsum(counts) - counts
        number = np.arange(counts.sum()) + np.repeat(low - before, counts)
        rows = self._rows[np.repeat(index, counts), number & _MASK]
        names: np.ndarray[Any, np.dtype[np.uint32]]
        names = rows["sequence"][rows["size"] != 0]
        return np.unique(names)


class Account:
    """One connection's part of the ledger."""

    __slots__ = (
        "_gone",
        "_high",
        "_index",
        "_last_send",
        "_ledger",
        "_live",
        "_low",
        "_position",
        "_rows",
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
        self._rows = rows = ledger._rows[index]
        self._time, self._size = rows["time"].data, rows["size"].data
        self._sequence, self._position = rows["sequence"].data, rows["position"].data
        self._low = ledger._low.data
        self._high = ledger._high.data
        self._live = ledger._live.data
        self._gone = ledger._gone.data
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
        index = self._index
        return self._sent[index] - self._gone[index]

    @property
    def bytes_sent(self) -> int:
        """Of all packets that were recorded."""
        return self._sent[self._index]

    @property
    def bytes_gone(self) -> int:
        """Of the packets that are not in flight any more: acknowledged, lost or given up."""
        return self._gone[self._index]

    @property
    def low(self) -> int:
        """No row in flight is below this number."""
        index = self._index
        return self._low[index] if self._live[index] else self._high[index]

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

    def _record(self, number: int, time: int, sequence: int, position: int, size: int) -> None:
        """``time``: nanoseconds."""
        index, cell = self._index, number & _MASK
        low, high = self._low[index], self._high[index]
        if (number - low >= ROWS or high - number > ROWS) and not self._make_room(number):
            return
        self._time[cell], self._size[cell] = time, size
        self._sequence[cell], self._position[cell] = sequence, position
        if number < self._low[index]:
            self._low[index] = number
        if number >= high:
            self._high[index] = number + 1
        sent_at = time / 1e9
        if sent_at > self._last_send[index]:
            self._last_send[index] = sent_at
        self._live[index] += 1
        self._sent[index] += size

    def _make_room(self, number: int) -> bool:
        """Give up the rows that are too far below this number. False: it is too far itself."""
        if self.high - number > ROWS:
            self._ledger.overwritten += 1
            return False
        gone = self.give_up(0, number - ROWS + 1)
        if gone is not None:
            self._ledger.overwritten += len(gone.rows)
        return True

    # -- settling

    def acknowledge(self, start: int, stop: int) -> Acknowledged | None:
        """The packets from ``start`` to ``stop``, excluded. None: nothing of it was in flight."""
        index, sizes = self._index, self._size
        live = self._live[index]
        if not live:
            return None
        low, high = self._low[index], self._high[index]
        if start < low:
            start = low
        if stop > high:
            stop = high
        if stop - start > _FEW:
            return self._acknowledge_many(start, stop)
        if start == low and stop == high and stop - start == live:
            # All that is in flight: the usual case on a path that loses nothing.
            for number in range(start, stop):
                sizes[number & _MASK] = 0
            sent = self._sent[index]
            size, self._gone[index] = sent - self._gone[index], sent
            self._live[index], self._low[index] = 0, _NOWHERE
            return size, number, self._time[number & _MASK] / 1e9
        size = count = newest = 0
        for number in range(start, stop):
            cell = number & _MASK
            if (one := sizes[cell]) != 0:
                sizes[cell] = 0
                size += one
                count += 1
                newest = number
        if not count:
            return None
        self._leave(count, size)
        return size, newest, self._time[newest & _MASK] / 1e9

    def _acknowledge_many(self, begin: int, end: int) -> Acknowledged | None:
        numbers = self._find(begin, end)
        if not len(numbers):
            return None
        cells = numbers & _MASK
        size = int(self._rows["size"][cells].sum(dtype=np.int64))
        self._rows["size"][cells] = 0
        self._leave(len(numbers), size)
        newest = int(numbers[-1])
        return size, newest, self._time[newest & _MASK] / 1e9

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
        times = self._rows["time"][numbers & _MASK] / 1e9
        lost = (numbers <= number_threshold) | (times <= sent_before)
        kept = times[~lost]
        waiting = float(kept.min()) if len(kept) else None
        return (self._settle(numbers[lost]) if lost.any() else None), waiting

    def sent_at(self, sequence: int, position: int) -> float | None:
        """When the packet left that was reported by this name, settled or not; None: another one
        has its row."""
        rows = self._rows
        found = rows["time"][(rows["sequence"] == sequence) & (rows["position"] == position)]
        return float(found.max()) / 1e9 if len(found) else None

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
        number, sizes = self.low, self._size
        while not sizes[number & _MASK]:
            number += 1
        return number, self._time[number & _MASK] / 1e9

    def give_up(self, start: int, stop: int) -> Settled | None:
        """Take these rows for lost."""
        numbers = self._find(max(start, self.low), min(stop, self.high))
        return self._settle(numbers) if len(numbers) else None

    def _settle(self, numbers: np.ndarray[Any, Any]) -> Settled:
        rows, cells = self._rows, numbers & _MASK
        settled = Settled(
            numbers.tolist(),
            (rows["time"][cells] / 1e9).tolist(),
            int(rows["size"][cells].sum(dtype=np.int64)),
            self._names(numbers),
        )
        rows["size"][cells] = 0
        self._leave(len(numbers), settled.size)
        return settled

    def _names(self, numbers: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
        rows = self._rows[numbers & _MASK]
        return list(zip(rows["sequence"].tolist(), rows["position"].tolist(), strict=True))

    def _find(self, begin: int, end: int) -> np.ndarray[Any, Any]:
        """The numbers from ``begin`` to ``end``, excluded, that are in flight: not before
        :attr:`low`, not after :attr:`high`."""
        numbers = np.arange(begin, end)
        return np.compress(self._rows["size"][numbers & _MASK], numbers)

    def _leave(self, count: int, size: int) -> None:
        """So many rows are free again; find where the first of the others is."""
        index = self._index
        self._gone[index] += size
        live = self._live[index] - count
        self._live[index] = live
        if not live:
            self._low[index] = _NOWHERE
            return
        number, sizes = self._low[index], self._size
        while not sizes[number & _MASK]:
            number += 1
        self._low[index] = number


def _floats(column: np.ndarray[Any, np.dtype[np.float64]]) -> memoryview[float]:
    view: Any = column.data
    return cast("memoryview[float]", view)


def _ignore(*_arguments: object) -> None: ...
