"""Programs of others on the relay's interface: all of them work, and so do ours, in every order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e import broadcast, foreign, nodes, relays, release, video
from e2e.broadcast import Tell
from e2e.cluster.lifecycle import wait
from e2e.foreign import Counter
from e2e.relays import Relay
from e2e.video import Packets
from e2e.watching import Audience, Client

pytestmark = pytest.mark.timeout(900)

SPEC: dict[str, Any] = {"listen": {"service": {"type": "NodePort"}}}
"""It serves on where the kernel does not forward."""


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
            ours = forwarded(relay, viewers, viewer, others)
            assert ours.share >= video.LEAST_SHARE
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
                without = forwarded(relay, viewers, viewer, others)
                assert without.kernel == 0
            finally:
                release.install()
            kernel = video.packets(relay).kernel
            wait("ours again", lambda: video.packets(relay).kernel > kernel, pause=1)
            found = foreign.order(node, device)
            assert {each: ids[1:] for each, ids in found.items()} == ends
            viewers.see([viewer], video.FIRST_FRAMES)
            again = forwarded(relay, viewers, viewer, others)
            assert again.share >= video.LEAST_SHARE
        seen = video.end([viewer], publisher)
    tell(
        "between programs of others",
        *(f"ours in the middle: {ours}", f"none of ours: {without}", f"ours first: {again}"),
        *seen,
    )
    assert not any(each.findings.faults for each in seen)


def forwarded(relay: Relay, viewers: Audience, viewer: Client, others: list[Counter]) -> Packets:
    """While the viewer sees something new, and all the others see packets."""
    packets, before = video.packets(relay), [each.count() for each in others]
    viewers.see([viewer], broadcast.FRAMES)
    silent = [
        each.name for each, count in zip(others, before, strict=True) if each.count() == count
    ]
    assert not silent
    return video.packets(relay).since(packets)
