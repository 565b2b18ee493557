"""The images of this tree, in the cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster import lifecycle

_BUILD = Path(__file__).resolve().parents[2] / "scripts/images.sh"


def load(*targets: str) -> None:
    """Build what is not built yet, and import it into every node. Default: all."""
    done = subprocess.run([_BUILD, *targets], stdout=subprocess.PIPE, text=True, check=True)
    lifecycle.load([Path(line) for line in done.stdout.split()])
