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
set -eu
umask 022

usage="usage: hack/install.sh [--prefix DIR] [--uninstall [--force]]"
fail() { echo "install: $*" >&2; exit 1; }

prefix= uninstall= force=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -ge 2 ] && [ -n "$2" ] || fail "$usage"; prefix=$2; shift 2 ;;
        --prefix=?*) prefix=${1#--prefix=}; shift ;;
        --uninstall) uninstall=1; shift ;;
        --force) force=1; shift ;;
        -h|--help) echo "$usage"; exit 0 ;;
        *) fail "$usage" ;;
    esac
done

[ -z "$force" ] || [ -n "$uninstall" ] || fail "$usage"

source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
if [ -n "$prefix" ]; then
    case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
    prefix=$(realpath -m "$prefix")
    config=$prefix/etc/pouchrich/config.toml
else
    prefix=/usr/local
    config=/etc/pouchrich/config.toml
fi
home=$prefix/lib/pouchrich venv=$prefix/lib/pouchrich/venv bin=$prefix/bin
pristine=$home/config.toml.default
records=/var/lib/pouchrich/poststop
# A #! line holds 255 bytes and splits at the first blank (execve(2)); the rest are quoted nowhere else either.
case $prefix in *[!A-Za-z0-9/._+@:-]*) fail "prefix $prefix: found a character that a #! line cannot hold, allowed A-Z a-z 0-9 / . _ + @ : -" ;; esac
[ ${#venv} -le 220 ] || fail "prefix $prefix: found ${#prefix} characters, too long for a #! line"

is_ours() { head -n 1 "$1" 2>/dev/null | grep -qxF "#!$venv/bin/python3 -IS"; }
is_pristine() { [ -f "$pristine" ] && cmp -s "$config" "$pristine"; }

# Below a prefix the directories are ours where they are empty; the prefix itself only where we made it.
remove_empty() {
    [ "$prefix" = /usr/local ] || rmdir "$prefix/etc" "$bin" "$prefix/lib" 2>/dev/null || :
    [ -z "$made_prefix" ] || rmdir "$prefix" 2>/dev/null || :
}

# What still needs this installation, a line each. A pod server has libraries of ours mapped, also those of a version
# that was replaced; records are the node's, whichever installation wrote them.
needed() {
    for process in /proc/[0-9]*; do
        if grep -qsF " $home/" "$process/maps"; then
            words=$({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null) || continue
            case $words in
                "containerd-shim-pouchrich-v2 "*) echo "pod: ${words%% -address*} (pid ${process#/proc/})" ;;
            esac
        fi
    done
    find "$records" -name '*.jsonl' 2>/dev/null | sed 's/^/poststop hooks: /'
}

remove() {
    for name in containerd-shim-pouchrich-v2 pouchrich; do
        if is_ours "$bin/$name"; then rm -f "$bin/$name"; fi
    done
    if [ -e "$config" ]; then
        if is_pristine; then rm -f "$config"; else echo "kept $config: it was changed"; fi
    fi
    made_prefix=; [ -e "$home/made-prefix" ] && made_prefix=1
    rm -rf "$home"
    rmdir "${config%/*}" 2>/dev/null || :
    remove_empty
    echo "uninstalled from $prefix"
}

if [ -n "$uninstall" ]; then
    needing=$(needed)
    if [ -n "$needing" ]; then
        printf 'install: these need the shim:\n%s\n' "$needing" >&2
        what="without it containerd can neither clean up after these pods nor start more, and poststop hooks that are
owed stay in $records, not run, until it is installed again and starts a container (those in a container: never)"
        [ -n "$force" ] || fail "not uninstalled: remove the pods first, and wait for their hooks, or give --force:
$what"
        echo "install: uninstalling all the same: $what" >&2
    fi
    [ ! -d "$home" ] || [ -w "$home" ] || fail "$home: not writable, run as root"
    remove
    exit 0
fi

# Everything is made in a directory beside its place, and moved there by renames once all of it worked.
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null ||
    fail "$python: not a Python 3.11 to 3.14, name another with PYTHON=PATH"
made_prefix=; [ -d "$prefix" ] && [ ! -e "$home/made-prefix" ] || made_prefix=1
mkdir -p "$home" "$bin" 2>/dev/null || fail "$prefix: cannot create directories, run as root or give --prefix DIR"
stage=$(mktemp -d "$home/.stage.XXXXXX") || fail "$home: not writable, run as root or give --prefix DIR"
undo() {
    status=$?
    [ -e "$venv" ] || [ ! -e "$stage/old" ] || mv "$stage/old" "$venv"
    rm -rf "$stage"
    rmdir "$home" 2>/dev/null || :
    remove_empty
    exit "$status"
}
trap undo EXIT
trap 'exit 1' HUP INT TERM

"$python" -m venv "$stage/venv" >"$stage/log" 2>&1 ||
    { cat "$stage/log" >&2; fail "$python cannot make a virtual environment, run: apt-get install python3-venv"; }
# From a copy: building in the checkout would leave build/ and *.egg-info there.
mkdir "$stage/source"
for part in pyproject.toml README.md LICENSE shim runtime protos pouchrich; do
    cp -R "$source/$part" "$stage/source/" || fail "$source is not a whole checkout"
done
rm -rf "$stage/source/runtime/libexec"
"$stage/venv/bin/python3" -m pip --disable-pip-version-check install --quiet --no-compile "$stage/source" ||
    fail "pip cannot install the package and protobuf"
site=$("$stage/venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PYTHON=$stage/venv/bin/python3 "$source/hack/build-dumb-init.sh" "$site/runtime/libexec/dumb-init"
"$source/hack/build-launcher.sh" "$site/runtime/libexec/launch"
"$source/hack/build-heap.sh" "$site/runtime/libexec/heap.so" ||
    echo "install: no heap.so: idle pods will take more memory" >&2
if [ "$config" != /etc/pouchrich/config.toml ]; then
    printf '"""Where the node'"'"'s configuration is: below the prefix of this installation."""\n\nNODE_FILE = "%s"\n' \
        "$config" >"$site/runtime/config/location.py"
fi
# Nothing is ever installed into this environment again: a newer version brings its own.
"$stage/venv/bin/python3" -m pip --disable-pip-version-check uninstall --quiet --yes setuptools pip 2>/dev/null ||
    fail "cannot remove pip from the environment"
rm -f "$site"/containerd_shim_pouchrich-*.dist-info/direct_url.json  # names the copy
# Files carry the place they will have, not the one they are made in.
"$stage/venv/bin/python3" -m compileall -q -s "$stage/venv" -p "$venv" "$site" || fail "cannot compile the package"
grep -rlIF "$stage/venv" "$stage/venv/bin" "$stage/venv/pyvenv.cfg" | while read -r file; do
    sed -i "s|$stage/venv|$venv|g" "$file"
done

final_site=$venv${site#"$stage/venv"}
executable() { # name, module
    cat >"$stage/$1" <<END
#!$venv/bin/python3 -IS
import sys

sys.path.insert(0, "$final_site")  # first: nothing else need be searched
from $2 import main

sys.exit(main())
END
    chmod 755 "$stage/$1"
}
executable containerd-shim-pouchrich-v2 shim.__main__
executable pouchrich pouchrich.__main__
for name in containerd-shim-pouchrich-v2 pouchrich; do
    [ ! -e "$bin/$name" ] || is_ours "$bin/$name" || fail "$bin/$name: not of this program, remove it first"
done
"$stage/venv/bin/python3" -I -m pouchrich config --default >"$stage/config.toml" || fail "the installed package does not work"

[ -z "$made_prefix" ] || : >"$home/made-prefix"
if [ -e "$venv" ]; then mv "$venv" "$stage/old"; fi
mv "$stage/venv" "$venv"
for name in containerd-shim-pouchrich-v2 pouchrich; do mv -f "$stage/$name" "$bin/$name"; done
if [ ! -e "$config" ] || is_pristine; then
    mkdir -p "${config%/*}"
    cp "$stage/config.toml" "$config.new"
    mv "$config.new" "$config"
else
    echo "kept $config: it was changed; the defaults of this version are in $pristine"
fi
mv "$stage/config.toml" "$pristine"

pouchrich() { "$bin/pouchrich" "$@"; }
set -- --config-path "$config"
[ "$prefix" = /usr/local ] || set -- "$@" --runtime-path "$bin/containerd-shim-pouchrich-v2"
echo "installed $(pouchrich version) below $prefix; configuration: $config"
if containerd --version >/dev/null 2>&1; then versions=here; else versions="1 2"; fi
for version in $versions; do
    printf '\n'
    pouchrich runtimeclass --containerd "$version" "$@"
done
printf '\n# Kubernetes: kubectl apply -f -\n'
pouchrich runtimeclass
if [ "$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null || echo 0)" -lt 8192 ]; then
    printf '\n# Each systemd pod takes 4 to 7 of root'"'"'s inotify instances, of which there are %s, and without any left neither\n' \
        "$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null || echo 'few')"
    printf '# kubelet nor containerd starts again. As root, into /etc/sysctl.d/90-pouchrich.conf, then sysctl --system:\n'
    pouchrich config --sysctl
fi
