"""Keys and plaintext: who can read them, and when they are gone."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import select
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fastrelay.agent import syscalls
from fastrelay.agent.maps import standing
from fastrelay.agent.namespaces import in_thread
from fastrelay.client import Client
from fastrelay.fastpath import handing, layout
from fastrelay.fastpath.handing import Offer, Statement
from fastrelay.fastpath.layout import MapKind
from fastrelay.fastpath.reception import connect
from fastrelay.local.stack import RELAY, RELAY_UID
from fastrelay.quic.aioquic_private.keys import packet_keys
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import (
    OBJECTS,
    Member,
    Scene,
    Wire,
    content,
    engine_of,
    until,
)
from integration.harness import Certificate

SOMEBODY = 54_321
"""A user with nothing to do with us."""
CLONE_FS = 0x200
SYS_SETRESUID, SYS_SETRESGID = 117, 119
_libc = ctypes.CDLL(None, use_errno=True)


class Memory:
    """What is in the maps that hold secrets, whoever has unpinned them since."""

    def __init__(self, maps: Path) -> None:
        self._maps: list[tuple[layout.Map, int]] = []
        for each in layout.MAPS:
            if each.secret:
                self._maps.append((each, syscalls.get(maps / each.name)))

    def read(self, name: str) -> bytes:
        definition, fd = next(found for found in self._maps if found[0].name == name)
        if definition.kind is MapKind.PERCPU_ARRAY:
            return b"".join(syscalls.lookup_per_cpu(fd, bytes(4), definition.value) or [])
        size = -(-definition.value * definition.entries // mmap.PAGESIZE) * mmap.PAGESIZE
        with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            return memory[:]

    def holds(self, secret: bytes) -> bool:
        return any(secret in self.read(definition.name) for definition, _ in self._maps)

    def close(self) -> None:
        for _, fd in self._maps:
            os.close(fd)


@contextmanager
def memory_of(relay: FastRelay) -> Iterator[Memory]:
    memory = Memory(relay.maps)
    try:
        yield memory
    finally:
        memory.close()


def secrets_of(client: Client) -> list[bytes]:
    """Keys and IVs of both directions, and what protects the headers."""
    engine = engine_of(client)
    pair = engine._one_rtt
    assert pair is not None
    found = [packet_keys(context) for context in (pair.send, pair.recv)]
    send, receive = engine.send_state(), engine.receive_state()
    assert send is not None
    assert receive is not None
    return [*(part for keys in found for part in (keys.key, keys.iv)), send.hp, receive.hp]


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    with fast_relay(certificate, tmp_path_factory.mktemp("secrets")) as relay:
        yield relay


def as_user(uid: int, directory: Path) -> dict[str, bool]:
    """Which maps this user can open, even from within their directory."""
    names = [path.name for path in directory.iterdir()]

    def run() -> dict[str, bool]:
        assert _libc.unshare(CLONE_FS) == 0
        os.chdir(directory)
        become(uid)
        return {name: _opens(name) for name in names}

    return in_thread(run)


def become(uid: int) -> None:
    """This thread alone."""
    assert _libc.syscall(SYS_SETRESGID, uid, uid, uid) == 0
    assert _libc.syscall(SYS_SETRESUID, uid, uid, uid) == 0


def poll(connection: socket.socket) -> None:
    """Until there is something to read, or the end."""
    assert select.select([connection], [], [], 60)[0]


def _opens(name: str) -> bool:
    try:
        os.close(syscalls.get(name))
    except PermissionError:
        return False
    return True


def test_nobody_but_root_opens_the_maps(relay: FastRelay) -> None:
    """The relay has been given its own, and can open none."""
    pinned = {path.name for path in relay.maps.iterdir()}
    assert {each.name for each in layout.MAPS if each.relay} <= pinned
    for user in (SOMEBODY, RELAY_UID):
        assert as_user(user, relay.maps) == dict.fromkeys(pinned, False)
    for path in relay.maps.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == 0


def test_nobody_else_is_given_the_maps(relay: FastRelay) -> None:
    """Neither another user, by file system or by credentials, nor the relay's while it has them."""
    node = relay.stack.node
    assert node is not None
    path = node.socket_of(RELAY)

    def ask(user: int) -> Offer | None:
        """From within the directory, as the relay's pod has it."""

        def run() -> Offer | None:
            assert _libc.unshare(CLONE_FS) == 0
            os.chdir(path.parent)
            become(user)
            with connect(Path(path.name)) as connection:
                with suppress(OSError):
                    handing.send(connection, Statement(wants=True))
                poll(connection)
                try:
                    data, descriptors = handing.receive_with_descriptors(connection)
                except ConnectionResetError:
                    return None
                assert not descriptors
                return handing.decode(Offer, data) if data else None

        return in_thread(run)

    def walk() -> None:
        become(RELAY_UID)
        connect(path)

    with pytest.raises(PermissionError):
        in_thread(walk)
    assert ask(SOMEBODY) is None
    offer = ask(RELAY_UID)
    assert offer is not None
    assert offer.reason == "InUse"


