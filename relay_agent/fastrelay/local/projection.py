"""What a relay may read: its manifest and the files this names, copied to where it can.

A cluster mounts Secrets into a pod; here they are copied once, when the relay is started, so
that a process without rights reads a key that only root can.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastrelay.api.spec import MoQRelay

MANIFEST = "moqrelay.json"
_FILES = frozenset({"certificate", "privateKey", "caFile", "file"})
"""Fields of a spec that name a file, wherever they are."""


def project(resource: MoQRelay, directory: Path, uid: int) -> Path:
    """Write the manifest and its files into ``directory``, which ``uid`` alone can read.

    :returns: the manifest's path.
    :raises OSError: a file that is named cannot be read.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(directory, uid, uid)
    document = resource.model_dump(mode="json", exclude_unset=True)
    copies: dict[str, str] = {}
    document["spec"] = _walk(document.get("spec", {}), directory, uid, copies)
    manifest = directory / MANIFEST
    give(manifest, json.dumps(document, indent=2).encode() + b"\n", uid)
    return manifest


def give(path: Path, content: bytes, uid: int) -> None:
    """Write a file that ``uid`` alone can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchown(descriptor, uid, uid)


def _walk(value: Any, directory: Path, uid: int, copies: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_walk(item, directory, uid, copies) for item in value]
    if not isinstance(value, dict):
        return value
    walked = {}
    for key, item in value.items():
        if key in _FILES and isinstance(item, str):
            if item not in copies:
                copy = directory / f"{len(copies)}-{Path(item).name}"
                give(copy, Path(item).read_bytes(), uid)
                copies[item] = str(copy)
            walked[key] = copies[item]
        else:
            walked[key] = _walk(item, directory, uid, copies)
    return walked
