"""1-RTT packets without any protection, for the laboratory.

draft-banks-quic-disable-encryption-00: when both sides send the transport parameter
``disable_1rtt_encryption``, handshakes are as ever, and 1-RTT packets have neither AEAD (no tag)
nor header protection. There is nothing to update then: the key phase stays 0, and packets of
another phase are dropped.

Packets are no larger for it: what the tag would take stays unused, so that a protected copy of
such a packet fits wherever the copy of a protected one does.
"""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import Direction, Epoch

from fastrelay.moqt.varint import encode_quic

DISABLE_1RTT_ENCRYPTION = 0xBAAD
"""The transport parameter; it is empty."""


class _Nothing:
    """In the place of an AEAD and of a header protection."""

    def encrypt(self, data: bytes, associated: bytes, number: int) -> bytes:
        return data

    def decrypt(self, data: bytes, associated: bytes, number: int) -> bytes:
        return data

    def apply(self, header: bytes, payload: bytes) -> bytes:
        return header + payload

    def remove(self, packet: bytes, number_at: int) -> tuple[bytes, int]:
        """Header and truncated packet number."""
        end = number_at + (packet[0] & 0x03) + 1
        if len(packet) <= end:
            raise CryptoError("the packet is too short")
        return packet[:end], int.from_bytes(packet[number_at:end], "big")


NOTHING: Any = _Nothing()


class Plaintext(QuicConnection):
    """A connection that does without protection if it may and the peer wants it, too."""

    def __init__(self, *, encryption: bool = True, **arguments: Any) -> None:
        """``encryption`` False: offer to do without."""
        self._encryption = encryption
        self.is_plaintext = False
        """Whether 1-RTT packets have no protection; known before the first of them."""
        super().__init__(**arguments)

    def _serialize_transport_parameters(self) -> bytes:
        parameters = super()._serialize_transport_parameters()
        if not self._encryption:
            parameters += encode_quic(DISABLE_1RTT_ENCRYPTION) + encode_quic(0)
        return parameters

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        value = _pull_parameter(data, DISABLE_1RTT_ENCRYPTION)
        if self._encryption or from_session_ticket or value is None:
            return
        if value:
            raise QuicConnectionError(
                QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                QuicFrameType.CRYPTO,
                "disable_1rtt_encryption is not empty",
            )
        self.is_plaintext = True

    def _update_traffic_key(
        self, direction: Direction, epoch: Epoch, cipher_suite: Any, secret: bytes
    ) -> None:
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)
        if epoch is Epoch.ONE_RTT and self.is_plaintext:
            pair = self._cryptos[epoch]
            context: Any = pair.send if direction is Direction.ENCRYPT else pair.recv
            context.aead = context.hp = NOTHING
            self._key_update_pending = False

    def request_key_update(self) -> None:
        if not self.is_plaintext:
            super().request_key_update()


def _pull_parameter(data: bytes, wanted: int) -> bytes | None:
    """Of well-formed transport parameters."""
    buf = Buffer(data=data)
    while not buf.eof():
        identifier, length = buf.pull_uint_var(), buf.pull_uint_var()
        value = buf.pull_bytes(length)
        if identifier == wanted:
            return value
    return None
