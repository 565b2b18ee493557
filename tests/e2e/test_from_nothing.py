"""From nothing to a video in the kernel, on a real cluster, and back to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import kernel, relays, release, remains, video
from e2e.cluster.lifecycle import kubectl, wait
from e2e.cluster.places import made_nodes
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)

FRAMES = 300


def test_from_nothing_to_video_in_the_kernel(
    cluster: None, viewers: Audience, tmp_path: Path
) -> None:
    objects, nodes = remains.in_cluster(), {node: remains.on_node(node) for node in made_nodes()}

    notes = release.install()
    assert "kubectl wait --for=condition=Ready moqrelay/demo" in notes
    release.helm("test", release.NAME, "--namespace", release.NAMESPACE, "--timeout=60s")

    relay = relays.create("video", "demo", relays.REQUIRED, tmp_path)
    relay.wait_for("Accepted", "RelayAvailable", "DataPathAttached", "Ready")
    publisher, watching = video.both_ways(viewers, relay.inner_url(), relay.url())
    begin = video.packets(relay)
    viewers.see(watching, FRAMES)
    packets = video.packets(relay).since(begin)
    in_kernel = {each for node in nodes for each in remains.in_kernel(node)}
    for each in video.end(watching, publisher):
        assert not each.findings.faults, each
    assert packets.share >= video.LEAST_SHARE, (packets, relay.metrics())

    release.uninstall()
    kubectl("delete", "namespace", "video", "--timeout=120s")
    for each in viewers.clients:
        each.remove()
    for node, before in nodes.items():
        wait(
            f"{node.name} to be as before",
            lambda node=node, before=before: not (remains.on_node(node) - before),  # type: ignore[misc]
            60,
            pause=1,
        )
        assert remains.on_node(node) >= before
    assert not kernel.alive(in_kernel)
    assert remains.in_cluster() == objects
