"""Do something inside a network namespace: in a thread of its own, which enters it and ends."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(path: Path, work: Callable[[], T]) -> T:
    """Run ``work`` in the namespace and return what it returns; sockets it opens stay there.

    ``path``: the file that stands for the namespace.

    :raises OSError: the namespace is gone, or we may not enter it (CAP_SYS_ADMIN).
    """

    def run() -> T:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))
        finally:
            os.close(descriptor)
        return work()

    return in_thread(run)


def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a new thread, wait for it, and return or raise what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
