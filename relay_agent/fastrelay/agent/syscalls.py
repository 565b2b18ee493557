"""bpf(2): what the relay and the agent need of it, by ctypes.

Nothing here needs a privilege that the kernel does not ask for: looking up, updating and mapping
a map whose file may be opened is open to everybody. Errors are OSErrors that say what was tried.
Every descriptor returned is the caller's to close, and is closed on exec.

Source: ``include/uapi/linux/bpf.h``, Linux 6.1 to 6.18.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

_NUMBERS = {"x86_64": 321, "aarch64": 280}
ATTRIBUTES = 144
"""Bytes of ``union bpf_attr`` passed; the kernel takes more than it knows if the rest is zero."""
_SIZES = "/sys/devices/system/cpu/possible"
_libc = ctypes.CDLL(None, use_errno=True)

NAME_LENGTH = 15
"""Of an object's name in the kernel; longer ones are cut."""
MMAPABLE = 1 << 10
"""Flag of arrays that can be mapped."""


class Command(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    LINK_DETACH = 34


class Update(IntEnum):
    """What :func:`update` requires."""

    ANY = 0
    NO_EXIST = 1
    EXIST = 2


class MapInfo(NamedTuple):
    kind: int
    id: int
    key: int
    value: int
    entries: int
    flags: int
    name: str


def create_map(
    kind: int, key: int, value: int, entries: int, *, flags: int = 0, name: str = ""
) -> int:
    """A new map's descriptor. ``key`` and ``value`` are sizes in bytes."""
    attributes = struct.pack(
        "<IIIIIII16s", kind, key, value, entries, flags, 0, 0, _object_name(name)
    )
    return call(Command.MAP_CREATE, attributes, f"create map {name}")


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value, ``size`` bytes; None: the key is not there. Not for per-CPU maps."""
    value = ctypes.create_string_buffer(size)
    if not _element(Command.MAP_LOOKUP_ELEM, fd, key, value, 0, missing=errno.ENOENT):
        return None
    return value.raw


def lookup_per_cpu(fd: int, key: bytes, size: int) -> list[bytes] | None:
    """One value of ``size`` bytes for each possible CPU."""
    step = (size + 7) & ~7
    found = lookup(fd, key, step * possible_cpus())
    if found is None:
        return None
    return [found[at : at + size] for at in range(0, len(found), step)]


def update(fd: int, key: bytes, value: bytes, condition: Update = Update.ANY) -> None:
    """:raises OSError: EEXIST and ENOENT as ``condition`` says; E2BIG: the map is full."""
    _element(Command.MAP_UPDATE_ELEM, fd, key, buffer_of(value), condition)


def delete(fd: int, key: bytes) -> bool:
    """Whether the key was there."""
    return _element(Command.MAP_DELETE_ELEM, fd, key, None, 0, missing=errno.ENOENT)


def next_key(fd: int, key: bytes | None, size: int) -> bytes | None:
    """The key after ``key``; after None, or a key that is not there, the first. None: the end."""
    following = ctypes.create_string_buffer(size)
    if not _element(Command.MAP_GET_NEXT_KEY, fd, key, following, 0, missing=errno.ENOENT):
        return None
    return following.raw


def keys(fd: int, size: int) -> Iterator[bytes]:
    """All keys. What the iteration has yielded may be deleted meanwhile: it reads ahead by one."""
    key = next_key(fd, None, size)
    while key is not None:
        following = next_key(fd, key, size)
        yield key
        key = following


def pin(fd: int, path: str | os.PathLike[str]) -> None:
    """Give an object a name in bpffs (no dots in names); it lives as long as the name."""
    name = buffer_of(os.fsencode(path) + b"\0")
    call(Command.OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), fd, 0), f"pin {path}")


def get(path: str | os.PathLike[str]) -> int:
    """Open a pinned object for reading and writing."""
    name = buffer_of(os.fsencode(path) + b"\0")
    attributes = struct.pack("<QII", ctypes.addressof(name), 0, 0)
    return call(Command.OBJ_GET, attributes, f"open pinned {path}")


def map_info(fd: int) -> MapInfo:
    found = info(fd, bytes(40), "map")
    kind, number, key, value, entries, flags = struct.unpack_from("<6I", found)
    return MapInfo(kind, number, key, value, entries, flags, text(found[24:40]))


@functools.cache
def possible_cpus() -> int:
    """How many values a per-CPU map has a key."""
    with open(_SIZES) as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1


def call(command: Command, attributes: bytes, what: str) -> int:
    return invoke(command, buffer_of(attributes.ljust(ATTRIBUTES, b"\0")), what)


def invoke(command: Command, attributes: ctypes.Array[ctypes.c_char], what: str) -> int:
    while True:
        result = int(_libc.syscall(_number(), int(command), attributes, ATTRIBUTES))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, f"{os.strerror(code)}: bpf: {what}")


def _element(
    command: Command,
    fd: int,
    key: bytes | None,
    value: ctypes.Array[ctypes.c_char] | None,
    flags: int,
    *,
    missing: int | None = None,
) -> bool:
    """Whether it succeeded; ``missing``: the error that is no exception."""
    key_buffer = buffer_of(key) if key is not None else None
    attributes = buffer_of(
        struct.pack(
            "<IIQQQ",
            fd,
            0,
            ctypes.addressof(key_buffer) if key_buffer is not None else 0,
            ctypes.addressof(value) if value is not None else 0,
            flags,
        )
    )
    while _libc.syscall(_number(), int(command), attributes, 32) < 0:
        code = ctypes.get_errno()
        if code == missing:
            return False
        if code != errno.EINTR:
            raise OSError(code, f"{os.strerror(code)}: bpf: {command.name} on descriptor {fd}")
    return True


def info(fd: int, request: bytes, what: str) -> bytes:
    buffer = buffer_of(request)
    attributes = struct.pack("<IIQ", fd, len(request), ctypes.addressof(buffer))
    call(Command.OBJ_GET_INFO_BY_FD, attributes, f"describe a {what}, descriptor {fd}")
    return buffer.raw


def buffer_of(content: bytes) -> ctypes.Array[ctypes.c_char]:
    """A buffer without the zero that ctypes likes to append."""
    return ctypes.create_string_buffer(content, len(content))


def _object_name(name: str) -> bytes:
    return name.encode()[:NAME_LENGTH]


def text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


@functools.cache
def _number() -> int:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known for machines of type {machine}")
    return _NUMBERS[machine]
