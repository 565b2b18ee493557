"""The load of bench/quota.py: who offers the track, who transfers it, who attacks.

Talks as bench/worker.py does.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from bench.worker import DRAFTS, OPTIONS, Questions, say
from fastrelay.client import connect
from fastrelay.client.errors import ClientError
from fastrelay.moqt.names import FullTrackName, Location

TRACK = FullTrackName((b"quota",), b"file")
OBJECTS, OBJECT_SIZE = 16, 16 * 1024
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
        connect(url, drafts=DRAFTS, options=OPTIONS) as client,
        connect(url, drafts=DRAFTS, options=OPTIONS) as viewer,
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


async def transfer(url: str, clients: int) -> None:
    """One connection a transfer, one after the other, for each client; an answer has all since
    the last: when each began (CLOCK_MONOTONIC) and how long it took, and how many failed."""
    questions = Questions()
    await questions.start()
    done: list[tuple[float, float]] = []
    failed = 0

    async def once() -> None:
        async with connect(url, drafts=DRAFTS, options=OPTIONS) as client:
            stream = await client.fetch(TRACK, Location(0, 0), 0)
            size = 0
            async for item in stream:
                size += len(getattr(item, "payload", b""))
            if size != OBJECTS * OBJECT_SIZE:
                raise ClientError(f"{size} bytes")

    async def client() -> None:
        nonlocal failed
        while True:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await once()
            except (ClientError, TimeoutError, OSError):
                failed += 1
            else:
                done.append((begun, time.monotonic() - begun))

    await once()
    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    say(ready=True)
    while await questions.next() is not None:
        say(transfers=done, failed=failed)
        done, failed = [], 0
    for task in tasks:
        task.cancel()


class Flood:
    """First packets from these addresses, so many a second, from a thread; valid ones."""

    def __init__(self, host: str, port: int, addresses: list[str], rate: float) -> None:
        self._rate = rate
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._batches = [_Batch(host, port, each) for each in addresses]
        self._on = threading.Event()
        self.sent = 0
        threading.Thread(target=self._run, daemon=True).start()

    def switch(self, on: bool) -> None:
        (self._on.set if on else self._on.clear)()

    def _run(self) -> None:
        turn = 0
        while True:
            self._on.wait()
            began, before = time.monotonic(), self.sent
            while self._on.is_set():
                due = int((time.monotonic() - began) * self._rate) - (self.sent - before)
                if due < POOL:
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

    def __init__(self, host: str, port: int, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.connect((host, port))
        self.fd = self._socket.fileno()
        self._packets = [ctypes.create_string_buffer(each, len(each)) for each in _firsts(host)]
        self._vectors = [_Vector(ctypes.addressof(p), len(p)) for p in self._packets]
        self.messages = (_Message * POOL)()
        for message, vector in zip(self.messages, self._vectors, strict=True):
            message.header.vectors, message.header.count = ctypes.pointer(vector), 1


def _firsts(host: str) -> list[bytes]:
    configuration = QuicConfiguration(
        alpn_protocols=[draft.alpn for draft in DRAFTS],
        verify_mode=ssl.CERT_NONE,
        max_datagram_size=1200,
    )
    made = []
    for _ in range(POOL):
        connection = QuicConnection(configuration=configuration)
        connection.connect((host, 443), 0.0)
        made.append(connection.datagrams_to_send(0.0)[0][0])
    return made


async def attack(url: str, gateway: str, addresses: list[str], held: int, rate: float) -> None:
    """As many connections as each address may have; then each question switches the flood on or
    off. Answers have what was sent since the beginning, and when."""
    questions = Questions()
    await questions.start()
    host, _, port = url.removeprefix("moqt://").rpartition(":")
    async with AsyncExitStack() as stack:
        for address in addresses:
            # A socket has the address that the route says when it is connected.
            await asyncio.to_thread(_leave_from, address, host, gateway)
            await asyncio.gather(
                *(
                    stack.enter_async_context(connect(url, drafts=DRAFTS, options=OPTIONS))
                    for _ in range(held)
                )
            )
        flood, on = Flood(host, int(port), addresses, rate), False
        say(ready=True)
        while await questions.next() is not None:
            on = not on
            flood.switch(on)
            say(sent=flood.sent, at=time.monotonic())


def _leave_from(address: str, host: str, gateway: str) -> None:
    command = f"ip route replace {host}/32 via {gateway} src {address}"
    subprocess.run(command.split(), check=True)


def main() -> None:
    role, url, *rest = sys.argv[1:]
    if role == "offer":
        asyncio.run(offer(url))
    elif role == "transfer":
        asyncio.run(transfer(url, int(rest[0])))
    else:
        gateway, held, rate, *addresses = rest
        asyncio.run(attack(url, gateway, addresses, int(held), float(rate)))


if __name__ == "__main__":
    main()
