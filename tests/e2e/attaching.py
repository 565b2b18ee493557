"""How long pods run before their packets are seen by the kernel.

    scripts/e2e.sh -- python -m e2e.attaching [--pods 200]

Makes a cluster of one node, installs the chart, makes pods one by one and by tens, measures,
removes everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from e2e import images, relays, release
from e2e.cluster import lifecycle, machines
from e2e.cluster.lifecycle import client, kubectl, wait
from e2e.cluster.places import Node
from e2e.relays import Relay
from fastrelay.agent.hooks import HOOKS, End
from fastrelay.local.demo.samples import percentile

MOST = 10
"""On the node at a time."""
_PAUSE = 0.01
_SPEC: dict[str, Any] = {
    "placement": {"replicas": 0},
    "drain": {"gracePeriodSeconds": 1},
    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
}
"""Pods that end soon, and of which many have room on a small machine."""


class Watch:
    """When each pod of a namespace was said to run with an address, and when both of its programs
    were attached. Moments are those of this process's clock."""

    def __init__(self, namespace: str, node: Node) -> None:
        self.running: dict[str, float] = {}
        self.attached: dict[str, float] = {}
        process = machines.first_process(node.name)
        assert process is not None
        self._pins = Path(f"/proc/{process.pid}/root/sys/fs/bpf/fastrelay")
        command = ["kubectl", "-n", namespace, "get", "pods", "--watch", "-o", "json"]
        self._watching = subprocess.Popen(client(command), stdout=subprocess.PIPE, text=True)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._follow, self._look)]
        for each in self._threads:
            each.start()

    def close(self) -> None:
        self._ended.set()
        self._watching.terminate()
        self._watching.wait()
        for each in self._threads:
            each.join()
        assert self._watching.stdout is not None
        self._watching.stdout.close()

    def _follow(self) -> None:
        assert self._watching.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._watching.stdout:
            text += line
            if line == "}\n":
                pod, _ = decoder.raw_decode(text)
                status, text = pod["status"], ""
                if status.get("phase") == "Running" and status.get("podIPs"):
                    self.running.setdefault(pod["metadata"]["uid"], time.monotonic())

    def _look(self) -> None:
        while not self._ended.wait(_PAUSE):
            for each in self._pins.iterdir() if self._pins.is_dir() else ():
                if each.name not in self.attached and all(
                    (each / "links" / role).exists() for role in HOOKS[End.HOST]
                ):
                    self.attached[each.name] = time.monotonic()


def measure(relay: Relay, node: Node, count: int, at_once: int) -> list[float]:
    """Seconds from running to attached, of so many pods; 0: they were attached before.

    ``at_once``: are made, beside up to :data:`MOST`, which then go.
    """
    watch = Watch(relay.namespace, node)
    try:
        while len(watch.running) < count:
            already, most = len(watch.running), min(MOST, count - len(watch.running))
            for replicas in range(at_once, most + 1, at_once):
                _scale(relay, replicas)
                wait(
                    "all pods to be attached",
                    lambda known=already + replicas: (  # type: ignore[misc]
                        len(watch.running) == known
                        and watch.running.keys() <= watch.attached.keys()
                    ),
                    pause=0.1,
                )
            _scale(relay, 0)
            wait("the pods to go", lambda: not relay.pods())
    finally:
        watch.close()
    return [max(0.0, watch.attached[uid] - moment) for uid, moment in watch.running.items()]


def told(seconds: list[float], at_once: int) -> str:
    """A line about it."""
    parts = [
        f"p{part * 100:.0f} {percentile(seconds, part) or 0:.3f} s" for part in (0.5, 0.9, 0.99)
    ]
    return f"{len(seconds)} pods, {at_once} at once, from running to attached: {', '.join(parts)}"


def _scale(relay: Relay, replicas: int) -> None:
    kubectl("-n", relay.namespace, "scale", f"moqrelay/{relay.name}", f"--replicas={replicas}")


def run(count: int, at_once: int, scratch: Path) -> list[float]:
    """With the release installed."""
    with relays.namespace("attaching") as namespace:
        relay = relays.create(namespace, "demo", _SPEC, scratch)
        relay.wait_for("Accepted")
        return measure(relay, Node(1), count, at_once)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=200)
    arguments = parser.parse_args()
    try:
        lifecycle.up(nodes=1)
        images.load()
        release.install()
        with tempfile.TemporaryDirectory() as scratch:
            for at_once in (1, MOST):
                print(told(run(arguments.pods, at_once, Path(scratch)), at_once), flush=True)
        release.uninstall()
    finally:
        lifecycle.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
