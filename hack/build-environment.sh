#!/bin/sh
# Build a private Python environment with the packages of this checkout and their dependencies, byte-compiled.
#
#   hack/build-environment.sh DIR
#
# DIR, which must exist, gets `venv`, and `share` with manual pages and completions. It cannot be moved afterwards.
# Prints the directory of the packages in it. PYTHON is the interpreter (default /usr/bin/python3). Needs python3-venv
# and what the hack/build-*.sh need; downloads from PyPI.
set -eu
umask 022

fail() { echo "install: $*" >&2; exit 1; }

[ $# = 1 ] && [ -d "$1" ] || fail "usage: hack/build-environment.sh DIR"
place=$1 venv=$1/venv
source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
"$python" -m venv "$venv" >"$place/log" 2>&1 ||
    { cat "$place/log" >&2; fail "$python cannot make a virtual environment, run: apt-get install python3-venv"; }
# Build from a copy: in the checkout this would leave build/ and *.egg-info.
mkdir "$place/source"
for part in pyproject.toml README.md LICENSE shim runtime protos pouchrich; do
    cp -R "$source/$part" "$place/source/" || fail "$source is not a whole checkout"
done
rm -rf "$place/source/runtime/libexec"
"$venv/bin/python3" -m pip --disable-pip-version-check install --quiet --no-compile "$place/source" >&2 ||
    fail "pip cannot install the package and protobuf"
site=$("$venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PYTHON=$venv/bin/python3 "$source/hack/build-dumb-init.sh" "$site/runtime/libexec/dumb-init" >&2
"$source/hack/build-launcher.sh" "$site/runtime/libexec/launch"
"$source/hack/build-shim.sh" "$site/runtime/libexec/containerd-shim-pouchrich-v2"
"$source/hack/build-heap.sh" "$site/runtime/libexec/heap.so" ||
    echo "install: no heap.so: idle pods will take more memory" >&2
# Nothing is installed into this environment later: another version has its own.
"$venv/bin/python3" -m pip --disable-pip-version-check uninstall --quiet --yes setuptools pip >/dev/null 2>&1 ||
    fail "cannot remove pip from the environment"
rm -f "$site"/containerd_shim_pouchrich-*.dist-info/direct_url.json  # contains the copy's path
"$venv/bin/python3" -m compileall -q "$site" >&2 || fail "cannot compile the package"
cp -R "$source/share" "$place/share"
rm -rf "$place/source" "$place/log"
echo "$site"
