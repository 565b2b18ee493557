"""Files that are made once: a directory to which nobody but us has access, files that are whole.

What lies there is loaded into the kernel, so a directory or a file that somebody else owns or
may write is as good as none. A file begins with the SHA-256 of the rest: what a crash or a full
disk left of one is no file. A key is made of all that goes into the content, so nothing in a file
ever becomes wrong; only the oldest of too many go.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILES = 256
"""That are kept."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cache:
    """``directory`` need not exist. Keys are file names."""

    directory: Path

    def get(self, key: str) -> bytes | None:
        """None: it is not there, not whole, or may be somebody else's."""
        try:
            directory = self._open()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s: not used: %s", self.directory, error)
            return None
        try:
            file = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            with os.fdopen(file, "rb") as opened:
                _check(os.fstat(file), stat.S_IFREG)
                digest, _, content = opened.read().partition(b"\n")
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s/%s: not used: %s", self.directory, key, error)
            return None
        finally:
            os.close(directory)
        if digest != _digest(content):
            log.warning("%s/%s: not used: not as it was written", self.directory, key)
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Best effort: where nothing can be written, nothing is kept."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(self._open())
            handle, draft = tempfile.mkstemp(dir=self.directory)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_digest(content) + b"\n" + content)
                os.replace(draft, self.directory / key)
            except BaseException:
                os.unlink(draft)
                raise
            self._forget()
        except OSError as error:
            log.warning("%s: nothing is kept there: %s", self.directory, error)

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(self.directory, flags)
        try:
            _check(os.fstat(directory), stat.S_IFDIR)
        except OSError:
            os.close(directory)
            raise
        return directory

    def _forget(self) -> None:
        ages = {}
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # another process forgets, too
                ages[path] = path.stat().st_mtime_ns
        for path in sorted(ages, key=ages.__getitem__)[:-FILES]:
            path.unlink(missing_ok=True)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _check(found: os.stat_result, kind: int) -> None:
    """:raises OSError: somebody else may have written it."""
    if stat.S_IFMT(found.st_mode) != kind:
        raise PermissionError("neither a file nor a directory")
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"it belongs to user {found.st_uid}")
    if found.st_mode & _OTHERS_WRITE:
        raise PermissionError("others may write it")
