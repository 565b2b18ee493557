"""Keystreams that OpenSSL makes: those of the RFCs, and those of another library."""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from chacha20 import keystream
from fastrelay.fastpath.atomics import address_of
from fastrelay.fastpath.layout import CONNECTION, KEYSTREAM
from fastrelay.native import library
from fastrelay.native.keystreams import JOB, fill

VERSION = 0x0123456789ABCDEF


class World:
    """Some connections and keystreams in mapped memory, all bytes of which are known."""

    def __init__(self, connections: int = 1, keystreams: int = 3) -> None:
        self._memory = [
            mmap.mmap(-1, CONNECTION.size * connections),
            mmap.mmap(-1, KEYSTREAM.size * keystreams),
        ]
        self.connections = np.frombuffer(self._memory[0], CONNECTION.dtype)
        self.keystreams = np.frombuffer(self._memory[1], KEYSTREAM.dtype)
        self.keystreams.view(np.uint8)[:] = 0xA5

    def keys(self, key: bytes, iv: bytes, version: int = VERSION, connection: int = 0) -> None:
        row = self.connections[connection]
        row["tx"]["key"] = np.frombuffer(key, np.uint32)
        row["tx"]["iv"] = np.frombuffer(iv, np.uint32)
        row["tx_version"] = version

    def jobs(self, *jobs: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.void]]:
        """Of indices of connections and keystreams, and packet numbers."""
        connections, keystreams = map(address_of, self._memory)
        return np.array(
            [
                (connections + CONNECTION.size * a, keystreams + KEYSTREAM.size * b, number)
                for a, b, number in jobs
            ],
            JOB,
        )

    def one(self, key: bytes, iv: bytes, number: int) -> tuple[bytes, bytes]:
        """The key of Poly1305, and the keystream from block 1 on."""
        self.keys(key, iv)
        fill(self.jobs((0, 1, number)))
        return self.written(1)

    def written(self, place: int) -> tuple[bytes, bytes]:
        row = self.keystreams[place]
        return row["mac"].tobytes(), row["text"].tobytes()


def test_text_of_rfc_8439_2_4_2() -> None:
    _, text = World().one(bytes(range(32)), bytes.fromhex("000000000000004a00000000"), 0)
    assert text[:114] == bytes.fromhex(
        "224f51f3401bd9e12fde276fb8631ded8c131f823d2c06"
        "e27e4fcaec9ef3cf788a3b0aa372600a92b57974cded2b"
        "9334794cba40c63e34cdea212c4cf07d41b769a6749f3f"
        "630f4122cafe28ec4dc47e26d4346d70b98c73f3e9c53a"
        "c40c5945398b6eda1a832c89c167eacd901d7e2bf363"
    )


def test_key_of_poly1305_of_rfc_8439_2_6_2() -> None:
    mac, _ = World().one(bytes(range(0x80, 0xA0)), bytes.fromhex("000000000001020304050607"), 0)
    assert mac == bytes.fromhex("8ad5a08b905f81cc815040274ab29471a833b637e3fd0da508dbb8e2fdd1a646")


def test_packet_of_rfc_9001_a_5() -> None:
    mac, text = World().one(
        bytes.fromhex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"),
        bytes.fromhex("e0459b3474bdd0e44a41c144"),
        654_360_564,
    )
    header, sealed = bytes.fromhex("4200bff4"), bytes([0x01 ^ text[0]])
    lengths = len(header).to_bytes(8, "little") + len(sealed).to_bytes(8, "little")
    tag = Poly1305.generate_tag(mac, header + bytes(12) + sealed + bytes(15) + lengths)
    assert sealed + tag == bytes.fromhex("655e5cd55c41f69080575d7999c25a5bfb")


def test_many_of_several_connections_as_another_library_has_them() -> None:
    chance = random.Random(8439)
    world = World(connections=5, keystreams=64)
    keys = [(chance.randbytes(32), chance.randbytes(12)) for _ in world.connections]
    for index, (key, iv) in enumerate(keys):
        world.keys(key, iv, version=index + 7, connection=index)
    numbers = [chance.getrandbits(chance.randint(1, 62)) for _ in world.keystreams]
    jobs = [(chance.randrange(5), index, number) for index, number in enumerate(numbers)]
    chance.shuffle(jobs)
    fill(world.jobs(*jobs))
    for connection, place, number in jobs:
        assert world.written(place) == keystream(*keys[connection], number)
        assert world.keystreams[place]["number"] == number + 1
        assert world.keystreams[place]["version"] == connection + 7


@pytest.mark.parametrize("number", [0, 1, (1 << 32) - 1, 1 << 32, (1 << 62) - 1])
def test_numbers_at_their_limits(number: int) -> None:
    key, iv = bytes(range(32)), b"\xff" * 12
    assert World().one(key, iv, number) == keystream(key, iv, number)


def test_nothing_else_is_written() -> None:
    world = World()
    world.keys(bytes(range(32)), bytes(range(12)))
    before = world.connections.tobytes()
    fill(world.jobs((0, 1, 9)))
    assert world.connections.tobytes() == before
    assert not world.keystreams[1]["reserved"].any()
    for neighbour in (0, 2):
        assert set(world.keystreams[neighbour].tobytes()) == {0xA5}


def test_the_last_of_several_for_one_place_is_there() -> None:
    world = World()
    key, iv = bytes(range(32)), bytes(range(12))
    world.keys(key, iv)
    fill(world.jobs((0, 0, 32), (0, 0, 64)))
    assert world.written(0) == keystream(key, iv, 64)
    assert world.keystreams[0]["number"] == 65


def test_no_jobs_are_done() -> None:
    world = World()
    fill(world.jobs())
    assert set(world.keystreams.tobytes()) == {0xA5}


def test_only_jobs_one_behind_the_other() -> None:
    jobs = World().jobs((0, 0, 1), (0, 1, 2), (0, 2, 3))
    for wrong in (jobs[::2], jobs.view("u8")):
        with pytest.raises(ValueError, match="not an array of jobs"):
            fill(wrong)


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(ImportError, match=r"not compiled; scripts/setup\.sh"):
        library.load("fastrelay.native._nothing")


def test_openssl_without_this_cipher(tmp_path: Path) -> None:
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = all\n[all]\nproviders = these\n[these]\nnull = on\n[on]\nactivate = 1\n"
    )
    script = """
import numpy
from fastrelay.native import keystreams as native
print(native.is_able())
try:
    native.fill(numpy.zeros(1, native.JOB))
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"OPENSSL_CONF": str(settings)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "False\nOpenSSL refused to compute ChaCha20\n"
