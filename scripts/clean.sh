#!/usr/bin/env bash
# Removes what building, testing and running made inside the tree, and the virtual
# environment made for this tree. Downloads that pip caches stay.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
venv=$(scripts/setup.sh --path)
if [[ -n $venv && -f $venv/tree ]]; then
    rm -rf -- "$venv"
fi
rm -rf build out .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
rm -f relay_agent/fastrelay/fastpath/*.so
find . -name .git -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf -- {} +
