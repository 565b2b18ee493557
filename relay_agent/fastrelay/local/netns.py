"""Network namespaces: make them, remove them, do something inside one.

They are the named ones of iproute2 (bind mounts in /run/netns), so that ``ip netns`` and
``nsenter --net=/run/netns/NAME`` work on them.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyroute2 import netns

T = TypeVar("T")

DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(namespace: str) -> Path:
    """The file that stands for the namespace."""
    return DIRECTORY / namespace


def create(namespace: str) -> None:
    """Make a namespace; its loopback is up.

    :raises OSError: it exists, or we may not (not root).
    """
    netns.create(namespace)


def remove(namespace: str) -> None:
    """Remove the name; the namespace itself goes with its last process. Not there: no error."""
    try:
        netns.remove(namespace)
    except FileNotFoundError:
        path(namespace).unlink(missing_ok=True)


def existing(prefix: str) -> list[str]:
    """Names that begin with ``prefix``, sorted."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))


def inode(namespace: str) -> int:
    """What ``/proc/PID/ns/net`` shows for processes inside."""
    return path(namespace).stat().st_ino


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Run ``work`` in the namespace and return what it returns; sockets it opens stay there.

    A thread of its own enters the namespace and ends afterwards, so that nothing else in this
    process ever leaves its own.

    :raises OSError: the namespace is gone, or we may not enter it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            descriptor = os.open(path(namespace), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), namespace)
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"netns-{namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def set_sysctls(namespace: str, settings: dict[str, str]) -> None:
    """Write settings below /proc/sys/net, such as ``{"ipv4/ip_forward": "1"}``."""

    def write() -> None:
        for name, value in settings.items():
            Path("/proc/sys/net", name).write_text(value)

    inside(namespace, write)
