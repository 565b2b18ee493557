"""Programs of others on the relay's interface: all of them work, and so do ours, in every order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import broadcast, foreign, nodes, relays, release, video
from e2e.broadcast import Tell
from e2e.cluster.lifecycle import wait
from e2e.foreign import Counter
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)

SPEC: dict[str, Any] = {"listen": {"service": {"type": "NodePort"}}}
"""It serves on where the kernel does not forward."""
_FORWARDING = "fastrelay_kernel_forwarding"


def test_programs_of_others_before_and_after_ours(
    installed: None, viewers: Audience, tmp_path: Path, tell: Tell
) -> None:
    with relays.namespace("foreign") as namespace:
        relay = relays.create(namespace, "demo", SPEC, tmp_path)
        relay.wait_for("Ready", "DataPathAttached")
        [node] = relay.nodes()
        [device] = relay.devices()
        publisher = viewers.publish(relay.url())
        viewer = viewers.watch("viewer", relay.url())
        viewers.see([viewer], video.FIRST_FRAMES)

        with foreign.attached(node, device) as others:
            with seen_by(others):
                ours = video.mostly_in_kernel(relay, viewers, [viewer], broadcast.FRAMES)
            # Of each direction the first and the last of the four came by TCX.
            ends = {"ingress": [others[0].id, others[2].id], "egress": [others[4].id, others[6].id]}
            found = foreign.order(node, device)
            assert {each: [ids[0], ids[-1]] for each, ids in found.items()} == ends
            assert {len(ids) for ids in found.values()} == {3}

            try:
                release.install(**{"agent.enabled": "false"})
                wait("the agent's end", lambda: not release.pods("agent"))
                nodes.run(node, "fastrelay.cli", "agent", "--remove")
                assert foreign.order(node, device) == ends
                wait("none of ours", lambda: not relay.metrics()[_FORWARDING], pause=1)
                with seen_by(others):
                    begin = video.packets(relay)
                    viewers.see([viewer], broadcast.FRAMES)
                    without = video.packets(relay).since(begin)
                assert without.kernel == 0
            finally:
                release.install()
            wait("ours again", lambda: relay.metrics()[_FORWARDING], pause=1)
            found = foreign.order(node, device)
            assert {each: ids[1:] for each, ids in found.items()} == ends
            with seen_by(others):
                again = video.mostly_in_kernel(relay, viewers, [viewer], broadcast.FRAMES)
        seen = video.end([viewer], publisher)
    tell(
        "between programs of others",
        *(f"ours in the middle: {ours}", f"none of ours: {without}", f"ours first: {again}"),
        *seen,
    )
    assert not any(each.findings.faults for each in seen)


@contextlib.contextmanager
def seen_by(others: list[Counter]) -> Iterator[None]:
    """All of them see packets meanwhile."""
    before = [each.count() for each in others]
    yield
    silent = [
        each.name for each, count in zip(others, before, strict=True) if each.count() == count
    ]
    assert not silent
