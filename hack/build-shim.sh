#!/bin/sh
# Build the native part of the shim (native/*.c), which answers most of containerd's `start` and `delete`.
#
#   hack/build-shim.sh DEST
#
# Static, because that starts fastest. Does nothing if DEST is current (hack/static.sh).
name=build-shim
. "$(dirname "$0")/static.sh"

# Without the Python program beside it, it reports that.
works() {
    said=$($run "$1" -v 2>&1) && fail "the program made by $cc does not work"
    case $said in *"$1.py: No such file"*) ;; *) fail "the program made by $cc does not work: $said" ;; esac
}

build native "$@"
