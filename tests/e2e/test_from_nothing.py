"""From nothing to a video in the kernel, on a real cluster, and back to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import kernel, relays, release, remains, video
from e2e.broadcast import Tell
from e2e.cluster.lifecycle import wait
from e2e.cluster.places import made_nodes
from e2e.watching import audience

pytestmark = pytest.mark.timeout(900)

FRAMES = 300


def test_from_nothing_to_video_in_the_kernel(cluster: None, tmp_path: Path, tell: Tell) -> None:
    objects, nodes = remains.in_cluster(), {node: remains.on_node(node) for node in made_nodes()}

    notes = release.install()
    assert "kubectl wait --for=condition=Ready moqrelay/demo" in notes
    release.helm("test", release.NAME, "--namespace", release.NAMESPACE, "--timeout=60s")
    with (
        relays.namespace("video") as namespace,
        audience(tmp_path, namespace, release.RELAY_IMAGE) as viewers,
    ):
        relay = relays.create(namespace, "demo", relays.REQUIRED, tmp_path)
        seconds = relay.wait_for("Accepted", "RelayAvailable", "DataPathAttached", "Ready")
        publisher, watching = video.both_ways(viewers, relay.inner_url(), relay.url())
        begin = video.packets(relay)
        viewers.see(watching, FRAMES)
        packets = video.packets(relay).since(begin)
        in_kernel = {each for node in nodes for each in remains.in_kernel(node)}
        seen = video.end(watching, publisher)
        tell(f"video in the kernel; ready after {seconds:.1f} s", packets, *seen)
        assert not any(each.findings.faults for each in seen)
        assert packets.share >= video.LEAST_SHARE, relay.metrics()
        release.uninstall()

    for node, before in nodes.items():
        wait(
            f"{node.name} to be as before",
            lambda node=node, before=before: remains.on_node(node) == before,  # type: ignore[misc]
            pause=1,
        )
    assert in_kernel
    assert not kernel.alive(in_kernel)
    assert remains.in_cluster() == objects
