#!/bin/sh
# Make a release: everything that a node needs, including a Python, in one file.
#
#   hack/release.sh [--key FILE] [DIR]
#
# DIR (default dist) gets pouchrich-VERSION-linux-ARCHITECTURE.tar.zst, the same as .tar.gz for nodes without zstd,
# their bill of materials (.cdx.json, CycloneDX), and SHA256SUMS of these files and of this version's files for another
# architecture in DIR; with --key also SHA256SUMS.sig, by `ssh-keygen -Y sign` in the namespace pouchrich-release.
# docs/operations.md says how to verify and install a release. ARCHITECTURE=arm64 cross-compiles on amd64, which also
# needs gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.
#
# Two releases of one commit on one Debian are identical, byte for byte: times are the commit's (or SOURCE_DATE_EPOCH),
# owners are 0, and no file contains a build directory. The interpreter (hack/build-python.sh) is built once and kept in
# the cache directory (POUCHRICH_CACHE, default ~/.cache/pouchrich). Needs gcc, musl-tools, binutils, zstd and what that
# script needs; downloads the packages pinned in hack/release/requirements.txt from PyPI, and the tool for the bill of
# materials with its dependencies.
set -eu
umask 022
export LC_ALL=C TZ=UTC

NAMESPACE=pouchrich-release
SBOM_TOOL="cyclonedx-python-lib==11.12.0"
LIMIT=25000000

usage="usage: hack/release.sh [--key FILE] [DIR]"
fail() { echo "release: $*" >&2; exit 1; }
. "$(dirname "$0")/architecture.sh"
key= dist=dist
while [ $# -gt 0 ]; do
    case $1 in
        --key) [ $# -ge 2 ] || fail "$usage"; key=$2; shift 2 ;;
        -h|--help) echo "$usage"; exit 0 ;;
        -*) fail "$usage" ;;
        *) dist=$1; shift ;;
    esac
done
source=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
python=${PYTHON:-/usr/bin/python3}
for tool in gcc musl-gcc readelf zstd gzip tar; do
    command -v $tool >/dev/null || fail "$tool not found, run: apt-get install gcc musl-tools binutils zstd"
done
[ -z "$key" ] || [ -r "$key" ] || fail "$key: cannot be read"
version=$(sed -n 's/^__version__ = "\([A-Za-z0-9.+]*\)".*/\1/p' "$source/shim/__init__.py")
[ -n "$version" ] || fail "$source is not a whole checkout"
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct 2>/dev/null)} || fail "no commit, set SOURCE_DATE_EPOCH"
export SOURCE_DATE_EPOCH="$epoch"
choose_architecture
export ARCHITECTURE="$architecture"
name=pouchrich-$version-linux-$architecture
platform="--platform manylinux2014_$machine --python-version 3.13 --implementation cp --abi abi3 --abi none"
# Compiled files are the same for all architectures, so this machine's interpreter makes them.
own=$cache/release-python interpreter=$cache/release-python
[ "$architecture" = "$here" ] || interpreter=$own-$architecture

