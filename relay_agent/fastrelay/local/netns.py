"""Network namespaces: make them, remove them, do something inside one.

They are the named ones of iproute2 (bind mounts in /run/netns), so that ``ip netns`` and
``nsenter --net=/run/netns/NAME`` work on them.

What has to happen inside one happens in a thread of its own, which enters it and ends. pyroute2
would fork for that (``IPRoute(netns=...)``, ``netns.create``), and a forked child that has our
signal handlers can come to believe that it is us.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, netns

T = TypeVar("T")

DIRECTORY = Path("/run/netns")
OWN = "/proc/self/ns/net"
"""Our own namespace, wherever a namespace's name is asked for."""
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(namespace: str) -> Path:
    """The file that stands for the namespace."""
    return DIRECTORY / namespace


def create(namespace: str) -> None:
    """Make a namespace.

    :raises OSError: it exists, or we may not (not root).
    """

    def make() -> None:
        _check(_libc.unshare(CLONE_NEWNET), namespace)
        netns.attach(namespace, "thread-self")

    _in_thread(make)


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

    :raises OSError: the namespace is gone, or we may not enter it.
    """

    def run() -> T:
        descriptor = os.open(path(namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(descriptor, CLONE_NEWNET), namespace)
        finally:
            os.close(descriptor)
        return work()

    return _in_thread(run)


def netlink(namespace: str, work: Callable[[IPRoute], T]) -> T:
    """Run ``work`` with a netlink socket of the namespace.

    :raises OSError: as :func:`inside`; pyroute2's own errors come through.
    """

    def run() -> T:
        with closing(IPRoute()) as ipr:
            return work(ipr)

    return inside(namespace, run)


def set_sysctls(namespace: str, settings: dict[str, str]) -> None:
    """Write settings below /proc/sys/net, such as ``{"ipv4/ip_forward": "1"}``."""

    def write() -> None:
        for name, value in settings.items():
            Path("/proc/sys/net", name).write_text(value)

    inside(namespace, write)


def _in_thread(work: Callable[[], T]) -> T:
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


def _check(result: int, namespace: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), namespace)
