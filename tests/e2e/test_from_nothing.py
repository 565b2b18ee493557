"""From nothing to a video in the kernel, on a real cluster, and back to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import kernel, relays, release, remains, video
from e2e.broadcast import Tell
from e2e.cluster.lifecycle import wait
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)

FRAMES = 300


def test_the_release_says_that_it_works(installed: None) -> None:
    release.helm("test", release.NAME, "--namespace", release.NAMESPACE, "--timeout=120s")


def test_from_nothing_to_video_in_the_kernel(
    installed: None, viewers: Audience, tmp_path: Path, tell: Tell
) -> None:
    with relays.namespace("video") as namespace:
        relay = relays.create(namespace, "demo", relays.REQUIRED, tmp_path)
        seconds = relay.wait_for("Accepted", "RelayAvailable", "DataPathAttached", "Ready")
        publisher, watching = video.both_ways(viewers, relay.inner_url(), relay.url())
        packets = video.mostly_in_kernel(relay, viewers, watching, FRAMES)
        in_kernel = {each for node in relay.nodes() for each in remains.in_kernel(node)}
        seen = video.end(watching, publisher)
        tell(f"video in the kernel; ready after {seconds:.1f} s", packets, *seen)
        assert not any(each.findings.faults for each in seen)
    assert in_kernel
    wait("the kernel to forget it", lambda: not kernel.alive(in_kernel), pause=1)
