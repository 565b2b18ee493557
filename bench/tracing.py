"""The kernel's list of tracepoints, which not every machine has mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
"""Where bcc looks for it, too."""


@contextmanager
def mounted() -> Iterator[None]:
    """It is there as long as the context lasts.

    :raises RuntimeError: it cannot be mounted; it says why.
    """
    if (TRACING / "events").exists():
        yield
        return
    command = ["mount", "-t", "tracefs", "none", str(TRACING)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the kernel's tracepoints cannot be read: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(TRACING)], check=False)
