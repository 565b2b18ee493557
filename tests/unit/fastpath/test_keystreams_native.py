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
from hypothesis import given, settings
from hypothesis import strategies as st

from chacha20 import keystream
from fastrelay.fastpath.atomics import address_of
from fastrelay.fastpath.layout import (
    CONNECTION,
    CONNECTIONS,
    KEYSTREAM,
    KEYSTREAMS_AHEAD,
    REPORT,
    Outcome,
)
from fastrelay.native import library
from fastrelay.native.keystreams import Maps, fill, renew
from ring_records import in_ring

VERSION = 0x0123456789ABCDEF


class World:
    """Some connections and their keystreams in mapped memory, all bytes of which are known."""

    def __init__(self, connections: int = 1) -> None:
        count = connections * KEYSTREAMS_AHEAD
        self._memory = [
            mmap.mmap(-1, CONNECTION.size * connections),
            mmap.mmap(-1, KEYSTREAM.size * count),
        ]
        self.connections = np.frombuffer(self._memory[0], CONNECTION.dtype)
        self.keystreams = np.frombuffer(self._memory[1], KEYSTREAM.dtype)
        self.keystreams.view(np.uint8)[:] = 0xA5
        self.maps = Maps(*map(address_of, self._memory))

    def keys(self, key: bytes, iv: bytes, version: int = VERSION, connection: int = 0) -> None:
        row = self.connections[connection]
        row["tx"]["key"] = np.frombuffer(key, np.uint32)
        row["tx"]["iv"] = np.frombuffer(iv, np.uint32)
        row["tx_version"] = version

    def one(self, key: bytes, iv: bytes, number: int) -> tuple[bytes, bytes]:
        """The key of Poly1305, and the keystream from block 1 on."""
        self.keys(key, iv)
        fill(self.maps, 0, number, 1)
        return self.written(0, number)

    def row(self, connection: int, number: int) -> Any:
        return self.keystreams[connection * KEYSTREAMS_AHEAD + number % KEYSTREAMS_AHEAD]

    def written(self, connection: int, number: int) -> tuple[bytes, bytes]:
        row = self.row(connection, number)
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
    world = World(connections=5)
    for index in chance.sample(range(5), 5):
        key, iv = chance.randbytes(32), chance.randbytes(12)
        world.keys(key, iv, version=index + 7, connection=index)
        first = chance.getrandbits(chance.randint(1, 62))
        fill(world.maps, index, first, KEYSTREAMS_AHEAD)
        for number in range(first, first + KEYSTREAMS_AHEAD):
            assert world.written(index, number) == keystream(key, iv, number)
            assert world.row(index, number)["number"] == number + 1
            assert world.row(index, number)["version"] == index + 7


@pytest.mark.parametrize("number", [0, 1, (1 << 32) - 1, 1 << 32, (1 << 62) - 1])
def test_numbers_at_their_limits(number: int) -> None:
    key, iv = bytes(range(32)), b"\xff" * 12
    assert World().one(key, iv, number) == keystream(key, iv, number)


def test_nothing_else_is_written() -> None:
    world = World()
    world.keys(bytes(range(32)), bytes(range(12)))
    before = world.connections.tobytes()
    fill(world.maps, 0, 9, 1)
    assert world.connections.tobytes() == before
    assert not world.row(0, 9)["reserved"].any()
    for neighbour in (8, 10):
        assert set(world.row(0, neighbour).tobytes()) == {0xA5}


def test_none_of_none() -> None:
    world = World()
    fill(world.maps, 0, 0, 0)
    renew(world.maps, b"")
    assert set(world.keystreams.tobytes()) == {0xA5}


def test_only_connections_that_there_are() -> None:
    world = World()
    with pytest.raises(RuntimeError):
        fill(world.maps, CONNECTIONS, 0, 1)
    reports = np.zeros(2, REPORT.dtype)
    reports["connection"] = CONNECTIONS, 0xFFFFFFFF
    renew(world.maps, in_ring(reports))
    assert set(world.keystreams.tobytes()) == {0xA5}


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 4),  # connection
        st.integers(0, 60),  # packet number
        st.sampled_from([0, 0, 0, Outcome.NO_DATA, Outcome.DROPPED]),
        st.sampled_from([0, 0, 0, 1]),  # dropped
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(REPORTS, st.lists(st.integers(0, 90), min_size=5, max_size=5), st.sets(st.integers(0, 4)))
def test_each_packet_that_was_sent_makes_room_for_one(
    rows: list[tuple[int, int, int, int]], nexts: list[int], without_keys: set[int]
) -> None:
    world = World(connections=5)
    keys = [(bytes([index]) * 32, bytes([9 - index]) * 12) for index in range(5)]
    for index, (key, iv) in enumerate(keys):
        world.keys(key, iv, 0 if index in without_keys else VERSION, connection=index)
    world.connections["packet_number"] = nexts
    reports = np.zeros(len(rows), REPORT.dtype)
    for name, column in zip(
        ("connection", "packet_number", "outcome", "dropped"), zip(*rows, strict=True), strict=False
    ):
        reports[name] = column
    renew(world.maps, in_ring(reports))
    expected: dict[tuple[int, int], int] = {}
    for connection, number, outcome, _ in rows:
        made = number + KEYSTREAMS_AHEAD
        if not outcome and made >= nexts[connection] and connection not in without_keys:
            expected[connection, made % KEYSTREAMS_AHEAD] = made
    for connection in range(5):
        for place in range(KEYSTREAMS_AHEAD):
            row = world.row(connection, place)
            if (connection, place) in expected:
                number = expected[connection, place]
                assert row["number"] == number + 1
                assert world.written(connection, place) == keystream(*keys[connection], number)
            else:
                assert set(row.tobytes()) == {0xA5}


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(ImportError, match=r"not compiled; scripts/setup\.sh"):
        library.load("fastrelay.native._nothing")


def test_openssl_without_this_cipher(tmp_path: Path) -> None:
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = all\n[all]\nproviders = these\n[these]\nnull = on\n[on]\nactivate = 1\n"
    )
    script = """
from fastrelay.native import keystreams as native
print(native.is_able())
try:
    native.fill(native.Maps(), 0, 0, 1)
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
