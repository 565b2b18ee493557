"""Who is measured goes before others on the machine, so far as the kernel groups sessions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastrelay.local import netns, processes, topology

FIRST = "-15"
"""A nice value, of sessions (sched(7), autogroup): a thirtieth of a CPU is left to another."""


def give_precedence(name: str) -> None:
    """All processes that are in that stack's namespaces now."""
    found = processes.inside(*netns.existing(topology.namespace_of(name, "")))
    for each in (process for there in found.values() for process in there):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            _group(each.pid).write_text(FIRST)


@contextmanager
def we_first() -> Iterator[None]:
    """Our session, to which the terminal belongs, as long as the context lasts."""
    group = _group(os.getpid())
    if not group.exists():
        yield
        return
    before = group.read_text().split()[-1]
    group.write_text(FIRST)
    try:
        yield
    finally:
        group.write_text(before)


def _group(pid: int) -> Path:
    return Path(f"/proc/{pid}/autogroup")
