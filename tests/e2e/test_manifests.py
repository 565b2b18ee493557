"""What a real API server says of everything that the chart renders."""

from __future__ import annotations

import json

import pytest

from e2e.chart import SNAPSHOTS, rendered
from e2e.cluster.lifecycle import ask

pytestmark = pytest.mark.timeout(900)

_VALUES = "--values", str(SNAPSHOTS / "everything.values.yaml")
EVERYTHING = (*_VALUES, "--set=agent.metricsPort=9465")
"""But for a number by which kubectl tells ports apart: the release's would be there as well."""
_NOT_HERE = "monitoring.coreos.com/v1"
"""Kinds that come with the Prometheus operator."""


@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["defaults", "everything"])
def test_every_manifest_is_accepted_and_has_no_unknown_field(
    cluster: None, options: tuple[str, ...]
) -> None:
    """Whether the release is installed or not."""
    objects = [each for each in rendered(*options) if each["apiVersion"] != _NOT_HERE]
    wanted = {each["metadata"].get("namespace") for each in objects} - {None}
    made = [name for name in wanted if ask("create", "namespace", name).returncode == 0]
    manifests = "\n---\n".join(map(json.dumps, objects))
    try:
        arguments = ["--dry-run=server", "--validate=strict"]
        done = ask("apply", *arguments, "-f", "-", stdin=manifests)
    finally:
        for name in made:
            ask("delete", "namespace", name)
    assert done.returncode == 0, done.stderr
