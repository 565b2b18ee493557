"""A log of every media object as JSON lines, to compare what was sent with what arrived."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TextIO


class DigestLog:
    """One line per object: track, group, object, SHA-256 of the whole payload and of each
    sample's bytes, media time. Flushed once per second."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._flushed = 0.0

    def write(
        self,
        track: str,
        group: int,
        object_id: int,
        payload: bytes,
        sample: bytes,
        media_time: float,
        **more: float,
    ) -> None:
        """``more``: further times, in seconds."""
        line = {
            "track": track,
            "group": group,
            "object": object_id,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "sample": hashlib.sha256(sample).hexdigest(),
            "time": round(media_time, 6),
            **{name: round(value, 6) for name, value in more.items()},
        }
        self._file.write(json.dumps(line) + "\n")
        now = time.monotonic()
        if now - self._flushed >= 1.0:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        self._file.close()
