"""ChaCha20, Poly1305, the AEAD and header protection against their RFCs' vectors and against
``cryptography``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from bpf.harness import Datapath
from bpf.packets import nonce
from fastrelay.fastpath import layout

AEAD_MAX_LENGTH = 1472
AEAD = np.dtype(
    [
        ("key", "u1", 32),
        ("counter", "<u4"),
        ("nonce", "u1", 12),
        ("mac", "u1", 112),
        ("first", "u1", 64),
        ("aad_length", "<u4"),
        ("length", "<u4"),
        ("aad", "u1", 32),
        ("text", "u1", 2112),
    ]
)
PROBE = np.dtype(
    [
        ("keys", layout.KEYSET.dtype),
        ("packet_number", "<u8"),
        ("result", "<u8"),
        ("words", "u1", 64),
        ("aead", AEAD),
    ]
)


def fill(field: np.ndarray[Any, Any], data: bytes) -> None:
    field[:] = 0
    field[: len(data)] = np.frombuffer(data, "u1")


class Probe:
    """The programs of ``crypto.c``."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._value = np.frombuffer(datapath.probe, PROBE, 1)[0]

    def _run(self, program: str) -> None:
        self._datapath.run(program, bytes(64))

    def _keys(self, key: bytes, iv: bytes, packet_number: int) -> None:
        self._value["keys"]["key"] = np.frombuffer(key, "<u4")
        self._value["keys"]["iv"] = np.frombuffer(iv, "<u4")
        self._value["packet_number"] = packet_number

    def _text(self, text: bytes, length: int, aad: bytes = b"") -> None:
        fill(self._value["aead"]["text"], text)
        fill(self._value["aead"]["aad"], aad)
        self._value["aead"]["length"] = length
        self._value["aead"]["aad_length"] = len(aad)

    def chacha20(self, key: bytes, counter: int, nonce: bytes) -> bytes:
        fill(self._value["aead"]["key"], key)
        self._value["aead"]["counter"] = counter
        fill(self._value["aead"]["nonce"], nonce)
        self._run("probe_chacha20")
        return bytes(self._value["words"])

    def poly1305(self, key: bytes, text: bytes) -> bytes:
        assert len(text) % 16 == 0
        self._text(text, len(text))
        fill(self._value["words"], key)
        self._run("probe_poly1305")
        return bytes(self._value["words"][:16])

    def seal(self, key: bytes, iv: bytes, packet_number: int, text: bytes, aad: bytes) -> bytes:
        self._keys(key, iv, packet_number)
        self._text(text, len(text), aad)
        self._run("probe_seal")
        return bytes(self._value["aead"]["text"][: len(text) + 16])

    def open(
        self, key: bytes, iv: bytes, packet_number: int, sealed: bytes, aad: bytes
    ) -> bytes | None:
        self._keys(key, iv, packet_number)
        self._text(sealed, len(sealed) - 16, aad)
        self._run("probe_open")
        if not self._value["result"]:
            return None
        return bytes(self._value["aead"]["text"][: len(sealed) - 16])

    def mask(self, key: bytes, sample: bytes) -> bytes:
        fill(self._value["words"], key + sample)
        self._run("probe_mask")
        return int(self._value["result"]).to_bytes(8, "little")[:5]


@pytest.fixture(scope="module")
def probe(datapath: Datapath) -> Iterator[Probe]:
    datapath.load(Path(__file__).with_name("crypto.c"), [f"-DAEAD_STRUCT_SIZE={AEAD.itemsize}"])
    return Probe(datapath)


