"""Feedback: a track on which a subscriber tells its relay when objects arrived.

A convention of ours, not of any draft: see docs/protocol-support.md. The subscriber publishes
:data:`TRACK` in its own session, every object of which is one datagram with this payload, in
QUIC's variable-length integers whatever the draft's are::

    Base (i)                    microseconds of any clock of the subscriber's that runs evenly
    { Track Alias (i)           as in the session's SUBSCRIBE_OK
      Group ID (i), Object ID (i)
      After (i)                 microseconds from Base to the arrival of the object's last byte
    } ..
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastrelay.moqt.names import FullTrackName
from fastrelay.moqt.varint import IncompleteError, decode_quic, encode_quic

TRACK = FullTrackName((b".fastrelay", b"feedback"), b"arrivals")
MAX_BASE = 1 << 53
MAX_ARRIVALS = 64
MAX_AFTER = 60_000_000
"""Microseconds that one report may span."""


class Arrival(NamedTuple):
    """``at``: seconds of the subscriber's clock."""

    alias: int
    group: int
    object: int
    at: float


def encode(arrivals: Sequence[Arrival]) -> bytes:
    """At most :data:`MAX_ARRIVALS`, at least one."""
    base = min(arrival.at for arrival in arrivals)
    parts = [encode_quic(round(base * 1e6))]
    for alias, group, object_id, at in arrivals:
        parts += map(encode_quic, (alias, group, object_id, round((at - base) * 1e6)))
    return b"".join(parts)


def decode(payload: bytes) -> list[Arrival]:
    """:raises ValueError: this is no such report."""
    try:
        base, at = decode_quic(payload, 0)
        if base > MAX_BASE:
            raise ValueError("a clock beyond 2^53 microseconds")
        arrivals: list[Arrival] = []
        while at < len(payload):
            if len(arrivals) == MAX_ARRIVALS:
                raise ValueError(f"more than {MAX_ARRIVALS} arrivals in one report")
            alias, at = decode_quic(payload, at)
            group, at = decode_quic(payload, at)
            object_id, at = decode_quic(payload, at)
            after, at = decode_quic(payload, at)
            if after > MAX_AFTER:
                raise ValueError("a report of more than a minute")
            arrivals.append(Arrival(alias, group, object_id, (base + after) * 1e-6))
    except IncompleteError as error:
        raise ValueError("a report that is cut off") from error
    if not arrivals:
        raise ValueError("a report without arrivals")
    return arrivals
