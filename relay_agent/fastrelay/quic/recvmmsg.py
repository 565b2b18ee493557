"""Many datagrams in one system call: recvmmsg(2), which the socket module does not have
(``native/datagrams.c``).

Where several wait, quicker than ``recvmsg`` for each: no exception for the end of the queue, no
64 KB of memory each, and peers that were heard before are looked up in place of being decoded.

Each datagram comes with the time at which the kernel received it, so that nothing that is
measured by it contains how long it waited for us.

Source: recvmmsg(2), ``struct mmsghdr`` of 64-bit Linux; socket(7) on SO_TIMESTAMP, net/core/sock.c.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import time
from typing import Any

from fastrelay.native import datagrams
from fastrelay.quic import pktinfo

COUNT = 64
"""Datagrams at most in one call."""
_SPACING = 65_600
"""Between two datagrams: the largest there is, in whole cache lines, not in whole pages."""
_MESSAGE = struct.Struct("=QI4xQQQQ8xI4x")
"""struct mmsghdr: name, its size, iovec, their count, control, its size; flags; bytes received."""
_WORDS = _MESSAGE.size // 4
_VECTOR = struct.Struct("=QQ")
_SO_TIMESTAMPNS = 35
_STAMP_SIZE = socket.CMSG_SPACE(16)
"""The kernel's first piece of ancillary data: a timespec of CLOCK_REALTIME."""
_CONTROL_SIZE = _STAMP_SIZE + pktinfo.SPACE
_NAME_SIZE = 32
"""Room for a sockaddr_in6 (28)."""
_END_SIZE = _CONTROL_SIZE + _NAME_SIZE
"""When it came, its destination, and where it came from."""
_CONTROL_HEADER = struct.Struct("=Qii")
_MAX_KNOWN = 4096

Address = tuple[Any, ...]
Received = tuple[bytes, Address, float]
"""The time is one of CLOCK_MONOTONIC."""


class Batch:
    """Memory for :data:`COUNT` datagrams, of which only what they touch is ever real.

    :param sock: is told to note times.
    :param sources: for a socket that tells the destinations of datagrams (:mod:`.pktinfo`).
    """

    def __init__(self, sock: socket.socket, sources: pktinfo.Sources | None) -> None:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._sources = sources
        self._known: dict[bytes, Address] = {}
        self._ends = COUNT * _SPACING
        headers = self._ends + COUNT * _END_SIZE
        vectors = headers + COUNT * _MESSAGE.size
        times = vectors + COUNT * _VECTOR.size
        self._memory = memory = mmap.mmap(-1, times + COUNT * 8)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._lengths = memoryview(memory)[headers:vectors].cast("I")[_WORDS - 2 :: _WORDS]
        self._times = memoryview(memory)[times : times + COUNT * 8].cast("d")
        control = _STAMP_SIZE if sources is None else _CONTROL_SIZE
        for index in range(COUNT):
            end = base + self._ends + index * _END_SIZE
            vector = vectors + index * _VECTOR.size
            _VECTOR.pack_into(memory, vector, base + index * _SPACING, 65_535)
            name = end + _CONTROL_SIZE
            header = headers + index * _MESSAGE.size
            _MESSAGE.pack_into(memory, header, name, _NAME_SIZE, base + vector, 1, end, control, 0)
        self._batch = datagrams.Batch(
            messages=base + headers,
            times=base + times,
            count=COUNT,
            name_size=_NAME_SIZE,
            control_size=control,
            emptied=time.monotonic(),
        )

    def receive(self, fd: int) -> list[Received]:
        """What has arrived; does not wait.

        :raises OSError: the network answered a datagram of a connected socket with an error.
        """
        count = datagrams.receive(fd, self._batch)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        memory, known, end, at = self._memory, self._known, self._ends + _STAMP_SIZE, 0
        lengths, times = self._lengths, self._times
        batch = []
        for index in range(count):
            peer = memory[end : end + _END_SIZE - _STAMP_SIZE]
            address = known.get(peer)
            if address is None:
                address = self._learn(peer)
            batch.append((memory[at : at + lengths[index]], address, times[index]))
            at += _SPACING
            end += _END_SIZE
        return batch

    def _learn(self, end: bytes) -> Address:
        """``end``: room for the pktinfo, then the sockaddr."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        address = _decode(end[pktinfo.SPACE :])
        if self._sources is not None:
            length, _, _ = _CONTROL_HEADER.unpack_from(end)
            control = self._sources[end[_CONTROL_HEADER.size : length]]
            address = (address[0], address[1], address, control)
        self._known[end] = address
        return address


def _decode(name: bytes) -> Address:
    """A sockaddr as the socket module shows it."""
    (family,) = struct.unpack_from("=H", name)
    (port,) = struct.unpack_from("!H", name, 2)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, name[4:8]), port
    (flow,) = struct.unpack_from("!I", name, 4)
    (scope,) = struct.unpack_from("=I", name, 24)
    address = (socket.inet_ntop(socket.AF_INET6, name[8:24]), port, flow, scope)
    if scope:  # the name of the interface belongs to it
        host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return host, port, flow, scope
    return address
