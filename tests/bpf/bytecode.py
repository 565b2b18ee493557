"""C of the tests, compiled as the agent does it; each file once in a process."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from fastrelay.agent.bytecode import Program
from fastrelay.agent.compiling import Compiler

BPF = Path(__file__).resolve().parents[2] / "bpf"
CACHE = Path(os.environ.get("FASTRELAY_CACHE") or Path.home() / ".cache" / "fastrelay")
_compiler = Compiler(CACHE)


@functools.cache
def compiled(
    source: Path, include: tuple[Path, ...], cflags: tuple[str, ...], maps: tuple[str, ...]
) -> dict[str, Program]:
    """:raises CompileError: it does not compile."""
    return _compiler.compiled(source, include, cflags, maps)
