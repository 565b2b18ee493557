#!/usr/bin/env bash
# Renews constraints.txt: installs the newest of everything into a throw-away
# environment and writes down the versions. Run the tests afterwards.
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

"${FASTRELAY_PYTHON:-python3.11}" -m venv "$scratch"
pip=("$scratch/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --upgrade pip setuptools
"${pip[@]}" install --no-build-isolation --editable "${tree}[test,check,fuzz,bench]"
{
    grep '^#' "$tree/constraints.txt"
    "${pip[@]}" freeze --all --exclude-editable
} >"$scratch/constraints.txt"
if grep -n '@' "$scratch/constraints.txt"; then
    echo "constraints: a package came from an address, not from an index" >&2
    exit 1
fi
cp -- "$scratch/constraints.txt" "$tree/constraints.txt"
