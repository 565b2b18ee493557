"""Runs a command as somebody without any right, as a pod's container does.

::

    python -m fastrelay.local.unprivileged UID PATH... -- COMMAND...

The user and group have this number, every capability is gone for good (``no_new_privs``, an
empty bounding set), and bpf(2) is refused. Python itself, this package and the paths may lie
where others may not look, below root's home for one: then a mount namespace of the process's own
shows those directories, and nothing else of that place.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastrelay.local import seccomp

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_SLAVE = 2, 4, 1 << 14, 1 << 19
SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 1, 4, -100


@dataclass(frozen=True, slots=True)
class User:
    """Somebody without rights, and the directories that it is to see, whatever is around them."""

    uid: int
    sees: tuple[Path, ...] = ()

    def command(self, command: Iterable[str]) -> list[str]:
        """What to start, as root, in place of ``command``."""
        # -P: the directory we happen to be in is none that Python needs.
        module = [sys.executable, "-P", "-m", "fastrelay.local.unprivileged", str(self.uid)]
        return [*module, *map(str, self.sees), "--", *command]


def closed_ancestor(path: Path) -> Path | None:
    """The highest directory above ``path``, or itself, that others may not enter."""
    for place in (*reversed(path.parents), path):
        if place.is_dir() and not place.stat().st_mode & 0o001:
            return place
    return None


def show(paths: Iterable[Path]) -> None:
    """Make directories visible to everybody, in a mount namespace of this process's own.

    What lies beside them below a closed ancestor vanishes; their own modes stay.

    :raises OSError: we are not root.
    """
    hidden: dict[Path, list[Path]] = {}
    for path in sorted(set(paths)):
        ancestor = closed_ancestor(path)
        if ancestor is not None and ancestor != path:
            hidden.setdefault(ancestor, []).append(path)
    if not hidden:
        return
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    # As a slave it sees what is mounted and unmounted outside, and keeps its own to itself.
    _mount("none", Path("/"), "none", MS_REC | MS_SLAVE)
    for ancestor, wanted in hidden.items():
        trees = [
            (path, _check(_libc.syscall(SYS_OPEN_TREE, AT_FDCWD, bytes(path), OPEN_TREE_CLONE)))
            for path in wanted
        ]
        _mount("tmpfs", ancestor, "tmpfs", MS_NOSUID | MS_NODEV, b"mode=0755")
        for path, tree in trees:
            path.mkdir(parents=True, exist_ok=True)
            move = (tree, b"", AT_FDCWD, bytes(path), MOVE_MOUNT_F_EMPTY_PATH)
            _check(_libc.syscall(SYS_MOVE_MOUNT, *move), str(path))
            os.close(tree)


def main(arguments: list[str]) -> None:
    """Become that user; does not return."""
    split = arguments.index("--")
    uid, *paths = arguments[:split]
    command = arguments[split + 1 :]
    paths += [sys.prefix, sys.base_prefix, *sys.path]
    show(path for name in paths if (path := Path(name).resolve()).is_dir())
    os.environ["HOME"] = "/nonexistent"
    os.chdir("/")
    drop = [
        *("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--no-new-privs"),
        *("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"),
    ]
    seccomp.refuse_bpf()
    os.execvp(drop[0], [*drop, *command])


def _mount(source: str, target: Path, kind: str, flags: int, data: bytes | None = None) -> None:
    _check(
        _libc.mount(source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), data),
        str(target),
    )


def _check(result: int, subject: str = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
