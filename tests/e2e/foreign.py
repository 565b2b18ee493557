"""Programs of others at an interface: they count packets, and let the next one see them.

Written in the kernel's own instructions, so that nothing of ours is in them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pyroute2 import IPRoute

from e2e.cluster.places import Node
from fastrelay.agent import programs, syscalls
from fastrelay.agent.programs import AttachType, LinkFlags
from fastrelay.local import netns

_ARRAY = 2
_KEY = bytes(4)
_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_TYPES = {"ingress": AttachType.TCX_INGRESS, "egress": AttachType.TCX_EGRESS}
_PLACES = {"first": LinkFlags.BEFORE, "last": LinkFlags.AFTER}
_PRIORITIES = {"first": 1, "last": 0xC000}
_HANDLE = 1


@dataclass(frozen=True, slots=True)
class Counter:
    """One program. Descriptors: of the program, and of the map with its count."""

    name: str
    program: int
    counts: int

    def count(self) -> int:
        """Packets that it has seen."""
        found = syscalls.lookup(self.counts, _KEY, 8)
        assert found is not None
        return int.from_bytes(found, "little")

    @property
    def id(self) -> int:
        return programs.program_info(self.program).id


@contextlib.contextmanager
def attached(node: Node, device: str) -> Iterator[list[Counter]]:
    """In both directions of a node's interface: TCX programs at both ends of the list as it is
    now, and filters of clsact, as early and as late as can be."""
    with contextlib.ExitStack() as held:
        counters: list[Counter] = []

        def attach() -> None:
            ifindex = socket.if_nametoindex(device)
            with contextlib.closing(IPRoute()) as ipr:
                ipr.tc("add", "clsact", ifindex)
                for direction, parent in _PARENTS.items():
                    for place in ("first", "last"):
                        made = _make(f"tcx {direction} {place}", held)
                        flags = _PLACES[place]
                        link = programs.create_link(made.program, ifindex, _TYPES[direction], flags)
                        held.callback(os.close, link)
                        counters.append(made)
                        made = _make(f"clsact {direction} {place}", held)
                        ipr.tc(
                            *("add-filter", "bpf", ifindex, _HANDLE),
                            fd=made.program,
                            name=made.name,
                            parent=parent,
                            prio=_PRIORITIES[place],
                            direct_action=True,
                        )
                        counters.append(made)

        netns.inside(node.namespace, attach)
        yield counters


def order(node: Node, device: str) -> dict[str, list[int]]:
    """Ids of the interface's TCX programs, as they run, by direction."""

    def look() -> dict[str, list[int]]:
        ifindex = socket.if_nametoindex(device)
        return {
            direction: [each.program for each in programs.attached(ifindex, kind)]
            for direction, kind in _TYPES.items()
        }

    return netns.inside(node.namespace, look)


def _make(name: str, held: contextlib.ExitStack) -> Counter:
    counts = syscalls.create_map(_ARRAY, len(_KEY), 8, 1, name="count")
    held.callback(os.close, counts)
    program = programs.load("count", b"".join(_instructions(counts)))
    held.callback(os.close, program)
    return Counter(name, program, counts)


def _instructions(counts: int) -> Iterator[bytes]:
    """Add 1 to the map's only value; return TC_ACT_UNSPEC, which is TCX_NEXT."""

    def instruction(
        code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
    ) -> bytes:
        return struct.pack("<BBhi", code, target | source << 4, offset, value)

    yield instruction(0x18, 1, source=1, value=counts)  # r1 = the map
    yield instruction(0)
    yield instruction(0x62, 10, offset=-4)  # *(u32 *)(r10 - 4) = 0
    yield instruction(0xBF, 2, 10)  # r2 = r10
    yield instruction(0x07, 2, value=-4)  # r2 -= 4
    yield instruction(0x85, value=1)  # r0 = map_lookup_elem(r1, r2)
    yield instruction(0x15, 0, offset=2)  # if r0 == 0: skip two
    yield instruction(0xB7, 1, value=1)  # r1 = 1
    yield instruction(0xDB, 0, 1)  # lock *(u64 *)r0 += r1
    yield instruction(0xB7, 0, value=-1)  # r0 = -1
    yield instruction(0x95)  # exit
