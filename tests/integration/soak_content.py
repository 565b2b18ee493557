"""What the soak test's publishers send: known from its place alone."""

from __future__ import annotations

import hashlib

from fastrelay.moqt.names import FullTrackName

PUBLISHERS = 3
OBJECTS_PER_GROUP = 5
INTERVAL = 0.2
"""Seconds between two objects of a track: 200 subscribers make 1000 deliveries a second, which
two cores carry together with the 15 or so handshakes a second of those who come and go."""


def track_name(publisher: int) -> FullTrackName:
    return FullTrackName((b"soak", b"%d" % publisher), b"track")


def payload(publisher: int, group: int, obj: int) -> bytes:
    size = 200 + (group * 131 + obj * 977) % 2200
    return hashlib.shake_256(f"{publisher}/{group}/{obj}".encode()).digest(size)
