#!/usr/bin/env bash
# All tests: unit tests (with branch coverage where it counts: tests/conftest.py), then those of the
# BPF programs and integration tests (root needed: they load programs and make network namespaces).
# Several workers each: no test uses a name, a port or a directory that another one may have.
# Integration tests wait a lot, so there is one worker more than cores that they are meant for. What
# looks at times runs alone at the end. Repeats the closing lines then.
#
#   scripts/test.sh                 everything
#   scripts/test.sh unit            unit tests alone, without coverage: quick
#   scripts/test.sh bpf             tests of the BPF programs alone
#   scripts/test.sh integration     integration tests alone
set -uo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
part=${1:-all}
extras=(test)
[[ $part == unit || $part == bpf ]] || extras+=(browser)
scripts/setup.sh "${extras[@]}" || exit
venv=$(scripts/setup.sh --path)
export PATH="$venv/bin:$PATH:/usr/sbin:/sbin"
# Hundreds of processes import the same modules, which need to be compiled only once.
export PYTHONDONTWRITEBYTECODE=
# The summary's lines say why a test failed, as far as they are wide.
export COLUMNS=250
logs=$(mktemp -d)
beside=
trap 'rm -rf -- "$logs"; [[ -z $beside ]] || kill "$beside" 2>/dev/null || true' EXIT
status=0
closing=()

run_pytest() { # a name, then pytest's arguments
    local name=$1
    shift
    printf 'test: %s\n' "$name"
    "$venv/bin/python" -m pytest "$@" </dev/null 2>&1 | tee "$logs/$name"
    close "$name" "${PIPESTATUS[0]}"
}

close() { # a name, and pytest's exit code
    (($2)) && status=1
    closing+=("$1: $(grep -E '^=+ .* in [0-9.]+s' "$logs/$1" | tail -1 || true) (exit $2)")
}

unit=(--dist worksteal)
case $part in
    unit) run_pytest unit -n 3 "${unit[@]}" tests/unit tests/contract ;;
    all)
        # A process that counts is slow, also where it pauses: the others have their own, beside it,
        # as some of them wait.
        counted=(tests/unit/moqt tests/unit/relay)
        "$venv/bin/python" -m pytest -n 2 "${unit[@]}" "${counted[@]/#/--ignore=}" \
            tests/unit tests/contract </dev/null >"$logs/unit" 2>&1 &
        beside=$!
        run_pytest unit-counted -n 2 "${unit[@]}" "${counted[@]}" --cov --cov-report=term
        coverage=$("$venv/bin/python" scripts/branch_coverage.py) || status=1
        closing+=("$coverage")
        wait "$beside"
        result=$?
        beside=
        printf 'test: unit\n'
        cat "$logs/unit"
        close unit "$result"
        ;;
esac
if [[ $part != unit ]]; then
    if ((EUID)); then
        echo "test: tests of the BPF programs and integration tests need root" >&2
        status=1
        closing+=("bpf, integration: not run, root is needed")
    else
        [[ $part == integration ]] || run_pytest bpf -n 2 --dist loadfile tests/bpf
        if [[ $part != bpf ]]; then
            FASTRELAY_THIRD_PARTY_PYTHON=$(scripts/third-party.sh) || exit
            export FASTRELAY_THIRD_PARTY_PYTHON
            run_pytest integration -n 3 --dist loadfile --no-loadscope-reorder \
                -m "not quiet" tests/integration
            run_pytest quiet -m quiet tests/integration
        fi
    fi
fi
printf 'test: %s\n' "${closing[@]}"
exit "$status"
