"""Reports of packets that were sent, into the ledger's rows (``reports.c``)."""

from __future__ import annotations

import ctypes

from fastrelay.native.ledger import Columns
from fastrelay.native.library import LIBRARY

SIZE = 40
"""Bytes of a report as it lies in the ring, behind its header."""

_record = LIBRARY.reports_record
_record.restype = ctypes.c_uint64
_record.argtypes = [ctypes.POINTER(Columns), ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]


def count_of(reports: bytes) -> int:
    return len(reports) // SIZE


def record(columns: Columns, reports: bytes, start: int) -> int:
    """Enter reports, as they are in the ring, from this one on.

    :return: where it ended: at one that says more than that a packet was sent, or whose row is in
        use; or behind the last one.
    """
    end: int = _record(columns, reports, start, count_of(reports))
    return end
