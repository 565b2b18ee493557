"""The library that all C files of this package are compiled to, when the package is installed.

It asks for nothing but OpenSSL's libcrypto.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

_NAME = "fastrelay.native._native"


def load(name: str = _NAME) -> ctypes.CDLL:
    """Raises ImportError."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} is not compiled; scripts/setup.sh or pip install does that")
    try:
        return ctypes.CDLL(spec.origin)
    except OSError as error:
        raise ImportError(f"{error}; OpenSSL 3 is needed (Debian: libssl3)") from error


LIBRARY = load()