async def test_a_connections_keys_go_with_it(relay: FastRelay, certificate: Certificate) -> None:
    scene = Scene(relay, certificate, "keys")
    with memory_of(relay) as memory:
        async with scene.written() as publisher:
            async with scene.member() as member:
                await scene.complete(3)
                members = secrets_of(member.client)
                publishers = secrets_of(publisher)
                for secret in (*members, *publishers):
                    assert memory.holds(secret), "the kernel works with other keys"
            await until(lambda: not any(map(memory.holds, members)), "the member's keys are erased")
            assert all(map(memory.holds, publishers))
        await until(
            lambda: not any(map(memory.holds, publishers)), "the publisher's keys are erased"
        )


async def test_old_keys_go_when_there_are_new_ones(
    relay: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(relay, certificate, "old-keys")
    with memory_of(relay) as memory:
        async with scene.written() as publisher, scene.member() as member:
            await scene.complete(3)
            old = [packet_keys(engine_of(c)._one_rtt.send) for c in (publisher, member.client)]
            # Twice: the keys of the phase before are kept for what comes late.
            for _ in range(3):
                for client in (publisher, member.client):
                    pair = engine_of(client)._one_rtt
                    assert pair is not None
                    phase = pair.recv.key_phase
                    engine_of(client).request_key_update()
                    await until(
                        lambda pair=pair, phase=phase: pair.recv.key_phase != phase, "new keys"
                    )
                await scene.complete(2)
            await until(
                lambda: not any(memory.holds(keys.key) for keys in old), "the old ones are erased"
            )


async def plaintext(relay: FastRelay, certificate: Certificate, name: str) -> list[bytes]:
    """Have objects forwarded; pieces of them."""
    scene = Scene(relay, certificate, name)
    async with scene.written(), AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(scene.member())
        await scene.complete(3)
        await relay.mostly_in_kernel(lambda: scene.complete(10))
        return pieces_of(scene.source.group, name)


def pieces_of(groups: int, name: str) -> list[bytes]:
    """Of the first objects' contents."""
    return [content(name, group, obj)[:40] for group in range(groups) for obj in range(OBJECTS)]


async def test_the_relay_ends(relay: FastRelay, certificate: Certificate) -> None:
    """With SIGTERM: it leaves neither keys nor plaintext."""
    with memory_of(relay) as memory:
        pieces = await plaintext(relay, certificate, "ends")
        assert any(piece in memory.read("slots") for piece in pieces)
        relay.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(relay.process.wait, 60) == 0
        assert not any(piece in memory.read("slots") for piece in pieces)
        assert not any(connection_keys(memory))
        # What the programs have worked with only the agent can reach.
        await until(
            lambda: not any(memory.read("scratch_a") + memory.read("scratch_b")),
            "the agent erases the rest",
        )
        assert not any(map(memory.holds, pieces))
    await restart(relay)


@dataclass
class Left:
    """What a relay that was killed at work has left.

    ``secrets``: of its clients' connections. ``pieces``: of what they sent. ``wire``: the
    publisher's; ``spare``: sends from the same address, also when the publisher has given up.
    """

    relay: FastRelay
    memory: Memory
    members: Sequence[Member]
    secrets: Sequence[bytes]
    pieces: Sequence[bytes]
    wire: Wire
    spare: socket.socket

    def keys(self) -> list[bytes]:
        """Those that are still there."""
        return [secret for secret in self.secrets if self.memory.holds(secret)]

    @property
    def objects(self) -> int:
        """That the members have got."""
        return sum(len(member.arrived) for member in self.members)

    async def send_again(self) -> None:
        """The publisher's packets, as they were; returns when the programs have seen most."""

        def seen() -> int:
            counted = self.relay.counters()
            return sum(counted.get(name, 0) for name in UNFORWARDED)

        packets = [packet for packet in self.wire.sent if packet[0] < 0x80][-100:]
        wanted = seen() + len(packets) // 2
        for packet in packets:
            with suppress(ConnectionRefusedError):  # an earlier one was: nobody listens
                self.spare.send(packet)
        await until(lambda: seen() >= wanted, "the programs see packets of before")


UNFORWARDED = ("A_UNKNOWN_CONNECTION", "A_NOT_RECEIVING", "A_DISABLED")
"""What becomes of packets for a relay that is gone."""


@asynccontextmanager
async def killed(relay: FastRelay, certificate: Certificate, name: str) -> AsyncIterator[Left]:
    """Have objects forwarded, then kill the relay."""
    scene = Scene(relay, certificate, name)
    async with AsyncExitStack() as stack:
        memory = stack.enter_context(memory_of(relay))
        publisher = await stack.enter_async_context(scene.published(dies=True))
        wire = Wire(publisher)
        spare = stack.enter_context(closing(wire.spare()))
        for _ in range(2):
            await stack.enter_async_context(scene.member(dies=True))
        async with scene.writing():
            await scene.complete(5)
            clients = [publisher, *(member.client for member in scene.members)]
            secrets = [secret for client in clients for secret in secrets_of(client)]
            assert all(map(memory.holds, secrets))
            relay.process.kill()
            await asyncio.to_thread(relay.process.wait, 60)
            pieces = pieces_of(scene.source.group, name)
            yield Left(relay, memory, list(scene.members), secrets, pieces, wire, spare)
        for client in clients:
            client.close()


async def test_the_relay_is_killed(relay: FastRelay, certificate: Certificate) -> None:
    """The agent erases what it left: nobody holds the lock."""
    async with killed(relay, certificate, "killed") as left:
        await until(lambda: not left.keys(), "the agent erases the keys")
        await until(lambda: not any(left.memory.read("slots")), "the agent erases the plaintext")
        assert not any(left.memory.read("connections") + left.memory.read("keystreams"))
        # The programs have seen packets since, and know whose they would have been.
        await left.send_again()
        assert not left.keys()
        assert not any(map(left.memory.holds, left.pieces))
    await restart(relay)
    await plaintext(relay, certificate, "after-the-kill")


@pytest.mark.ends("the peer has lost the connection")
async def test_the_relay_is_killed_and_started_again(
    relay: FastRelay, certificate: Certificate
) -> None:
    """At once, in the same pod: it gets the same maps and nothing of what was in them. It tells
    the clients that their connections are gone."""
    before = standing(relay.maps)
    async with killed(relay, certificate, "killed-at-once") as left:
        await restart(relay)
        assert standing(relay.maps) == before
        assert not left.keys()
        assert not any(map(left.memory.holds, left.pieces))
        forwarded, had = relay.counters()["A_FORWARDED"], left.objects
        await left.send_again()
        assert relay.counters()["A_FORWARDED"] == forwarded
        assert left.objects == had
    await plaintext(relay, certificate, "at-once")


async def test_the_data_plane_is_taken_away(relay: FastRelay, certificate: Certificate) -> None:
    with memory_of(relay) as memory:
        pieces = await plaintext(relay, certificate, "away")
        assert any(piece in memory.read("slots") for piece in pieces)
        await asyncio.to_thread(relay.take_away)
        await asyncio.to_thread(relay.wait_for_fast_path, on=False)
        await until(
            lambda: not any(piece in memory.read("slots") for piece in pieces), "it is erased"
        )
        await until(lambda: not any(connection_keys(memory)), "the keys are erased")
        assert not any(memory.read("scratch_a") + memory.read("scratch_b"))
    await asyncio.to_thread(relay.give_back)
    await asyncio.to_thread(relay.wait_for_fast_path)


def connection_keys(memory: Memory) -> bytes:
    """Every byte of every field that may hold a key, or what was made of one."""
    raw = memory.read("connections")
    rows = np.frombuffer(raw, layout.CONNECTION.dtype, layout.CONNECTIONS)
    keys = (rows[field].tobytes() for field in ("tx_hp", "tx", "rx_hp", "rx"))
    return b"".join((*keys, memory.read("keystreams")))


async def restart(relay: FastRelay) -> None:
    """Another relay process in the place of one that has ended."""
    relay.process = await asyncio.to_thread(relay.stack.start_relay, grace=0)
    await asyncio.to_thread(relay.wait_for_fast_path)
