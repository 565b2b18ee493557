"""The cgroups of a node: one in each hierarchy (version 1), which the node takes for the root."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from e2e.cluster.places import Node

_ROOT = Path("/sys/fs/cgroup")
_HIERARCHIES = (
    *("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"),
    "systemd",
)
_SECONDS = 30.0


def create(node: Node) -> list[Path]:
    """Make them; a process joins each through its ``cgroup.procs``.

    :raises RuntimeError: this machine has no hierarchies of version 1.
    """
    missing = [each for each in _HIERARCHIES if not (_ROOT / each).is_dir()]
    if missing:
        raise RuntimeError(
            f"nodes need cgroup hierarchies of version 1; not in {_ROOT}: {', '.join(missing)}"
        )
    made = []
    for hierarchy in _HIERARCHIES:
        group = _ROOT / hierarchy / node.namespace
        group.mkdir(exist_ok=True)
        if hierarchy == "cpuset":  # a new one has none, and may then have no process
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((group.parent / file).read_text())
            (group / "cgroup.clone_children").write_text("1")
        made.append(group)
    return made


def remove(node: Node) -> None:
    """Remove them with all below: a node that finds old ones takes half a minute to start."""
    deadline = time.monotonic() + _SECONDS
    for hierarchy in _HIERARCHIES:
        group = _ROOT / hierarchy / node.namespace
        if group.exists():
            for each in sorted([group, *group.rglob("*/")], key=lambda it: -len(it.parts)):
                _remove(each, deadline)


def _remove(group: Path, deadline: float) -> None:
    """Busy as long as a process of it was not reaped."""
    while True:
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.02)
