#!/usr/bin/env bash
# Runs the tests of the BPF programs on Debian's own kernels, each in an emulated guest whose
# root is this machine's, read-only, at the same time. Nothing is installed as a kernel: packages
# are unpacked into the cache. As root, on amd64.
#
#   scripts/kernels.sh                       the kernel of this release, and of its backports
#   scripts/kernels.sh bookworm trixie       those of these suites
#   scripts/kernels.sh bookworm -- COMMAND   something else in the guest, in the tree
#
# What is covered: the verifier's verdict on every program of ours, also with the second protocol
# and without packet protection; every reason and outcome of both programs; clones through real
# veths by clsact or TCX, at both ends; a short fuzz against the model. That is what is marked
# `kernels` in tests/bpf. Bytecode comes from the cache, so nothing is compiled in a guest.
#
# Emulation is slow: times inside mean nothing, verdicts do. KVM is not used, because guests
# within guests do not run everywhere.
set -euo pipefail

tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FASTRELAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fastrelay}/kernels
memory=2048
boot_seconds=240
seconds=900
# What a guest needs and its kernel does not have built in.
boot_modules=(virtio_pci 9pnet_virtio 9p)
test_modules=(veth sch_ingress cls_bpf)

say() { printf 'kernels: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

# shellcheck source=scripts/packages.sh
source "$tree/scripts/packages.sh"

release() { # codename of this machine's Debian
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# The mirror is the one that this machine's own sources name.
source_of() { # $1: a suite
    local site keys
    # shellcheck disable=SC2016 # apt expands it
    site=$(apt-get indextargets --format '$(SITE)' "Codename: $(release)" | head -1)
    [[ -n $site ]] || fail "no source of Debian's is configured here"
    keys=(/usr/share/keyrings/debian-archive-keyring.*)
    printf 'deb [signed-by=%s] %s %s main\n' "${keys[0]}" "$site" "$1"
}

private_apt() { # $1: a suite; then the command: with that suite alone, in the cache
    local suite=$1 command=$2
    shift 2
    "$command" -o Dir::Etc::SourceList="$cache/$suite/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$cache/$suite/lists" -o Dir::Cache="$cache/$suite/cache" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

fetch() { # $1: a suite; prints the directory of its kernel
    local suite=$1 package
    mkdir -p -- "$cache/$suite/lists/partial" "$cache/$suite/cache/archives/partial"
    source_of "$suite" >"$cache/$suite/sources.list"
    private_apt "$suite" apt-get update -qq </dev/null >&2 || fail "cannot read $suite"
    package=$(private_apt "$suite" apt-cache depends linux-image-amd64 |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    [[ -n $package ]] || fail "no kernel in $suite"
    local directory=$cache/$suite/$package
    if [[ ! -e $directory/complete ]]; then
        say "$suite: downloading $package"
        rm -rf -- "$cache/$suite"/linux-image-*
        mkdir -p -- "$directory"
        (cd -- "$directory" && private_apt "$suite" apt-get download -qq "$package" </dev/null >&2)
        dpkg-deb -x "$directory"/*.deb "$directory/root"
        rm -- "$directory"/*.deb
        depmod -b "$(modules_root "$directory")" "$(version_in "$directory")"
        : >"$directory/complete"
    fi
    printf '%s\n' "$directory"
}

modules_root() { # newer packages have them in /usr/lib
    local directory=$1
    if [[ -d $directory/root/usr/lib/modules && ! -e $directory/root/lib ]]; then
        ln -s usr/lib "$directory/root/lib"
    fi
    printf '%s\n' "$directory/root"
}

version_in() {
    local images=("$1"/root/boot/vmlinuz-*)
    printf '%s\n' "${images[0]##*/vmlinuz-}"
}

make_initrd() { # $1: the kernel's directory, $2: where to work, $3: the command
    local root=$2/root version file
    version=$(version_in "$1")
    mkdir -p -- "$root"/{bin,proc,sys,dev,machine,mnt,modules}
    cp -- "$(command -v busybox)" "$root/bin/busybox"
    printf '%s\n' "$3" >"$root/command"
    printf '%s\n' "$tree" "${cache%/kernels}" >"$root/shared"
    while read -r file; do
        cp -- "$file" "$root/modules/"
        basename -- "$file" >>"$root/modules/list"
    done < <(for module in "${boot_modules[@]}" "${test_modules[@]}"; do
        modprobe -d "$(modules_root "$1")" -S "$version" --show-depends "$module"
    done | awk '/^insmod/ && !seen[$2]++ { print $2 }')
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
b() { /bin/busybox "$@"; }
b mount -t proc proc /proc
b mount -t sysfs sys /sys
b mount -t devtmpfs dev /dev
for module in $(b cat /modules/list); do
    case $module in
        *.xz) b xz -dc "/modules/$module" >/modules/plain.ko ;;
        *) b cp "/modules/$module" /modules/plain.ko ;;
    esac
    b insmod /modules/plain.ko
done
b mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro machine /machine
b mount --bind /machine /mnt
for directory in proc sys dev; do b mount --bind /$directory /mnt/$directory; done
for directory in run tmp; do b mount -t tmpfs tmpfs /mnt/$directory; done
while read -r directory; do
    case $directory in
        /run/* | /tmp/*)
            b mkdir -p "/mnt$directory"
            b mount --bind "/machine$directory" "/mnt$directory"
            ;;
    esac
done </shared
b mount -t bpf bpf /mnt/sys/fs/bpf
b ip link set lo up
b cp /command /mnt/tmp/command
echo "guest: booted"
b chroot /mnt /bin/bash /tmp/command
echo "guest: exit status $?"
b poweroff -f
INIT
    chmod +x "$root/init"
    (cd -- "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$2/initrd"
}

boot() { # $1: the kernel's directory, $2: the command, $3: a file for what comes of it
    local work guest
    work=$(mktemp -d)
    make_initrd "$1" "$work" "$2"
    : >"$3"
    # A page table of five levels and what protects from neighbours only cost time here.
    timeout "$seconds" qemu-system-x86_64 -accel tcg -cpu max,la57=off -smp 1 \
        -m "$memory" -nographic -no-reboot -nic none \
        -kernel "$1/root/boot/vmlinuz-$(version_in "$1")" -initrd "$work/initrd" \
        -append "console=ttyS0 loglevel=4 edd=off panic=-1 mitigations=off nokaslr" \
        -virtfs local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap \
        </dev/null > >(sed -u 's/\x1b\[[0-9;?]*[a-zA-Z]//g; s/\x1bc//g; s/\r$//' >"$3") 2>&1 &
    guest=$!
    for ((second = 0; second < boot_seconds; second++)); do
        if booted "$3" || ! kill -0 "$guest" 2>/dev/null; then break; fi
        sleep 1
    done
    booted "$3" || kill "$guest" 2>/dev/null || true
    wait "$guest" || true
    rm -rf -- "$work"
}

booted() { # $1: what came of a guest so far
    grep -q 'guest: booted$' "$1"
}

verdict() { # $1: what came of a guest
    if grep -qx 'guest: exit status 0' "$1"; then
        echo passed
    elif ! booted "$1"; then
        echo "FAILED: the guest did not boot"
    elif ! grep -q '^guest: exit status' "$1"; then
        echo "FAILED: the guest did not end"
    else
        echo FAILED
    fi
}

main() {
    local suites=() command=()
    while (($#)); do
        if [[ $1 == -- ]]; then
            shift
            command=("$@")
            break
        fi
        suites+=("$1")
        shift
    done
    ((EUID == 0)) || fail "root is needed"
    [[ $(dpkg --print-architecture) == amd64 ]] || fail "only written for amd64"
    ((${#suites[@]})) || suites=("$(release)" "$(release)-backports")
    "$tree/scripts/setup.sh" test
    install_packages qemu-system-x86:qemu-system-x86_64 busybox-static:busybox cpio:cpio kmod:depmod
    export PATH=$PATH:/usr/sbin:/sbin

    local venv headers
    venv=$("$tree/scripts/setup.sh" --path)
    # Guests have to find what is compiled here: with this cache, and these headers.
    export FASTRELAY_CACHE=${cache%/kernels}
    headers=$("$venv/bin/python" -c 'import os, sys; from pathlib import Path
from fastrelay.agent.headers import find
print(find(Path(sys.argv[1])) or f"/lib/modules/{os.uname().release}/build")' "$FASTRELAY_CACHE")
    # Nor can a guest keep what Python compiles; here it is kept for all of them.
    local keep=(PYTHONPYCACHEPREFIX="$cache/pycache" PYTHONDONTWRITEBYTECODE=)
    local tests=(env "${keep[@]}" "$venv/bin/python" -m pytest -p no:cacheprovider -q -m kernels tests/bpf)
    if ((!${#command[@]})); then
        say "this kernel first: what it compiles need not be compiled in emulation"
        (cd -- "$tree" && "${tests[@]}" </dev/null) || fail "the tests fail on this kernel already"
        command=("${tests[@]}" --timeout 600)
    fi
    local script
    printf -v script 'cd -- %q && export HOME=/tmp %s PATH=%q\n' \
        "$tree" "FASTRELAY_CACHE=$FASTRELAY_CACHE BCC_KERNEL_SOURCE=$headers" "$PATH"
    script+=${command[*]@Q}

    local suite directory told guests=() directories=()
    for suite in "${suites[@]}"; do
        directories+=("$(fetch "$suite")")
    done
    told=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf -- '$told'" EXIT
    for directory in "${directories[@]}"; do
        say "Linux $(version_in "$directory") starts"
        boot "$directory" "$script" "$told/${directory##*/}" &
        guests+=($!)
    done
    wait "${guests[@]}"
    local verdicts=()
    for directory in "${directories[@]}"; do
        say "Linux $(version_in "$directory") said:"
        cat -- "$told/${directory##*/}"
        verdicts+=("Linux $(version_in "$directory"): $(verdict "$told/${directory##*/}")")
    done
    printf 'kernels: %s\n' "${verdicts[@]}"
    [[ ${verdicts[*]} != *FAILED* ]]
}

main "$@"
