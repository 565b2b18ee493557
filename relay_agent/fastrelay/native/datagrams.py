"""Datagrams that have arrived, and when (``datagrams.c``)."""

from __future__ import annotations

import ctypes

from fastrelay.native.library import LIBRARY


class Batch(ctypes.Structure):
    """Addresses, whose memory somebody else keeps alive: of ``struct mmsghdr`` and of seconds of
    CLOCK_MONOTONIC, ``count`` each. The sizes are those that each header has before a call; nothing
    that is read arrived before ``emptied``."""

    _fields_ = (
        ("messages", ctypes.c_void_p),
        ("times", ctypes.c_void_p),
        ("count", ctypes.c_uint64),
        ("name_size", ctypes.c_uint64),
        ("control_size", ctypes.c_uint64),
        ("emptied", ctypes.c_double),
    )


receive = LIBRARY.datagrams_receive
"""From a file descriptor, without waiting: how many have come, or -errno."""
receive.restype = ctypes.c_int
receive.argtypes = [ctypes.c_int, ctypes.POINTER(Batch)]
