#!/usr/bin/env bash
# All tests: unit tests (with branch coverage where it counts: tests/conftest.py) and beside them those
# of the BPF programs, then integration tests (root needed for both: they load programs and make
# network namespaces).
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
declare -A beside=()
trap 'rm -rf -- "$logs"; ((${#beside[@]} == 0)) || kill "${beside[@]}" 2>/dev/null || true' EXIT
status=0
closing=()

run_pytest() { # a name, then pytest's arguments
    local name=$1
    shift
    printf 'test: %s\n' "$name"
    "$venv/bin/python" -m pytest "$@" </dev/null 2>&1 | tee "$logs/$name"
    close "$name" "${PIPESTATUS[0]}"
}

begin() { # as run_pytest, but beside what follows, until it is awaited
    local name=$1
    shift
    "$venv/bin/python" -m pytest "$@" </dev/null >"$logs/$name" 2>&1 &
    beside[$name]=$!
}

await() { # the name of what was begun
    local result=0
    wait "${beside[$1]}" || result=$?
    unset "beside[$1]"
    printf 'test: %s\n' "$1"
    cat "$logs/$1"
    close "$1" "$result"
}

close() { # a name, and pytest's exit code
    (($2)) && status=1
    closing+=("$1: $(grep -E '^=+ .* in [0-9.]+s' "$logs/$1" | tail -1 || true) (exit $2)")
}

unit=(--dist worksteal)
bpf=(-n 2 --dist loadfile tests/bpf)
case $part in
    unit) run_pytest unit -n 3 "${unit[@]}" tests/unit tests/contract ;;
    all)
        # A process that counts is slow, also where it pauses: the others have their own, beside it,
        # as some of them wait. Loading programs is waiting for a good part, too.
        counted=(tests/unit/moqt tests/unit/relay)
        begin unit -n 2 "${unit[@]}" "${counted[@]/#/--ignore=}" tests/unit tests/contract
        ((EUID)) || begin bpf "${bpf[@]}"
        run_pytest unit-counted -n 2 "${unit[@]}" "${counted[@]}" --cov --cov-report=term
        coverage=$("$venv/bin/python" scripts/branch_coverage.py) || status=1
        closing+=("$coverage")
        await unit
        ((EUID)) || await bpf
        ;;
esac
if [[ $part != unit ]]; then
    if ((EUID)); then
        echo "test: tests of the BPF programs and integration tests need root" >&2
        status=1
        closing+=("bpf, integration: not run, root is needed")
    else
        [[ $part != bpf ]] || run_pytest bpf "${bpf[@]}"
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
