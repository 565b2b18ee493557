"""Files that change while they are in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path


class FileWatcher:
    """Looks at files every now and then, and says when one of them is another.

    Files are compared by inode, size and time of change, which also sees the symbolic links
    that Kubernetes swaps. ``on_change``: returns whether it could use what is there now; if not,
    as with files that are half written, it is called again.
    """

    def __init__(self, paths: Iterable[Path], on_change: Callable[[], bool]) -> None:
        self._paths = tuple(paths)
        self._on_change = on_change
        self._seen = self._fingerprint()
        self._task: asyncio.Task[None] | None = None

    def start(self, interval: float) -> None:
        """``interval``: seconds between looks."""
        self._task = asyncio.get_running_loop().create_task(self._watch(interval))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def check(self) -> bool:
        """Look now; True if something new is used."""
        fingerprint = self._fingerprint()
        if fingerprint is None or fingerprint == self._seen or not self._on_change():
            return False
        self._seen = fingerprint
        return True

    async def _watch(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self.check()

    def _fingerprint(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError:
            return None
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
