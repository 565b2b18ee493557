"""Keystreams for packets that are yet to be sent (``keystreams.c``)."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrelay.native.library import LIBRARY

JOB = np.dtype([("connection", "u8"), ("keystream", "u8"), ("number", "u8")])
"""Of :func:`fill`: two addresses in mapped memory (``layout.CONNECTION``, ``layout.KEYSTREAM``),
and a packet number."""

_WORDS = JOB.itemsize // 8

_fill = LIBRARY.keystreams_fill
_fill.restype = ctypes.c_int
_fill.argtypes = [ctypes.c_void_p, ctypes.c_uint64]


def is_able() -> bool:
    """Whether OpenSSL has ChaCha20: a FIPS module has not."""
    return not _fill(None, 0)


def fill(jobs: np.ndarray[Any, np.dtype[np.void]]) -> None:
    """Write the keystream of each packet, with its connection's ``tx`` keys, for ``tx_version``.

    ``jobs``: of type ``JOB``, one behind the other; addresses are used as they are. Half a
    microsecond each, and two for the call. Raises RuntimeError if OpenSSL is not able to: what was
    not done then has number 0, or is as it was.
    """
    if jobs.dtype != JOB or not jobs.flags.c_contiguous:
        raise ValueError("not an array of jobs")
    if _fill(jobs.ctypes.data, jobs.size):
        raise RuntimeError("OpenSSL refused to compute ChaCha20")


def fill_listed(jobs: Sequence[int]) -> None:
    """The same, for a few: the numbers of one job after those of the other."""
    if _fill(struct.pack(f"={len(jobs)}Q", *jobs), len(jobs) // _WORDS):
        raise RuntimeError("OpenSSL refused to compute ChaCha20")
