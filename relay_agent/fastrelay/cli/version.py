"""``fastrelay version``."""

from __future__ import annotations

from fastrelay.cli import print_version


def version() -> None:
    """Print the version."""
    print_version(True)
