"""The load of bench/quota.py: who offers the track, who transfers it, who attacks.

Talks as bench/worker.py does.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from bench import quota_http3
from bench.quota_http3 import Getter
from bench.worker import DRAFTS, Questions, connected, say
from fastrelay.client import Client
from fastrelay.client.errors import ClientError
from fastrelay.moqt.names import FullTrackName, Location

TRACK = FullTrackName((b"quota",), b"file")
OBJECTS, OBJECT_SIZE = 16, 16 * 1024
TRANSFER_SIZE = OBJECTS * OBJECT_SIZE
"""256 kB, as in the paper."""
PATIENCE = 5.0
"""Seconds for one transfer."""
POOL = 64
"""First packets of each attacker's, sent again and again."""
PAUSE = 0.002


async def offer(url: str) -> None:
    """The track, and somebody who has it brought to the relay's cache."""
    questions = Questions()
    await questions.start()
    async with (
        connected(url) as client,
        connected(url) as viewer,
    ):
        track = client.add_track(TRACK)
        await client.publish_namespace(TRACK.namespace)
        subscription = await viewer.subscribe(TRACK)
        subgroup = track.open_subgroup(0)
        for _ in range(OBJECTS):
            subgroup.write(bytes(OBJECT_SIZE))
        subgroup.close()
        received = 0
        async with asyncio.timeout(30):
            async for _ in subscription:
                received += 1
                if received == OBJECTS:
                    break
        say(ready=True)
        while await questions.next() is not None:
            pass


@dataclass(frozen=True, slots=True)
class Server:
    """Whose clients these are: the relay's, or the HTTP/3 server's."""

    host: str
    port: int
    http3: bool

    @classmethod
    def of(cls, url: str) -> Server:
        scheme, _, authority = url.partition("://")
        host, _, port = authority.rpartition(":")
        return cls(host, int(port), scheme == "https")

    @property
    def protocols(self) -> list[str]:
        """For TLS."""
        return H3_ALPN if self.http3 else [draft.alpn for draft in DRAFTS]

    @asynccontextmanager
    async def connected(self, address: str = "") -> AsyncIterator[Client | Getter]:
        """``address``: for HTTP/3, where it comes from."""
        if self.http3:
            async with quota_http3.connected(self.host, self.port, address) as getter:
                yield getter
        else:
            url = f"moqt://{self.host}:{self.port}"
            async with connected(url) as client:
                yield client

    async def fetched(self) -> int:
        """A connection for one transfer: how many bytes came."""
        async with self.connected() as client:
            if isinstance(client, Getter):
                await client.get(self.host)
                return client.received
            stream = await client.fetch(TRACK, Location(0, 0), 0)
            return sum([len(getattr(item, "payload", b"")) async for item in stream])


