"""Bytes over TCP, as fast as they go. A script: ``send ADDRESS CONTROLLER``, or ``receive FILE``,
which notes every now and then when it is (seconds of the monotonic clock) and how many bytes it
has."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

PORT = 5001
INTERVAL = 0.2


def send(address: str, controller: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection((address, PORT), timeout=5)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, controller.encode())
    connection.settimeout(None)
    while True:
        connection.sendall(bytes(1 << 16))


def receive(file: str) -> None:
    with socket.create_server(("", PORT)) as server, Path(file).open("w", buffering=1) as notes:
        connection, _ = server.accept()
        total, due = 0, 0.0
        while data := connection.recv(1 << 16):
            total += len(data)
            if (now := time.monotonic()) >= due:
                notes.write(f"{now:.3f} {total}\n")
                due = now + INTERVAL


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](*sys.argv[2:])