@pytest.mark.kernels
def test_chacha20_block_of_rfc_8439_section_2_3_2(probe: Probe) -> None:
    got = probe.chacha20(bytes(range(32)), 1, bytes.fromhex("000000090000004a00000000"))
    assert got == bytes.fromhex(
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_chacha20_blocks(probe: Probe) -> None:
    chance = random.Random(1)
    for _ in range(200):
        key, number = chance.randbytes(32), chance.randbytes(12)
        counter = chance.choice([0, 1, 23, chance.getrandbits(32) - 1])
        start = counter.to_bytes(4, "little") + number
        want = Cipher(ChaCha20(key, start), mode=None).encryptor().update(bytes(64))
        assert probe.chacha20(key, counter, number) == want


# RFC 8439 appendix A.3, those of whole blocks: r, s, text, tag; 7 to 11 are about carries.
POLY1305_VECTORS = {
    1: ("00" * 16, "00" * 16, "00" * 64, "00" * 16),
    5: ("02" + "00" * 15, "00" * 16, "ff" * 16, "03" + "00" * 15),
    6: ("02" + "00" * 15, "ff" * 16, "02" + "00" * 15, "03" + "00" * 15),
    7: (
        "01" + "00" * 15,
        "00" * 16,
        "ff" * 16 + "f0" + "ff" * 15 + "11" + "00" * 15,
        "05" + "00" * 15,
    ),
    8: ("01" + "00" * 15, "00" * 16, "ff" * 16 + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
    9: ("02" + "00" * 15, "00" * 16, "fd" + "ff" * 15, "fa" + "ff" * 15),
    10: (
        "01" + "00" * 7 + "04" + "00" * 7,
        "00" * 16,
        "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000"
        "0000000000000000000000000000000001000000000000000000000000000000",
        "1400000000000000" + "5500000000000000",
    ),
    11: (
        "01" + "00" * 7 + "04" + "00" * 7,
        "00" * 16,
        "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000" + "00" * 16,
        "13" + "00" * 15,
    ),
}


@pytest.mark.parametrize("number", POLY1305_VECTORS)
def test_poly1305_of_rfc_8439_appendix_a_3(probe: Probe, number: int) -> None:
    r, s, text, tag = map(bytes.fromhex, POLY1305_VECTORS[number])
    assert probe.poly1305(r + s, text) == tag


def test_poly1305_with_every_carry(probe: Probe) -> None:
    """The largest r and blocks of ones keep every limb as full as it gets."""
    chance = random.Random(2)
    for blocks in range(1, 92):
        for block in (b"\xff" * 16, b"\0" * 16, b"\xfb" + b"\xff" * 15, chance.randbytes(16)):
            for key in (b"\xff" * 32, chance.randbytes(32)):
                text = block * blocks
                assert probe.poly1305(key, text) == Poly1305.generate_tag(key, text)


LADIES = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)


@pytest.mark.kernels
def test_aead_of_rfc_8439_section_2_8_2(probe: Probe) -> None:
    key, iv = bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    want = bytes.fromhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
    )
    assert probe.seal(key, iv, 0, LADIES, aad) == want
    assert probe.open(key, iv, 0, want, aad) == LADIES


A5_KEY = bytes.fromhex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8")
A5_IV = bytes.fromhex("e0459b3474bdd0e44a41c144")
A5_HP = bytes.fromhex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4")


@pytest.mark.kernels
def test_short_header_packet_of_rfc_9001_appendix_a_5(probe: Probe) -> None:
    header, number = bytes.fromhex("4200bff4"), 654360564
    sealed = probe.seal(A5_KEY, A5_IV, number, b"\x01", header)
    assert sealed == bytes.fromhex("655e5cd55c41f69080575d7999c25a5bfb")
    mask = probe.mask(A5_HP, sealed[1:17])
    assert mask == bytes.fromhex("aefefe7d03")
    protected = bytes([header[0] ^ mask[0] & 0x1F]) + bytes(
        a ^ b for a, b in zip(header[1:], mask[1:], strict=False)
    )
    assert protected + sealed == bytes.fromhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb")
    assert probe.open(A5_KEY, A5_IV, number, sealed, header) == b"\x01"


def test_masks(probe: Probe) -> None:
    chance = random.Random(3)
    for _ in range(200):
        key, sample = chance.randbytes(32), chance.randbytes(16)
        want = Cipher(ChaCha20(key, sample), mode=None).encryptor().update(bytes(5))
        assert probe.mask(key, sample) == want


def test_every_length(probe: Probe) -> None:
    chance = random.Random(4)
    for length in range(1, AEAD_MAX_LENGTH + 1):
        key, iv, text = chance.randbytes(32), chance.randbytes(12), chance.randbytes(length)
        aad = chance.randbytes(1 + length % 25)
        number = chance.getrandbits(chance.choice([8, 31, 33, 62]))
        want = ChaCha20Poly1305(key).encrypt(nonce(iv, number), text, aad)
        assert probe.seal(key, iv, number, text, aad) == want
        assert probe.open(key, iv, number, want, aad) == text


def test_no_flipped_bit_is_authentic(probe: Probe) -> None:
    chance = random.Random(5)
    key, iv, text, aad = (chance.randbytes(size) for size in (32, 12, 45, 11))
    sealed = ChaCha20Poly1305(key).encrypt(nonce(iv, 9), text, aad)
    for bit in range(8 * len(sealed)):
        wrong = bytearray(sealed)
        wrong[bit // 8] ^= 1 << bit % 8
        assert probe.open(key, iv, 9, bytes(wrong), aad) is None
    for bit in range(8 * len(aad)):
        wrong = bytearray(aad)
        wrong[bit // 8] ^= 1 << bit % 8
        assert probe.open(key, iv, 9, sealed, bytes(wrong)) is None
    assert probe.open(key, iv, 8, sealed, aad) is None
    assert probe.open(key, iv, 9, sealed, aad) == text
