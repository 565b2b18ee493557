"""The benchmark's account of CPU time, on this kernel, of processes that do what is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bench.accounting import Accounting, Spent

from integration.harness import becomes_so

LOAD = """
import json, os, socket, sys, time

os.sched_setaffinity(0, {int(sys.argv[1])})
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(receiver.getsockname())
print("ready", flush=True)
for line in sys.stdin:
    packets, seconds = json.loads(line)
    begin = time.process_time()
    for _ in range(packets):
        sender.send(bytes(1000))
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    print(time.process_time() - begin, flush=True)
"""


class Load:
    """A process on one CPU that sends packets to itself and computes, so much of each."""

    def __init__(self, accounting: Accounting) -> None:
        self._accounting = accounting
        self._cpu = max(os.sched_getaffinity(0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOAD, str(self._cpu)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._line()

    def run(self, packets: int, seconds: float) -> tuple[float, Spent]:
        """Its CPU time by its own clock, and the account of it."""
        pid, stdin = self._process.pid, self._process.stdin
        assert stdin
        before = self._accounting.spent(pid, self._cpu)
        stdin.write(json.dumps([packets, seconds]) + "\n")
        used = float(self._line())
        return used, self._accounting.spent(pid, self._cpu).since(before)

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    with Accounting() as accounting:
        load = Load(accounting)
        try:
            yield load
        finally:
            load.close()


async def test_computing_is_the_process_own(load: Load) -> None:
    async def window() -> str:
        used, spent = load.run(0, 0.3)
        own = 0.7 * used < spent.process < 1.05 * used + 0.01
        return "" if own else f"{spent.process} s of {used}"

    await becomes_so(window)


async def test_delivering_packets_is_not_the_process_own(load: Load) -> None:
    """On loopback, each packet is received in a softirq within the sender's system call."""
    packets = 20_000

    async def window() -> str:
        used, spent = load.run(packets, 0)
        taken_off = used - spent.process
        # A packet takes longer than 100 ns to be received.
        parts = taken_off > max(0.05 * used, packets * 100e-9) and spent.process > 0.1 * used
        if parts and spent.network > 0.9 * taken_off - 0.01:
            return ""
        return f"{used} s, of which {spent}"

    await becomes_so(window)


async def test_more_packets_more_softirqs(load: Load) -> None:
    load.run(1000, 0)

    async def window() -> str:
        few, many = (load.run(packets, 0)[1].network for packets in (5_000, 30_000))
        return "" if many > 2 * few else f"{many} s instead of {few} s"

    await becomes_so(window)
