"""The maps of a relay: made once, found again, wiped before they go."""

from __future__ import annotations

import ipaddress
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrelay.agent import pins, syscalls
from fastrelay.agent.lock import Lock
from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import DeviceMode, Map, MapKind, Switch

if TYPE_CHECKING:
    import numpy.typing as npt

PINNED = tuple(each for each in layout.MAPS if each.kind is not MapKind.PROG_ARRAY)
"""The map of program stages is made with every version of the programs, by ``versions.py``."""
PREFIX = "fr_"
"""Of the maps' names in the kernel."""
QUIET_SECONDS = 0.2
"""How long a wipe waits for packets under way at most."""
GRACE_SECONDS = 0.01
"""After which no program is at work any more that began before it was told not to."""


class ShapeError(Exception):
    """Pinned maps are not what this version works with; the message says what to do."""


def ensure(tree: pins.Tree, lock: Lock | None = None) -> None:
    """Make the maps, if there are none; :func:`opened` says whether they fit.

    ``lock``: theirs, which is made with them; None: they are nobody's yet.
    """
    if tree.maps.is_dir():
        return
    pins.remove(tree.maps_draft)
    pins.make(tree.maps_draft)
    for each in PINNED:
        fd = create(each)
        try:
            syscalls.pin(fd, tree.maps_draft / each.name)
        finally:
            os.close(fd)
    _sign(tree.maps_draft)
    if lock is not None:
        lock.renew()
    tree.maps_draft.rename(tree.maps)


@contextmanager
def opened(directory: Path) -> Iterator[dict[str, int]]:
    """Descriptors of all maps by name.

    :raises ShapeError: one is missing, or has another shape.
    """
    with ExitStack() as stack:
        found = {}
        for each in PINNED:
            try:
                fd = syscalls.get(directory / each.name)
            except FileNotFoundError:
                raise ShapeError(_advice(directory, f"map {each.name} is missing")) from None
            stack.callback(os.close, fd)
            if fault := _fault(each, syscalls.map_info(fd)):
                raise ShapeError(_advice(directory, fault))
            found[each.name] = fd
        _check_layout(directory, found["shared"])
        yield found


def create(each: Map) -> int:
    """A map as the layout says; the descriptor is the caller's."""
    return syscalls.create_map(
        each.kind,
        each.key,
        each.value,
        each.entries,
        flags=_flags(each),
        name=PREFIX + each.name,
    )


def used(directory: Path) -> bool:
    """Whether a relay has used the maps since they were made, or erased."""
    with _shared(directory) as shared:
        return bool(shared["owner"])


def standing(directory: Path) -> tuple[int, bool]:
    """The kernel's id of ``shared``, by which the relay knows these maps from others, and whether
    the programs see its packets."""
    with _shared_and_id(directory) as (shared, number):
        return number, bool(shared["attached"])


def begin(directory: Path) -> None:
    """A relay is about to be given the maps: that counts as a sign of life."""
    with _shared(directory) as shared:
        shared["heartbeat"] = time.monotonic_ns()


def silent(directory: Path, seconds: float) -> bool:
    """Whether nobody has given a sign of life for so long, whoever has the maps."""
    with _shared(directory) as shared:
        return time.monotonic_ns() - int(shared["heartbeat"]) > seconds * 1e9


def set_attached(directory: Path, attached: bool) -> None:
    """Tell the relay whether the programs see its packets."""
    with _shared(directory) as shared:
        shared["attached"] = Switch.ON if attached else Switch.OFF


def set_device(directory: Path, mode: DeviceMode) -> None:
    """Tell the relay where else its first packets are refused."""
    with _shared(directory) as shared:
        shared["device"] = mode


def set_site(directory: Path, addresses: Sequence[str]) -> None:
    """Tell the program at a device which packets are the relay's."""
    fd = syscalls.get(directory / "quota_site")
    try:
        with _mapped(fd, layout.QUOTA_SITE.dtype) as rows:
            for packed in (ipaddress.ip_address(each).packed for each in addresses):
                if len(packed) == 4:
                    rows[0]["ipv4"] = int.from_bytes(packed, sys.byteorder)
                else:
                    rows[0]["ipv6"] = struct.unpack("=2Q", packed)
    finally:
        os.close(fd)


def disown(directory: Path) -> None:
    """There is nothing left of the relay that used the maps."""
    with _shared(directory) as shared:
        shared["owner"] = 0


