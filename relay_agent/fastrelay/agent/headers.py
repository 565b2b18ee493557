"""Kernel headers for bcc: any version will do, as the programs use the user-space API only.

bcc looks at ``BCC_KERNEL_SOURCE``, at ``/lib/modules/<release>/build`` and at the headers that
a kernel may carry inside. In a container none of these need be there; then Debian's packages
linux-headers-*-common and -amd64 (or -arm64) of any kernel are merged into one tree of links,
which is what bcc wants to see.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path("/usr/src")
MODULES = Path("/lib/modules")
INSIDE = Path("/sys/kernel/kheaders.tar.xz")
VARIABLE = "BCC_KERNEL_SOURCE"
_PROBE = "include/uapi/linux/bpf.h"
_TELLING = (
    _PROBE,
    "include/uapi/linux/pkt_cls.h",
    "include/generated/autoconf.h",
    "include/generated/uapi/linux/version.h",
    "include/generated/utsrelease.h",
)
"""Files that differ from tree to tree."""
_COMMON = re.compile(r"linux-headers-(?P<version>.+)-common")
_ARCHITECTURES = ("amd64", "arm64")


class NoHeadersError(Exception):
    """There are none; the message says what to install."""


def find(
    cache: Path,
    *,
    sources: Path = SOURCES,
    modules: Path = MODULES,
    inside: Path = INSIDE,
) -> Path | None:
    """What :data:`VARIABLE` is to be for bcc; None: bcc finds headers by itself.

    ``cache``: directory in which a merged tree is kept.

    :raises NoHeadersError: none are there, or none that can be trusted.
    """
    if named := os.environ.get(VARIABLE):
        if not (Path(named) / _PROBE).is_file():
            raise NoHeadersError(
                f"{VARIABLE}={named}: no {_PROBE} there; "
                "unset it, or name the top of a kernel header tree"
            )
        return Path(named)
    if (modules / os.uname().release / "build").exists() or inside.exists():
        return None
    for common, specific in _debian(sources):
        return _merged(cache / f"headers-{specific.name}", [common, specific])
    raise NoHeadersError(
        f"no kernel headers: neither {modules}/{os.uname().release}/build nor {inside} nor "
        f"Debian's packages in {sources}; install linux-headers-amd64 or -arm64 (of any kernel "
        f"version), or set {VARIABLE}"
    )


def identity(tree: Path | None, *, modules: Path = MODULES) -> str:
    """What tells the headers that :func:`find` has found from others, wherever they lie."""
    kernel = os.uname()
    tree = tree or modules / kernel.release / "build"
    if not tree.exists():
        return f"{kernel.release} {kernel.version}"
    digest = hashlib.sha256()
    for name in _TELLING:
        path = tree / name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _debian(sources: Path) -> list[tuple[Path, Path]]:
    """The common and the specific half, newest version first."""
    found = []
    for common in sources.glob("linux-headers-*-common"):
        match = _COMMON.fullmatch(common.name)
        if match is None or not (common / _PROBE).is_file():
            continue
        for architecture in _ARCHITECTURES:
            specific = sources / f"linux-headers-{match['version']}-{architecture}"
            if specific.is_dir():
                found.append((_ordinal(match["version"]), common, specific))
    return [(common, specific) for _, common, specific in sorted(found, reverse=True)]


def _ordinal(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _merged(target: Path, halves: Sequence[Path]) -> Path:
    """A tree in which each directory of several halves is one, everything else a link."""
    if target.is_dir():
        found = target.stat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NoHeadersError(f"{target} may be somebody else's work; remove it")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _merge(draft, halves)
        draft.chmod(0o755)
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.is_dir():  # else somebody else was faster
            raise
    return target


def _merge(target: Path, halves: Sequence[Path]) -> None:
    by_name: dict[str, list[Path]] = {}
    for half in halves:
        for entry in half.iterdir():
            by_name.setdefault(entry.name, []).append(entry)
    for name, entries in by_name.items():
        directories = [entry for entry in entries if entry.is_dir()]
        if len(directories) > 1:
            (target / name).mkdir()
            _merge(target / name, directories)
        else:
            (target / name).symlink_to(entries[-1])
