"""The kernel's list of tracepoints, which not every machine has mounted."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TRACING = Path("/sys/kernel/tracing")
"""Where bcc looks for it, too."""
USERS = Path("/run/fastrelay-tracing")
"""Locked (flock) by everybody who needs it; not empty while it is to be unmounted by the last."""


@contextmanager
def mounted() -> Iterator[None]:
    """It is there as long as the context lasts, whoever else needs it meanwhile.

    :raises RuntimeError: it cannot be mounted; it says why.
    """
    with USERS.open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        while not _is_there():
            # To change a lock is two steps: somebody may take it, and mount or unmount, between.
            fcntl.flock(users, fcntl.LOCK_EX)
            if not _is_there():
                _mount()
                users.write("mounted\n")
                users.flush()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            _leave(users)


def _is_there() -> bool:
    return (TRACING / "events").exists()


def _mount() -> None:
    command = ["mount", "-t", "tracefs", "none", str(TRACING)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the kernel's tracepoints cannot be read: {done.stderr.strip()}")


def _leave(users: IO[str]) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # somebody else still needs it
    users.seek(0)
    if users.read():
        subprocess.run(["umount", "--lazy", str(TRACING)], check=False)
        users.truncate(0)
