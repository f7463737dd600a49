#!/bin/sh
# Build the native part of the shim (native/*.c), which answers most of containerd's `start` and `delete`.
#
#   hack/build-shim.sh DEST
#
# Static, which starts quickest: with musl-gcc where there is one, else gcc. Does nothing where DEST was made from this
# very source: its hash is kept in DEST.source.
set -eu
umask 022

fail() { echo "build-shim: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: hack/build-shim.sh DEST"
case $1 in -*) fail "usage: hack/build-shim.sh DEST" ;; esac
dest=$1
source=$(cd "$(dirname "$0")/.." && pwd)/native
sum=$(cat "$source"/*.[ch] "$0" | sha256sum)
if [ -x "$dest" ] && [ "$(cat "$dest.source" 2>/dev/null)" = "$sum" ]; then exit 0; fi

if command -v musl-gcc >/dev/null; then cc=musl-gcc
elif command -v gcc >/dev/null; then cc=gcc
else fail "no C compiler, run: apt-get install gcc musl-tools"
fi

mkdir -p "$(dirname "$dest")"
new=$(mktemp "$dest.XXXXXX")
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
"$cc" -std=gnu99 -static -Os -s -Wall -Wextra -Werror -o "$new" "$source"/*.c || fail "$cc cannot build $source"
# Works: without its script it says so.
said=$("$new" -v 2>&1) && fail "the program made by $cc does not work"
case $said in *"$new.py: No such file"*) ;; *) fail "the program made by $cc does not work: $said" ;; esac

rm -f "$dest.source"
chmod 755 "$new"
mv "$new" "$dest"
echo "$sum" >"$dest.source"
