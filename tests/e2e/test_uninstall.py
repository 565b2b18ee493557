"""The end, after all that the other modules did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e import audit, relays, release, remains
from e2e.cluster import places
from e2e.cluster.lifecycle import ClusterError, wait
from e2e.remains import Everything

pytestmark = pytest.mark.timeout(900)

_SECONDS = 120.0


def test_nobody_of_the_release_lacked_a_right(installed: Everything, log_begin: int) -> None:
    """Asked before the end: an uninstallation takes rights from those that it has yet to stop."""
    asked = audit.since(log_begin)
    assert asked
    assert not [each for each in asked if not each.allowed]


def test_nothing_is_left(installed: Everything, tmp_path: Path) -> None:
    """Neither of a relay that is still there then, nor of all those that were."""
    with relays.namespace("left") as namespace:
        relays.create(namespace, "demo", {}, tmp_path).wait_for("Ready", "DataPathAttached")
        release.uninstall()
    for node, before in installed.nodes.items():
        nothing(lambda node=node, before=before: remains.on_node(node) - before)  # type: ignore[misc]
    nothing(lambda: _objects() - installed.objects)


def nothing(left: Callable[[], set[str]]) -> None:
    """Wait until nothing is left."""
    try:
        wait("nothing to be left", lambda: not left(), _SECONDS, pause=1)
    except ClusterError:
        assert not left()


def _objects() -> set[str]:
    """Without those of nodes that came later."""
    names = [node.name for node in places.made_nodes()]
    return {each for each in remains.in_cluster() if each.split()[-1] not in names}
