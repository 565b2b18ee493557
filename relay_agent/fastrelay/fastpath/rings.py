"""A BPF ring buffer's reading end, on mapped memory.

Every record of a ring has the same size here, so all that is there is read at once, in one
piece. The data pages are mapped twice in a row: a record that wraps is contiguous
nevertheless.

Source: ``kernel/bpf/ringbuf.c``, and libbpf's ``ringbuf_process_ring``.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import Struct

HEADER = 8
"""In front of each record: u32 length and flags, u32 page offset."""
BUSY = 1 << 31
"""Of the length: reserved, not yet submitted."""
DISCARDED = 1 << 30
_FEW = 200
"""Up to so many records, lists are quicker than arrays."""
PATIENCE = 0.0005
"""Seconds that a record may stay busy before what follows is left for the next time."""

Records = np.ndarray[Any, Any]


class RingError(Exception):
    """What is in the ring is not what this version of the layout says."""


class Ring:
    """Reads fixed-size records.

    :param consumer: u64 view of the consumer's page, writable.
    :param producer: u64 view of the producer's page.
    :param data: the data, twice in a row.
    """

    def __init__(
        self, consumer: memoryview, producer: memoryview, data: memoryview, record: Struct
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._data = data
        self._words = data.cast("I")
        self._mask = len(data) // 2 - 1
        self._length = record.dtype.itemsize
        self._stride = self._length + HEADER
        self._dtype = np.dtype([("length", "u4"), ("page", "u4"), ("record", record.dtype)])
        self._packing = struct.Struct(f"={HEADER}x{record.packing}")
        self._position = consumer[0]
        self.complete = True
        """The last :meth:`read` got all that had been reserved when it began."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to be read."""
        return bool(self._producer[0] != self._position)

    @property
    def backlog(self) -> int:
        """Bytes that were not read yet."""
        return self._producer[0] - self._position

    def read(self) -> bytes:
        """All submitted records, in the order of their reservation, as they are in the ring: for
        :meth:`count`, :meth:`each`, :meth:`one`, and for machine code.

        :raises RingError: a record of another size.
        """
        start = self._position
        stop = self._producer[0]
        if start == stop:
            self.complete = True
            return b""
        begin = start & self._mask
        count = (stop - start) // self._stride
        if self._is_usual(begin, count):
            fence()
            found = bytes(self._data[begin : begin + count * self._stride])
        else:
            window: Records = np.frombuffer(self._data, self._dtype, count, begin)
            window, lengths = self._submitted(window)
            kept = lengths & DISCARDED == 0
            if (lengths[kept] != self._length).any():
                raise RingError(f"a ring holds a record that has not {self._length} bytes")
            found = window[kept].tobytes()
            count = len(window)
        self.complete = start + count * self._stride == stop
        self._move(start + count * self._stride)
        return found

    def count(self, found: bytes) -> int:
        """How many records have been read."""
        return len(found) // self._stride

    def each(self, found: bytes) -> Iterator[tuple[int, ...]]:
        """The fields of the records that were read, but for reserved ones, in order."""
        return self._packing.iter_unpack(found)

    def one(self, found: bytes, at: int) -> tuple[int, ...]:
        """The fields of one of them."""
        return self._packing.unpack_from(found, at * self._stride)

    def _is_usual(self, begin: int, count: int) -> bool:
        """So many records are all submitted, and none is discarded."""
        if count <= _FEW:
            step = self._stride // 4
            lengths = self._words[begin // 4 : begin // 4 + count * step : step]
            return lengths.tolist().count(self._length) == count
        window: Records = np.frombuffer(self._data, self._dtype, count, begin)
        return bool((window["length"] == self._length).all())

    def skip(self) -> None:
        """Forget all that is there."""
        self._move(self._producer[0])

    def _submitted(self, window: Records) -> tuple[Records, Records]:
        """Up to the first record that stays busy, and the lengths."""
        lengths = window["length"].copy()
        until = time.monotonic() + PATIENCE
        while (lengths & BUSY).any() and time.monotonic() < until:
            lengths = window["length"].copy()
        busy = np.flatnonzero(lengths & BUSY)
        if len(busy):
            window, lengths = window[: busy[0]], lengths[: busy[0]]
        fence()
        return window, lengths

    def _move(self, position: int) -> None:
        fence()
        self._position = position
        self._consumer[0] = position
