"""The 1-RTT keys of a connection that is lent.

Somebody else seals packets with the same keys. So a packet's number is taken from the common
counter at the last moment, when it is sealed; and an update of the keys comes before that, and
while the other side is stopped: a packet with old keys and a number above one with new keys is
a protocol violation (RFC 9001 section 6.4).

Beside that, the keys of the previous phase are kept for reading (RFC 9001 section 6.5).
aioquic forgets them at once, and with them what the peer sent before it heard of an update.
"""

from __future__ import annotations

from copy import copy

from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoContext, CryptoPair, derive_key_iv_hp, next_key_phase
from aioquic.quic.packet import decode_packet_number
from aioquic.tls import CipherSuite

from fastrelay.quic.lease import Lease, PacketKeys

_CHACHA20 = CipherSuite.CHACHA20_POLY1305_SHA256
UNSEEN = (1 << 62) - 1
"""Above every packet number."""


class SharedKeys(CryptoPair):
    """Takes the place of the connection's pair while there is a lease."""

    def __init__(self, pair: CryptoPair, lease: Lease) -> None:
        super().__init__()
        self.recv, self.send = pair.recv, pair.send
        self._update_key_requested = pair._update_key_requested
        self._lease = lease
        self.previous: CryptoContext | None = None
        """What is kept of the phase before, for packets below ``phase_start``."""
        self.phase_start = 0
        """The smallest packet number read in this phase; ``UNSEEN``: none yet."""
        self.number = 0
        """Of the packet that was read last."""
        self.taken: list[int] = []
        """The numbers of packets that aioquic's builder has sealed and not yet registered."""

    # -- sending

    def take_number(self) -> int:
        """For the next packet, which is to be sealed at once."""
        if self._update_key_requested:
            self._update_key("local_update")
        return self._lease.take_packet_number()

    def encrypt_packet(
        self, plain_header: bytes, plain_payload: bytes, packet_number: int
    ) -> bytes:
        """Of aioquic's builder, whose number was only a guess."""
        number = self.take_number()
        self.taken.append(number)
        return self.send.encrypt_packet(
            plain_header[:-2] + (number & 0xFFFF).to_bytes(2, "big"), plain_payload, number
        )

    # -- receiving

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        opened = self._decrypt_previous(packet, encrypted_offset, expected_packet_number)
        if opened is not None:
            self.number = opened[2]
            return opened
        phase = self.recv.key_phase
        opened = super().decrypt_packet(packet, encrypted_offset, expected_packet_number)
        if self.recv.key_phase != phase:
            self.number = self.phase_start = opened[2]
            self._lease.resume()
        else:
            self.read(opened[2])
        return opened

    def _decrypt_previous(
        self, packet: bytes, encrypted_offset: int, expected: int
    ) -> tuple[bytes, bytes, int] | None:
        """None: it is not of the previous phase."""
        previous = self.previous
        if previous is None or packet[0] & 0x80:
            return None
        assert previous.aead is not None
        assert previous.hp is not None
        header, truncated = previous.hp.remove(packet, encrypted_offset)
        if (header[0] >> 2) & 1 != previous.key_phase:
            return None
        number = decode_packet_number(truncated, ((header[0] & 3) + 1) * 8, expected)
        if number >= self.phase_start:
            return None
        try:
            return header, previous.aead.decrypt(packet[len(header) :], header, number), number
        except CryptoError:
            return None  # perhaps the next phase already, whose bit is the same

    def read(self, number: int) -> None:
        """A packet of the current phase was authentic."""
        self.number = number
        if number < self.phase_start:
            began = self.phase_start == UNSEEN
            self.phase_start = number
            if began:
                self._lease.suspend()
                self._lease.resume()

    def _update_key(self, trigger: str) -> None:
        self._lease.suspend()
        previous = copy(self.recv)
        super()._update_key(trigger)
        self.previous = previous
        self.phase_start = UNSEEN
        if trigger == "local_update":
            self._lease.resume()


def key_sets(pair: CryptoPair) -> tuple[PacketKeys, PacketKeys, PacketKeys | None]:
    """For reading: of the current, the next and the previous phase."""
    previous = pair.previous if isinstance(pair, SharedKeys) else None
    return (
        packet_keys(pair.recv),
        packet_keys(next_key_phase(pair.recv)),
        None if previous is None else packet_keys(previous),
    )


def packet_keys(context: CryptoContext) -> PacketKeys:
    assert context.secret is not None
    assert context.version is not None
    key, iv, _ = derive_key_iv_hp(
        cipher_suite=_CHACHA20, secret=context.secret, version=context.version
    )
    return PacketKeys(key, iv)


def header_protection(secret: bytes, version: int) -> bytes:
    """The key that masks headers.

    :param secret: the first one; the key stays the same through all phases.
    """
    return derive_key_iv_hp(cipher_suite=_CHACHA20, secret=secret, version=version)[2]