class Transfers:
    """One connection each, whoever begins them: what has become of them since the last answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._done: list[tuple[float, float]] = []
        self._failed: list[float] = []
        self._under_way: list[float] = []

    async def once(self) -> None:
        if (size := await self._server.fetched()) != TRANSFER_SIZE:
            raise ClientError(f"{size} bytes")

    async def one(self, due: float) -> None:
        """``due``: when it is to begin, from which on it takes its time."""
        self._under_way.append(due)
        try:
            async with asyncio.timeout_at(due + PATIENCE):
                await self.once()
        except (ClientError, TimeoutError, OSError):
            self._failed.append(due)
        else:
            self._done.append((due, time.monotonic() - due))
        finally:
            self._under_way.remove(due)

    async def answer(self) -> None:
        """Each question with all since the last: when each began (CLOCK_MONOTONIC) and how long it
        took; when those began that failed, and when the oldest that is under way."""
        questions = Questions()
        await questions.start()
        say(ready=True)
        while await questions.next() is not None:
            oldest = min(self._under_way, default=None)
            say(transfers=self._done, failed=self._failed, oldest=oldest)
            self._done, self._failed = [], []


async def transfer(server: Server, clients: int) -> None:
    """As many as can be: each client begins one when its last is over."""
    transfers = Transfers(server)

    async def client() -> None:
        while True:
            await transfers.one(time.monotonic())

    await transfers.once()
    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await transfers.answer()
    for task in tasks:
        task.cancel()


async def pace(server: Server, rate: float) -> None:
    """So many a second, however long they take. Who is kept from beginning one in time is late
    from then on: nothing is left out."""
    transfers = Transfers(server)
    tasks: set[asyncio.Task[None]] = set()

    async def clients() -> None:
        due = time.monotonic()
        while True:
            task = asyncio.create_task(transfers.one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 1 / rate
            await asyncio.sleep(due - time.monotonic())

    await transfers.once()
    pacing = asyncio.create_task(clients())
    await transfers.answer()
    for task in (pacing, *tasks):
        task.cancel()


class Flood:
    """First packets from these addresses, so many a second, from a thread; valid ones."""

    def __init__(self, server: Server, addresses: list[str]) -> None:
        self._rate = 0.0
        self._libc = ctypes.CDLL(None, use_errno=True)
        packets = first_packets(server)
        self._batches = [_Batch(server, each, packets) for each in addresses]
        self._on = threading.Event()
        self.sent = 0
        threading.Thread(target=self._run, daemon=True).start()

    def set_rate(self, rate: float | None) -> None:
        """A second. None: as many as can be."""
        self._on.clear()
        self._rate = math.inf if rate is None else rate
        if self._rate:
            self._on.set()

    def _run(self) -> None:
        turn = 0
        while True:
            self._on.wait()
            began, before, rate = time.monotonic(), self.sent, self._rate
            while self._on.is_set() and rate == self._rate:
                if (time.monotonic() - began) * rate - (self.sent - before) < POOL:
                    time.sleep(PAUSE)
                    continue
                batch = self._batches[turn % len(self._batches)]
                self.sent += max(0, self._libc.sendmmsg(batch.fd, batch.messages, POOL, 0))
                turn += 1


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint32))


class _Batch:
    """One attacker's packets, as sendmmsg(2) takes them."""

    def __init__(self, server: Server, address: str, packets: list[bytes]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.connect((server.host, server.port))
        self.fd = self._socket.fileno()
        self._packets = [ctypes.create_string_buffer(each, len(each)) for each in packets]
        self._vectors = [_Vector(ctypes.addressof(p), len(p)) for p in self._packets]
        self.messages = (_Message * POOL)()
        for message, vector in zip(self.messages, self._vectors, strict=True):
            message.header.vectors, message.header.count = ctypes.pointer(vector), 1


def first_packets(server: Server) -> list[bytes]:
    configuration = QuicConfiguration(
        alpn_protocols=server.protocols, verify_mode=ssl.CERT_NONE, max_datagram_size=1200
    )
    made = []
    for _ in range(POOL):
        connection = QuicConnection(configuration=configuration)
        connection.connect((server.host, server.port), 0.0)
        made.append(connection.datagrams_to_send(0.0)[0][0])
    return made


async def attack(server: Server, gateway: str, addresses: list[str], held: int) -> None:
    """As many connections as each address may have; then each question says how quick the flood
    is (``rate``: a second, 0: off, null: as can be). Answers have what was sent since the
    beginning, and when."""
    questions = Questions()
    await questions.start()
    async with AsyncExitStack() as stack:
        for address in addresses:
            # A socket has the address that the route says when it is connected.
            await asyncio.to_thread(_leave_from, address, server.host, gateway)
            await asyncio.gather(
                *(stack.enter_async_context(server.connected(address)) for _ in range(held))
            )
        flood = Flood(server, addresses)
        say(ready=True)
        while (question := await questions.next()) is not None:
            if "rate" in question:
                flood.set_rate(question["rate"])
            say(sent=flood.sent, at=time.monotonic())


def _leave_from(address: str, host: str, gateway: str) -> None:
    command = f"ip route replace {host}/32 via {gateway} src {address}"
    subprocess.run(command.split(), check=True)


def main() -> None:
    role, url, *rest = sys.argv[1:]
    if role == "offer":
        asyncio.run(offer(url))
    elif role == "transfer":
        asyncio.run(transfer(Server.of(url), int(rest[0])))
    elif role == "pace":
        asyncio.run(pace(Server.of(url), float(rest[0])))
    else:
        gateway, held, *addresses = rest
        asyncio.run(attack(Server.of(url), gateway, addresses, int(held)))


if __name__ == "__main__":
    main()
