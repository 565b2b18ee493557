"""Processes inside namespaces: start, recognise, measure, end.

A process is known by its id and the time it started, so that an id that the kernel gave to
somebody else in the meantime is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fastrelay.local import netns
from fastrelay.local.unprivileged import User

READY_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")

# Who was orphaned before the kernel knew of the wish sees it by the parent it has then.
_LEASH = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", 'test $PPID = "$0" && exec "$@"']
"""To be followed by our process id and the command."""


class ProcessId(NamedTuple):
    """A process for all time: its id, and its start in clock ticks since boot."""

    pid: int
    started: int


def start(
    namespace: str,
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    dies_with_us: bool = False,
    user: User | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a namespace, its output appended to ``log``.

    It has a session of its own, so that Ctrl-C reaches only us and we decide the order of the
    end. ``dies_with_us``: the kernel kills it when this thread ends, whatever the reason.
    ``user``: it runs as this one, without any right; None: as we do.
    """
    leash = [*_LEASH, str(os.getpid())] if dies_with_us else []
    if user is not None:
        # Whoever becomes another user loses the leash, and takes it up again.
        command = user.command([*leash, *command])
    with log.open("ab") as output:
        return subprocess.Popen(
            # nsenter, not "ip netns exec": that one mounts a new /sys, which hides bpffs.
            [*leash, "nsenter", f"--net={netns.path(namespace)}", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def start_detached(namespace: str, command: Sequence[str], log: Path) -> None:
    """Start a command that is nobody's child, and wait until it is ready.

    It gets one more argument, the number of a file descriptor to which it writes when it is.
    It is found again by its namespace.

    :raises OSError: it did not become ready; its words are in ``log``.
    """
    reading, writing = os.pipe()
    try:
        with log.open("ab") as output:
            inside = ["nsenter", f"--net={netns.path(namespace)}", "--"]
            subprocess.run(
                ["setsid", "--fork", *inside, *command, str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                check=False,
            )
    finally:
        os.close(writing)
    try:
        # The end of the pipe without a word means that nobody is left who could write one.
        if not (select.select([reading], [], [], READY_SECONDS)[0] and os.read(reading, 1)):
            raise OSError(f"{command[0]} did not start, see {log}")
    finally:
        os.close(reading)


def identify(pid: int) -> ProcessId | None:
    """The process that has this id now; None if it ended (or waits to be reaped)."""
    fields = _stat(pid)
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]))


def is_running(process: ProcessId) -> bool:
    return identify(process.pid) == process


def inside(*namespaces: str) -> dict[str, list[ProcessId]]:
    """Every process in each of the namespaces, whoever started it."""
    wanted = {netns.inode(namespace): namespace for namespace in namespaces}
    found: dict[str, list[ProcessId]] = {namespace: [] for namespace in namespaces}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            inode = os.stat(f"/proc/{entry.name}/ns/net").st_ino
        except OSError:
            continue  # it ended while we looked
        if inode in wanted and (process := identify(int(entry.name))):
            found[wanted[inode]].append(process)
    return found


def cpu_seconds(pid: int) -> float | None:
    """CPU time of the process and of its ended children; None if it is gone."""
    fields = _stat(pid)
    return None if fields is None else sum(map(int, fields[11:15])) / TICKS


def resident_bytes(pid: int) -> int | None:
    """Memory of the process in RAM; None if it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def end(processes: Iterable[ProcessId], *, grace: float, first: int = signal.SIGTERM) -> None:
    """Ask with ``first``, wait up to ``grace`` seconds for all together, then SIGKILL the rest."""
    waiting: dict[int, ProcessId] = {}
    try:
        for process in processes:
            descriptor = _open(process)
            if descriptor is not None:
                waiting[descriptor] = process
                _signal(descriptor, first)
        deadline = time.monotonic() + grace
        for last in (False, True):
            while waiting and (left := deadline - time.monotonic()) > 0:
                for descriptor in select.select(list(waiting), [], [], left)[0]:
                    os.close(descriptor)
                    del waiting[descriptor]
            if waiting and not last:
                for descriptor in waiting:
                    _signal(descriptor, signal.SIGKILL)
                deadline = time.monotonic() + 5.0
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def _stat(pid: int) -> list[str] | None:
    """Fields 3 and on of /proc/PID/stat (proc(5)); the name before them may contain anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _open(process: ProcessId) -> int | None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_running(process):  # after opening: from now on the descriptor means this process
        return descriptor
    os.close(descriptor)
    return None


def _signal(descriptor: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)
