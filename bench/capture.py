"""Residence time: from an object's packet entering the relay to its first copy leaving it.

Both are seen on one device, the node's end of the relay's veth, with the kernel's timestamps,
so that one clock counts. The packets are encrypted; what tells them apart is size and order:
an object fills one packet, objects are further apart than a relay holds them, and packets of
other kinds (ACKs, probes of the path's MTU) are smaller or larger. So the packets of object
size out, between one of that size in and the next, are its copies. Anything that does not fit
this picture (another number of copies) is counted and left out, and the count is reported.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from dataclasses import dataclass, field

from fastrelay.local import netns

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
SO_ATTACH_FILTER = 26
PACKET_OUTGOING = 4
SNAPSHOT = 64
"""Bytes of each packet that are copied to user space; nothing in them is looked at."""


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
    """Packets of object size at one device, in and out."""

    def __init__(self, namespace: str, device: str, low: int, high: int) -> None:
        self._packets: list[tuple[int, bool]] = []
        """Time in nanoseconds, and whether the packet went towards the relay."""
        self._socket = netns.inside(namespace, lambda: _open(device, low, high))
        self._thread = threading.Thread(target=self._run, name="capture")
        self._ending = False

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        space = socket.CMSG_SPACE(16)
        while not self._ending:
            try:
                _, notes, _, address = self._socket.recvmsg(SNAPSHOT, space)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", notes[0][2])
            self._packets.append((seconds * 10**9 + nanoseconds, address[2] == PACKET_OUTGOING))

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
