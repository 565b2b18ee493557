"""What the publishers of the interoperability tests, and of those of bottlenecks, send: known from
its place alone.

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


def layer_payload(track: str, group: int, obj: int, size: int) -> bytes:
    """An object of a layer (``fastpath/layers.py``): it says itself what it is."""
    head = f"{track} {group} {obj} {size} ".encode()
    return head + hashlib.shake_256(head).digest(max(0, size - len(head)))


def layer_line(track: str, group: int, obj: int, data: bytes, at: float, place: int = 0) -> str:
    """What a subscriber notes of such an object that has come: client, track, group, number,
    bytes, seconds of the monotonic clock; or what is wrong with it. Of the relay's own track
    (``fastpath/renditions.py``), the object itself says whose it is."""
    if track == "auto":
        track = data[:80].partition(b" ")[0].decode("ascii", "replace")
    if data != layer_payload(track, group, obj, len(data)):
        return f"fault {place} {track} {group} {obj}\n"
    return f"{place} {track} {group} {obj} {len(data)} {at:.4f}\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
