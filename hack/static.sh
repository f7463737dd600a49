# Sourced by build-launcher.sh and build-shim.sh, which say `name`: builds a directory of C as one static program.
#
#   build DIRECTORY DEST
#
# With musl-gcc where there is one, which makes the smallest, else gcc. Does nothing where DEST was made from this very
# source: its hash is kept in DEST.source. Calls the caller's `works`, which ends the build where the program at $1 does
# not work.
set -eu
umask 022

fail() { echo "$name: $*" >&2; exit 1; }

build() {
    [ $# = 2 ] || fail "usage: hack/$name.sh DEST"
    case $2 in -*) fail "usage: hack/$name.sh DEST" ;; esac
    root=$(cd "$(dirname "$0")/.." && pwd)
    source=$root/$1 dest=$2
    sum=$(cat "$source"/*.[ch] "$0" "$root/hack/static.sh" | sha256sum)
    if [ -x "$dest" ] && [ "$(cat "$dest.source" 2>/dev/null)" = "$sum" ]; then exit 0; fi

    command -v readelf >/dev/null || fail "readelf not found, run: apt-get install binutils"
    if command -v musl-gcc >/dev/null; then cc=musl-gcc
    elif command -v gcc >/dev/null; then cc=gcc
    else fail "no C compiler, run: apt-get install gcc musl-tools"
    fi

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
