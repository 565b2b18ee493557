"""``make cluster-demo``: what a user of the operator does and sees, on a cluster made for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from e2e import images, relays, release, remains, video
from e2e.cluster import lifecycle
from e2e.cluster.lifecycle import ClusterError, client, kubectl
from e2e.cluster.places import made_nodes
from e2e.relays import Relay
from e2e.watching import Audience, Client, audience

_NAMESPACE, _NAME = "video", "demo"
_SECONDS = 20.0
_PAUSE = 4.0
_BEGIN = time.monotonic()


def main() -> int:
    """The exit status: 0 if everybody saw the publisher's video."""
    before = remains.on_this_machine()
    if before:
        print("cluster-demo: a cluster is here already: python -m e2e.cluster down")
        return 1
    try:
        seen_by_all = _story()
    except (AssertionError, ClusterError, subprocess.CalledProcessError) as error:
        print(f"cluster-demo: {error}", file=sys.stderr)
        seen_by_all = False
    finally:
        _say("the cluster is removed")
        lifecycle.down()
    left = remains.on_this_machine()
    _list("left on this machine", left)
    _say("all is well, and nothing is left" if seen_by_all and not left else "FAILED")
    return 0 if seen_by_all and not left else 1


def _story() -> bool:
    _say("a cluster of one node (the first time Kubernetes is compiled, which takes minutes)")
    lifecycle.up(nodes=1)
    _shown("get", "nodes", "-o", "wide")
    _say("the images of this tree (the first time they are built, which takes minutes)")
    images.load()
    [node] = made_nodes()
    objects, things = remains.in_cluster(), remains.on_node(node)
    _say("helm install fastrelay deploy/helm/fastrelay")
    release.install()
    _shown("-n", release.NAMESPACE, "get", "pods", "-o", "wide")
    with relays.namespace(_NAMESPACE), tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        relays.give_certificate(_NAMESPACE, _NAME, directory)
        manifest = relays.manifest(_NAMESPACE, _NAME, relays.REQUIRED)
        _say("kubectl apply -f moqrelay.yaml")
        print(yaml.safe_dump(manifest, sort_keys=False))
        relays.apply(_NAMESPACE, _NAME, relays.REQUIRED)
        relay = Relay(_NAMESPACE, _NAME)
        _say(f"ready after {relay.wait_for('Ready'):.1f} s")
        with audience(directory, _NAMESPACE, release.RELAY_IMAGE) as viewers:
            fine = _video(relay, viewers)
        _shown("-n", _NAMESPACE, "describe", "moqrelay", _NAME)
        _say("helm uninstall fastrelay")
        release.uninstall()
    left = (remains.in_cluster() - objects) | (remains.on_node(node) - things)
    _list("left in the cluster", left)
    return fine and not left


def _video(relay: Relay, viewers: Audience) -> bool:
    """Twice: from a publisher in a pod, then from one outside."""
    inside, outside = relay.inner_url(), relay.url()
    _say(f"a publisher in a pod; viewers in a pod and outside, at {outside}")
    fine = _watched(relay, *video.both_ways(viewers, inside, outside))
    _say("a publisher outside; a viewer in a pod and one outside")
    publisher = viewers.publish(outside)
    watching = [viewers.watch_from_pod("second-pod", inside), viewers.watch("second", outside)]
    viewers.see(watching, video.FIRST_FRAMES)
    return _watched(relay, publisher, watching) and fine


def _watched(relay: Relay, publisher: Client, watching: Sequence[Client]) -> bool:
    begin = video.packets(relay)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        time.sleep(_PAUSE)
        print(kubectl("-n", relay.namespace, "get", "moqrelay").rstrip())
        print(f"media packets: {video.packets(relay).since(begin)}", flush=True)
    packets = video.packets(relay).since(begin)
    seen = video.end(watching, publisher)
    print(*seen, sep="\n")
    if packets.share < video.LEAST_SHARE:
        print(f"that is less than {video.LEAST_SHARE:.0%} by the kernel")
    return packets.share >= video.LEAST_SHARE and not any(each.findings.faults for each in seen)


def _say(sentence: str) -> None:
    print(f"\n[{time.monotonic() - _BEGIN:5.1f} s] {sentence}", flush=True)


def _list(what: str, each: Iterable[str]) -> None:
    for one in sorted(each):
        print(f"{what}: {one}")


def _shown(*arguments: str) -> None:
    print(f"$ kubectl {' '.join(arguments)}", flush=True)
    subprocess.run(client(["kubectl", *arguments]), check=True)


if __name__ == "__main__":
    sys.exit(main())
