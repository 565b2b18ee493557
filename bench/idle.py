"""How busy a CPU was, softirqs included: what is left for a loop that only gets idle time.

The kernel charges softirq work to whatever task it interrupts (or, by its configuration, to
nobody), and ``/proc/stat`` samples. A loop under SCHED_IDLE loses turns to all of it. How quickly
it turns while nothing is measured is found just before and just after each measurement: what
else goes on in the machine is then subtracted, as far as it is steady.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

_STRIDE = 2000
"""Turns between two counts: small against any interval measured."""


def _spin(cpu: int, turns: Any) -> None:
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        for _ in range(_STRIDE):
            pass
        turns.value += 1


class IdleTime:
    """Loops on all CPUs, for as long as the context lasts."""

    def __init__(self) -> None:
        self._turns: dict[int, Any] = {}
        self._processes: list[Any] = []

    def __enter__(self) -> IdleTime:
        spawn = multiprocessing.get_context("spawn")
        for cpu in sorted(os.sched_getaffinity(0)):
            turns = spawn.Value("Q", 0, lock=False)
            process = spawn.Process(target=_spin, args=(cpu, turns), daemon=True)
            process.start()
            self._turns[cpu] = turns
            self._processes.append(process)
        while not all(turns.value for turns in self._turns.values()):
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def mark(self, cpu: int) -> tuple[float, int]:
        """A moment, and the turns until then; to be given to :meth:`speed`."""
        return time.monotonic(), self._turns[cpu].value

    def speed(self, cpu: int, since: tuple[float, int]) -> float:
        """Turns a second of the loop on this CPU."""
        begin, turned = since
        now, turns = self.mark(cpu)
        return (turns - turned) / (now - begin)

    def speed_now(self, cpu: int, seconds: float) -> float:
        mark = self.mark(cpu)
        time.sleep(seconds)
        return self.speed(cpu, mark)


def busy_share(speed: float, calm: float) -> float:
    """Of a CPU, from the loop's speed and its speed while nothing was measured."""
    return max(0.0, 1.0 - speed / calm)
