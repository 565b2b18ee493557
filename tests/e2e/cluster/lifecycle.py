"""The cluster as a whole: up, down, images, commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from e2e.cluster import binaries, machines, network, node, pki, places
from e2e.cluster.places import ADMIN, CONTROL_PLANE, HERE, STATE, Node, made_nodes
from fastrelay.local import netns

_SECONDS = 300.0
"""For a node that imports images on a busy machine; else it takes a few."""
_DNS = HERE / "coredns.yaml"


class ClusterError(Exception):
    """The cluster does not do what it should; the message says what, and where the logs are."""


def up(nodes: int) -> None:
    """Start the control plane and as many nodes as are missing; return when all are ready.

    :raises ClusterError: something does not become ready.
    """
    if os.geteuid():
        raise ClusterError("root is needed: for namespaces, cgroups and mounts")
    binaries.build()
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    if not machines.first_process(CONTROL_PLANE):
        down()
        _start_control_plane()
    wanted = [Node(number) for number in range(1, nodes + 1)]
    new = [each for each in wanted if not machines.first_process(each.name)]
    for each in new:
        node.start(each)
    wait("the API server", lambda: _succeeds("get", "--raw", "/readyz"))
    for each in new:
        await_node(each, moment)
    kubectl("apply", "-f", str(_DNS))
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={_SECONDS:.0f}s")
    # Whatever is created in a namespace before its account exists is refused.
    wait("the default account", lambda: _succeeds("get", "serviceaccount", "default"))
    kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")


def down() -> None:
    """End everything and remove it: processes, mounts, cgroups, network, state."""
    for each in made_nodes():
        node.stop(each)
    machines.power_off(CONTROL_PLANE)
    network.remove()
    shutil.rmtree(STATE, ignore_errors=True)


def await_node(each: Node, moment: str) -> None:
    """Wait until a node that was started has reported itself, and is ready.

    ``moment``: of its start. It may be known, and called ready, from an earlier life.
    """

    def reported() -> bool:
        path = "jsonpath={.spec.renewTime}"
        lease = ask("-n", "kube-node-lease", "get", "lease", each.name, "-o", path)
        return lease.returncode == 0 and lease.stdout > moment

    wait(f"{each.name} to report itself", reported)
    ranges = {"spec": {"podCIDR": each.pods, "podCIDRs": [each.pods]}}
    kubectl("patch", "node", each.name, "-p", json.dumps(ranges))
    kubectl("wait", "--for=condition=Ready", "node", each.name, f"--timeout={_SECONDS:.0f}s")


def load(archives: Sequence[Path]) -> None:
    """Import archives of images into every node, and into those that are started later.

    :raises ClusterError: an archive is not accepted.
    """
    for archive in archives:
        kept = places.LOADED / archive.name
        kept.unlink(missing_ok=True)
        _link(archive, kept)
        command = ["ctr", "-n", "k8s.io", "image", "import", "--digests=false", str(kept)]
        importing = [
            subprocess.Popen(machines.inside(each.name, command), stdout=subprocess.DEVNULL)
            for each in made_nodes()
            if machines.first_process(each.name)
        ]
        codes = [process.wait() for process in importing]
        if any(codes):
            raise ClusterError(f"{archive} was not accepted")


def client(command: Sequence[str]) -> list[str]:
    """The command in the control plane's network namespace, from which pods, nodes and services
    are reached; with kubectl and helm on its PATH."""
    settings = [f"KUBECONFIG={ADMIN}", f"PATH={machines.PATH}"]
    return ["nsenter", f"--net={netns.path(places.NAME)}", "--", "env", *settings, *command]


def ask(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What kubectl says; it may fail."""
    command = client(["kubectl", *arguments])
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl says.

    :raises ClusterError: it fails.
    """
    done = ask(*arguments, stdin=stdin)
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def wait(
    what: str, ready: Callable[[], object], seconds: float = _SECONDS, *, pause: float = 0.5
) -> None:
    """Ask again and again, every ``pause`` seconds.

    :raises ClusterError: it was not so in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s for {what}; logs are below {STATE}")
        time.sleep(pause)


def _start_control_plane() -> None:
    for folder in (places.LOGS, places.RUNNING, places.LOADED):
        folder.mkdir(parents=True)
    for image in places.IMAGES.glob("*.tar"):
        shutil.copyfile(image, places.LOADED / image.name)
    pki.create_for_control_plane()
    network.create()
    environment = {
        "STATE": str(STATE),
        "ADDRESS": places.ADDRESS,
        "SERVICE_RANGE": places.SERVICE_RANGE,
        "DOMAIN": places.DOMAIN,
    }
    machines.power_on(CONTROL_PLANE, places.NAME, "control-plane.sh", environment)


def _link(file: Path, name: Path) -> None:
    """The same file under another name; a copy where that cannot be."""
    try:
        name.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, name)


def _succeeds(*arguments: str) -> bool:
    return ask(*arguments).returncode == 0
