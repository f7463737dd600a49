# Sourced by the scripts here that build for an architecture; the caller defines `fail`:
#
#   choose_architecture    sets the variables below for ARCHITECTURE (amd64 or arm64, default: this machine's)
#   static_compiler        sets `cc` to a compiler for static programs: musl-gcc, which makes the smallest, else gcc
#   version_of PACKAGE     prints the version of a Debian package of that architecture
#
# The variables are `architecture`, `machine` (uname -m), `triplet`, `loader` (its usual path), the programs `gcc`,
# `musl` and `strip`, `run` (the command that runs a program of that architecture here, "" for none), and `root`, below
# which its Debian packages are. For another architecture than this machine's they lead to a directory of the cache
# (hack/build-cross.sh).
choose_architecture() {
    case $(uname -m) in
        x86_64) here=amd64 ;;
        aarch64) here=arm64 ;;
        *) here=$(uname -m) ;;
    esac
    architecture=${ARCHITECTURE:-$here}
    case $architecture in
        amd64) machine=x86_64 loader=/lib64/ld-linux-x86-64.so.2 ;;
        arm64) machine=aarch64 loader=/lib/ld-linux-aarch64.so.1 ;;
        "$here") machine=$here loader= ;;
        *) fail "ARCHITECTURE: found $architecture, allowed amd64 and arm64" ;;
    esac
    triplet=$machine-linux-gnu root= run= gcc=gcc musl=musl-gcc strip=strip
    [ "$architecture" != "$here" ] || return 0
    cross=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}/cross-$architecture
    "$(dirname "$0")/build-cross.sh" "$cross"
    root=$cross/root run=$cross/bin/run gcc=$triplet-gcc musl=$cross/bin/musl-gcc strip=$triplet-strip
}

static_compiler() {
    for cc in "$musl" "$gcc"; do
        ! command -v "$cc" >/dev/null || return 0
    done
    fail "no C compiler, run: apt-get install gcc musl-tools"
}

version_of() {
    if [ -n "$root" ]; then sed -n "s/^$1 //p" "$root/versions"
    else dpkg-query -W -f '${Version}' "$1:$architecture" 2>/dev/null || dpkg-query -W -f '${Version}' "$1" 2>/dev/null ||
        fail "no package $1, run: apt-get install $1"
    fi
}
