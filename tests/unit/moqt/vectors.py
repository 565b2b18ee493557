"""Access to the encodings made with another implementation (tests/vectors)."""

from __future__ import annotations

import json
from pathlib import Path

from fastrelay.moqt.drafts import DRAFTS, Draft

_FILE = Path(__file__).parents[2] / "vectors" / "vectors.json"

VECTORS: dict[str, dict[Draft, bytes]] = {
    name: {DRAFTS[int(draft)]: bytes.fromhex(data) for draft, data in entry.items()}
    for name, entry in json.loads(_FILE.read_text()).items()
}
"""``name -> {draft: bytes}``."""
