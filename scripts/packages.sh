# shellcheck shell=bash
# To be sourced: what scripts need of Debian's packages. They have their own say() and fail().

present() { # a path, a pattern for one, or a command
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v -- "$1" >/dev/null ;;
    esac
}

# Each argument: PACKAGE:SIGN. A package is installed if what shows its presence is not there.
install_packages() {
    local entry missing=()
    for entry in "$@"; do
        present "${entry#*:}" || missing+=("${entry%%:*}")
    done
    ((${#missing[@]})) || return 0

    local command="apt-get install --no-install-recommends ${missing[*]}"
    present apt-get || fail "missing here: ${missing[*]} (Debian's names); please install them"
    ((EUID == 0)) || fail "missing Debian packages; as root, run: $command"
    say "installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local options=(-qq -y --no-install-recommends)
    # The lists of a fresh image are empty or old; ask for new ones only when they fail.
    apt-get install "${options[@]}" "${missing[@]}" </dev/null >/dev/null 2>&1 || {
        say "reading the package lists first"
        apt-get update -qq </dev/null >&2
        apt-get install "${options[@]}" "${missing[@]}" </dev/null >&2
    }
}
