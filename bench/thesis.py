"""The experiment of the thesis that this project goes back to: 1024 objects of 21 bytes, each on a
stream of its own, 1 ms apart, to one client; the five smallest and the five largest delays left
out. There, both paths ran at once, without encryption, and netem added 10 ms."""

from __future__ import annotations

from collections.abc import Sequence

OBJECTS = 1024
OBJECT_SIZE = 21
RATE = 1000.0
CUT = 5
FRAME_SIZES = (96, 150)
"""Ethernet frames that hold one such object. ACKs alone are smaller, what a peer says of its
limits together with an ACK may be as large: what does not fit then is left out."""

KERNEL = {"median": 10_026.7, "sd": 6.1}
USER = {"median": 10_127.4, "sd": 47.4}
"""What was measured there, in microseconds, the 10 ms included."""
NETEM = 10_000.0


def trimmed(delays: Sequence[float]) -> list[float]:
    return sorted(delays)[CUT:-CUT]
