"""The pinned maps, opened and mapped; and the same in memory, for those without a kernel.

Opening needs no privilege beyond that of opening the files: the agent gives them to the relay's
user. Who writes locks the directory; the kernel frees the lock when the process ends, however
it ends, so that a successor or the agent knows that nobody is there any more.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastrelay.fastpath import layout, syscalls
from fastrelay.fastpath.atomics import address_of
from fastrelay.fastpath.rings import Ring
from fastrelay.fastpath.tables import Table

_RECORDS = {"intents": layout.INTENT, "reports": layout.REPORT}
_TABLES = ("routes", "channels")
_USED = tuple(each for each in layout.MAPS if each.relay)


class MapsError(Exception):
    """The maps cannot be used; the text says why and what to do."""


class InUseError(MapsError):
    """Another process uses them now."""


class ArrayMap:
    """An array's memory: ``rows``, a structured view, and ``words``, the same as u64.

    Row ``i``'s field is ``words[i * stride + word(name)]``, one access of 8 bytes, never torn;
    ``address`` plus 8 times that is for :mod:`~fastrelay.fastpath.atomics`.
    """

    def __init__(self, definition: layout.Map, memory: mmap.mmap) -> None:
        dtype = layout.dtype_of(definition.name)
        self.stride = dtype.itemsize // 8
        self.rows: np.ndarray[Any, Any] = np.frombuffer(memory, dtype, definition.entries)
        self.words = memoryview(memory)[: dtype.itemsize * definition.entries].cast("Q")
        self.address = address_of(memory)
        fields = dtype.fields
        assert fields is not None
        self._offsets = {name: field[1] for name, field in fields.items()}

    def word(self, name: str) -> int:
        """Where a field lies in its row, in words; it begins on one."""
        offset = self._offsets[name]
        assert offset % 8 == 0, name
        return offset // 8


class Counters:
    """``rows``: a row for each CPU, by :class:`fastrelay.fastpath.layout.Reason`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.rows: np.ndarray[Any, Any] = np.frombuffer(
            memory, np.uint64, layout.CPUS * layout.COUNTERS
        ).reshape(layout.CPUS, layout.COUNTERS)

    def read(self) -> list[int]:
        """Of all CPUs together."""
        total: list[int] = self.rows.sum(axis=0).tolist()
        return total


class Maps:
    """What the relay uses. See :func:`open_maps`, :func:`in_memory`."""

    shared: ArrayMap
    connections: ArrayMap
    tracks: ArrayMap
    arrays: ArrayMap
    members: ArrayMap
    streams: ArrayMap
    legs: ArrayMap
    slots: ArrayMap
    routes: Table
    channels: Table
    stream_index: ArrayMap
    intents: Ring
    reports: Ring
    counters: Counters

    def __init__(self, path: Path | None = None, directory: int = -1) -> None:
        self._path = path
        self._directory = directory

    def replaced(self) -> bool:
        """Whether the agent has taken these maps away: no program uses them any more."""
        if self._path is None or self._directory < 0:
            return False
        try:
            there = os.stat(self._path)
        except OSError:
            return True
        ours = os.fstat(self._directory)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def attached(self) -> bool:
        """Whether the programs see the pod's packets; the agent says so."""
        return self._path is None or bool(self.shared.rows[0]["attached"])

    def close(self) -> None:
        """Gives up the lock. What is mapped stays so as long as somebody holds a view of it."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def open_maps(path: Path, *, lock: bool = True) -> Maps:
    """The maps in a directory of pins.

    :param lock: to use them; without, to look at them.
    :raises InUseError: another process holds the lock.
    :raises MapsError: not there, not permitted, or of another version.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(error, path) from error
    maps = Maps(path, directory)
    try:
        if lock:
            _lock(directory, path)
        for definition in _USED:
            _open_map(maps, path / definition.name, definition)
        _check_layout(maps, path)
    except BaseException:
        maps.close()
        raise
    return maps


def _lock(directory: int, path: Path) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUseError(f"{path}: another relay or the agent uses these maps") from error


def _open_map(maps: Maps, path: Path, definition: layout.Map) -> None:
    try:
        fd = syscalls.get(path)
    except OSError as error:
        raise _explained(error, path) from error
    try:
        _check(syscalls.map_info(fd), definition, path)
        made: object
        if definition.kind is layout.MapKind.RINGBUF:
            made = _map_ring(fd, definition)
        else:
            size = _pages(definition.value * definition.entries)
            memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            made = _array(maps, definition, memory)
        setattr(maps, definition.name, made)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        os.close(fd)


def _check(found: syscalls.MapInfo, definition: layout.Map, path: Path) -> None:
    expected = (definition.kind, definition.key, definition.value, definition.entries)
    if found[:1] + found[2:5] != expected:
        raise MapsError(
            f"{path}: made by another version of the agent (kind, key, value, entries are "
            f"{found.kind}, {found.key}, {found.value}, {found.entries}; expected "
            f"{', '.join(str(int(each)) for each in expected)}): run agent and relay of one version"
        )


def _check_layout(maps: Maps, path: Path) -> None:
    """:raises MapsError: fields or numbers of these maps are others than ours."""
    if maps.shared.words[0] != layout.DIGEST:
        raise MapsError(
            f"{path}: made by another version of the agent: run agent and relay of one version"
        )


def _explained(error: OSError, path: Path) -> MapsError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MapsError(f"{path}: there are no maps: is the agent running on this node?")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MapsError(
            f"{path}: not permitted for user {os.geteuid()}: the agent gives the maps to the "
            f"user that its description of this relay names"
        )
    return MapsError(f"{path}: {error}")


def _array(maps: Maps, definition: layout.Map, memory: mmap.mmap) -> ArrayMap | Table | Counters:
    if definition.name == "counters":
        return Counters(memory)
    array = ArrayMap(definition, memory)
    if definition.name not in _TABLES:
        return array
    at = maps.shared.word("seed")
    return Table(array.words, maps.shared.words[at : at + 2])


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _map_ring(fd: int, definition: layout.Map) -> Ring:
    page = mmap.PAGESIZE
    consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    rest = mmap.mmap(
        fd, page + 2 * definition.entries, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
    )
    return Ring(
        memoryview(consumer).cast("Q"),
        memoryview(rest)[:page].cast("Q"),
        memoryview(rest)[page:],
        _RECORDS[definition.name],
    )


class MemoryRing:
    """A ring's memory without a kernel: ``consumer``, ``producer`` (u64), ``data`` (twice)."""

    def __init__(self, size: int) -> None:
        self.consumer = memoryview(bytearray(mmap.PAGESIZE)).cast("Q")
        self.producer = memoryview(bytearray(mmap.PAGESIZE)).cast("Q")
        self.data = memoryview(bytearray(2 * size))


def in_memory() -> tuple[Maps, MemoryRing, MemoryRing]:
    """The maps without a kernel, and what stands for the two rings (intents, reports)."""
    maps = Maps()
    rings = []
    for definition in _USED:
        made: object
        if definition.kind is layout.MapKind.RINGBUF:
            ring = MemoryRing(definition.entries)
            rings.append(ring)
            made = Ring(ring.consumer, ring.producer, ring.data, _RECORDS[definition.name])
        else:
            memory = mmap.mmap(-1, _pages(definition.value * definition.entries))
            made = _array(maps, definition, memory)
        setattr(maps, definition.name, made)
    intents, reports = rings
    return maps, intents, reports
