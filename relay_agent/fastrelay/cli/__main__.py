"""``python -m fastrelay.cli``: the same as ``fastrelay``."""

from __future__ import annotations

from fastrelay.cli import main

if __name__ == "__main__":
    main()
