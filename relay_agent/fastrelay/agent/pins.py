"""Files of bpffs: the tree of one relay. All of it is root's, and nobody else's business.

::

    ROOT/NAME/maps/MAP
    ROOT/NAME/programs/VERSION/{a,b}   the entry programs; ``stages``: the map of the others
    ROOT/NAME/links/{a,b}              TCX only
    ROOT/NAME/device/VERSION           see ``device.py``; ``links/device``: its link
    ROOT/_spare                        see ``spare.py``

``maps`` and ``VERSION`` appear whole: they are filled under another name and renamed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
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
    """The pins of one relay. Nobody looks at ``name`` here: see :func:`check_name`."""

    root: Path
    name: str

    @property
    def top(self) -> Path:
        return self.root / self.name

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
    def device(self) -> Path:
        return self.top / "device"

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


def _directories(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if _NAME.fullmatch(path.name)]


def make(directory: Path) -> None:
    """A directory that only root may enter."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


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


def _filesystem(path: Path) -> int:
    """``f_type`` of statfs(2)."""
    result = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(path), result):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result[0] & 0xFFFFFFFF
