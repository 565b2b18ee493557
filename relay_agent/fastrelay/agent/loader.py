"""Puts the programs of a version into the kernel, and pins them.

Each function of a file is a program: its entry is pinned, every other one must be a stage and is
put into the map of stages.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fastrelay.agent import programs, syscalls
from fastrelay.agent.bytecode import Program

_PERFMON = 1 << 38 | 1 << 21
"""CAP_PERFMON, and CAP_SYS_ADMIN, which includes it (linux/capability.h)."""
_LAST = 3000
"""Bytes of what the verifier says, at its end."""


class LoadError(Exception):
    """The programs cannot be had; the message has the compiler's or verifier's words."""


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """What the kernel says of a program; sizes in bytes."""

    file: str
    name: str
    id: int
    verified: int
    """Instructions that the verifier looked at."""
    translated: int
    jited: int


@dataclass(frozen=True, slots=True)
class File:
    """``name``: for messages. ``entry``: the function that is pinned at ``pin``."""

    name: str
    entry: str
    pin: Path
    functions: Mapping[str, Program]


def load_all(
    files: list[File], maps: Mapping[str, int], stages: Mapping[str, int]
) -> list[LoadedProgram]:
    """``maps``: descriptors by name, among them ``programs``, the map of stages. ``stages``:
    indices in it by function name.

    :raises LoadError: see there; nothing is pinned then.
    """
    loaded = []
    with ExitStack() as stack:
        pins = []
        for file in files:
            for name, program in file.functions.items():
                if name != file.entry and name not in stages:
                    raise LoadError(f"{file.name}: {name} is neither the entry nor a stage")
                fd = _load(file.name, name, program.linked(maps))
                stack.callback(os.close, fd)
                if name == file.entry:
                    pins.append((fd, file.pin))
                else:
                    index = struct.pack("=I", stages[name])
                    syscalls.update(maps["programs"], index, struct.pack("=I", fd))
                loaded.append(_describe(file.name, name, fd))
            if file.entry not in file.functions:
                raise LoadError(f"{file.name} has no function {file.entry}")
        for fd, path in pins:
            syscalls.pin(fd, path)
    return loaded


def _load(file: str, name: str, code: bytes) -> int:
    try:
        return programs.load(name, code)
    except programs.RefusedError as error:
        words = error.log[-_LAST:]
        advice = ""
        if error.errno == errno.EPERM:
            advice = "CAP_BPF and CAP_NET_ADMIN are needed to load programs\n"
        elif not _may_trust():
            advice = "CAP_PERFMON is needed to load these programs\n"
        raise LoadError(f"{advice}{file}: {error}\n{words}".strip()) from error


def _may_trust() -> bool:
    """Whether the verifier leaves out what it does for those without CAP_PERFMON, under which these
    programs are refused, each in other words."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return bool(effective & _PERFMON)


def _describe(file: str, name: str, fd: int) -> LoadedProgram:
    info = programs.program_info(fd)
    return LoadedProgram(file, name, info.id, info.verified, info.translated, info.jited)
