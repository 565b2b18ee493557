"""Many datagrams in one system call: recvmmsg(2), which the socket module does not have.

For 25 datagrams that wait already, a third of the time of ``recvmsg`` for each (1.1 instead of
3.5 us): no call and no exception for the end of the queue, no 64 KB of memory each, and peers
that were heard before are looked up in place of being decoded.

Each datagram comes with the time at which the kernel received it, so that nothing that is
measured by it contains how long it waited for us.

Source: recvmmsg(2), ``struct mmsghdr`` of 64-bit Linux; socket(7) on SO_TIMESTAMP, net/core/sock.c.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from typing import Any

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
_STAMP_WORD = socket.CMSG_LEN(0) // 8
_CONTROL_SIZE = _STAMP_SIZE + pktinfo.SPACE
_NAME_SIZE = 32
"""Room for a sockaddr_in6 (28)."""
_END_SIZE = _CONTROL_SIZE + _NAME_SIZE
"""When it came, its destination, and where it came from."""
_CONTROL_HEADER = struct.Struct("=Qii")
_MAX_KNOWN = 4096
_LOOKS = 4
_BETWEEN_LOOKS = 0.0002
"""Seconds between two looks at clocks; they take less than a thousandth of that."""

_receive = ctypes.CDLL(None, use_errno=True).recvmmsg
_receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]

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
        self._emptied = time.monotonic()
        """Nothing that is read from now on arrived before."""
        self._known: dict[bytes, Address] = {}
        self._ends = COUNT * _SPACING
        self._headers = self._ends + COUNT * _END_SIZE
        vectors = self._headers + COUNT * _MESSAGE.size
        self._memory = memory = mmap.mmap(-1, vectors + COUNT * _VECTOR.size)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._address = base + self._headers
        words = memoryview(memory)[self._headers : vectors].cast("I")
        self._lengths = words[_WORDS - 2 :: _WORDS]
        stamps = memoryview(memory)[self._ends : self._headers].cast("q")
        self._seconds = stamps[_STAMP_WORD :: _END_SIZE // 8]
        self._nanoseconds = stamps[_STAMP_WORD + 1 :: _END_SIZE // 8]
        control = _STAMP_SIZE if sources is None else _CONTROL_SIZE
        for index in range(COUNT):
            end = base + self._ends + index * _END_SIZE
            vector = vectors + index * _VECTOR.size
            _VECTOR.pack_into(memory, vector, base + index * _SPACING, 65_535)
            name = end + _CONTROL_SIZE
            header = self._headers + index * _MESSAGE.size
            _MESSAGE.pack_into(memory, header, name, _NAME_SIZE, base + vector, 1, end, control, 0)
        self._fresh = memory[self._headers : vectors]

    def receive(self, fd: int) -> list[Received]:
        """What has arrived; does not wait.

        :raises OSError: the network answered a datagram of a connected socket with an error.
        """
        begin, emptied = time.monotonic(), self._emptied
        count = _receive(fd, self._address, COUNT, socket.MSG_DONTWAIT, None)
        if count < COUNT:
            self._emptied = begin
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(code, os.strerror(code))
        now, since_then = _clocks()
        memory, known, end, at = self._memory, self._known, self._ends + _STAMP_SIZE, 0
        batch = []
        for length, seconds, nanoseconds in zip(
            self._lengths[:count], self._seconds[:count], self._nanoseconds[:count], strict=True
        ):
            peer = memory[end : end + _END_SIZE - _STAMP_SIZE]
            address = known.get(peer)
            if address is None:
                address = self._learn(peer)
            when = seconds + nanoseconds * 1e-9 + since_then
            # Somebody may set the clock: between the last look and this one it was in any case.
            if when > now:
                when = now
            elif when < emptied:
                when = emptied
            batch.append((memory[at : at + length], address, when))
            at += _SPACING
            end += _END_SIZE
        # The kernel has written sizes where it had read them.
        used = count * _MESSAGE.size
        memory[self._headers : self._headers + used] = self._fresh[:used]
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


def _clocks() -> tuple[float, float]:
    """CLOCK_MONOTONIC, and by how much it is ahead of CLOCK_REALTIME. Who is interrupted between
    the two looks again: a round trip that seems too short would be remembered as the least."""
    for _ in range(_LOOKS):
        before = time.monotonic()
        real = time.time()
        now = time.monotonic()
        if now - before < _BETWEEN_LOOKS:
            break
    return now, now - real


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
