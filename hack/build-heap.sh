#!/bin/sh
# Build the library with which pod servers share memory (heap/heap.c), for the C library of this machine's Debian and
# for ARCHITECTURE (hack/architecture.sh).
#
#   hack/build-heap.sh DEST
#
# Does nothing if DEST was made from this very source, whose hash is kept in DEST.source.
set -eu
umask 022

fail() { echo "build-heap: $*" >&2; exit 1; }
. "$(dirname "$0")/architecture.sh"

[ $# = 1 ] || fail "usage: hack/build-heap.sh DEST"
case $1 in -*) fail "usage: hack/build-heap.sh DEST" ;; esac
dest=$1
source=$(cd "$(dirname "$0")/.." && pwd)/heap/heap.c
choose_architecture
sum="$(cat "$source" "$0" | sha256sum) $architecture"
if [ -f "$dest" ] && [ "$(cat "$dest.source" 2>/dev/null)" = "$sum" ]; then exit 0; fi

command -v "$gcc" >/dev/null || fail "no C compiler, run: apt-get install gcc libc6-dev"
mkdir -p "$(dirname "$dest")"
new=$(mktemp "$dest.XXXXXX")
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
"$gcc" -std=gnu99 -O2 -s -Wall -Wextra -Werror -shared -fPIC -o "$new" "$source" ||
    fail "$gcc cannot build $source (apt-get install gcc libc6-dev)"

rm -f "$dest.source"
chmod 755 "$new"
mv "$new" "$dest"
echo "$sum" >"$dest.source"
