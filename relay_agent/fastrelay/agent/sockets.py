"""Where relays find the agent: a directory for each, with one socket in it.

::

    ROOT                   root's alone (0700): nobody else on the node gets any further
    ROOT/NAME              of one relay; its pod mounts it, and nothing else of ROOT
    ROOT/NAME/agent.sock   who may connect is asked of the connection (SO_PEERCRED)

Nobody but root writes anywhere here, and nothing that might be a link is followed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fastrelay.agent import pins
from fastrelay.api.objects import SOCKET, SOCKETS
from fastrelay.fastpath import handing

DEFAULT_ROOT = Path(SOCKETS)
EMPTY_SECONDS = 600.0
"""Before a directory of a relay that is not known, which a pod's start may be about to use, is
removed."""
_BACKLOG = 8
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREDENTIALS = struct.Struct("=3i")


def prepare(root: Path) -> None:
    """:raises OSError: the directory cannot be had, or belongs to somebody else."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = _own(os.open(root, _DIRECTORY), str(root))
    try:
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def listen(root: Path, name: str) -> socket.socket:
    """The socket of a relay, made anew: whoever was connected to an old one stays so.

    :raises OSError: it cannot be made.
    """
    top = os.open(root, _DIRECTORY | os.O_PATH)
    try:
        with suppress(FileExistsError):  # kubelet's, maybe, which the pod has mounted
            os.mkdir(pins.check_name(name), dir_fd=top)
        directory = _own(os.open(name, _DIRECTORY, dir_fd=top), name)
    finally:
        os.close(top)
    made = handing.new_socket()
    try:
        os.fchmod(directory, 0o755)
        with suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=directory)
        made.bind(handing.address(directory, SOCKET))
        os.chmod(SOCKET, 0o666, dir_fd=directory)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    finally:
        os.close(directory)
    return made


def close(root: Path, name: str) -> None:
    """Remove the socket of a relay, not its directory, which its pod, if it is still there, has
    mounted and would never see again: see :func:`remove_empty`. Not there: no error."""
    with suppress(FileNotFoundError):
        (root / pins.check_name(name) / SOCKET).unlink()


def remove(root: Path, name: str) -> None:
    """The same, and its directory: of a pod that is gone. Not there: no error."""
    close(root, name)
    with suppress(OSError):  # not there, or there is something in it that is not ours
        (root / pins.check_name(name)).rmdir()


def remove_empty(root: Path, seconds: float, keep: Collection[str] = ()) -> None:
    """Remove directories of relays in which there has been nothing for so long."""
    for path in root.iterdir() if root.is_dir() else ():
        if path.name not in keep and time.time() - path.lstat().st_mtime >= seconds:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def user_of(connection: socket.socket) -> int:
    """The user that has connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def _own(descriptor: int, name: str) -> int:
    """The same descriptor, of a directory that only we can write."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise OSError(errno.EPERM, "others can write this directory, so it is not used", name)
    return descriptor
