"""What a third-party viewer received: digests as it arrives, a playable file at the end."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from pathlib import Path
from typing import TextIO


class Recorder:
    """CMAF objects of one video track (draft-ietf-moq-cmsf: one moof and mdat an object).

    Digest lines are those of ``fastrelay subscribe --digests``.
    """

    def __init__(self, track: str, output: Path, digests: Path) -> None:
        self.track = track
        self._output = output
        self._digests: TextIO = digests.open("w")
        self._init = b""
        self._timescale = 0
        self._groups: dict[int, dict[int, bytes]] = {}

    def catalog(self, payload: bytes) -> None:
        """Take the track's initialisation data from an MSF catalog."""
        catalog = json.loads(payload)
        entry = next((t for t in catalog["tracks"] if t["name"] == self.track), None)
        if entry is None or self._init:
            return
        if "initData" in entry:
            encoded = entry["initData"]
        else:
            entries = {item["id"]: item["data"] for item in catalog["initDataList"]}
            encoded = entries[entry["initRef"]]
        self._init = base64.b64decode(encoded)
        self._timescale = _timescale(self._init)

    def add(self, group: int, object_id: int, payload: bytes) -> None:
        """One object, in whatever order they come."""
        now = time.time()
        self._groups.setdefault(group, {})[object_id] = payload
        line: dict[str, str | int | float] = {
            "track": self.track,
            "group": group,
            "object": object_id,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "received": now,
        }
        if self._timescale:
            captured = _decode_time(payload) / self._timescale
            line["time"], line["latency"] = captured, now - captured
        print(json.dumps(line), file=self._digests, flush=True)

    def save(self) -> None:
        """Write the groups that began with their key frame, in order."""
        self._digests.close()
        with self._output.open("wb") as file:
            file.write(self._init)
            for _, objects in sorted(self._groups.items()):
                if 0 in objects:
                    file.writelines(payload for _, payload in sorted(objects.items()))


def _timescale(init: bytes) -> int:
    """From the media header box (ISO 14496-12 section 8.4.2)."""
    at = init.index(b"mdhd") + 4
    return int(struct.unpack_from(">I", init, at + (20 if init[at] else 12))[0])


def _decode_time(chunk: bytes) -> int:
    """baseMediaDecodeTime of the first track fragment (ISO 14496-12 section 8.8.12)."""
    at = chunk.index(b"tfdt") + 4
    return int(struct.unpack_from(">Q" if chunk[at] else ">I", chunk, at + 4)[0])
