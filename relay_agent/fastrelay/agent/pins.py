"""Files of bpffs: the tree of one relay, and the lock that tells who uses its maps.

::

    ROOT/NAME/maps/MAP                 the relay's maps are its uid's (0600), others root's
    ROOT/NAME/programs/VERSION/{a,b}   the entry programs; ``stages``: the map of the others
    ROOT/NAME/links/{a,b}              TCX only

``maps`` and ``VERSION`` appear whole: they are filled under another name and renamed. Whoever
uses the maps (the relay) holds an exclusive ``flock`` on the directory ``maps``: the kernel gives
it up when that process ends, whatever the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROOT = Path("/sys/fs/bpf/fastrelay")
DRAFT = "draft"
_MAGIC = 0xCAFE4A11
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_libc = ctypes.CDLL(None, use_errno=True)


def check_name(name: str) -> str:
    """:raises ValueError: bpffs, or the eye, would stumble over the name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"relay {name!r}: write 1 to 63 of a-z, 0-9 and -, no - at the ends")
    return name


@dataclass(frozen=True, slots=True)
class Tree:
    """The pins of one relay."""

    root: Path
    name: str

    @property
    def top(self) -> Path:
        return self.root / check_name(self.name)

    @property
    def maps(self) -> Path:
        return self.top / "maps"

    @property
    def maps_draft(self) -> Path:
        return self.top / f"maps-{DRAFT}"

    @property
    def programs(self) -> Path:
        return self.top / "programs"

    @property
    def links(self) -> Path:
        return self.top / "links"


def prepare(root: Path) -> None:
    """Make the directory under which everything is pinned.

    :raises OSError: it does not lie in a bpffs.
    """
    above = next(path for path in (root, *root.parents) if path.exists())
    if _filesystem(above) != _MAGIC:
        raise OSError(
            errno.EINVAL,
            f"{above} is no bpffs; mount one ('mount -t bpf bpf {above}') "
            "or, in a container, give it the host's /sys/fs/bpf",
        )
    if not root.is_dir():
        make(root)


def names(root: Path) -> list[str]:
    """Relays of which something is pinned."""
    return sorted(path.name for path in _directories(root) if any(path.iterdir()))


def remove_empty(root: Path, seconds: float, keep: Collection[str] = ()) -> None:
    """Remove directories of relays in which there has been nothing for so long.

    A new one is kubelet's: it makes it for a pod that we may not have heard of, and once the
    pod has mounted it, another one of that name would not be seen there.
    """
    for path in _directories(root):
        old = time.time() - path.stat().st_mtime >= seconds
        if old and path.name not in keep:
            with contextlib.suppress(OSError):  # something came into it
                path.rmdir()


def _directories(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if _NAME.fullmatch(path.name)]


def make(directory: Path) -> None:
    """A directory that everybody may enter and list; there is nothing secret in names."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o755)


def remove(path: Path) -> None:
    """Unpin an object, or everything below a directory. Not there: no error."""
    try:
        if path.is_dir():
            for entry in list(path.iterdir()):
                remove(entry)
            path.rmdir()
        else:
            path.unlink()
    except FileNotFoundError:
        return


@contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Try to take the lock of a directory; False: somebody alive has it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _filesystem(path: Path) -> int:
    """``f_type`` of statfs(2)."""
    result = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(path), result):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result[0] & 0xFFFFFFFF
