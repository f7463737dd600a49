#!/bin/sh
# Put the shim on this node for good, or take it away again.
#
#   hack/install.sh                          below /usr/local, configuration in /etc/pouchrich
#   hack/install.sh --prefix DIR             everything below DIR (DIR/bin, DIR/lib, DIR/etc), nothing elsewhere
#   hack/install.sh [--prefix DIR] --uninstall [--force]
#
# --uninstall refuses, and lists what it is, while pods are served by this installation or poststop hooks are owed.
# A private Python environment, two executables on PATH, a commented configuration. Safe to run twice; a configuration
# that was changed is neither overwritten nor removed. PYTHON names the interpreter (default /usr/bin/python3, 3.11 to
# 3.14). Needs python3-venv, binutils, gcc with libc6-dev, better musl-tools too; downloads protobuf and dumb-init's
# source from PyPI.
#
# Each run makes a directory of its own, lib/pouchrich/VERSION-TIME, with all that a process of the version ever uses.
# The executables are links by way of lib/pouchrich/current: the rename of that one link, at the end, is the upgrade (or
# downgrade), and a run that fails or is killed before it changes nothing. What runs goes on with the version it began
# with: the first line of an executable has the directory's own name, not the link's. A version that was replaced, and
# what a killed run left, is removed by the next run, and the former also by a `start` once a minute, when nothing runs
# from it any more (shim/installed/replaced.py has how that is known). Runs below one prefix wait for each other.
set -eu
umask 022

source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || {
    echo "install: $python: not a Python 3.11 to 3.14, name another with PYTHON=PATH" >&2
    exit 1
}
exec "$python" -IB "$source/hack/install.py" "$python" "$@"
