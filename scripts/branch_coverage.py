"""Fail if the unit tests cover less of the branches than pyproject.toml asks for.

Reads the data that `pytest --cov` left. coverage's own `fail_under` counts statements and
branches together, which lets untested branches hide behind many statements.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main() -> int:
    wanted = tomllib.loads(PROJECT.read_text())["tool"]["fastrelay"]["minimum-branch-coverage"]
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(report)]
        subprocess.run(command, check=True)
        totals = json.loads(report.read_text())["totals"]
    covered = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"branches of fastrelay.moqt and fastrelay.relay covered: {covered:.1f} %", end="")
    print(f" (at least {wanted})" if covered >= wanted else f", less than {wanted}")
    return 0 if covered >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
