# Sourced by build-launcher.sh and build-shim.sh, which define `name`: builds a directory of C as one static program.
#
#   build DIRECTORY DEST
#
# For ARCHITECTURE (hack/architecture.sh). Does nothing if DEST was made from this very source, whose hash is kept in
# DEST.source. Calls the caller's `works`, which ends the build if the program $1, run by $run, does not work.
set -eu
umask 022

fail() { echo "$name: $*" >&2; exit 1; }
. "$(dirname "$0")/architecture.sh"

build() {
    [ $# = 2 ] || fail "usage: hack/$name.sh DEST"
    case $2 in -*) fail "usage: hack/$name.sh DEST" ;; esac
    choose_architecture
    checkout=$(cd "$(dirname "$0")/.." && pwd)
    source=$checkout/$1 dest=$2
    sum="$(cat "$source"/*.[ch] "$0" "$checkout/hack/static.sh" | sha256sum) $architecture"
    if [ -x "$dest" ] && [ "$(cat "$dest.source" 2>/dev/null)" = "$sum" ]; then exit 0; fi

    command -v readelf >/dev/null || fail "readelf not found, run: apt-get install binutils"
    static_compiler

    mkdir -p "$(dirname "$dest")"
    new=$(mktemp "$dest.XXXXXX")
    trap 'rm -f "$new"' EXIT
    trap 'exit 1' HUP INT TERM
    "$cc" -std=gnu99 -static -Os -s -Wall -Wextra -Werror -o "$new" "$source"/*.c || fail "$cc cannot build $source"
    if readelf -lW "$new" | grep -q INTERP || readelf -dW "$new" | grep -q NEEDED; then fail "$cc made a dynamic program"; fi
    works "$new"

    rm -f "$dest.source"
    chmod 755 "$new"
    mv "$new" "$dest"
    echo "$sum" >"$dest.source"
}
