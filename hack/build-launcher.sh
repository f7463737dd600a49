#!/bin/sh
# Build the launcher (launcher/*.c), static so that it runs in any image.
#
#   hack/build-launcher.sh DEST
#
# With musl-gcc where there is one (about 50 KB), else gcc. Does nothing where DEST was made from this very source: its
# hash is kept in DEST.source.
set -eu
umask 022

fail() { echo "build-launcher: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: hack/build-launcher.sh DEST"
case $1 in -*) fail "usage: hack/build-launcher.sh DEST" ;; esac
dest=$1
source=$(cd "$(dirname "$0")/.." && pwd)/launcher
sum=$(cat "$source"/*.[ch] "$0" | sha256sum)
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
# Works: without settings it says so, and ends as it does before the shim has answered.
status=0
said=$("$new" halting 2>&1) || status=$?
[ "$status" = 125 ] && [ "${said#pouchrich-launch: usage: }" != "$said" ] || fail "the program made by $cc does not work"

rm -f "$dest.source"
chmod 755 "$new"
mv "$new" "$dest"
echo "$sum" >"$dest.source"
