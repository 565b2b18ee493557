"""Congestion controllers: what may be in flight. Sans-I/O, and without aioquic.

``cubic``  CUBIC, RFC 9438
``delay``  the same, which also heeds the queue that it makes
"""

from __future__ import annotations

from fastrelay.quic.congestion.cubic import Cubic
from fastrelay.quic.congestion.delay import Delay

CONTROLLERS: dict[str, type[Cubic]] = {"cubic": Cubic, "delay": Delay}
"""By the names of ``QuicOptions.congestion_control``."""

__all__ = ["CONTROLLERS", "Cubic", "Delay"]
