#!/usr/bin/env bash
# Builds the images of the Dockerfile without docker and without a registry: with Debian's
# buildah, on a base of Debian's packages. As root.
#
#   scripts/images.sh [--again] [operator] [agent] [relay]    default: all three
#
# --again: also builds them once more from nothing, with no layer that was kept, and fails if
# what comes out differs in a single bit.
#
# Prints the path of an archive (ctr image import, podman load) with the images
# localhost/fastrelay-TARGET:VERSION, which share layers. With docker and a registry none of this
# is needed: docker build --target operator .
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FASTRELAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fastrelay}/images
store=$cache/store
suite=bookworm
base=localhost/debian:$suite-slim

say() { printf 'images: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

# shellcheck source=scripts/packages.sh
source "$tree/scripts/packages.sh"

# Its own store: the machine's images are not ours to touch.
image_tool() {
    nice buildah --root "$store" --runroot "/run/fastrelay-images/${store##*/}" "$@"
}

make_base() { # what Debian's "slim" images are: essential packages and apt, no documentation
    [[ -z $(image_tool images --quiet --filter "reference=$base") ]] || return 0
    say "making a base image of Debian $suite"
    local work container path mirror excluded=()
    # shellcheck disable=SC2016 # apt expands it
    mirror=$(apt-get indextargets --format '$(SITE)' "Codename: $suite" | head -1)
    work=$(mktemp -d)
    for path in doc man info locale; do
        excluded+=("--dpkgopt=path-exclude=/usr/share/$path/*")
    done
    # Not the day 0: on that, passwords were set that have to be changed.
    SOURCE_DATE_EPOCH=86400 nice mmdebstrap --quiet --variant=apt "${excluded[@]}" "$suite" "$work/root.tar" \
        ${mirror:+"$mirror"} >&2
    container=$(image_tool from scratch)
    image_tool add --quiet "$container" "$work/root.tar" / >&2
    image_tool commit --quiet --rm --timestamp 0 "$container" "$base" >&2
    rm -rf -- "$work"
}

build() { # $1: the target
    local path options=()
    # This machine's authorities and its settings of pip, for whoever is behind a proxy.
    for path in /usr/local/share/ca-certificates /etc/pip.conf; do
        [[ ! -e $path ]] || options+=(--volume "$path:$path:ro")
    done
    image_tool build --layers --isolation chroot --pull-never --timestamp 0 \
        --build-arg "BASE=$base" --target "$1" --tag "$(name "$1")" "${options[@]}" "$tree" |
        sed -un "s/^\(.*\)STEP \(.\{1,70\}\).*/images: $1: \1\2/p" >&2
}

name() { # $1: the target
    printf 'localhost/fastrelay-%s:%s' "$1" \
        "$(sed -n 's/^appVersion: *//p' "$tree/deploy/helm/fastrelay/Chart.yaml")"
}

sources() { # a digest of all that the images are made from
    (
        cd -- "$tree"
        mapfile -t paths < <(sed -n 's/^!//p' .dockerignore)
        find Dockerfile "${paths[@]}" -type f -not -path '*/__pycache__/*' \
            -not -path '*.egg-info/*' -not -name '*.so' -exec sha256sum {} + |
            LC_ALL=C sort | sha256sum
    )
}

pack() { # $1: the archive; $2...: targets
    local archive=$1 layout=$cache/layout target
    shift
    rm -rf -- "$layout" "$archive"
    for target in "$@"; do
        # Compressing more takes longer than all that uses it.
        image_tool push --quiet --compression-level 1 "$(name "$target")" \
            "oci:$layout:$(name "$target")" >&2
        say "$(name "$target"): $(image_tool images --format '{{.Size}}' "$(name "$target")")"
    done
    tar -C "$layout" -cf "$archive" .
    rm -rf -- "$layout"
    say "archive: $(du -h "$archive" | cut -f1)"
}

identity() { # $1: the target; a digest of its files and settings
    image_tool images --quiet --no-trunc "$(name "$1")"
}

mounted() { # $1: the target; where its files are to be seen
    image_tool mount "$(image_tool from --pull-never "$(name "$1")")"
}

build_again() { # $@: targets
    local target kept=$store first differing=()
    local -A identities
    for target in "$@"; do
        identities[$target]=$(identity "$target")
    done
    store=$cache/again
    forget
    trap forget EXIT
    make_base
    for target in "$@"; do
        build "$target"
        if [[ $(identity "$target") == "${identities[$target]}" ]]; then
            say "$target: the same again: ${identities[$target]}"
            continue
        fi
        differing+=("$target")
        first=$(store=$kept mounted "$target")
        diff -rq --no-dereference "$first" "$(mounted "$target")" >&2 || true
        store=$kept image_tool rm --all >/dev/null
    done
    ((!${#differing[@]})) || fail "not the same again: ${differing[*]}. If $kept is old, Debian" \
        "may have newer packages by now: remove it first"
}

forget() { # the store and all that is in it
    [[ -d $store ]] || return 0
    image_tool rm --all >/dev/null
    image_tool rmi --all --force >/dev/null
    rm -rf -- "$store"
}

main() {
    local archive=$cache/fastrelay.tar note made target targets again=
    note=$archive.made
    if [[ ${1:-} == --again ]]; then
        again=yes
        shift
    fi
    targets=("$@")
    ((EUID == 0)) || fail "root is needed"
    ((${#targets[@]})) || targets=(operator agent relay)
    install_packages buildah:buildah mmdebstrap:mmdebstrap
    mkdir -p -- "$cache"
    exec 9>"$cache/lock"
    flock 9
    made="${targets[*]} $(sources)"
    if [[ ! -e $archive || ! -e $note || $(<"$note") != "$made" ]]; then
        rm -f -- "$note"
        make_base
        for target in "${targets[@]}"; do
            build "$target"
        done
        pack "$archive" "${targets[@]}"
        printf '%s\n' "$made" >"$note"
    fi
    [[ -z $again ]] || build_again "${targets[@]}"
    printf '%s\n' "$archive"
}

main "$@"
