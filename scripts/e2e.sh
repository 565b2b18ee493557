#!/usr/bin/env bash
# Tests on a real Kubernetes cluster on this machine, in namespaces. As root. The first run
# compiles Kubernetes and builds images: ten minutes or more on two cores.
#
#   scripts/e2e.sh [ARGUMENTS OF PYTEST]
#   scripts/e2e.sh -- COMMAND               something else, with all that they need
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$tree"

say() { printf 'e2e: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}
# shellcheck source=scripts/packages.sh
source "$tree/scripts/packages.sh"

((EUID == 0)) || fail "root is needed"
scripts/setup.sh test
# Of the nodes: kube-proxy and containerd use these.
install_packages iptables:iptables nftables:nft conntrack:conntrack iproute2:tc
venv=$(scripts/setup.sh --path)
FASTRELAY_THIRD_PARTY_PYTHON=$(scripts/third-party.sh)
export FASTRELAY_THIRD_PARTY_PYTHON PYTHONPATH=tests PATH=$venv/bin:$PATH:/usr/local/go/bin
# Every client imports the same modules, which need to be compiled only once.
export PYTHONDONTWRITEBYTECODE=
if [[ ${1:-} == -- ]]; then
    shift
    exec "$@"
fi
exec "$venv/bin/python" -m pytest "${@:-tests/e2e}"
