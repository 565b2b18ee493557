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
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, netns

from fastrelay.agent import namespaces

T = TypeVar("T")

DIRECTORY = Path("/run/netns")
OWN = "/proc/self/ns/net"
"""Our own namespace, wherever a namespace's name is asked for."""
_libc = ctypes.CDLL(None, use_errno=True)


def path(namespace: str) -> Path:
    """The file that stands for the namespace."""
    return DIRECTORY / namespace


def create(namespace: str) -> None:
    """Make a namespace.

    :raises OSError: it exists, or we may not (not root).
    """

    def make() -> None:
        _check(_libc.unshare(namespaces.CLONE_NEWNET), namespace)
        netns.attach(namespace, "thread-self")

    namespaces.in_thread(make)


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
    return namespaces.inside(path(namespace), work)


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


def _check(result: int, namespace: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), namespace)
