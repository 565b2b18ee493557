"""Who has waited too long for an acknowledgement (``probes.c``)."""

from __future__ import annotations

import ctypes

from fastrelay.native.ledger import Columns
from fastrelay.native.library import LIBRARY

next_due = LIBRARY.probes_next
"""Of so many connections: when the first probe timeout is over; ``inf``: nobody waits for one."""
next_due.restype = ctypes.c_double
next_due.argtypes = [ctypes.POINTER(Columns), ctypes.c_uint64]

overdue = LIBRARY.probes_overdue
"""From a connection on, of so many, and now: the first whose probe timeout is over, or their
number."""
overdue.restype = ctypes.c_uint64
overdue.argtypes = [
    ctypes.POINTER(Columns),
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_double,
]
