"""The images of a tree, in the cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster import lifecycle

_TREE = Path(__file__).resolve().parents[2]


def build(tree: Path = _TREE) -> list[Path]:
    """What is not built yet; the archives."""
    command = tree / "scripts/images.sh"
    done = subprocess.run([command], stdout=subprocess.PIPE, text=True, check=True)
    return [Path(line) for line in done.stdout.split()]


def load(tree: Path = _TREE) -> None:
    """Build what is not built yet, and import it into every node."""
    lifecycle.load(build(tree))
