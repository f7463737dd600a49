#!/bin/sh
# A private containerd to play with, with the shim of this checkout.
#
#   hack/dev-containerd.sh [--containerd 1.6|1.7|2.1] [--oci runc|crun]
#
# Prints the ctr and crictl commands to use. Needs root. Ctrl-C ends it and leaves nothing behind.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
"$root/hack/test.sh" prepare
cd "$root"
exec "$cache/venv/bin/python" -m tests.integration.dev "$@"
