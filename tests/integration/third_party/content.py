"""What the publishers of the interoperability tests send: known from its place alone.

Used under the tests' Python and under that of the third-party clients, so only the standard
library.
"""

from __future__ import annotations

import hashlib

OBJECTS_PER_GROUP = 8
INTERVAL = 0.01
"""Seconds between two objects of a publisher."""


def payload(track: str, group: int, obj: int) -> bytes:
    """The payload of one object: 1 byte to about 20 packets, different everywhere."""
    size = 24_000 if obj == 5 else 1 + (group * 7919 + obj * 104_729) % 3000
    return hashlib.shake_256(f"{track}/{group}/{obj}".encode()).digest(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
