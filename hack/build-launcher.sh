#!/bin/sh
# Build the launcher (launcher/*.c), static so that it runs in any image.
#
#   hack/build-launcher.sh DEST
#
# About 50 KB with musl-gcc. Does nothing if DEST is current (hack/static.sh).
name=build-launcher
. "$(dirname "$0")/static.sh"

# Without settings it reports that, and exits as before an answer of the shim.
works() {
    status=0
    said=$($run "$1" halting 2>&1) || status=$?
    [ "$status" = 125 ] && [ "${said#pouchrich-launch: usage: }" != "$said" ] || fail "the program made by $cc does not work"
}

build launcher "$@"
