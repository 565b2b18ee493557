"""Benchmarks run where only the ``bench`` extra is installed, also those that use parts of the
tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
for absent in ("pytest", "hypothesis"):
    sys.modules[absent] = None
import bench.adaptation, bench.bottleneck, bench.panels, bench.python_cost, bench.quota
import unit.fastpath.kernel, unit.fastpath.stand_ins, unit.relay.fake_kernel
"""


def test_no_benchmark_needs_the_tests_own_tools() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
