"""The images of a tree, in the cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster import lifecycle

_TREE = Path(__file__).resolve().parents[2]


def load(tree: Path = _TREE) -> None:
    """Build what is not built yet, and import it into every node."""
    build = tree / "scripts/images.sh"
    done = subprocess.run([build], stdout=subprocess.PIPE, text=True, check=True)
    lifecycle.load([Path(line) for line in done.stdout.split()])
