"""What the kernel has for a node: run there as ``python -m e2e.kernel``, which prints JSON.

What is pinned in the node's bpffs has ids, by which it can be asked for when the pins are gone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from fastrelay.agent import programs, syscalls
from fastrelay.agent.programs import AttachType, ObjectKind

_BPFFS = Path("/sys/fs/bpf")
_ITERATOR = ".debug"
"""Files that are in every bpffs."""
_DIRECTIONS = AttachType.TCX_INGRESS, AttachType.TCX_EGRESS
_KINDS = {
    "anon_inode:bpf-map": ObjectKind.MAP,
    "anon_inode:bpf-prog": ObjectKind.PROGRAM,
    "anon_inode:bpf-link": ObjectKind.LINK,
}


def found() -> dict[str, list[str]]:
    """``pins``: paths. ``objects``: KIND ID of what they stand for. ``attached``: TCX programs
    by the names of interfaces."""
    paths = [path for path in sorted(_BPFFS.rglob("*")) if path.suffix != _ITERATOR]
    devices = [
        f"{device} {direction.name}"
        for index, device in socket.if_nameindex()
        for direction in _DIRECTIONS
        for _ in programs.attached(index, direction)
    ]
    return {
        "pins": [str(path) for path in paths],
        "objects": sorted({each for path in paths if path.is_file() for each in _objects(path)}),
        "attached": devices,
    }


def alive(objects: Iterable[str]) -> list[str]:
    """Which of :func:`found`'s objects the kernel still has. Works anywhere."""
    return [each for each in objects if _is_alive(each)]


def _is_alive(each: str) -> bool:
    kind, number = each.split()
    try:
        os.close(programs.by_id(ObjectKind[kind], int(number)))
    except FileNotFoundError:
        return False
    return True


def _objects(path: Path) -> list[str]:
    """The object that is pinned, and a program's maps or a link's program."""
    fd = syscalls.get(path)
    try:
        kind = _KINDS[os.readlink(f"/proc/self/fd/{fd}")]
        if kind is ObjectKind.MAP:
            return [f"MAP {syscalls.map_info(fd).id}"]
        if kind is ObjectKind.LINK:
            link = programs.link_info(fd)
            return [f"LINK {link.id}", f"PROGRAM {link.program}"]
        program = programs.program_info(fd)
        return [f"PROGRAM {program.id}", *(f"MAP {number}" for number in program.maps)]
    finally:
        os.close(fd)


if __name__ == "__main__":
    json.dump(found(), sys.stdout)
