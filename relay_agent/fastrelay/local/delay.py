"""A delay line for kernels without netem: Ethernet frames go on as they came, but later.

Run as a process in the namespace that holds the middle of a wire::

    python -m fastrelay.local.delay FIRST,SECOND,SECONDS [...] DESCRIPTOR

Each argument but the last names two devices; what arrives at one leaves at the other after the
delay, in order. A byte is written to the descriptor as soon as frames are carried. Frames keep
the kernel's note on checksums and segments (PACKET_VNET_HDR), so that one whose checksum is
still to be computed, as is usual on veth, stays whole.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
LARGEST_FRAME = 10 + 65536 + 18
"""The note, a segment as large as they come, an Ethernet header with a VLAN tag."""
MAX_WAITING = 50_000
"""Frames of one direction; beyond it they are dropped, as any queue does."""


@dataclass(slots=True)
class Direction:
    """From one device to the other."""

    source: socket.socket
    target: socket.socket
    delay: float
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, now: float) -> None:
        """Read what has arrived."""
        due = now + self.delay
        while True:
            try:
                frame = self.source.recv(LARGEST_FRAME)
            except BlockingIOError:
                return
            if len(self.waiting) < MAX_WAITING:
                self.waiting.append((due, frame))

    def give(self, now: float) -> float | None:
        """Send what is due; returns when the next frame is."""
        waiting = self.waiting
        while waiting:
            due, frame = waiting[0]
            if due > now:
                return due
            waiting.popleft()
            try:
                self.target.send(frame)
            except (BlockingIOError, OSError):
                continue  # a full queue or a device that went down loses frames, as on a wire
        return None


def open_device(name: str) -> socket.socket:
    """A socket that sees every frame arriving at the device, and sends raw ones."""
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    device.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    device.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    device.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    device.bind((name, ETH_P_ALL))
    device.setblocking(False)
    return device


def run(wires: list[tuple[str, str, float]], ready: int) -> None:
    """Carry frames until the process is told to end; ``ready`` is written to and closed."""
    directions: dict[int, Direction] = {}
    for first_name, second_name, delay in wires:
        first, second = open_device(first_name), open_device(second_name)
        directions[first.fileno()] = Direction(first, second, delay)
        directions[second.fileno()] = Direction(second, first, delay)
    os.write(ready, b"+")
    os.close(ready)
    poll_for = None
    while True:
        # select, not epoll: its timeout counts microseconds.
        arrived, _, _ = select.select(list(directions), [], [], poll_for)
        now = time.monotonic()
        for descriptor in arrived:
            directions[descriptor].take(now)
        dues = [due for each in directions.values() if (due := each.give(now)) is not None]
        poll_for = max(min(dues) - time.monotonic(), 0.0) if dues else None


def main(arguments: list[str]) -> int:
    wires = []
    *wanted, ready = arguments
    for argument in wanted:
        first, second, delay = argument.split(",")
        wires.append((first, second, float(delay)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(wires, int(ready))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
