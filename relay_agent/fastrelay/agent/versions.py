"""A relay's programs in the kernel: loaded once a version, replaced without a gap.

A version is named after all that goes into it: the sources, the compiler's flags, the very maps.
Its entry programs and its own map of stages are pinned together, so that a program never goes on
in a stage of another version.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import fastrelay
from fastrelay.agent import maps, pins, syscalls
from fastrelay.agent.bytecode import Program
from fastrelay.agent.compiling import INTERPRETERS, CompileError, Compiler
from fastrelay.agent.loader import File, LoadedProgram, LoadError, load_all
from fastrelay.agent.programs import program_info
from fastrelay.fastpath import layout

SOURCES = Path(fastrelay.__file__).parent / "bpf"
"""A link to bpf/ in the tree, a directory in an installed package."""
ENTRIES = {"a": "server_ingress", "b": "client_egress"}
"""The file, without .c, and the function of each entry program."""
STAGES = {stage.name.lower(): int(stage) for stage in layout.Stage}
STAGES_NAME = "stages"
MAPS = tuple(each.name for each in layout.MAPS)
_STAGES = next(each for each in layout.MAPS if each.name == "programs")


@dataclass(frozen=True)
class Toolchain:
    """Where programs come from and what compiles them.

    ``cache``, ``interpreters``: see :class:`Compiler`. ``stages``: indices in the map of stages
    by function name. ``protocol``: the header file with what streams and datagrams begin with.
    """

    cache: Path
    sources: Path = SOURCES
    interpreters: Sequence[str] = INTERPRETERS
    stages: Mapping[str, int] = field(default_factory=lambda: STAGES)
    protocol: str = "protocol_moqt.h"

    @cached_property
    def digest(self) -> str:
        """Of the sources, as they were at first: an agent's do not change while it runs."""
        digest = hashlib.sha256()
        for path in sorted(self.sources.glob("*.[ch]")):
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()

    @cached_property
    def compiler(self) -> Compiler:
        """One for all relays: it asks only once which bcc there is."""
        return Compiler(self.cache, self.interpreters)


def version_of(tools: Toolchain, cflags: Sequence[str], map_ids: Mapping[str, int]) -> str:
    """The name of what would be loaded now."""
    what = [
        *(tools.digest, tools.protocol, list(cflags)),
        *(sorted(map_ids.items()), sorted(tools.stages.items())),
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def ensure(
    tree: pins.Tree,
    tools: Toolchain,
    cflags: Sequence[str],
    loaded: Callable[[float], None] = lambda _: None,
) -> Path:
    """The directory with the pinned programs of the version that is wanted now.

    Other versions stay as they are, as they may be attached: see :func:`remove_others`.

    :param loaded: called with the seconds that it took, if they were not there.

    :raises maps.ShapeError: the maps are of another version.
    :raises LoadError: it cannot be compiled or loaded; nothing of it is left.
    """
    with maps.opened(tree.maps) as fds:
        version = _wanted(tree, tools, cflags, fds)
        if _is_whole(version):
            return version
        draft = tree.programs / pins.DRAFT
        pins.remove(draft)
        pins.remove(version)  # what an interrupted removal left of it
        pins.make(draft)
        began = time.monotonic()
        try:
            load(draft, tools, cflags, fds)
            draft.rename(version)
        except BaseException:
            pins.remove(draft)
            raise
        loaded(time.monotonic() - began)
    return version


def find(tree: pins.Tree, tools: Toolchain, cflags: Sequence[str]) -> Path | None:
    """What :func:`ensure` would return, if it is there already.

    :raises maps.ShapeError: the maps are of another version, or there are none.
    """
    with maps.opened(tree.maps) as fds:
        version = _wanted(tree, tools, cflags, fds)
    return version if _is_whole(version) else None


def _wanted(
    tree: pins.Tree, tools: Toolchain, cflags: Sequence[str], fds: Mapping[str, int]
) -> Path:
    ids = {name: syscalls.map_info(fd).id for name, fd in fds.items()}
    return tree.programs / version_of(tools, cflags, ids)


def _is_whole(version: Path) -> bool:
    return all((version / name).exists() for name in (*ENTRIES, STAGES_NAME))


def remove_others(tree: pins.Tree, version: Path) -> None:
    """Unpin all versions but one; those still attached live on until they are replaced."""
    for other in tree.programs.iterdir():
        if other != version:
            pins.remove(other)


def compiled(tools: Toolchain, cflags: Sequence[str]) -> dict[str, dict[str, Program]]:
    """Functions by role and name; they are in the cache from now on.

    :raises LoadError: it does not compile, or nothing is there that compiles.
    """
    flags = [*cflags, f'-DPROTOCOL_HEADER="{tools.protocol}"']
    try:
        return {
            role: tools.compiler.compiled(
                tools.sources / f"{entry}.c", [tools.sources], flags, MAPS
            )
            for role, entry in ENTRIES.items()
        }
    except CompileError as error:
        raise LoadError(str(error)) from error


def load(
    directory: Path, tools: Toolchain, cflags: Sequence[str], fds: Mapping[str, int]
) -> list[LoadedProgram]:
    """Compile, load, and pin ``a``, ``b`` and ``stages`` in a directory of bpffs.

    ``fds``: maps by name.

    :raises LoadError: see there.
    """
    functions = compiled(tools, cflags)
    files = [
        File(f"{entry}.c", entry, directory / role, functions[role])
        for role, entry in ENTRIES.items()
    ]
    stages = maps.create(_STAGES)
    try:
        syscalls.pin(stages, directory / STAGES_NAME)
        return load_all(files, {**fds, _STAGES.name: stages}, tools.stages)
    finally:
        os.close(stages)


def program_ids(version: Path) -> dict[str, int]:
    """Ids of the entry programs by role."""
    found = {}
    for role in ENTRIES:
        fd = syscalls.get(version / role)
        try:
            found[role] = program_info(fd).id
        finally:
            os.close(fd)
    return found
