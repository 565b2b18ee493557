"""Residence time: from an object's packet entering the node to its first copy leaving it.

In: the node's end of the publisher's veth; out: the node's end of the subscribers'. On these a
relay that forwards in the kernel and one in user space do all of their work between the two,
and the kernel's timestamps are of one clock. The packets are encrypted; what tells them apart
is size and order: an object fills one packet, objects are further apart than a relay holds
them, and packets of other kinds (ACKs, probes of the path's MTU) are smaller or larger. So the
packets of object size out, between one of that size in and the next, are its copies. Anything
that does not fit this picture (another number of copies) is counted and left out, and the
count is reported.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from fastrelay.local import netns

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
SO_ATTACH_FILTER = 26
PACKET_OUTGOING = 4
SNAPSHOT = 64
"""Bytes of each packet that are copied to user space; nothing in them is looked at."""
BEGIN = 50_000_000
"""Nanoseconds until packets count: both sockets see them then, and the kernel notes their times,
which it begins to do a little after the first socket asks for it."""


def size_filter(low: int, high: int) -> bytes:
    """Classic BPF: take frames of `low` to `high` bytes, Ethernet header included."""
    program = [
        (0x80, 0, 0, 0),  # A = length
        (0x35, 0, 2, low),  # if A < low: reject
        (0x25, 1, 0, high),  # if A > high: reject
        (0x06, 0, 0, SNAPSHOT),  # accept
        (0x06, 0, 0, 0),  # reject
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


@dataclass(slots=True)
class Residence:
    """Seconds; one entry for each object that fitted the picture."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    odd: int = 0
    """Objects with another number of copies than there were subscribers."""


class Capture:
    """Packets of object size: in at one device, out at another."""

    def __init__(self, namespace: str, entry: str, exit_: str, low: int, high: int) -> None:
        self._packets: list[tuple[int, bool]] = []
        """Time in nanoseconds, and whether the packet came in."""
        self._sockets = [
            netns.inside(namespace, lambda device=device: _open(device, low, high))
            for device in (entry, exit_)
        ]
        self._since = time.time_ns() + BEGIN
        self._threads = [
            threading.Thread(target=self._run, args=(sock, inward), name="capture")
            for sock, inward in zip(self._sockets, (True, False), strict=True)
        ]
        self._ending = False

    def __enter__(self) -> Capture:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _run(self, sock: socket.socket, inward: bool) -> None:
        space = socket.CMSG_SPACE(16)
        while not self._ending:
            try:
                _, notes, _, address = sock.recvmsg(SNAPSHOT, space)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", notes[0][2])
            at = seconds * 10**9 + nanoseconds
            if (address[2] == PACKET_OUTGOING) is not inward and at >= self._since:
                self._packets.append((at, inward))

    def evaluate(self, subscribers: int) -> Residence:
        """What the packets say; the first and the last object are left out."""
        found = Residence()
        entered: int | None = None
        copies: list[int] = []
        for at, inward in sorted(self._packets):
            if not inward:
                copies.append(at)
                continue
            if entered is not None and len(copies) == subscribers:
                found.first.append((copies[0] - entered) / 1e9)
                found.last.append((copies[-1] - entered) / 1e9)
            elif entered is not None:
                found.odd += 1
            entered, copies = at, []
        return found

    def delays(self) -> list[float]:
        """Seconds from each packet's entering to its only copy's leaving, in order.

        Of one subscriber, also where objects are closer to each other than a relay holds them:
        they leave in the order in which they came. If the relay has never again as little to send
        as before a packet came, that was lost, or shares another's copy: it is left out, so that
        those after it have their own (those before the first copy excepted: a relay may always be
        as late as that). So is what leaves a relay that has nothing to send.
        """
        packets = sorted(self._packets)
        depths = pairwise(accumulate((way for _, way in packets), _passed, initial=0))
        steps = list(zip(packets, depths, strict=True))
        begin = next((at for (at, _), (before, after) in steps if after < before), 0)
        entered, left = [], []
        least = len(packets)
        for (at, inward), (before, after) in reversed(steps):
            if inward and (least <= before or at < begin):
                entered.append(at)
            elif not inward and before:
                left.append(at)
            least = min(least, after)
        pairs = zip(reversed(entered), reversed(left), strict=False)
        return [(out - into) / 1e9 for into, out in pairs]


def _passed(held: int, inward: bool) -> int:
    """How many packets a relay holds after one more has come, or left."""
    return held + 1 if inward else max(0, held - 1)


def _open(device: str, low: int, high: int) -> socket.socket:
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    program = ctypes.create_string_buffer(size_filter(low, high))
    header = struct.pack("HxxxxxxP", 5, ctypes.addressof(program))
    capture.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)
    capture.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    capture.bind((device, ETH_P_ALL))
    capture.settimeout(0.2)
    return capture
