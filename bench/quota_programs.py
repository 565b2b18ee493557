"""What a program costs that refuses a packet: alone, and under a flood."""

from __future__ import annotations

import os
import socket
import statistics
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.quota_load import Server
from fastrelay.agent import programs
from fastrelay.agent.programs import AttachType, ProgramKind, XdpFlags
from fastrelay.local import netns

STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
TEST_RUNS, OF_EACH = 200, 1000
RETURN = "<BBhiBBhi"
"""r0 = so much; exit"""


@dataclass(frozen=True, slots=True)
class Hook:
    name: str
    kind: ProgramKind
    attach_type: AttachType
    flags: tuple[XdpFlags, ...]
    refuses: int
    """What a program returns for it."""


TC = Hook("TC", ProgramKind.SCHED_CLS, AttachType.TCX_EGRESS, (), refuses=2)
XDP = Hook("XDP", ProgramKind.XDP, AttachType.XDP, (XdpFlags.NATIVE,), refuses=1)


def frame(payload: bytes, address: str, url: str) -> bytes:
    """As it comes to the node from there."""
    server = Server.of(url)
    udp = struct.pack("!HHHH", 4433, server.port, 8 + len(payload), 0)
    addresses = b"".join(map(socket.inet_aton, (address, server.host)))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return bytes(12) + b"\x08\x00" + head + addresses + udp + payload


def alone(program: int, packet: bytes, hook: Hook) -> float:
    """Microseconds, by test runs.

    :raises RuntimeError: it does not refuse that packet.
    """
    durations = []
    for _ in range(TEST_RUNS):
        run = programs.run(program, packet, repeat=OF_EACH)
        if run.result != hook.refuses:
            raise RuntimeError(f"a packet that is to be refused got verdict {run.result}")
        durations.append(run.duration)
    return statistics.median(durations) / 1e3


def by_statistics(program: int, flood: Callable[[], None]) -> float:
    """Microseconds of each run under the flood; the kernel reads a clock twice for it."""
    before = STATISTICS.read_text()
    STATISTICS.write_text("1")
    try:
        first = programs.program_info(program)
        flood()
        last = programs.program_info(program)
    finally:
        STATISTICS.write_text(before)
    return (last.run_ns - first.run_ns) / max(last.runs - first.runs, 1) / 1e3


@contextmanager
def refusing(node: str, device: str, hook: Hook) -> Iterator[int]:
    """A program in our program's place that does nothing but refuse, while the block lasts."""
    code = struct.pack(RETURN, 0xB7, 0, 0, hook.refuses, 0x95, 0, 0, 0)
    program = programs.load("floor", code, hook.kind)
    try:
        link = netns.inside(
            node,
            lambda: programs.create_link(
                program, socket.if_nametoindex(device), hook.attach_type, *hook.flags
            ),
        )
        try:
            yield program
        finally:
            os.close(link)
    finally:
        os.close(program)
