"""What happens to the first packet of a client, before there is a connection (sans-I/O)."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass

from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from fastrelay.quic.aioquic_private import encode_refusal, parse_long_header
from fastrelay.quic.counters import EndpointCounters
from fastrelay.quic.door import Door, Verdict
from fastrelay.quic.options import Retry
from fastrelay.quic.udp import Address

CONNECTION_ID_LENGTH = 8
"""Of the ids that we give ourselves."""
_MIN_INITIAL = 1200
_RECENT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """Make a connection with these connection ids."""

    destination: bytes
    """What the client addresses now."""
    original_destination: bytes
    """What it addressed in its very first packet."""
    retry_source: bytes | None
    """The id of our Retry, if that was what it followed."""


class Admission:
    """Version negotiation, limits, and address validation by Retry."""

    def __init__(
        self,
        retry: Retry,
        retry_threshold: int,
        versions: list[int],
        counters: EndpointCounters,
        door: Door,
    ) -> None:
        self._counters = counters
        self._door = door
        self._retry = retry
        self._threshold = retry_threshold
        self._unproven: deque[float] = deque(maxlen=retry_threshold)
        """When the last came in that had not shown their addresses. What some of them sent was no
        handshake at all and left nothing, but took as long."""
        self._versions = versions
        self._tokens = QuicRetryTokenHandler()

    def judge(
        self, data: bytes, address: Address, now: float, *, half_open: int, full: bool
    ) -> Admitted | bytes | None:
        """A datagram with a long header for no connection of ours.

        :param half_open: handshakes under way.
        :param full: there is no room for another connection.
        :returns: who comes in, or the packet to answer with, or None: say nothing.
        """
        if len(data) < _MIN_INITIAL:
            return None  # not a client's first datagram; an answer could be amplification
        version = int.from_bytes(data[1:5], "big")
        if version not in self._versions:
            return self._negotiate(version, data)
        header = parse_long_header(data, CONNECTION_ID_LENGTH)
        if header is None or header.packet_type != QuicPacketType.INITIAL:
            return None
        if full:
            return self._refuse(header, QuicErrorCode.CONNECTION_REFUSED)
        verdict = self._door.judge(address, now)
        if verdict is Verdict.REFUSE:
            return self._refuse(header, QuicErrorCode.CONNECTION_REFUSED)
        if verdict is Verdict.IGNORE:
            return None
        must_validate = self._retry is Retry.ALWAYS or (
            self._retry is Retry.AUTO and (half_open >= self._threshold or self._is_flooded(now))
        )
        if header.token and self._retry is not Retry.NEVER:
            try:
                original = self._tokens.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=now,
                )
            except ValueError:
                # Below the threshold it may be another server's token: then it means nothing.
                if must_validate:
                    return self._refuse(header, QuicErrorCode.INVALID_TOKEN)
            else:
                return Admitted(header.destination_cid, original, header.destination_cid)
        elif must_validate:
            return self._send_retry(header, address, now)
        self._unproven.append(now)
        return Admitted(header.destination_cid, header.destination_cid, None)

    def _is_flooded(self, now: float) -> bool:
        unproven = self._unproven
        return len(unproven) == unproven.maxlen and now - unproven[0] < _RECENT_SECONDS

    def _negotiate(self, version: int, data: bytes) -> bytes | None:
        """Only what no version may change is looked at (RFC 8999 section 5.1)."""
        if version == 0:
            return None  # Version Negotiation itself: answering would make a loop
        middle = 6 + data[5]
        end = middle + 1 + data[middle]
        self._counters.versions_negotiated += 1
        return encode_quic_version_negotiation(
            source_cid=data[6:middle],
            destination_cid=data[middle + 1 : end],
            supported_versions=self._versions,
        )

    def _refuse(self, header: QuicHeader, code: int) -> bytes:
        self._counters.connections_refused += 1
        return encode_refusal(header, code)

    def _send_retry(self, header: QuicHeader, address: Address, now: float) -> bytes:
        assert header.version is not None
        self._counters.retries_sent += 1
        own = os.urandom(CONNECTION_ID_LENGTH)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=own,
            now=now,
        )
        return encode_quic_retry(
            version=header.version,
            source_cid=own,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
