"""Acknowledgements that the kernel took, for the ledger and the map (``acknowledgements.c``)."""

from __future__ import annotations

import ctypes

from fastrelay.native.ledger import Columns
from fastrelay.native.library import LIBRARY


class Hearing(ctypes.Structure):
    """Addresses, whose memory somebody else keeps alive; which round it is, and of that: the
    largest part of what a connection may send without being heard that was acknowledged."""

    _fields_ = (
        ("ledger", ctypes.POINTER(Columns)),
        ("connections", ctypes.c_void_p),
        ("untold", ctypes.c_void_p),
        ("parts", ctypes.c_void_p),
        ("round", ctypes.c_uint64),
        ("used", ctypes.c_double),
    )


take = LIBRARY.acknowledgements_take
"""Of records as they are in the ring, from one on and up to their number: it returns where the
first is that is not as usual, or their number."""
take.restype = ctypes.c_uint64
take.argtypes = [ctypes.POINTER(Hearing), ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]

take_one = LIBRARY.acknowledgements_take_one
"""Of these, one, whatever it is."""
take_one.restype = None
take_one.argtypes = [ctypes.POINTER(Hearing), ctypes.c_char_p, ctypes.c_uint64]
