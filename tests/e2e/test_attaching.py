"""Many pods of one relay on one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import attaching
from e2e.broadcast import Tell

pytestmark = pytest.mark.timeout(900)


def test_every_pod_is_attached(installed: None, tmp_path: Path, tell: Tell) -> None:
    """How soon depends on the machine; ``python -m e2e.attaching`` tells of 200."""
    seconds = attaching.run(attaching.MOST, attaching.MOST, tmp_path)
    assert len(seconds) == attaching.MOST
    tell(attaching.told(seconds, attaching.MOST))
