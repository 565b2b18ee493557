"""What the packets of a connection are encrypted with, as another library has it."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from fastrelay.fastpath.layout import KEYSTREAM_TEXT

_BLOCK = 64
_MAC_KEY = 32


def keystream(key: bytes, iv: bytes, number: int) -> tuple[bytes, bytes]:
    """The key of a packet's Poly1305 (RFC 8439 section 2.6), and what any text is combined with
    (section 2.4); the nonce: RFC 9001 section 5.3."""
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(len(iv), "big")
    cipher = Cipher(ChaCha20(key, bytes(4) + nonce), None)
    blocks = cipher.encryptor().update(bytes(_BLOCK + KEYSTREAM_TEXT))
    return blocks[:_MAC_KEY], blocks[_BLOCK:]
