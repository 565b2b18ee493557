"""What an endpoint counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EndpointCounters:
    """What happened since the endpoint was made."""

    datagrams_received: int = 0
    datagrams_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    handshakes_started: int = 0
    handshakes_completed: int = 0
    versions_negotiated: int = 0
    retries_sent: int = 0
    connections_refused: int = 0
    datagrams_unroutable: int = 0
    resets_sent: int = 0
    """To peers of connections that a former process had."""
    media_packets: int = 0
    """Sent by user space, with DATAGRAM frames or frames of unidirectional streams."""
