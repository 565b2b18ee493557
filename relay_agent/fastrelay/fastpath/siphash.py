"""SipHash-1-3 (Aumasson, Bernstein 2012) of 24 bytes, as in ``bpf/siphash.h``."""

from __future__ import annotations

from collections.abc import Sequence

_MASK = (1 << 64) - 1


def siphash(key: Sequence[int], words: Sequence[int]) -> int:
    """``key``: two words of 64 bits; ``words``: three."""
    v0, v1 = key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D
    v2, v3 = key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573
    for word, rounds in ((words[0], 1), (words[1], 1), (words[2], 1), (24 << 56, 1), (0xFF, 3)):
        if rounds == 1:
            v3 ^= word
        else:
            v2 ^= word
        for _ in range(rounds):
            v0 = v0 + v1 & _MASK
            v2 = v2 + v3 & _MASK
            v1 = (v1 << 13 & _MASK | v1 >> 51) ^ v0
            v3 = (v3 << 16 & _MASK | v3 >> 48) ^ v2
            v0 = v0 << 32 & _MASK | v0 >> 32
            v2 = v2 + v1 & _MASK
            v0 = v0 + v3 & _MASK
            v1 = (v1 << 17 & _MASK | v1 >> 47) ^ v2
            v3 = (v3 << 21 & _MASK | v3 >> 43) ^ v0
            v2 = v2 << 32 & _MASK | v2 >> 32
        if rounds == 1:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3