mkdir -p "$dist" "$cache"
dist=$(cd "$dist" && pwd)
work=$(mktemp -d "$dist/.release.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

"$source/hack/build-python.sh" "$interpreter"
tree=$work/pouchrich-$version
mkdir -p "$tree/licences" "$tree/site"
cp -R "$interpreter" "$tree/python"
rm "$tree/python/.made-by" "$tree/python/components"
mv "$tree"/python/licences/* "$tree/licences/"
rmdir "$tree/python/licences"
cp "$interpreter/components" "$work/components"

echo "release: packages" >&2
(cd "$source" && find shim runtime protos pouchrich -name '*.py' -o -name '*.apparmor' | sort | xargs cp --parents -t "$tree/site")
venv=$cache/release-tool
if ! [ -x "$venv/bin/pip" ] || [ "$(cat "$venv/.wanted" 2>/dev/null)" != "$SBOM_TOOL" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null || fail "$python -m venv: not possible, run: apt-get install python3-venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "$SBOM_TOOL" || fail "cannot install $SBOM_TOOL"
    echo "$SBOM_TOOL" >"$venv/.wanted"
fi
"$venv/bin/pip" install -q --disable-pip-version-check --no-compile --no-deps --require-hashes --only-binary :all: \
    $platform --target "$tree/site" -r "$source/hack/release/requirements.txt" 2>"$work/log" ||
    { cat "$work/log" >&2; fail "pip cannot install what hack/release/requirements.txt pins"; }
rm -rf "$tree/site/bin"
find "$tree/site" -name '*.so' -exec "$strip" --strip-unneeded {} +
# protobuf's wheel for arm64 needs a C++ library of which it uses no symbol.
for library in $(cd "$tree/site" && find . -name '*.so'); do
    ! readelf -dW "$tree/site/$library" | grep -q 'NEEDED.*libstdc++' ||
        patchelf --remove-needed libstdc++.so.6 "$tree/site/$library"
done
for about in "$tree"/site/*.dist-info; do
    field() { sed -n "s/^$1: //p" "$about/METADATA" | head -n 1; }
    package=$(field Name | tr A-Z a-z)
    case $package in
        protobuf) licence=BSD-3-Clause ;;
        pyroute2) licence=Apache-2.0 ;;
        rich | tomlkit) licence=MIT ;;
        prometheus[-_]client) licence="Apache-2.0 AND BSD-2-Clause" ;;
        *) fail "$package: its licence is not known to hack/release.sh" ;;
    esac
    echo "$package $(field Version) $licence pkg:pypi/$package@$(field Version)" >>"$work/components"
    find "$about" -iname '*licen[sc]e*' -type f -exec cp {} "$tree/licences/$package" \;
    rm -rf "$about"
done

echo "release: programs" >&2
libexec=$tree/site/runtime/libexec
mkdir -p "$libexec"
PYTHON=$python "$source/hack/build-dumb-init.sh" "$libexec/dumb-init"
"$source/hack/build-launcher.sh" "$libexec/launch"
"$source/hack/build-shim.sh" "$libexec/containerd-shim-pouchrich-v2"
"$source/hack/build-heap.sh" "$libexec/heap.so"
mv "$libexec/dumb-init.LICENSE" "$tree/licences/dumb-init"
rm -f "$libexec"/*.source
dumb_init=$($run "$libexec/dumb-init" --version 2>&1 | sed 's/.* v//')
echo "dumb-init $dumb_init MIT pkg:pypi/dumb-init@$dumb_init" >>"$work/components"
musl=$(version_of musl-dev)
echo "musl $musl MIT pkg:deb/debian/musl-dev@$musl?arch=$architecture" >>"$work/components"
cp "$root/usr/share/doc/musl-dev/copyright" "$tree/licences/musl"

# In one process, in order of names, and with fixed hashes: a compiled file depends on what was compiled before.
find "$tree" -name __pycache__ -prune -exec rm -rf {} +
env -i PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 "$own/bin/python3" -sS -m compileall -q \
    --invalidation-mode unchecked-hash -s "$tree" -p "/opt/pouchrich/$version" "$tree/python/lib" "$tree/site" ||
    fail "cannot compile the packages"
cp "$source/LICENSE" "$tree/LICENSE"
cp -R "$source/share" "$tree/share"
cp "$source/hack/release/install" "$source/hack/release/pouchrich" "$tree/"
# Set modes by kind of file, whatever they are in the checkout.
find "$tree" -type d -exec chmod 755 {} + -o -exec chmod 644 {} +
chmod 755 "$tree/install" "$tree/pouchrich" "$tree/python/bin/python3" "$tree"/python/lib/ld-* "$libexec"/*
(cd "$tree" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >"$work/sums" &&
    mv "$work/sums" SHA256SUMS)
! grep -rlF -e "$work" -e "$source/" -e "${TMPDIR:-/tmp}/tmp." "$tree" || fail "these name the directory that they were made in"
$run "$tree/python/lib/${loader##*/}" --library-path "$tree/python/lib" --argv0 "$tree/python/bin/python3" \
    "$tree/python/bin/python3" -IBS -c 'import sys; sys.path.insert(0, sys.argv[1])
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == "upb", api_implementation.Type()
import pouchrich.__main__, shim.__main__, shim.pod.server' "$tree/site" || fail "the packages do not work"

echo "release: compressing" >&2
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" --format=ustar -cf "$work/tar" \
    "pouchrich-$version"
zstd -q -19 -T1 --no-progress "$work/tar" -o "$work/$name.tar.zst"
gzip -9n <"$work/tar" >"$work/$name.tar.gz"
size=$(stat -c %s "$work/$name.tar.zst")
[ "$size" -le $LIMIT ] || fail "$name.tar.zst: found $size bytes, allowed $LIMIT"
"$venv/bin/python" "$source/hack/release/sbom.py" "$version" "$epoch" "$work/components" "$work/$name.tar.zst" \
    >"$work/$name.cdx.json" || fail "no bill of materials"
others=$(grep -s "  pouchrich-$version-linux-" "$dist/SHA256SUMS" | grep -v "  $name\.") || others=
(cd "$work" && sha256sum "$name".* >SHA256SUMS)
[ -z "$others" ] || echo "$others" >>"$work/SHA256SUMS"
sort -k 2 -o "$work/SHA256SUMS" "$work/SHA256SUMS"
[ -z "$key" ] || ssh-keygen -q -Y sign -f "$key" -n "$NAMESPACE" "$work/SHA256SUMS" || fail "$key: cannot sign"
rm -f "$dist/SHA256SUMS.sig"
for file in "$work/$name".* "$work"/SHA256SUMS*; do mv "$file" "$dist/"; done
echo "$dist/$name.tar.zst: $size bytes"