def counters(directory: Path) -> tuple[int, list[int]]:
    """The map's id, and its sums over all CPUs by reason."""
    fd = syscalls.get(directory / "counters")
    try:
        with _mapped(fd, "u8") as values:
            totals: list[int] = values.reshape(-1, layout.COUNTERS).sum(axis=0).tolist()
        return syscalls.map_info(fd).id, totals
    finally:
        os.close(fd)


def stop(fds: Mapping[str, int]) -> None:
    """Have the kernel forward nothing more, and wait until what is under way is through.

    ``fds``: by name, as from :func:`opened`.
    """
    with (
        _mapped(fds["shared"], layout.SHARED.dtype) as shared,
        _mapped(fds["connections"], layout.CONNECTION.dtype) as connections,
    ):
        shared["enabled"] = 0
        connections["state"] = 0
        fence()
        deadline = time.monotonic() + QUIET_SECONDS
        while connections["busy"].any() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(GRACE_SECONDS)


def wipe(directory: Path) -> None:
    """Erase keys and plaintext, in maps of whatever shape.

    Only under the lock: packet numbers go too.
    """
    _wipe(directory, [each for each in PINNED if each.secret])


def wipe_scratch(directory: Path) -> None:
    """Erase what the programs have left in their own memory; they must not be at work."""
    _wipe(directory, [each for each in PINNED if each.secret and not each.relay])


def _wipe(directory: Path, secret: Iterable[Map]) -> None:
    for each in secret:
        try:
            fd = syscalls.get(directory / each.name)
        except FileNotFoundError:
            continue
        try:
            info = syscalls.map_info(fd)
            if info.flags & syscalls.MMAPABLE:
                with _mapped(fd, "u1") as content:
                    content[:] = 0
            elif info.kind == MapKind.PERCPU_ARRAY:
                zeros = bytes(((info.value + 7) & ~7) * syscalls.possible_cpus())
                for index in range(info.entries):
                    syscalls.update(fd, struct.pack("=I", index), zeros)
        finally:
            os.close(fd)


def _sign(directory: Path) -> None:
    """The maps are of this layout."""
    fd = syscalls.get(directory / "shared")
    try:
        with _mapped(fd, layout.SHARED.dtype) as rows:
            rows[0]["layout"] = layout.DIGEST
    finally:
        os.close(fd)


@contextmanager
def _shared(directory: Path) -> Iterator[Any]:
    """The one row of that map, to be read and written.

    :raises ShapeError: it is of another layout, whose fields lie elsewhere.
    """
    with _shared_and_id(directory) as (shared, _):
        yield shared


@contextmanager
def _shared_and_id(directory: Path) -> Iterator[tuple[Any, int]]:
    """And the kernel's id of it."""
    fd = syscalls.get(directory / "shared")
    try:
        _check_layout(directory, fd)
        with _mapped(fd, layout.SHARED.dtype) as rows:
            yield rows[0], syscalls.map_info(fd).id
    finally:
        os.close(fd)


def _check_layout(directory: Path, shared: int) -> None:
    """:raises ShapeError: the maps were made for another one."""
    with _mapped(shared, "u8") as words:
        if words[0] != layout.DIGEST:
            raise ShapeError(_advice(directory, "their fields or values are others than ours"))


@contextmanager
def _mapped(fd: int, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """A mapped array as a numpy array; not to be used afterwards."""
    # Who only takes things down mostly finds no maps, and needs no numpy.
    import numpy as np

    info = syscalls.map_info(fd)
    size = info.entries * ((info.value + 7) & ~7)
    memory = mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    # The array refers to the memory, which is unmapped with the last reference.
    yield np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize)


def _flags(each: Map) -> int:
    return syscalls.MMAPABLE if each.mmap else 0


def _fault(each: Map, info: syscalls.MapInfo) -> str:
    wanted = (each.kind, each.key, each.value, each.entries, _flags(each))
    found = (info.kind, info.key, info.value, info.entries, info.flags)
    if wanted == found:
        return ""
    return (
        f"map {each.name} has (kind, key, value, entries, flags) {found}, "
        f"this version needs {tuple(map(int, wanted))}"
    )


def _advice(directory: Path, fault: str) -> str:
    return (
        f"{directory}: {fault}. Another version made these maps, and its relay may be using them: "
        "end that relay and let the agent remove what belongs to it, or start the relay anew "
        "under another name; then everything is made afresh"
    )
