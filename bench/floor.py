"""The plaintext forwarder (forwarder.c) under the same load as the relays."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("forwarder.c")
PORT = 4443
FIRST_PEER_PORT = 20000
OVERHEAD = 50
"""Bytes that an object has more on the wire."""


def build() -> Path:
    """The compiled forwarder, outside of the tree.

    :raises OSError: there is no C compiler.
    :raises subprocess.CalledProcessError: it refused.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastrelay" / "bench"
    target = cache / f"forwarder-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".new")
        subprocess.run(["cc", "-O2", "-o", str(draft), str(SOURCE)], check=True)
        draft.rename(target)
    return target
