#!/bin/sh
# Install the shim on this node, or remove it again.
#
#   hack/install.sh                          below /usr/local, configuration in /etc/pouchrich
#   hack/install.sh --prefix DIR             everything below DIR (DIR/bin, DIR/lib, DIR/etc), nothing elsewhere
#   hack/install.sh [--prefix DIR] --uninstall [--force]
#
# --uninstall refuses, and lists the reasons, while this installation serves pods or poststop hooks are owed. Installs a
# private Python environment, two executables on PATH and a commented configuration. It is safe to run twice; a changed
# configuration is neither overwritten nor removed. PYTHON is the interpreter (default /usr/bin/python3, 3.11 to 3.14).
# Needs python3-venv, binutils, gcc with libc6-dev, and preferably musl-tools; downloads protobuf and dumb-init's source
# from PyPI.
#
# Each run makes its own directory, lib/pouchrich/VERSION-TIME, with everything that a process of the version ever uses.
# The executables are links through lib/pouchrich/current. Renaming that one link, at the end, is the upgrade (or
# downgrade); a run that fails or is killed before that changes nothing. Running processes keep their version: the first
# line of an executable has the directory's own name, not the link's. Once nothing runs from a replaced version, the
# next run removes it, or a `start`, which looks once a minute (shim/installed/replaced.py); the next run also removes
# what a killed run has left. Runs below one prefix wait for each other.
set -eu
umask 022

source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || {
    echo "install: $python: found no Python 3.11 to 3.14 there: name the interpreter with PYTHON=PATH" >&2
    exit 1
}
exec "$python" -IB "$source/hack/install.py" "$python" "$@"
