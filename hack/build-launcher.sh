#!/bin/sh
# Build the launcher (launcher/*.c), static so that it runs in any image.
#
#   hack/build-launcher.sh DEST
#
# About 50 KB with musl-gcc. Does nothing where DEST is current (hack/static.sh).
name=build-launcher
. "$(dirname "$0")/static.sh"

# Without settings it says so, and ends as it does before the shim has answered.
works() {
    status=0
    said=$($run "$1" halting 2>&1) || status=$?
    [ "$status" = 125 ] && [ "${said#pouchrich-launch: usage: }" != "$said" ] || fail "the program made by $cc does not work"
}

build launcher "$@"
