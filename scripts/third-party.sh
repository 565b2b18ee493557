#!/bin/sh
# Prepares the MoQT clients that others wrote (aiomoqt, moq-rs) for the integration tests and
# the demo, and prints the path of a Python that imports them. They need Python >= 3.12: one
# that is installed is used, else pyenv's, else Debian trixie's from a tree of its own.
#
#   scripts/third-party.sh [auto|installed|debian]
#
# Everything lies in ${FASTRELAY_CACHE:-~/.cache/fastrelay}/third-party; a second run finds it
# there and returns at once. Progress goes to standard error.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${FASTRELAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fastrelay}/third-party
constraints=$here/third-party-constraints.txt
way=${1:-auto}

say() { echo "third-party: $*" >&2; }
fail() { say "$*"; exit 1; }

usable() { # usable PYTHON: new enough, and able to make virtual environments
    "$1" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null
}

is_complete() { # is_complete PYTHON: imports what the tests use, at the pinned versions
    [ -x "$1" ] && "$1" - "$constraints" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

import aiomoqt
import moq

for line in open(sys.argv[1]):
    name, _, pinned = line.partition("#")[0].strip().partition("==")
    if name and version(name) != pinned:
        sys.exit(f"{name} is {version(name)}, not {pinned}")
PYTHON
}

installed_python() { # the newest Python >= 3.12 on the PATH or in pyenv
    for version in 3.14 3.13 3.12; do
        candidate=$(command -v "python$version" || true)
        if [ -n "$candidate" ] && usable "$candidate"; then
            echo "$candidate"
            return
        fi
        for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            if [ -x "$candidate" ] && usable "$candidate"; then
                echo "$candidate"
                return
            fi
        done
    done
    return 1
}

prepare_venv() { # prepare_venv PYTHON
    say "making a virtual environment with $1"
    rm -rf "$cache/venv"
    "$1" -m venv "$cache/venv" >&2
    "$cache/venv/bin/python" -m pip install --quiet --root-user-action ignore --only-binary :all: \
        --constraint "$constraints" aiomoqt moq-rs >&2
}

# A Debian tree is used without chroot: its Python runs under its own dynamic loader, sees the
# whole host's files, network namespaces and environment, and needs no mounts.
prepare_debian() {
    [ "$(id -u)" = 0 ] || fail "no Python >= 3.12 here; install one, or run this as root once"
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        apt-get update --quiet >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet debootstrap >/dev/null
    fi
    # shellcheck disable=SC2016  # apt-get fills this in
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' |
        head -n 1)
    [ -n "$mirror" ] || fail "apt knows no Debian mirror"
    rm -rf "$cache/debian"
    if [ ! -x "$cache/trixie/usr/bin/python3" ]; then
        say "unpacking Debian trixie with Python 3.13 (some 250 MB) into $cache/trixie"
        rm -rf "$cache/trixie" "$cache/trixie.new"
        debootstrap --variant=minbase --include=python3,python3-pip \
            trixie "$cache/trixie.new" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
            fail "debootstrap failed, see $cache/debootstrap.log"
        mv "$cache/trixie.new" "$cache/trixie"
    fi
    mkdir -p "$cache/debian/bin" "$cache/debian/site"
    root=$cache/trixie
    loader=$(readlink -f "$(find "$root/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)")
    cat >"$cache/debian/bin/python" <<SCRIPT
#!/bin/sh
export PYTHONHOME='$root/usr' PYTHONPATH='$cache/debian/site:$root/usr/lib/python3/dist-packages'
exec '$loader' --library-path '$(dirname "$loader")' '$root/usr/bin/python3' "\$@"
SCRIPT
    chmod +x "$cache/debian/bin/python"
    "$cache/debian/bin/python" -m pip install --quiet --root-user-action ignore --only-binary :all: \
        --target "$cache/debian/site" --constraint "$constraints" aiomoqt moq-rs >&2
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

case $way in
auto)
    for python in "$cache/venv/bin/python" "$cache/debian/bin/python"; do
        if is_complete "$python"; then
            echo "$python"
            exit
        fi
    done
    if base=$(installed_python); then
        prepare_venv "$base"
        python=$cache/venv/bin/python
    else
        prepare_debian
        python=$cache/debian/bin/python
    fi
    ;;
installed)
    python=$cache/venv/bin/python
    if ! is_complete "$python"; then
        base=$(installed_python) || fail "no Python >= 3.12 on the PATH or in pyenv"
        prepare_venv "$base"
    fi
    ;;
debian)
    python=$cache/debian/bin/python
    is_complete "$python" || prepare_debian
    ;;
*)
    fail "unknown argument $way: say auto, installed or debian"
    ;;
esac
is_complete "$python" || fail "$python lacks aiomoqt or moq-rs"
echo "$python"
