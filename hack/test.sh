#!/bin/sh
# Run the tests, after installing what they need.
#
#   hack/test.sh [all]        linters, types, unit and integration tests: everything that is not marked `full`
#   hack/test.sh unit         linters, types, and unit tests with fewer random examples; needs no root and no containerd
#   hack/test.sh integration  only the integration tests, in the usual environments
#   hack/test.sh full         everything, in every environment
#   hack/test.sh prepare      only install what the tests need
#   hack/test.sh release      make a release of this checkout in dist/, with its packages and the image of deploy/, some
#                             five minutes; the tests of releases use it, and are skipped without one
#
# Two workers of pytest-xdist run the tests, each with its own nodes; -n 0 runs them in one process.
# Further arguments go to pytest: hack/test.sh integration -k exec --runtime pouchrich --containerd 2.1 --oci crun
# --containerd DIR, or POUCHRICH_CONTAINERD=DIR, runs them with the containerd, ctr and shim in DIR.
#
# As root on Debian it installs missing packages with apt. Everything else stays in one cache directory
# (POUCHRICH_CACHE, default ~/.cache/pouchrich): a Python environment, newer containerd and OCI runtimes, and the
# shim under test, installed there from this checkout. PYTHON is the interpreter, default /usr/bin/python3.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
export POUCHRICH_CACHE="$cache" POUCHRICH_PREFIX="${POUCHRICH_PREFIX:-$cache/prefix}"
bin=$cache/venv/bin
packages="containerd runc crun containernetworking-plugins busybox-static musl-tools gcc libc6-dev binutils patchelf
    python3-venv debian-archive-keyring mmdebstrap apparmor"

fail() { echo "test: $*" >&2; exit 1; }
. "$root/hack/packages.sh"

# Installs the dev requirements of pyproject.toml into an environment, and updates it when that file changes.
python_environment() {
    wanted=$("$python" -c 'import sys; print(sys.version)'; cat "$root/pyproject.toml")
    if [ -x "$bin/python" ] && [ "$wanted" = "$(cat "$cache/venv/.wanted" 2>/dev/null)" ]; then return 0; fi
    mkdir -p "$cache"
    "$python" -m venv "$cache/venv" || fail "$python -m venv: not possible (on Debian: package python3-venv)"
    "$bin/python" - "$root/pyproject.toml" >"$cache/requirements.txt" <<'EOF'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["dev"]))
EOF
    "$bin/python" -m pip install -q --disable-pip-version-check --upgrade -r "$cache/requirements.txt"
    printf '%s\n' "$wanted" >"$cache/venv/.wanted"
}

static_checks() {
    "$bin/ruff" check -q .
    "$bin/ruff" format -q --check .
    "$bin/mypy"
}

# Builds the programs that plans bind-mount, and the library with which pod servers share memory. The few unit tests
# that use them are skipped if they cannot be compiled here.
helpers() {
    command -v cc >/dev/null || command -v musl-gcc >/dev/null || return 0
    PYTHON="$bin/python" "$root/hack/build-dumb-init.sh" "$root/runtime/libexec/dumb-init" >"$cache/helpers.log" 2>&1 &&
        "$root/hack/build-launcher.sh" "$root/runtime/libexec/launch" >>"$cache/helpers.log" 2>&1 &&
        "$root/hack/build-shim.sh" "$root/runtime/libexec/containerd-shim-pouchrich-v2" >>"$cache/helpers.log" 2>&1 &&
        "$root/hack/build-heap.sh" "$root/runtime/libexec/heap.so" >>"$cache/helpers.log" 2>&1 ||
        cat "$cache/helpers.log" >&2
}

# Unpacks lxcfs instead of installing it, so that its service does not run here. Without it its tests are skipped.
lxcfs() {
    [ ! -x "$cache/lxcfs/usr/bin/lxcfs" ] || return 0
    making=$(mktemp -d "$cache/lxcfs.XXXXXX")
    fuse=$(apt-cache depends lxcfs | sed -n 's/^ *Depends: \(libfuse3-[0-9]*\)$/\1/p')
    if (cd "$making" && apt-get download -q lxcfs $fuse && for one in *.deb; do dpkg -x "$one" .; done) \
        >"$cache/lxcfs.log" 2>&1; then
        rm -f "$making"/*.deb
        chmod 755 "$making"
        rm -rf "$cache/lxcfs"
        mv "$making" "$cache/lxcfs"
    else
        rm -rf "$making"
        echo "could not fetch lxcfs: $(tail -n 1 "$cache/lxcfs.log")"
    fi
}

# If Debian's archive cannot be reached now, nothing is made, and the tests that need it are skipped.
release() {
    status=0
    "$root/hack/release.sh" "$root/dist" || status=$?
    case $status in
        0) ;;
        75) echo "no release was made: Debian's archive did not answer"; return 0 ;;
        *) return "$status" ;;
    esac
    artefact=$(ls -t "$root"/dist/pouchrich-*-linux-"$(dpkg --print-architecture)".tar.zst | head -n 1)
    for kind in deb rpm image; do "$root/hack/build-$kind.sh" "$artefact"; done
    (cd "$root/dist" && stat -c '%s %n' pouchrich*)
}

integration_needs() {
    [ "$(id -u)" = 0 ] || fail "the integration tests need root (hack/test.sh unit does not)"
    "$root/hack/fetch-runtimes.py" "$cache/runtimes"
    lxcfs
    "$root/hack/install.sh" --prefix "$POUCHRICH_PREFIX" >"$cache/install.log" 2>&1 || {
        cat "$cache/install.log" >&2
        fail "hack/install.sh --prefix $POUCHRICH_PREFIX: failed"
    }
}

tier=all
case ${1:-} in all|unit|integration|full|prepare|release) tier=$1; shift ;; esac
cd "$root"
if [ "$tier" != unit ] && [ "$(id -u)" = 0 ]; then
    command -v apt-get >/dev/null || fail "no apt-get: install$(echo " $packages" | tr -s '\n ' ' ') by hand"
    case $tier in
        full) packages="$packages buildah fish lintian openssh-client rpm zsh" ;;
        release)
            packages="$packages dpkg-dev libffi-dev make rpm umoci zstd"
            command -v kubectl >/dev/null || packages="$packages kubernetes-client" ;;
    esac
    install_packages $packages
fi
if [ "$tier" = release ]; then release; exit 0; fi
python_environment
helpers
[ "$tier" = unit ] || integration_needs
case $tier in all|unit|full) static_checks ;; prepare) exit 0 ;; esac

other=
directories="tests/unit tests/process tests/component tests/fuzz"
[ "$tier" = unit ] || directories="$directories tests/root"
for directory in $directories; do [ ! -d "$directory" ] || other="$other $directory"; done
tests() { exec "$bin/python" -m pytest -n 2 --dist worksteal "$@"; }
# Unit tests make thousands of small files; on a disk the journal would take longer than most tests.
in_memory() {
    case $(findmnt -no FSTYPE,OPTIONS --mountpoint /dev/shm) in
        tmpfs*noexec*) ;;
        tmpfs*) export TMPDIR="${TMPDIR:-/dev/shm}" ;;
    esac
}
case $tier in
    unit) in_memory; tests --hypothesis-profile=quick -m "not full" $other "$@" ;;
    integration) tests -m "not full" tests/integration "$@" ;;
    all) tests -m "not full" $other tests/integration "$@" ;;
    full) tests $other tests/integration "$@" ;;
esac
