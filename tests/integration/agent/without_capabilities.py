"""What a relay does with its maps, as nobody: ``without_capabilities.py UID MAPS DESCRIPTOR...``.

``DESCRIPTOR``: what it was given. Prints JSON: what of that it used, and what went wrong when it
tried to open what is pinned.
"""

import json
import mmap
import os
import sys
from pathlib import Path

from fastrelay.agent import syscalls
from fastrelay.fastpath.layout import MAPS, Map, MapKind


def use(each: Map, fd: int) -> None:
    if each.kind is MapKind.RINGBUF:
        mmap.mmap(fd, mmap.PAGESIZE)  # the consumer's page
        mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        return
    memory = mmap.mmap(fd, mmap.PAGESIZE)
    before, memory[8] = memory[8], 7
    assert mmap.mmap(fd, mmap.PAGESIZE)[8] == 7
    memory[8] = before


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    os.setgroups([])
    os.setresuid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
    status = Path("/proc/self/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    used, refused = [], {}
    given = [each for each in MAPS if each.relay]
    for each, fd in zip(given, map(int, sys.argv[3:-1]), strict=True):
        use(each, fd)
        used.append(each.name)
    names = [directory / each.name for each in MAPS]
    for path in (*names, directory.parent / "links" / "a"):
        try:
            syscalls.get(path)
        except OSError as error:
            refused[path.name] = type(error).__name__
    print(json.dumps({"used": used, "refused": refused}))
