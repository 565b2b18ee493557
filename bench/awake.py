"""Keeps all CPUs from sleeping: what is measured is not how quickly this machine wakes one."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

AUTOGROUP = Path("/proc/self/autogroup")


def _spin(cpu: int, turning: Any) -> None:
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Sessions share the CPUs first, if the kernel groups them; only within one does the rest count.
    os.setsid()
    if AUTOGROUP.exists():
        AUTOGROUP.write_text("19")
    turning.value = True
    while True:
        pass


class Awake:
    """A loop on each CPU that only gets idle time, for as long as the context lasts."""

    def __init__(self) -> None:
        self._processes: list[Any] = []

    def __enter__(self) -> Awake:
        """:raises RuntimeError: a loop has ended before it began."""
        spawn = multiprocessing.get_context("spawn")
        turning = []
        try:
            for cpu in sorted(os.sched_getaffinity(0)):
                turning.append(spawn.Value("b", False, lock=False))
                process = spawn.Process(target=_spin, args=(cpu, turning[-1]), daemon=True)
                process.start()
                self._processes.append(process)
            while not all(each.value for each in turning):
                ended = [each.exitcode for each in self._processes if each.exitcode is not None]
                if ended:
                    raise RuntimeError(f"a loop that keeps a CPU awake ended with {ended[0]}")
                time.sleep(0.01)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._processes.clear()
