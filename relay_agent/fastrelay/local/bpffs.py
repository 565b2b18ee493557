"""A file system for pins, of one stack's own.

The machine's own in /sys/fs/bpf may not be mounted. Taken off, it takes every pin along, and
with them what only pins keep alive: links, programs, maps.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MNT_DETACH = 2


def mount(directory: Path) -> None:
    """Mount a new one there, which only root may enter.

    :raises OSError: the kernel has none, or we are not root.
    """
    directory.mkdir(parents=True, exist_ok=True)
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _check(_libc.mount(b"bpf", bytes(directory), b"bpf", flags, b"mode=0700"), directory)


def unmount(directory: Path) -> None:
    """Remove everything pinned there, and the mount. Not there: no error."""
    while directory.is_mount():
        # Somebody's mount namespace may hold a copy of the mount: the pins go first. What is
        # no directory there is the kernel's own.
        for entry in directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
        _check(_libc.umount2(bytes(directory), MNT_DETACH), directory)


def _check(result: int, subject: Path) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(subject))
