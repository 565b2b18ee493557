"""Compiles and loads the programs with bcc, pins them, and ends: no LLVM stays in memory.

``python -m fastrelay.agent.loader`` reads a request (JSON) from its standard input and writes the
answer (JSON) to its standard output; what the compiler and the verifier say goes to standard
error. It runs under the interpreter that has bcc (Debian's python3-bpfcc belongs to
/usr/bin/python3), so it imports nothing but the standard library and fastrelay's bpf(2).

Request::

    {"sources": DIRECTORY, "cflags": ["-D..."], "maps": {"slots": FD, ...}, "stages_map": FD,
     "files": [{"name": "server_ingress.c", "entry": "server_ingress", "pin": PATH}, ...],
     "stages": {"a_open": 0, ...}}

Each function of a file is a program: its entry is pinned, every other one must be a stage and is
put into the map of stages. C sees maps as ``MAP_<NAME>``, that of the stages as
``MAP_PROGRAMS``. Answer: ``{"programs": [{"file", "name", "id", "verified", "translated",
"jited"}, ...], "seconds": FLOAT}``.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from fastrelay.agent.programs import program_info
from fastrelay.fastpath.syscalls import pin, update

NO_BCC = 3
"""Exit status: this interpreter has no bcc."""
REFUSED = 4
"""Exit status: a program does not compile, does not load, or is not what was asked for."""


class RefusedError(Exception):
    """What is wrong with a program."""


def load_all(request: dict[str, Any], bcc: Any) -> dict[str, Any]:
    """:raises RefusedError: see there; nothing is pinned then."""
    start = time.monotonic()
    loaded: list[dict[str, Any]] = []
    pins: list[tuple[int, str]] = []
    for file in request["files"]:
        for name, fd in _load(request, file["name"], bcc):
            if name == file["entry"]:
                pins.append((fd, file["pin"]))
            elif name in request["stages"]:
                index = struct.pack("=I", request["stages"][name])
                update(request["stages_map"], index, struct.pack("=I", fd))
            else:
                raise RefusedError(f"{file['name']}: {name} is neither the entry nor a stage")
            loaded.append({"file": file["name"], **_describe(fd)})
        if len(pins) == 0 or pins[-1][1] != file["pin"]:
            raise RefusedError(f"{file['name']} has no function {file['entry']}")
    for fd, path in pins:
        pin(fd, path)
    return {"programs": loaded, "seconds": time.monotonic() - start}


def _load(request: dict[str, Any], name: str, bcc: Any) -> list[tuple[str, int]]:
    """Names and descriptors of a file's programs."""
    path = Path(request["sources"], name)
    cflags = [f"-I{path.parent}", *request["cflags"], f"-DMAP_PROGRAMS={request['stages_map']}"]
    cflags += [f"-DMAP_{each.upper()}={fd}" for each, fd in request["maps"].items()]
    try:
        module = bcc.BPF(src_file=str(path), cflags=cflags)
        _KEPT.append(module)
        functions = module.load_funcs(bcc.BPF.SCHED_CLS)
    except Exception as error:  # bcc raises nothing more specific
        raise RefusedError(f"{name}: {error}") from error
    return [(function.name.decode(), function.fd) for function in functions]


_KEPT: list[Any] = []
"""bcc closes a module's programs when nobody refers to it any more."""


def _describe(fd: int) -> dict[str, Any]:
    info = program_info(fd)
    return {
        "name": info.name,
        "id": info.id,
        "verified": info.verified,
        "translated": info.translated,
        "jited": info.jited,
    }


def main() -> int:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # bcc and the compiler write there as they like
    request = json.load(sys.stdin)
    try:
        import bcc

        _ = bcc.BPF.SCHED_CLS
    except (ImportError, AttributeError) as error:
        print(f"no bcc in {sys.executable}: {error}", file=sys.stderr)
        return NO_BCC
    try:
        json.dump(load_all(request, bcc), answer)
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    answer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
