"""The load: a publisher or subscribers, in a process and a network namespace of their own.

Written on `fastrelay.client`, and the same for every relay that is measured. Talks JSON lines
with the process that started it: a line on standard input asks for something, a line on
standard output answers.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from bench import floor
from fastrelay.client import Client, RequestFailedError, SubgroupEnd, Subscription, connect
from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic.options import QuicOptions

NAMESPACE = (b"bench",)
BUSY = FullTrackName(NAMESPACE, b"busy")
QUIET = FullTrackName(NAMESPACE, b"quiet")
PATIENCE = 60.0
"""Seconds until somebody answers, also when the machine has other things to do."""
OPTIONS = QuicOptions(insecure=True, keep_alive=5.0, idle_timeout=60.0, handshake_timeout=PATIENCE)
DRAFTS = (DRAFT_18,)
connected = functools.partial(connect, drafts=DRAFTS, options=OPTIONS, connect_timeout=PATIENCE)


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


class Questions:
    """Lines from standard input."""

    async def start(self) -> None:
        self._reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(self._reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)

    async def next(self) -> dict[str, Any] | None:
        """The next question; None at the end."""
        line = await self._reader.readline()
        return json.loads(line) if line else None


async def publish(url: str, rate: float, size: int) -> None:
    """An object of `size` bytes, `rate` times a second, each on a stream (and in a group) of its
    own, and one object on a second track that then stays quiet."""
    questions = Questions()
    await questions.start()
    async with connected(url) as client:
        busy = client.add_track(BUSY)
        quiet = client.add_track(QUIET)
        await client.publish_namespace(NAMESPACE)
        subgroup = quiet.open_subgroup(0)
        subgroup.write(b"quiet")
        subgroup.close()
        sending = asyncio.create_task(_send(busy, rate, os.urandom(size)))
        say(ready=True)
        while await questions.next() is not None:
            pass
        sending.cancel()


async def ticks(rate: float) -> AsyncIterator[int]:
    """0, 1, 2 ... `rate` times a second, by a timer of the kernel's: the loop's own has
    milliseconds. A tick that comes late does not move the next; ticks missed are left out."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    seconds, nanoseconds = divmod(round(1e9 / rate), 10**9)
    setting = struct.pack("qqqq", seconds, nanoseconds, seconds, nanoseconds)
    if fd < 0 or libc.timerfd_settime(fd, 0, setting, None):
        raise OSError(ctypes.get_errno(), "timerfd")
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def elapsed() -> None:
        os.read(fd, 8)
        ready.set()

    loop.add_reader(fd, elapsed)
    number = 0
    try:
        while True:
            await ready.wait()
            ready.clear()
            yield number
            number += 1
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def _send(track: Any, rate: float, payload: bytes) -> None:
    async for group in ticks(rate):
        subgroup = track.open_subgroup(group, end_of_group=True)
        subgroup.write(payload)
        subgroup.close()


class Viewer:
    """Counts what one subscriber receives."""

    def __init__(self) -> None:
        self.objects = 0
        self.first = asyncio.Event()

    async def watch(self, subscription: Subscription) -> None:
        async for item in subscription:
            if not isinstance(item, SubgroupEnd):
                self.objects += 1
                self.first.set()


async def subscribe(url: str, count: int, track: FullTrackName) -> None:
    """`count` sessions with one subscription each; answers every question with the objects
    received so far."""
    questions = Questions()
    await questions.start()
    async with AsyncExitStack() as stack:
        viewers, tasks = [], []
        for _ in range(count):
            client = await stack.enter_async_context(connected(url))
            subscription = await client.subscribe(track)
            viewer = Viewer()
            viewers.append(viewer)
            tasks.append(asyncio.create_task(viewer.watch(subscription)))
        async with asyncio.timeout(30):
            if track is BUSY:
                await asyncio.gather(*(viewer.first.wait() for viewer in viewers))
        say(ready=True)
        while await questions.next() is not None:
            say(objects=sum(viewer.objects for viewer in viewers), at=time.monotonic())
        for task in tasks:
            task.cancel()


async def join(url: str, count: int) -> None:
    """Subscribe and leave again, `count` times in one session; answers with milliseconds."""
    questions = Questions()
    await questions.start()
    async with connected(url) as client:
        await _join_once(client)
        say(ready=True)
        await questions.next()
        accepted, first = [], []
        for _ in range(count):
            ok, object_ = await _join_once(client)
            accepted.append(ok)
            if object_ is not None:
                first.append(object_)
        say(
            accepted_ms=statistics.median(accepted) * 1e3,
            first_object_ms=statistics.median(first) * 1e3 if first else None,
        )
        await questions.next()


async def _join_once(client: Client) -> tuple[float, float | None]:
    """Seconds until SUBSCRIBE_OK, and until the first object, if one comes within a second."""
    begin = time.monotonic()
    subscription = await client.subscribe(BUSY)
    accepted = time.monotonic() - begin
    first = None
    try:
        async with asyncio.timeout(1):
            async for item in subscription:
                if not isinstance(item, SubgroupEnd):
                    first = item.received_at - begin
                    break
    except TimeoutError:
        pass
    subscription.close()
    return accepted, first


async def handshake(url: str, count: int, concurrency: int) -> None:
    """Connect, exchange SETUP, leave; `count` times."""
    questions = Questions()
    await questions.start()
    say(ready=True)
    await questions.next()
    begin = time.monotonic()

    async def one_after_another() -> None:
        for _ in range(count // concurrency):
            async with connected(url):
                pass

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    say(count=count // concurrency * concurrency, seconds=time.monotonic() - begin)
    await questions.next()


async def publish_plain(rate: float, size: int, packets: int, host: str) -> None:
    """Plaintext datagrams to the forwarder, so many at the same rate as objects."""
    questions = Questions()
    await questions.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, floor.PORT))
        payload = os.urandom(size)

        async def send() -> None:
            async for _ in ticks(rate):
                for _ in range(packets):
                    sock.send(payload)

        sending = asyncio.create_task(send())
        say(ready=True)
        while await questions.next() is not None:
            pass
        sending.cancel()


class PlainViewer(asyncio.DatagramProtocol):
    """Counts datagrams."""

    objects = 0

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.objects += 1


async def subscribe_plain(count: int) -> None:
    """One socket for each of the forwarder's peers."""
    questions = Questions()
    await questions.start()
    loop = asyncio.get_running_loop()
    viewers = []
    for number in range(count):
        address = ("0.0.0.0", floor.FIRST_PEER_PORT + number)
        viewers.append((await loop.create_datagram_endpoint(PlainViewer, address))[1])
    say(ready=True)
    while await questions.next() is not None:
        say(objects=sum(viewer.objects for viewer in viewers), at=time.monotonic())


def main() -> None:
    role, url, *rest = sys.argv[1:]
    jobs = {
        "publish-plain": lambda: publish_plain(float(rest[0]), int(rest[1]), int(rest[2]), url),
        "subscribe-plain": lambda: subscribe_plain(int(rest[0])),
        "publish": lambda: publish(url, float(rest[0]), int(rest[1])),
        "subscribe": lambda: subscribe(url, int(rest[0]), BUSY),
        "idle": lambda: subscribe(url, int(rest[0]), QUIET),
        "join": lambda: join(url, int(rest[0])),
        "handshake": lambda: handshake(url, int(rest[0]), int(rest[1])),
    }
    try:
        asyncio.run(jobs[role]())
    except RequestFailedError as error:
        sys.exit(f"{role}: {error}")


if __name__ == "__main__":
    main()
