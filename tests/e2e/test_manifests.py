"""What a real API server says of everything that the chart renders."""

from __future__ import annotations

import pytest

from e2e.chart import render
from e2e.cluster.lifecycle import ask
from e2e.release import NAMESPACE

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("options", [(), ("--set", "agent.podAttachment=true")])
def test_every_manifest_is_accepted_and_has_no_unknown_field(
    cluster: None, options: tuple[str, ...]
) -> None:
    """Whether the release is installed or not."""
    arguments = ["--dry-run=server", "--validate=strict"]
    made = ask("create", "namespace", NAMESPACE).returncode == 0
    try:
        done = ask("apply", *arguments, "-f", "-", stdin=render(*options))
    finally:
        if made:
            ask("delete", "namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
