#!/bin/sh
# Build a static dumb-init, with dumb-init/signals.h, from the source on PyPI, which is checked against its hash.
#
#   hack/build-dumb-init.sh DEST       writes the program DEST and its licence DEST.LICENSE
#
# The wheel and Debian's package are dynamic and fail in Alpine and scratch images. PYTHON is the interpreter whose pip
# downloads (default /usr/bin/python3), ARCHITECTURE is the program's (hack/architecture.sh). Does nothing if DEST was
# made from this very source, whose hash is kept in DEST.source, is static and works.
set -eu
umask 022

VERSION=1.2.5
RELEASE=dumb-init==1.2.5.post1
SHA256=6510538a975e0de10658b0210ec2ad62dc3617543af5c6fbd29a3af111eae981

fail() { echo "build-dumb-init: $*" >&2; exit 1; }
. "$(dirname "$0")/architecture.sh"

# Static: no program interpreter and nothing needed at run time.
is_static() { ! readelf -lW "$1" | grep -q INTERP && ! readelf -dW "$1" | grep -q NEEDED; }

# It works if it prints its version, passes on its child's exit status, 128+15 for TERM, and forwards SIGRTMIN.
works() {
    $run "$1" --version 2>&1 | grep -q "v$VERSION" || return 1
    status=0; $run "$1" -- sh -c 'exit 7' || status=$?; [ "$status" = 7 ] || return 1
    status=0; $run "$1" -- sh -c 'kill -TERM $$' || status=$?; [ "$status" = 143 ] || return 1
    [ -z "$run" ] || return 0 # an emulator uses such signals itself
    status=0; "$1" -c -- sh -c 'sleep 5 & trap "kill $!; wait; exit 9" 34; kill -34 $PPID; wait' || status=$?; [ "$status" = 9 ]
}

[ $# = 1 ] || fail "usage: hack/build-dumb-init.sh DEST"
case $1 in -*) fail "usage: hack/build-dumb-init.sh DEST" ;; esac
dest=$1 signals=$(cd "$(dirname "$0")/../dumb-init" && pwd)/signals.h
choose_architecture
command -v readelf >/dev/null || fail "readelf not found, run: apt-get install binutils"
sum="$(cat "$signals" "$0" | sha256sum) $architecture"
if [ -x "$dest" ] && [ "$(cat "$dest.source" 2>/dev/null)" = "$sum" ] && is_static "$dest" && works "$dest"; then exit 0; fi

static_compiler

work=$(mktemp -d)
trap 'rm -rf "$work"; rm -f "$dest.new"' EXIT
trap 'exit 1' HUP INT TERM

python=${PYTHON:-/usr/bin/python3}
if ! "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv "$work/venv" >/dev/null 2>&1 || fail "$python has no pip and no venv, run: apt-get install python3-venv"
    python=$work/venv/bin/python3
fi
echo "$RELEASE --hash=sha256:$SHA256" >"$work/requirement"
"$python" -m pip --disable-pip-version-check download --quiet --no-binary dumb-init --no-deps --require-hashes \
    --requirement "$work/requirement" --dest "$work" || fail "cannot download $RELEASE"
tar -xzf "$work"/dumb-init-*.tar.gz -C "$work" --strip-components=1

"$cc" -std=gnu99 -static -Os -s -Wall -Wno-maybe-uninitialized -ffile-prefix-map="$work=." -include "$signals" \
    -o "$work/dumb-init" "$work/dumb-init.c" ||
    fail "$cc cannot link a static program"
is_static "$work/dumb-init" || fail "$cc made a dynamic program"
works "$work/dumb-init" || fail "the program made by $cc does not work"

mkdir -p "$(dirname "$dest")"
rm -f "$dest.source"
cp "$work/LICENSE" "$dest.LICENSE"
chmod 644 "$dest.LICENSE"
cp "$work/dumb-init" "$dest.new"
chmod 755 "$dest.new"
mv "$dest.new" "$dest"
echo "$sum" >"$dest.source"
