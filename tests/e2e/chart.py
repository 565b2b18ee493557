"""The chart, rendered without a cluster. ``python -m e2e.chart`` writes the snapshots anew."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.release import CHART, NAME, NAMESPACE

SNAPSHOTS = Path(__file__).resolve().parent / "snapshots"
"""``NAME.values.yaml`` is rendered to ``NAME.yaml``."""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries.build_helm()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def render(*options: str) -> str:
    """All manifests.

    :raises AssertionError: Helm refuses.
    """
    done = helm("template", NAME, str(CHART), "--namespace", NAMESPACE, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(*options: str) -> list[dict[str, Any]]:
    """All manifests as objects."""
    return [each for each in yaml.safe_load_all(render(*options)) if each]


def snapshots() -> list[str]:
    return sorted(
        path.name.removesuffix(".values.yaml") for path in SNAPSHOTS.glob("*.values.yaml")
    )


def render_snapshot(name: str) -> str:
    return render("--values", str(SNAPSHOTS / f"{name}.values.yaml"))


if __name__ == "__main__":
    for each in snapshots():
        (SNAPSHOTS / f"{each}.yaml").write_text(render_snapshot(each))
