#!/usr/bin/env bash
# The first process of the control plane. STATE, ADDRESS, SERVICE_RANGE, DOMAIN: see places.py
set -u
mount --make-rprivate /
mount -t proc proc /proc
umount --all --types bpf # what others unmount on the machine shall end
PKI=$STATE/pki
LOG=$STATE/log
# shellcheck source=tests/e2e/cluster/supervise.sh
source "$(dirname -- "$0")/supervise.sh"

supervise etcd etcd --name cluster --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster cluster=http://127.0.0.1:2380
until (exec 3<>/dev/tcp/127.0.0.1/2379) 2>/dev/null; do sleep 0.1; done

supervise kube-apiserver kube-apiserver --v=1 \
    --etcd-servers=http://127.0.0.1:2379 --advertise-address="$ADDRESS" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --client-ca-file="$PKI/ca.crt" --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" \
    --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer="https://kubernetes.default.svc.$DOMAIN" \
    --service-account-key-file="$PKI/tokens.pub" \
    --service-account-signing-key-file="$PKI/tokens.key" \
    --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
    --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" \
    --proxy-client-key-file="$PKI/front-proxy-client.key" --enable-aggregator-routing=true \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true --service-cluster-ip-range="$SERVICE_RANGE" \
    --audit-policy-file="$(dirname -- "$0")/audit.yaml" --audit-log-path="$LOG/audit.log"
until kubectl --kubeconfig="$STATE/admin.kubeconfig" get --raw /readyz >/dev/null 2>&1; do
    sleep 0.2
done

component() { # NAME FLAG...: both have these in common
    local name=$1 config=$STATE/$1.kubeconfig
    shift
    supervise "$name" "$name" --v=1 --leader-elect=false --bind-address=127.0.0.1 \
        --kubeconfig="$config" --authentication-kubeconfig="$config" \
        --authorization-kubeconfig="$config" "$@"
}
# Its start is throttled to five seconds without these rates.
component kube-controller-manager --kube-api-qps=300 --kube-api-burst=600 \
    --use-service-account-credentials --service-account-private-key-file="$PKI/tokens.key" \
    --root-ca-file="$PKI/ca.crt" --cluster-signing-cert-file="$PKI/ca.crt" \
    --cluster-signing-key-file="$PKI/ca.key" --allocate-node-cidrs=false \
    --node-monitor-grace-period=20s --node-monitor-period=2s
component kube-scheduler
reap
