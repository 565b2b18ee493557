"""A node: its configuration, its start, the end of its power."""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster import cgroups, machines, network, pki, places
from e2e.cluster.places import DEBIAN, PKI, STATE, Node

_CONTAINERD = f"""version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
  "io.containerd.internal.v1.opt",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{places.PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{DEBIAN}/usr/sbin/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{DEBIAN}/usr/lib/cni"
    conf_dir = "%s"
"""


def start(node: Node) -> None:
    """Power it on; it keeps what is on its disk. Running already: nothing."""
    if machines.first_process(node.name):
        return
    cni = node.folder / "cni"
    if not cni.exists():
        cni.mkdir(parents=True)
        (node.folder / "log").mkdir()
        pki.create_for_node(node)
        (cni / "cluster.conflist").write_text(json.dumps(_cni(node)))
        (node.folder / "containerd.toml").write_text(_CONTAINERD % cni)
        (node.folder / "kubelet.json").write_text(json.dumps(_kubelet(node)))
        (node.folder / "kube-proxy.json").write_text(json.dumps(_proxy()))
    network.connect(node)
    environment = {
        "NODE": node.name,
        "NODE_ADDRESS": node.address,
        "FOLDER": str(node.folder),
        "IMAGES": str(places.LOADED),
        "DNS_SERVICE": places.DNS_SERVICE,
        "DOMAIN": places.DOMAIN,
    }
    machines.power_on(node.name, node.namespace, "node.sh", environment, cgroups.create(node))


def stop(node: Node) -> None:
    """Cut its power."""
    machines.power_off(node.name)
    cgroups.remove(node)


def _cni(node: Node) -> dict[str, Any]:
    ranges = [[{"subnet": node.pods}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
    plugins = [bridge | {"ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "0.4.0", "name": places.NAME, "plugins": plugins}


def _kubelet(node: Node) -> dict[str, Any]:
    authority = {"clientCAFile": str(PKI / "ca.crt")}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": authority},
        "tlsCertFile": str(PKI / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(PKI / f"{node.name}.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [places.DNS_SERVICE],
        "clusterDomain": places.DOMAIN,
        "resolvConf": "/run/resolv.conf",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        # Without CAP_SYS_RESOURCE neither can be raised.
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        # The disk is the machine's: how full it is, is no matter of the node's.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        # How soon a Secret that was changed is seen in pods; by default, a minute.
        "syncFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,
    }


def _proxy() -> dict[str, Any]:
    # nf_conntrack_max can be written in the machine's first network namespace only.
    untouched = {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    }
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(STATE / "kube-proxy.kubeconfig")},
        "clusterCIDR": places.POD_RANGE,
        "oomScoreAdj": 0,
        "conntrack": untouched,
        "nftables": {"minSyncPeriod": "0s"},
    }
