"""The load on one CPU, the relay and all forwarding on another.

What a packet costs in the kernel is otherwise charged to whom it interrupts: a relay that forwards
in the kernel would work on its publisher's account, in the system call that sends the packet.
Receive packet steering (RPS) on the node's ends of the load's veths hands packets over to the
relay's CPU before any program or socket sees them. So this CPU's time is all of the relay's,
the receiving ends of the veths included, and none of the load's processes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastrelay.local import netns


def cpus() -> tuple[int, int]:
    """The load's and the relay's.

    :raises RuntimeError: there is only one.
    """
    known = sorted(os.sched_getaffinity(0))
    if len(known) < 2:
        raise RuntimeError("what the kernel does can only be told apart with two CPUs")
    return known[0], known[1]


@contextmanager
def steered(
    node: str, devices: Iterable[str], relay: Iterable[int], load: Iterable[int]
) -> Iterator[None]:
    """While it lasts; `node` is a namespace, the others are the processes' numbers."""
    load_cpu, relay_cpu = cpus()
    everywhere = os.sched_getaffinity(0)
    groups = ((tuple(relay), {relay_cpu}), (tuple(load), {load_cpu}))
    try:
        _steer(node, devices, 1 << relay_cpu)
        for processes, where in groups:
            for pid in processes:
                _pin(pid, where)
        yield
    finally:
        _steer(node, devices, 0)
        for processes, _ in groups:
            for pid in processes:
                _pin(pid, everywhere)


def _pin(pid: int, where: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), where)


def _steer(node: str, devices: Iterable[str], mask: int) -> None:
    """sysfs shows the devices of the namespace that it was mounted in."""
    words = "; ".join(
        f"echo {mask:x} >/sys/class/net/{device}/queues/rx-0/rps_cpus" for device in devices
    )
    command = ["nsenter", f"--net={netns.path(node)}", "--", "unshare", "--mount", "sh", "-ec"]
    subprocess.run([*command, f"mount -t sysfs none /sys; {words}"], check=True)
