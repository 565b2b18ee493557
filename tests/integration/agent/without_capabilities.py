"""What a relay does with its maps, as nobody: ``without_capabilities.py UID MAPS``.

Prints JSON: what could be opened, and what went wrong with the rest.
"""

import fcntl
import json
import mmap
import os
import sys
from pathlib import Path

from fastrelay.fastpath import syscalls
from fastrelay.fastpath.layout import MAPS, Map, MapKind


def use(each: Map, fd: int) -> None:
    if each.kind is MapKind.RINGBUF:
        mmap.mmap(fd, mmap.PAGESIZE)  # the consumer's page
        mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        return
    key, value = bytes(each.key), b"\7" * each.value
    if each.kind is MapKind.PERCPU_ARRAY:
        assert syscalls.lookup_per_cpu(fd, key, each.value) is not None
        return
    syscalls.update(fd, key, value)
    assert syscalls.lookup(fd, key, each.value) == value
    if each.mmap:
        memory = mmap.mmap(fd, mmap.PAGESIZE)
        assert memory[0] == 7
        memory[0] = 8
        changed = syscalls.lookup(fd, key, each.value)
        assert changed is not None
        assert changed[0] == 8


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    os.setgroups([])
    os.setresuid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
    status = Path("/proc/self/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    used, refused = [], {}
    for each in MAPS:
        try:
            fd = syscalls.get(directory / each.name)
        except OSError as error:
            refused[each.name] = type(error).__name__
            continue
        use(each, fd)
        used.append(each.name)
    for path in (directory.parent / "links" / "a", *directory.parent.glob("programs/*/*")):
        try:
            syscalls.get(path)
        except PermissionError:
            continue
        used.append(str(path))
    print(json.dumps({"used": used, "refused": refused}))
