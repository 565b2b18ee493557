"""From a C file to bytecode: from the cache, or by the compiler and into the cache.

The key of a file in the cache is made of all that bytecode depends on: the C file, the headers
beside it, flags, names of maps, the compiler, the kernel's headers, the architecture. A file
includes headers only, and finds ours in the directories it is given.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fastrelay
from fastrelay.agent import bytecode, compiler, headers
from fastrelay.agent.bytecode import BytecodeError, Program
from fastrelay.agent.cache import Cache

INTERPRETERS = (sys.executable, "/usr/bin/python3")
SECONDS = 120.0
"""For compiling."""
DIRECTORY = "bytecode"
"""In the cache."""
_FORMAT = 1
_PACKAGES = str(Path(fastrelay.__file__).parent.parent)


class CompileError(Exception):
    """There is no bytecode; the message has the compiler's words."""


@dataclass(frozen=True)
class Compiler:
    """``cache``: a directory for bytecode and kernel headers. ``interpreters``: those that may
    have bcc, tried in order. Which bcc there is, is asked once."""

    cache: Path
    interpreters: Sequence[str] = INTERPRETERS

    def compiled(
        self, source: Path, include: Sequence[Path], cflags: Sequence[str], maps: Sequence[str]
    ) -> dict[str, Program]:
        """A file's functions by name. ``maps``: names of those that it may refer to.

        :raises CompileError: see there.
        """
        try:
            tree = headers.find(self.cache)
        except headers.NoHeadersError as error:
            raise CompileError(str(error)) from error
        interpreter, identity = self._bcc
        rest = [_FORMAT, identity, headers.identity(tree), os.uname().machine, cflags, maps]
        key = key_of(source, include, rest)
        cache = Cache(self.cache / DIRECTORY)
        if (content := cache.get(key)) is not None:
            try:
                return bytecode.decode(content)
            except BytecodeError:
                pass
        flags = [*(f"-I{path}" for path in include), *cflags, *bytecode.places(maps)]
        answer = _run(interpreter, tree, {"source": str(source), "cflags": flags})
        try:
            made = {
                name: bytecode.symbolic(bytes.fromhex(code), maps) for name, code in answer.items()
            }
        except BytecodeError as error:
            raise CompileError(f"{source.name}: {error}") from error
        if key_of(source, include, rest) == key:  # else somebody is at work on the files
            cache.put(key, bytecode.encode(made))
        return made

    @cached_property
    def _bcc(self) -> tuple[str, list[str]]:
        """The first interpreter that has bcc, and which one that is."""
        without = []
        for interpreter in self.interpreters:
            try:
                done = _start(interpreter, "identity", None)
            except FileNotFoundError:
                without.append(f"{interpreter}: not there")
                continue
            if done.returncode == compiler.NO_BCC:
                without.append(done.stderr.strip())
            elif done.returncode:
                raise CompileError(_last_words(done))
            else:
                return interpreter, json.loads(done.stdout)
        raise CompileError(
            f"bcc is needed to compile; install python3-bpfcc ({'; '.join(without)})"
        )


def key_of(source: Path, include: Sequence[Path], rest: Sequence[object]) -> str:
    """``rest``: what can be written as JSON."""
    digest = hashlib.sha256()
    directories = dict.fromkeys((source.parent, *include))
    headers_there = [path for each in directories for path in sorted(each.glob("*.h"))]
    for path in (source, *headers_there):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    digest.update(json.dumps(rest).encode())
    return digest.hexdigest()


def _run(interpreter: str, tree: Path | None, request: dict[str, Any]) -> Any:
    done = _start(interpreter, "compile", tree, json.dumps(request))
    if done.returncode:
        raise CompileError(f"{Path(request['source']).name}: {_last_words(done)}")
    return json.loads(done.stdout)


def _start(
    interpreter: str, what: str, tree: Path | None, request: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": _PACKAGES}
    if tree is not None:
        environment[headers.VARIABLE] = str(tree)
    try:
        return subprocess.run(
            [interpreter, "-m", compiler.__name__, what],
            input=request,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"the compiler was not done after {SECONDS:g} s") from error


def _last_words(done: subprocess.CompletedProcess[str], lines: int = 30) -> str:
    words = "\n".join(done.stderr.strip().splitlines()[-lines:])
    return words or f"the compiler ended with {done.returncode} and said nothing"
