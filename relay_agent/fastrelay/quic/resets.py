"""Stateless resets (RFC 9000, section 10.3): who has lost a connection tells its peer so.

A relay that was killed leaves clients that would wait for the idle timeout. The next process at
the same place makes the same tokens, and answers what is still sent to its predecessor.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

TOKEN_SIZE = 16
SMALLEST = 21
"""Bytes of a reset: what a peer may take for one."""
_LARGEST = 43
"""As long as packets mostly are that only acknowledge."""
_A_SECOND = 1000
"""Resets at most: others wait for the next packet of theirs, or for the idle timeout."""


class Resets:
    """A server's. ``key``: secret, and the same for its successor alone: a server at which another
    one's packets may arrive (a replica) must not be able to end its connections."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._second, self._count = 0, 0

    @classmethod
    def of(cls, private_key: Any) -> Resets:
        """Whoever has this key and this host's name: in a cluster, the pod's."""
        form = Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        name = f"stateless reset of {socket.gethostname()}"
        return cls(hmac.digest(private_key.private_bytes(*form), name.encode(), hashlib.sha256))

    def token(self, connection_id: bytes) -> bytes:
        """What ends the connection of that id."""
        return hmac.digest(self._key, connection_id, hashlib.sha256)[:TOKEN_SIZE]

    def answer(self, data: bytes, id_length: int, now: float) -> bytes | None:
        """To a packet with a short header of no connection. Smaller than it, so that two who
        answer each other come to an end; None: it is too small, or there were too many."""
        size = min(len(data) - 1, _LARGEST)
        if size < SMALLEST or not data[0] & 0x40:
            return None
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count > _A_SECOND:
            return None
        filling = bytearray(os.urandom(size - TOKEN_SIZE))
        filling[0] = 0x40 | filling[0] & 0x3F
        return bytes(filling) + self.token(data[1 : 1 + id_length])


def is_reset(data: bytes, token: bytes | None) -> bool:
    """Whether a datagram is that end of a connection."""
    return (
        bool(token)
        and len(data) >= SMALLEST
        and hmac.compare_digest(data[-TOKEN_SIZE:], token or b"")
    )
