"""From C to programs in the kernel, in two steps: bcc compiles, and bpf(2) loads.

As the maps have the same descriptors in every process (see ``harness.py``), bytecode can be kept:
if ``FASTRELAY_BPF_BYTECODE`` names a directory, what is there is not compiled again. That is for
emulated guests, where compiling takes longer than all tests.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import sys
import warnings
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from struct import pack

from fastrelay.agent import headers
from fastrelay.fastpath import syscalls

BPF = Path(__file__).resolve().parents[2] / "bpf"
DIST_PACKAGES = "/usr/lib/python3/dist-packages"
"""Where Debian's python3-bpfcc is."""
VARIABLE = "FASTRELAY_BPF_BYTECODE"
SCHED_CLS = 3
INSTRUCTION_SIZE = 8
LOG_SIZE = 1 << 24


class Load(IntEnum):
    """``enum bpf_cmd``: what only bcc does elsewhere."""

    PROG_LOAD = 5


Bytecode = dict[str, bytes]
"""A file's programs by name."""


def compiled(source: Path, cflags: Sequence[str]) -> Bytecode:
    """:raises Exception: bcc's; what the compiler says is on stderr."""
    key = _key(source, cflags)
    if key not in _compiled:
        directory = os.environ.get(VARIABLE)
        _compiled[key] = (
            _kept(Path(directory) / key, source, cflags) if directory else _compile(source, cflags)
        )
    return _compiled[key]


_compiled: dict[str, Bytecode] = {}
"""In this process."""


def _kept(path: Path, source: Path, cflags: Sequence[str]) -> Bytecode:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):  # a guest's root is read-only
            return _compile(source, cflags)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(pickle.dumps(_compile(source, cflags)))
        draft.rename(path)
    made: Bytecode = pickle.loads(path.read_bytes())
    return made


def _key(source: Path, cflags: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((source.name, cflags)).encode())
    for each in sorted({*BPF.iterdir(), *source.parent.iterdir()}):
        if each.suffix in (".c", ".h"):
            digest.update(each.read_bytes())
    return digest.hexdigest()


def _compile(source: Path, cflags: Sequence[str]) -> Bytecode:
    cache = os.environ.get("FASTRELAY_CACHE") or Path.home() / ".cache" / "fastrelay"
    if tree := headers.find(Path(cache)):
        os.environ[headers.VARIABLE] = str(tree)
    if DIST_PACKAGES not in sys.path:
        sys.path.append(DIST_PACKAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bcc
    flags = [f"-I{BPF}", f"-I{source.parent}", "-Wno-macro-redefined", *cflags]
    module = bcc.BPF(text=source.read_bytes(), cflags=flags)
    try:
        names = [
            bcc.lib.bpf_function_name(module.module, index)
            for index in range(bcc.lib.bpf_num_functions(module.module))
        ]
        return {name.decode(): bytes(module.dump_func(name)) for name in names}
    finally:
        module.cleanup()


def load(name: str, bytecode: bytes) -> int:
    """A program's descriptor.

    :raises OSError: the verifier's verdict; the end of what it says is in the message.
    """
    instructions = ctypes.create_string_buffer(bytecode, len(bytecode))
    licence = ctypes.create_string_buffer(b"GPL")

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attributes = pack(
            "<IIQQIIQII16s",
            SCHED_CLS,
            len(bytecode) // INSTRUCTION_SIZE,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if log is not None else 0,
            LOG_SIZE if log is not None else 0,
            ctypes.addressof(log) if log is not None else 0,
            0,
            0,
            name.encode()[: syscalls.NAME_LENGTH],
        )
        buffer = syscalls.buffer_of(attributes.ljust(syscalls.ATTRIBUTES, b"\0"))
        return syscalls.invoke(Load.PROG_LOAD, buffer, f"load {name}")

    try:
        return attempt(None)
    except OSError as error:
        log = ctypes.create_string_buffer(LOG_SIZE)
        try:
            return attempt(log)
        except OSError:
            raise OSError(error.errno, f"{error.strerror}\n{log.value[-3000:].decode()}") from error
