"""What is there: on the machine, on a node, in the kernel, in the cluster. To compare before
with after; ``python -m e2e.remains`` prints it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e import nodes
from e2e.cluster import machines
from e2e.cluster.lifecycle import kubectl
from e2e.cluster.places import NAME, STATE, Node, made_nodes
from fastrelay.local import netns

_BUSY = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses"}
"""Kinds of objects that come and go by themselves."""
_DIRECTORIES = {"/sys/fs/bpf/fastrelay"}
"""What the kubelet makes and never removes: empty directories that pods mount."""
_LIST = r"""
find /run/fastrelay /run/netns -not -type d 2>/dev/null
find /run/fastrelay/relays -mindepth 1 2>/dev/null
for interface in $(ls /sys/class/net); do
    echo "interface $interface"
    ip link show dev "$interface" | grep -o 'prog/xdp.*'
    tc qdisc show dev "$interface" | grep clsact
    tc filter show dev "$interface" ingress
    tc filter show dev "$interface" egress
done
grep -E '^\S+ (/run/fastrelay|/sys/fs/bpf|/var/lib/kubelet/pods)' /proc/mounts
nft list ruleset 2>/dev/null
iptables-save 2>/dev/null
true
"""
_COUNTS = re.compile(r"counter packets \d+ bytes \d+|\[\d+:\d+\]|^#.*| expires \S+")


@dataclass(frozen=True, slots=True)
class Everything:
    """Objects in the cluster, and things on its nodes."""

    objects: set[str]
    nodes: dict[Node, set[str]]


def everywhere() -> Everything:
    return Everything(in_cluster(), {node: on_node(node) for node in made_nodes()})


def on_this_machine() -> set[str]:
    """Traces of a cluster: network namespaces, cgroups, mounts, files."""
    cgroups = map(str, Path("/sys/fs/cgroup").glob(f"*/{NAME}*"))
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(STATE) in line]
    files = [str(STATE)] if STATE.exists() else []
    return {*netns.existing(NAME), *cgroups, *mounts, *files}


def on_node(node: Node) -> set[str]:
    """Files, filters, XDP and TCX programs, mounts, rules of packet filters, pins."""
    command = machines.inside(node.name, ["sh", "-c", _LIST])
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = {_COUNTS.sub("", line).strip() for line in listed.stdout.splitlines()}
    kernel = _kernel(node)
    attached = {f"tcx {each}" for each in kernel["attached"]}
    return (lines | set(kernel["pins"]) | attached) - {""} - _DIRECTORIES


def in_kernel(node: Node) -> set[str]:
    """What the node's pins stand for, as :func:`e2e.kernel.alive` takes it."""
    return set(_kernel(node)["objects"])


def in_cluster() -> set[str]:
    """All objects of all kinds, as ``KIND NAMESPACE NAME``."""
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    columns = "custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name"
    listed = kubectl(
        "get", ",".join(sorted(set(kinds) - _BUSY)), "-A", "--no-headers", "-o", columns
    )
    return {" ".join(line.split()) for line in listed.splitlines()}


def _kernel(node: Node) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(nodes.run(node, "e2e.kernel"))
    return found


if __name__ == "__main__":
    print(*sorted(on_this_machine()), sep="\n")
    for each in made_nodes():
        print(f"\n{each.name}", *sorted(on_node(each) | in_kernel(each)), sep="\n  ")
    if made_nodes():
        print("\nobjects", *sorted(in_cluster()), sep="\n  ")
