"""Who has a relay's maps: whoever has a locked file open.

The lock (``flock``) belongs to the open file, not to a process: the agent takes it and hands the
descriptor over with those of the maps. It ends with the last descriptor, however the relay ends,
and outlives the agent.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = ".lock"


@dataclass(frozen=True, slots=True)
class Lock:
    """Of one relay's maps. A file with nothing in it."""

    path: Path

    @classmethod
    def of(cls, directory: Path, name: str) -> Lock:
        return cls(directory / f"{name}{_SUFFIX}")

    def exists(self) -> bool:
        return self.path.exists()

    def renew(self) -> None:
        """For new maps: whoever has the old file has the old maps."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o600))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def take(self) -> int | None:
        """The locked descriptor, the caller's to close or to hand over; None: somebody has it,
        or there is no such file."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return descriptor

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Have it for a while; False: somebody alive has it."""
        descriptor = self.take()
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def names(directory: Path) -> list[str]:
    """Relays of which there is a lock."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in directory.glob(f"*{_SUFFIX}"))
