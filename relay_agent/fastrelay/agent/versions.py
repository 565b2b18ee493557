"""A relay's programs in the kernel: loaded once a version, replaced without a gap.

A version is named after all that goes into it: the sources, the compiler's flags, the very maps.
Its entry programs and its own map of stages are pinned together, so that a program never goes on
in a stage of another version. The compiler runs in a process of its own (``loader.py``).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastrelay
from fastrelay.agent import headers, loader, maps, pins
from fastrelay.agent.programs import program_info
from fastrelay.fastpath import layout, syscalls

SOURCES = Path(fastrelay.__file__).parent / "bpf"
"""A link to bpf/ in the tree, a directory in an installed package."""
ENTRIES = {"a": "server_ingress", "b": "client_egress"}
"""The file, without .c, and the function of each entry program."""
STAGES = {stage.name.lower(): int(stage) for stage in layout.Stage}
STAGES_NAME = "stages"
SECONDS = 120.0
"""For compiling and loading."""
INTERPRETERS = (sys.executable, "/usr/bin/python3")
_ADVICE = {
    "super-user privileges": "CAP_BPF and CAP_NET_ADMIN are needed to load programs",  # of bcc's
    "prohibited for !root": "CAP_PERFMON is needed to load these programs",  # of the verifier's
}
_PROGRAMS = next(each for each in layout.MAPS if each.name == "programs")


class LoadError(Exception):
    """The programs cannot be had; the message has the compiler's or verifier's words."""


@dataclass(frozen=True)
class Toolchain:
    """Where programs come from and what compiles them.

    ``interpreters``: those that may have bcc, tried in order. ``cache``: for kernel headers.
    ``stages``: indices in the map of stages by function name. ``protocol``: the header file with
    what streams and datagrams begin with.
    """

    cache: Path
    sources: Path = SOURCES
    interpreters: Sequence[str] = INTERPRETERS
    stages: Mapping[str, int] = field(default_factory=lambda: STAGES)
    protocol: str = "protocol_moqt.h"


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """What ``loader.py`` says of a program; sizes in bytes."""

    file: str
    name: str
    id: int
    verified: int
    """Instructions that the verifier looked at."""
    translated: int
    jited: int


def version_of(tools: Toolchain, cflags: Sequence[str], map_ids: Mapping[str, int]) -> str:
    """The name of what would be loaded now."""
    digest = hashlib.sha256()
    for path in sorted(tools.sources.glob("*.[ch]")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    rest = [tools.protocol, list(cflags), sorted(map_ids.items()), sorted(tools.stages.items())]
    digest.update(json.dumps(rest).encode())
    return digest.hexdigest()[:16]


def ensure(tree: pins.Tree, tools: Toolchain, cflags: Sequence[str]) -> Path:
    """The directory with the pinned programs of the version that is wanted now.

    Other versions stay as they are, as they may be attached: see :func:`remove_others`.

    :raises LoadError: it cannot be compiled or loaded; nothing of it is left.
    """
    with maps.opened(tree.maps) as fds:
        ids = {name: syscalls.map_info(fd).id for name, fd in fds.items()}
        version = tree.programs / version_of(tools, cflags, ids)
        if all((version / name).exists() for name in (*ENTRIES, STAGES_NAME)):
            return version
        draft = tree.programs / pins.DRAFT
        pins.remove(draft)
        pins.remove(version)  # what an interrupted removal left of it
        pins.make(draft)
        try:
            load(draft, tools, cflags, fds)
            draft.rename(version)
        except BaseException:
            pins.remove(draft)
            raise
    return version


def remove_others(tree: pins.Tree, version: Path) -> None:
    """Unpin all versions but one; those still attached live on until they are replaced."""
    for other in tree.programs.iterdir():
        if other != version:
            pins.remove(other)


def load(
    directory: Path, tools: Toolchain, cflags: Sequence[str], fds: Mapping[str, int]
) -> list[LoadedProgram]:
    """Compile, load, and pin ``a``, ``b`` and ``stages`` in a directory of bpffs.

    ``fds``: maps by name.

    :raises LoadError: see there.
    """
    try:
        source = headers.find(tools.cache)
    except headers.NoHeadersError as error:
        raise LoadError(str(error)) from error
    stages = maps.create(_PROGRAMS)
    try:
        syscalls.pin(stages, directory / STAGES_NAME)
        request = {
            "sources": str(tools.sources),
            "cflags": [*cflags, f'-DPROTOCOL_HEADER="{tools.protocol}"'],
            "maps": dict(fds),
            "stages_map": stages,
            "stages": dict(tools.stages),
            "files": [
                {"name": f"{entry}.c", "entry": entry, "pin": str(directory / role)}
                for role, entry in ENTRIES.items()
            ],
        }
        answer = _run_loader(tools, request, source, [stages, *fds.values()])
    finally:
        os.close(stages)
    return [LoadedProgram(**program) for program in answer["programs"]]


def _run_loader(
    tools: Toolchain, request: object, source: Path | None, descriptors: Sequence[int]
) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(Path(fastrelay.__file__).parent.parent)}
    if source is not None:
        environment[headers.VARIABLE] = str(source)
    without = []
    for interpreter in tools.interpreters:
        try:
            done = subprocess.run(
                [interpreter, "-m", loader.__name__],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                pass_fds=descriptors,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            without.append(f"{interpreter}: not there")
            continue
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"the loader was not done after {SECONDS:g} s") from error
        if done.returncode == loader.NO_BCC:
            without.append(done.stderr.strip())
        elif done.returncode:
            raise LoadError(_last_words(done))
        else:
            return json.loads(done.stdout)
    raise LoadError(f"bcc is needed to compile; install python3-bpfcc ({'; '.join(without)})")


def _last_words(done: subprocess.CompletedProcess[str], lines: int = 30) -> str:
    words = "\n".join(done.stderr.strip().splitlines()[-lines:])
    if not words:
        return f"the loader ended with {done.returncode} and said nothing"
    advice = [text for sign, text in _ADVICE.items() if sign in words]
    return "\n".join([*advice, words])


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
