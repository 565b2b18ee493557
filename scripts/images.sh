#!/usr/bin/env bash
# Builds the images of the Dockerfile without docker and without a registry: with Debian's
# buildah, on a base of Debian's packages. As root.
#
#   scripts/images.sh [operator] [agent] [relay]    default: all three
#
# Prints for each the path of an archive (docker load, ctr image import), with the image
# localhost/fastrelay-TARGET:VERSION. With docker and a registry none of this is needed:
# docker build --target operator .
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FASTRELAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fastrelay}/images
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
    nice buildah --root "$cache/store" --runroot /run/fastrelay-images "$@"
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
    nice mmdebstrap --quiet --variant=apt "${excluded[@]}" "$suite" "$work/root.tar" \
        ${mirror:+"$mirror"} >&2
    container=$(image_tool from scratch)
    image_tool add --quiet "$container" "$work/root.tar" / >&2
    image_tool commit --quiet --rm "$container" "$base" >&2
    rm -rf -- "$work"
}

build() { # $1: the target
    local image id archive=$cache/fastrelay-$1.tar version path options=()
    version=$(sed -n 's/^appVersion: *//p' "$tree/deploy/helm/fastrelay/Chart.yaml")
    image=localhost/fastrelay-$1:$version
    # This machine's authorities and its settings of pip, for whoever is behind a proxy.
    for path in /usr/local/share/ca-certificates /etc/pip.conf; do
        [[ ! -e $path ]] || options+=(--volume "$path:$path:ro")
    done
    image_tool build --layers --isolation chroot --pull-never --timestamp 0 \
        --build-arg "BASE=$base" --target "$1" --tag "$image" "${options[@]}" "$tree" |
        sed -un "s/^\(.*\)STEP \(.\{1,70\}\).*/images: $1: \1\2/p" >&2
    id=$(image_tool images --quiet --no-trunc "$image")
    if [[ -e $archive && -e $archive.id && $(<"$archive.id") == "$id" ]]; then
        printf '%s\n' "$archive"
        return
    fi
    rm -f -- "$archive" "$archive.id"
    # This kind of archive is not compressed, which would take longer than all that uses it.
    image_tool push --quiet "$image" "docker-archive:$archive:$image" >&2
    say "$image: $(image_tool images --format '{{.Size}}' "$image"), archive $(du -h "$archive" | cut -f1)"
    printf '%s\n' "$id" >"$archive.id"
    printf '%s\n' "$archive"
}

main() {
    local target targets=("$@")
    ((EUID == 0)) || fail "root is needed"
    ((${#targets[@]})) || targets=(operator agent relay)
    install_packages buildah:buildah mmdebstrap:mmdebstrap
    mkdir -p -- "$cache"
    exec 9>"$cache/lock"
    flock 9
    make_base
    for target in "${targets[@]}"; do
        build "$target"
    done
}

main "$@"
