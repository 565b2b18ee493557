"""How many system calls a process makes, counted by the kernel (perf_event_open(2))."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

from bench.tracing import TRACING

_NUMBERS = {"x86_64": 298, "aarch64": 241}
_TYPE_TRACEPOINT = 2
_INHERIT = 1 << 1
_ATTRIBUTES_SIZE = 64
_CLOSE_ON_EXEC = 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)


class SystemCalls:
    """Counts from its creation on, all threads that exist then and their offspring.
    Its numbers are read from :mod:`bench.tracing`.

    :raises OSError: this kernel does not count them.
    """

    def __init__(self, pid: int) -> None:
        event = TRACING / "events" / "raw_syscalls" / "sys_enter" / "id"
        attributes = struct.pack(
            "=IIQQQQQ",
            _TYPE_TRACEPOINT,
            _ATTRIBUTES_SIZE,
            int(event.read_text()),
            0,
            0,
            0,
            _INHERIT,
        ).ljust(_ATTRIBUTES_SIZE, b"\0")
        self._counters = []
        for thread in Path(f"/proc/{pid}/task").iterdir():
            fd = _libc.syscall(
                _NUMBERS[platform.machine()], attributes, int(thread.name), -1, -1, _CLOSE_ON_EXEC
            )
            if fd < 0:
                raise OSError(ctypes.get_errno(), "perf_event_open")
            self._counters.append(fd)

    def read(self) -> int:
        return sum(int.from_bytes(os.read(fd, 8), "little") for fd in self._counters)

    def close(self) -> None:
        for fd in self._counters:
            os.close(fd)
