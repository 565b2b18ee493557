"""How long a way there and back takes: ICMP echoes, which kernels answer and note the times of."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastrelay.local import netns

_SO_TIMESTAMPNS = 35
_HEADER = struct.Struct("!BBHHH")
_REQUEST, _REPLY = 8, 0
_IP_HEADER = 20


@asynccontextmanager
async def echoes(namespace: str, host: str, interval: float = 0.02) -> AsyncIterator[list[float]]:
    """The round-trip times from a namespace to an IPv4 address, in seconds, as they come in."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    sent: list[float] = []
    name = os.getpid() & 0xFFFF
    sock = netns.inside(
        namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    )

    def hear() -> None:
        data, notes, _, _ = sock.recvmsg(2048, socket.CMSG_SPACE(16))
        kind, _, _, whose, number = _HEADER.unpack_from(data, _IP_HEADER)
        if kind == _REPLY and whose == name:
            seconds, nanoseconds = struct.unpack("qq", notes[0][2])
            times.append(seconds + nanoseconds * 1e-9 - sent[number])

    async def ask() -> None:
        while True:
            words = _REQUEST << 8, name, len(sent)
            checksum = -sum(words) % 0xFFFF
            sent.append(time.time())
            sock.send(_HEADER.pack(_REQUEST, 0, checksum, *words[1:]))
            await asyncio.sleep(interval)

    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.connect((host, 0))
        loop.add_reader(sock, hear)
        asking = asyncio.create_task(ask())
        try:
            yield times
        finally:
            asking.cancel()
            loop.remove_reader(sock)
