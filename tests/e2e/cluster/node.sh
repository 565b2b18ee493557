#!/usr/bin/env bash
# The first process of a node. NODE, NODE_ADDRESS, FOLDER (its disk), IMAGES (to import),
# DNS_SERVICE, DOMAIN: see places.py
set -eu
hostname "$NODE"
mount --make-rprivate /
mount -t proc proc /proc
umount --all --types bpf                         # what others unmount on the machine shall end
mount -t sysfs sysfs /sys                        # with this network namespace's interfaces
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup # cgroups, seen from the node's own root
for each in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir "/sys/fs/cgroup/$each"
    mount -t cgroup -o "$each" cgroup "/sys/fs/cgroup/$each"
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t bpf bpf /sys/fs/bpf # one of its own: nodes do not see each other's pins
mount -t tmpfs -o mode=755 tmpfs /run
for each in lib log; do
    mkdir -p "$FOLDER/$each"
    mount --bind "$FOLDER/$each" "/var/$each"
done
mount --make-rshared / # what a pod mounts for its node shall be seen there, and not further
printf 'nameserver %s\nsearch %s\n' "$DNS_SERVICE" "$DOMAIN" >/run/resolv.conf
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0

LOG=$FOLDER/log
# shellcheck source=tests/e2e/cluster/supervise.sh
source "$(dirname -- "$0")/supervise.sh"

supervise containerd containerd --config "$FOLDER/containerd.toml" --log-level warn
until ctr version >/dev/null 2>&1; do sleep 0.1; done
for each in "$IMAGES"/*.tar; do
    ctr -n k8s.io image import --digests=false "$each" >>"$LOG/import.log" 2>&1
done
supervise kubelet kubelet --v=1 --config="$FOLDER/kubelet.json" \
    --kubeconfig="$FOLDER/kubelet.kubeconfig" --hostname-override="$NODE" \
    --node-ip="$NODE_ADDRESS"
supervise kube-proxy kube-proxy --v=1 --config="$FOLDER/kube-proxy.json" \
    --hostname-override="$NODE"
set +e
reap
