"""Records as they are in a ring."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrelay.fastpath.rings import HEADER


def in_ring(records: np.ndarray[Any, Any]) -> bytes:
    """What :meth:`fastrelay.fastpath.rings.Ring.read` would return of these."""
    length = records.dtype.itemsize
    framed = np.zeros((len(records), HEADER + length), np.uint8)
    framed[:, :4] = np.frombuffer(np.uint32(length).tobytes(), np.uint8)
    framed[:, HEADER:] = np.ascontiguousarray(records).view(np.uint8).reshape(-1, length)
    return framed.tobytes()
