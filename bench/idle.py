"""How busy the machine was, softirqs included: what is left for a loop that only gets idle time.

The kernel charges softirq work to whatever task it interrupts, or (by its configuration) to
nobody; ``/proc/stat`` samples. A loop under SCHED_IDLE on every CPU loses turns to all of it.
How quickly the loop turns when nothing else runs is measured first.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.sharedctypes import Synchronized
from typing import Any

_STRIDE = 2000
"""Turns between two looks at the clock of nobody: small against any interval measured."""


def _spin(cpu: int, turns: Any) -> None:
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        for _ in range(_STRIDE):
            pass
        turns.value += 1


class IdleTime:
    """Loops on all CPUs, for as long as the context lasts; enter it on an idle machine."""

    def __init__(self, calibration_seconds: float = 1.0) -> None:
        self._calibration_seconds = calibration_seconds
        self._turns: list[Synchronized[int]] = []
        self._processes: list[multiprocessing.Process] = []
        self._per_second = 0.0

    def __enter__(self) -> IdleTime:
        spawn = multiprocessing.get_context("spawn")
        for cpu in sorted(os.sched_getaffinity(0)):
            turns = spawn.Value("Q", 0, lock=False)
            process = spawn.Process(target=_spin, args=(cpu, turns), daemon=True)
            process.start()
            self._turns.append(turns)  # type: ignore[arg-type]
            self._processes.append(process)  # type: ignore[arg-type]
        while not all(turns.value for turns in self._turns):
            time.sleep(0.01)
        best = 0.0
        for _ in range(3):
            begin, turned = self.mark()
            time.sleep(self._calibration_seconds)
            end, more = self.mark()
            best = max(best, (more - turned) / (end - begin))
        self._per_second = best
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def mark(self) -> tuple[float, int]:
        """A moment, to be given to :meth:`busy_since`."""
        return time.monotonic(), sum(turns.value for turns in self._turns)

    def busy_since(self, mark: tuple[float, int]) -> float:
        """CPU seconds, of all CPUs together, that something other than these loops used."""
        begin, turned = mark
        end, now = self.mark()
        idle = (now - turned) / self._per_second
        return max(0.0, (end - begin) - idle) * len(self._turns)
