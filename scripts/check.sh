#!/usr/bin/env bash
# Everything that can be said about the code without running it. Runs all checks,
# also after one failed, and says at the end which did.
set -uo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
scripts/setup.sh check test || exit
venv=$(scripts/setup.sh --path)
failed=()

run() { # a name, then the command
    local name=$1
    shift
    printf 'check: %s\n' "$name"
    "$@" </dev/null || failed+=("$name")
}

mapfile -t scripts < <(find scripts .ci tests -type f \( -name '*.sh' -o -path '.ci/run' \) | sort)

run "ruff check" "$venv/bin/ruff" check --quiet --output-format=concise .
run "ruff format" "$venv/bin/ruff" format --quiet --check .
run "mypy" "$venv/bin/mypy" --no-error-summary
run "import-linter" env PYTHONPATH=operator:relay_agent "$venv/bin/lint-imports" --no-logo
run "codespell" "$venv/bin/codespell"
run "shellcheck" shellcheck --shell=bash -- "${scripts[@]}"
run "clang-format" clang-format --dry-run -Werror bpf/*.h bpf/*.c relay_agent/fastrelay/native/*.[ch]
run "layout" diff -u --label bpf/layout.h --label "of make layout" bpf/layout.h \
    <("$venv/bin/python" -m fastrelay.fastpath.layout)
run "crds" "$venv/bin/python" -m fastrelay.api.crd --check crds deploy/helm/fastrelay/files/crds
run "tree" "$venv/bin/python" scripts/check_tree.py

if ((${#failed[@]})); then
    printf 'check: FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "check: all passed"
