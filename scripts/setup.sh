#!/usr/bin/env bash
# Installs what fastrelay needs: Debian packages that are missing, and a virtual
# environment outside the tree. Says what it does; does nothing the second time.
#
#   scripts/setup.sh [test] [browser] [check] [fuzz] [bench]   install, with these extras
#   scripts/setup.sh --path                          only print the environment's path
#
# FASTRELAY_CACHE   where environments live (default: ~/.cache/fastrelay)
# FASTRELAY_PYTHON  the interpreter to use (default: the system's own, which is optimised when it is
#                   built and is what the images have, or the first of python3.11 .. 3.13 that works)
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FASTRELAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fastrelay}

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

# shellcheck source=scripts/packages.sh
source "$tree/scripts/packages.sh"

# The programs for the kernel are compiled by bcc, with kernel headers of any version; what user
# space has in C, by gcc.
debian_packages=(
    "python3:/usr/bin/python3"
    "python3-venv:/usr/lib/python3*/ensurepip/__init__.py"
    "ffmpeg:ffmpeg"
    "nftables:nft"
    "iproute2:ip"
    "util-linux:nsenter"
    "fonts-dejavu-core:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
    "python3-bpfcc:/usr/lib/python3/dist-packages/bcc/__init__.py"
    "linux-headers-$(dpkg --print-architecture 2>/dev/null || uname -m):/usr/src/linux-headers-*-common/include/uapi/linux/bpf.h"
    "libatomic1:/usr/lib/*/libatomic.so.1"
    "gcc:gcc"
    "libc6-dev:/usr/include/stdlib.h"
    "libssl-dev:/usr/include/openssl/evp.h"
)

python_works() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
        </dev/null >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${FASTRELAY_PYTHON:+"$FASTRELAY_PYTHON"} \
        /usr/bin/python3 python3.11 python3.12 python3.13 python3; do
        if python_works "$candidate"; then
            command -v -- "$candidate"
            return
        fi
    done
    return 1
}

environment_path() { # of interpreter $1
    local key
    key=$({
        "$1" -c 'import sys; print(sys.version, sys.prefix)'
        printf '%s\n' "$tree"
        cat -- "$tree/constraints.txt" "$tree/pyproject.toml"
    } | sha256sum | cut -c1-16)
    printf '%s/venv-%s\n' "$cache" "$key"
}

remove_older_environments() { # of this tree, other than $1
    local other
    for other in "$cache"/venv-*; do
        if [[ $other != "$1" && -f $other/tree && $(<"$other/tree") == "$tree" ]]; then
            say "removing $other, made for an earlier state of this tree"
            rm -rf -- "$other"
        fi
    done
}

install_python_packages() { # into environment $1 with interpreter $2; the rest: extras
    local venv=$1 python=$2 extra wanted=()
    shift 2
    for extra in base "$@"; do
        [[ -e $venv/installed-$extra ]] || wanted+=("$extra")
    done
    ((${#wanted[@]})) || return 0

    remove_older_environments "$venv"
    if [[ ! -e $venv/tree ]]; then
        say "making $venv with $("$python" --version)"
        rm -rf -- "$venv"
        mkdir -p -- "$cache"
        "$python" -m venv "$venv"
        printf '%s\n' "$tree" >"$venv/tree"
    fi
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet install
        --constraint "$tree/constraints.txt")
    local extras
    extras=$(printf '%s\n' "${wanted[@]}" | grep -vx base | paste -sd, || true)
    say "installing Python packages${extras:+ with $extras}"
    if [[ " ${wanted[*]} " == *" base "* ]]; then
        "${pip[@]}" pip setuptools </dev/null >&2
    fi
    # Without build isolation the pinned setuptools builds, and nothing else is downloaded.
    "${pip[@]}" --no-build-isolation --editable "${tree}${extras:+[$extras]}" </dev/null >&2
    for extra in "${wanted[@]}"; do
        : >"$venv/installed-$extra"
    done
}

# pip compiles when it installs the tree; this, when the source is another one since.
compile_again() { # with environment $1
    local native=$tree/relay_agent/fastrelay/native
    local library=$native/_native.abi3.so source
    for source in "$native"/*.[ch] "$tree"/{bpf/layout.h,pyproject.toml}; do
        [[ $library -nt $source ]] && continue
        say "compiling ${library##*/}"
        (cd -- "$tree" && "$1/bin/python" -W ignore -c 'from setuptools import setup; setup()' \
            --quiet build_ext --inplace --force </dev/null >&2)
        return
    done
}

main() {
    local python venv extra extras=()
    if [[ ${1:-} == --path ]]; then
        python=$(find_python) || exit 0 # nothing yet: setup will install one
        environment_path "$python"
        return
    fi
    for extra in "$@"; do
        case $extra in
            browser) debian_packages+=("chromium:chromium") ;;
            test | check | fuzz | bench) extras+=("$extra") ;;
            *) fail "unknown extra '$extra'; known are test, browser, check, fuzz, bench" ;;
        esac
        [[ $extra == check ]] &&
            debian_packages+=("shellcheck:shellcheck" "clang-format:clang-format")
    done
    install_packages "${debian_packages[@]}"
    python=$(find_python) || fail "no Python 3.11 to 3.13 with venv found; set FASTRELAY_PYTHON"
    venv=$(environment_path "$python")
    mkdir -p -- "$cache"
    # Two runs at a time (CI, an impatient person) must not fill one environment together.
    exec 9>"$cache/lock"
    flock 9
    install_python_packages "$venv" "$python" "${extras[@]}"
    compile_again "$venv"
    say "ready: $venv"
}

main "$@"
