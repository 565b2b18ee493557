"""Python of this tree, run on a node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from e2e.cluster import machines
from e2e.cluster.places import Node

_TESTS = Path(__file__).resolve().parents[1]


def run(node: Node, module: str, *arguments: str) -> str:
    """What ``python -m MODULE`` prints there.

    :raises AssertionError: it fails.
    """
    packages = f"PYTHONPATH={_TESTS}:{_TESTS.parent / 'relay_agent'}"
    command = ["env", packages, sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        machines.inside(node.name, command), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
