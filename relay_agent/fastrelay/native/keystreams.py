"""Keystreams for packets that are yet to be sent (``keystreams.c``)."""

from __future__ import annotations

import ctypes

from fastrelay.native.library import LIBRARY
from fastrelay.native.reports import count_of


class Maps(ctypes.Structure):
    """Addresses of mapped memory (``layout.CONNECTION``, ``layout.KEYSTREAM``)."""

    _fields_ = (("connections", ctypes.c_void_p), ("keystreams", ctypes.c_void_p))


_are_able = LIBRARY.keystreams_are_able
_are_able.restype = ctypes.c_bool
_are_able.argtypes = []
_fill = LIBRARY.keystreams_fill
_fill.argtypes = [ctypes.POINTER(Maps), ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64]
_renew = LIBRARY.keystreams_renew
_renew.argtypes = [ctypes.POINTER(Maps), ctypes.c_char_p, ctypes.c_uint64]


def is_able() -> bool:
    """Whether OpenSSL has ChaCha20: a FIPS module has not."""
    return bool(_are_able())


def fill(maps: Maps, connection: int, first: int, count: int) -> None:
    """Write the keystreams of so many packets, with the connection's ``tx`` keys, for
    ``tx_version``.

    Half a microsecond each, and two for the call. Raises RuntimeError if OpenSSL is not able to:
    what was not done then has number 0, or is as it was.
    """
    _check(_fill(maps, connection, first, count))


def renew(maps: Maps, reports: bytes) -> None:
    """The same, for what is ``KEYSTREAMS_AHEAD`` after each packet that these reports, as they are
    in the ring, say was sent; but for what has left already, and for connections without keys."""
    _check(_renew(maps, reports, count_of(reports)))


def _check(result: int) -> None:
    if result:
        raise RuntimeError("OpenSSL refused to compute ChaCha20")
