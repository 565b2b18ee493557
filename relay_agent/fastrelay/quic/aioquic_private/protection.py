"""Short-header packets sealed and opened (RFC 9001 sections 5.3 and 5.4).

The same as aioquic's ``CryptoPair`` does, with fewer calls and copies.
"""

from __future__ import annotations

from aioquic._crypto import HeaderProtection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import decode_packet_number
from cryptography.exceptions import InvalidTag

from fastrelay.quic.aioquic_private.plaintext import NOTHING

TAG_SIZE = 16
_SAMPLE_SIZE = 16
_CHACHA20_ZEROS = bytes(5)
_RESERVED_BITS = 0x18
_KEY_PHASE = 0x04


def seal(
    crypto: CryptoPair, peer_cid: bytes, number: int, payload: bytes, *, spin_bit: bool
) -> bytes:
    """A packet with its number in two bytes; starts a key update that was asked for.

    ``payload`` has at least two bytes, so that there is a sample.
    """
    if crypto._update_key_requested:
        crypto._update_key("local_update")
    aead, protection = crypto.send.aead, crypto.send.hp
    assert aead is not None
    assert protection is not None
    first = 0x41 | (spin_bit << 5) | (crypto.recv.key_phase << 2)
    high, low = (number >> 8) & 0xFF, number & 0xFF
    if aead is NOTHING:
        return b"%c%b%c%c%b" % (first, peer_cid, high, low, payload)
    sealed = aead._aead.encrypt(
        (aead._iv ^ number).to_bytes(12, "big"),
        payload,
        b"%c%b%c%c" % (first, peer_cid, high, low),
    )
    mask = _mask(protection, sealed[2 : 2 + _SAMPLE_SIZE])
    return b"%c%b%c%c%b" % (
        first ^ (mask[0] & 0x1F),
        peer_cid,
        high ^ mask[1],
        low ^ mask[2],
        sealed,
    )


def unseal(
    crypto: CryptoPair, packet: bytes, host_cid: bytes, expected: int
) -> tuple[int, int, bytes] | None:
    """First byte, packet number and payload.

    None: the packet is not ordinary (a key update, reserved bits) or not authentic; aioquic
    knows what to do with it.
    """
    recv = crypto.recv
    aead, protection = recv.aead, recv.hp
    start = 1 + len(host_cid)
    if aead is NOTHING:
        return _read_plaintext(packet, start, expected)
    if aead is None or protection is None or len(packet) < start + 4 + _SAMPLE_SIZE:
        return None
    mask = _mask(protection, packet[start + 4 : start + 4 + _SAMPLE_SIZE])
    first = packet[0] ^ (mask[0] & 0x1F)
    if first & _RESERVED_BITS or (first >> 2) & 1 != recv.key_phase:
        return None
    if first & 0x03 == 1:
        end = start + 2
        truncated = (packet[start] ^ mask[1]) << 8 | packet[start + 1] ^ mask[2]
        header = b"%c%b%c%c" % (first, host_cid, truncated >> 8, truncated & 0xFF)
        number = expected & -0x10000 | truncated
        if abs(number - expected) >= 0x8000:  # not in the same block of 65536
            number = decode_packet_number(truncated, 16, expected)
    else:
        length = (first & 0x03) + 1
        end = start + length
        truncated = int.from_bytes(packet[start:end], "big") ^ int.from_bytes(
            mask[1 : 1 + length], "big"
        )
        number = decode_packet_number(truncated, length * 8, expected)
        header = b"%c%b%b" % (first, host_cid, truncated.to_bytes(length, "big"))
    try:
        plain = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), packet[end:], header)
    except InvalidTag:
        return None
    return first, number, plain


def _read_plaintext(packet: bytes, start: int, expected: int) -> tuple[int, int, bytes] | None:
    first = packet[0]
    length = (first & 0x03) + 1
    if first & (_RESERVED_BITS | _KEY_PHASE) or len(packet) <= start + length:
        return None
    truncated = int.from_bytes(packet[start : start + length], "big")
    return first, decode_packet_number(truncated, length * 8, expected), packet[start + length :]


def _mask(protection: HeaderProtection, sample: bytes) -> bytes:
    encryptor = protection._encryptor
    if protection._is_chacha20:
        encryptor.reset_nonce(sample)
        return encryptor.update(_CHACHA20_ZEROS)
    return encryptor.update(sample)
