"""The maps, mapped; and the same in memory, for those without a kernel."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import address_of
from fastrelay.fastpath.rings import Ring
from fastrelay.fastpath.tables import Table

_RECORDS = {"intents": layout.INTENT, "reports": layout.REPORT, "acks": layout.ACK}
TABLES = ("routes", "channels", "quota_refused", "quota_known")
_USED = tuple(each for each in layout.MAPS if each.relay)
_ADVICE = "run agent and relay of one version"


class MapsError(Exception):
    """The maps cannot be used; the text says why and what to do."""


class ArrayMap:
    """An array's memory: ``rows``, a structured view, and ``words``, the same as u64.

    Row ``i``'s field is ``words[i * stride + word(name)]``, one access of 8 bytes, never torn;
    ``address`` plus 8 times that is for :mod:`~fastrelay.fastpath.atomics`.
    """

    def __init__(self, definition: layout.Map, memory: mmap.mmap) -> None:
        element = layout.ELEMENTS[definition.name]
        self.stride = element.size // 8
        self.rows: np.ndarray[Any, Any] = np.frombuffer(memory, element.dtype, definition.entries)
        self.words = memoryview(memory)[: element.size * definition.entries].cast("Q")
        self.address = address_of(memory)
        self.word = element.word


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
    """What the relay uses. See :func:`maps_of`, :func:`in_memory`."""

    shared: ArrayMap
    connections: ArrayMap
    keystreams: ArrayMap
    tracks: ArrayMap
    arrays: ArrayMap
    members: ArrayMap
    streams: ArrayMap
    legs: ArrayMap
    slots: ArrayMap
    routes: Table
    channels: Table
    quota: ArrayMap
    quota_exempt: ArrayMap
    quota_refused: Table
    quota_rows: ArrayMap
    quota_known: Table
    quota_meters: ArrayMap
    stream_index: ArrayMap
    intents: Ring
    reports: Ring
    acks: Ring
    counters: Counters

    def __init__(self, lock: int = -1) -> None:
        self._lock = lock

    def attached(self) -> bool:
        """Whether the programs see the pod's packets; the agent says so."""
        return bool(self.shared.rows[0]["attached"])

    def close(self) -> None:
        """Let somebody else have them. What is mapped stays so as long as there are views of it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def maps_of(descriptors: Mapping[str, int], lock: int = -1) -> Maps:
    """The maps behind these descriptors, by name, all of which are closed.

    :param lock: a descriptor that goes with the maps, see :mod:`fastrelay.fastpath.handing`.
    :raises MapsError: one is missing, or they are of another version.
    """
    maps = Maps(lock)
    left = dict(descriptors)
    try:
        for definition in _USED:
            if definition.name not in left:
                raise MapsError(f"there is no map {definition.name}: {_ADVICE}")
            _open_map(maps, left.pop(definition.name), definition)
            if maps.shared.words[0] != layout.DIGEST:
                raise MapsError(f"made by another version of the agent: {_ADVICE}")
    except OSError as error:
        maps.close()
        raise MapsError(f"map {definition.name}: {error}: {_ADVICE}") from error
    except BaseException:
        maps.close()
        raise
    finally:
        for fd in left.values():
            os.close(fd)
    return maps


def _open_map(maps: Maps, fd: int, definition: layout.Map) -> None:
    try:
        made: object
        if definition.kind is layout.MapKind.RINGBUF:
            made = _map_ring(fd, definition)
        else:
            size = _pages(definition.value * definition.entries)
            memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            made = _array(maps, definition, memory)
        setattr(maps, definition.name, made)
    finally:
        os.close(fd)


def _array(maps: Maps, definition: layout.Map, memory: mmap.mmap) -> ArrayMap | Table | Counters:
    if definition.name == "counters":
        return Counters(memory)
    array = ArrayMap(definition, memory)
    if definition.name not in TABLES:
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


def in_memory() -> tuple[Maps, MemoryRing, MemoryRing, MemoryRing]:
    """The maps without a kernel, and what stands for the rings (intents, reports, acks)."""
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
    maps.shared.rows[0]["attached"] = layout.Switch.ON
    intents, reports, acks = rings
    return maps, intents, reports, acks
