#!/usr/bin/env bash
# All tests: unit tests with branch coverage, then integration tests (root needed:
# they make network namespaces). Repeats both closing lines at the end.
#
#   scripts/test.sh [unit|integration]   default: both
set -uo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
part=${1:-all}
extras=(test)
[[ $part == unit ]] || extras+=(browser)
scripts/setup.sh "${extras[@]}" || exit
venv=$(scripts/setup.sh --path)
export PATH="$venv/bin:$PATH:/usr/sbin:/sbin"
logs=$(mktemp -d)
trap 'rm -rf -- "$logs"' EXIT
status=0
closing=()

run_pytest() { # a name, then pytest's arguments
    local name=$1
    shift
    printf 'test: %s\n' "$name"
    "$venv/bin/python" -m pytest "$@" </dev/null 2>&1 | tee "$logs/$name"
    local result=${PIPESTATUS[0]}
    ((result)) && status=1
    closing+=("$name: $(grep -E '^=+ .* in [0-9.]+s' "$logs/$name" | tail -1 || true) (exit $result)")
}

if [[ $part != integration ]]; then
    # Coverage doubles the time; two processes halve it again.
    run_pytest unit -n 2 --dist worksteal tests/unit tests/contract --cov --cov-report=term
fi
if [[ $part != unit ]]; then
    if ((EUID)); then
        echo "test: integration tests make network namespaces: run this as root" >&2
        status=1
        closing+=("integration: not run, root is needed")
    else
        FASTRELAY_THIRD_PARTY_PYTHON=$(scripts/third-party.sh) || exit
        export FASTRELAY_THIRD_PARTY_PYTHON
        run_pytest integration tests/integration
    fi
fi
printf 'test: %s\n' "${closing[@]}"
exit "$status"
