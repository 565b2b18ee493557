"""What stands for machines: PID namespaces. When their first process ends, all in them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.places import BINARIES, DEBIAN, HERE, LOGS, RUNNING
from fastrelay.local import processes
from fastrelay.local.processes import ProcessId

_SECONDS = 30.0
_started: dict[str, subprocess.Popen[bytes]] = {}
"""By us. A machine outlives whoever powered it on, unless he ends it, too."""
PATH = f"{BINARIES}:{DEBIAN}/usr/bin:{DEBIAN}/usr/sbin:{os.environ['PATH']}:/usr/sbin:/sbin"


def first_process(machine: str) -> ProcessId | None:
    """Its PID 1, by the machine's own ids; None: it does not run."""
    try:
        pid, started = (RUNNING / machine).read_text().split()
    except FileNotFoundError:
        return None
    process = ProcessId(int(pid), int(started))
    return process if processes.is_running(process) else None


def power_on(
    machine: str,
    namespace: str,
    script: str,
    environment: Mapping[str, str],
    cgroups: Sequence[Path] = (),
) -> None:
    """Run a script of this folder as PID 1 in namespaces of its own, and in these cgroups."""
    kinds = ["--mount", "--pid", "--ipc", "--uts", *(["--cgroup"] if cgroups else [])]
    join = "".join(f"echo $$ >{each}/cgroup.procs; " for each in cgroups)
    unshare = ["unshare", *kinds, "--fork", "--kill-child", "--propagation", "private"]
    log = LOGS / f"{machine}.log"
    with log.open("ab") as output:
        outer = subprocess.Popen(
            # nsenter, not "ip netns exec": that one mounts a new /sys, which hides bpffs.
            [
                *("bash", "-c", f'set -e; {join}exec nsenter --net="/run/netns/$0" "$@"'),
                *(namespace, *unshare, "bash", str(HERE / script)),
            ],
            env={**os.environ, "PATH": PATH, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _started[machine] = outer
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    deadline = time.monotonic() + _SECONDS
    while not (found := children.read_text().split()):
        if outer.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{machine} did not start, see {log}")
        time.sleep(0.02)
    process = processes.identify(int(found[0]))
    if process is None:
        raise RuntimeError(f"{machine} ended at once, see {log}")
    (RUNNING / machine).write_text(f"{process.pid} {process.started}")


def power_off(machine: str) -> None:
    """Cut its power: the kernel ends its processes and unmounts what it had mounted."""
    if process := first_process(machine):
        processes.end([process], grace=_SECONDS, first=signal.SIGKILL)
        if processes.is_running(process):
            raise RuntimeError(f"{machine} (process {process.pid}) does not end")
    (RUNNING / machine).unlink(missing_ok=True)
    if outer := _started.pop(machine, None):
        outer.wait(_SECONDS)


def inside(machine: str, command: Sequence[str]) -> list[str]:
    """The command, in the machine's namespaces."""
    process = first_process(machine)
    if process is None:
        raise RuntimeError(f"{machine} does not run")
    enter = ["nsenter", "-t", str(process.pid), "-m", "-p", "-n", "-u", "-i", "--"]
    return [*enter, "env", f"PATH={PATH}", *command]
