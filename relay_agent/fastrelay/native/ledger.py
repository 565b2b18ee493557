"""Where the ledger's columns are (``ledger.h``)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class Columns(ctypes.Structure):
    """Addresses; whoever makes it keeps the columns alive, and where they are."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("high", ctypes.c_void_p),
        ("live", ctypes.c_void_p),
        ("gone", ctypes.c_void_p),
        ("sent", ctypes.c_void_p),
        ("last_send", ctypes.c_void_p),
        ("timeout", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("acked", ctypes.c_void_p),
        ("acked_stride", ctypes.c_uint64),
        ("connections", ctypes.c_uint64),
    )


def columns(**columns: np.ndarray[Any, Any]) -> Columns:
    """``rows`` has as many for each connection; the others have one element for each."""
    addresses = {name: column.ctypes.data for name, column in columns.items()}
    return Columns(connections=len(columns["rows"]), **addresses)
