"""Where the samples are."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[3] / "samples"
SAMPLES = sorted(DIRECTORY.glob("*.yaml"))
