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
home=$prefix/lib/pouchrich bin=$prefix/bin
programs="containerd-shim-pouchrich-v2 pouchrich"
pristine=$home/config.toml.default
records=/var/lib/pouchrich/poststop
# A #! line holds 255 bytes and splits at the first blank (execve(2)); the rest are quoted nowhere else either.
case $prefix in *[!A-Za-z0-9/._+@:-]*) fail "prefix $prefix: found a character that a #! line cannot hold, allowed A-Z a-z 0-9 / . _ + @ : -" ;; esac
version=$(sed -n 's/^__version__ = "\([A-Za-z0-9.+]*\)".*/\1/p' "$source/shim/__init__.py" 2>/dev/null)
[ -n "$version" ] || fail "$source is not a whole checkout"
[ $((${#home} + ${#version})) -le 180 ] || fail "prefix $prefix: found ${#prefix} characters, too long for a #! line"

is_linked() { [ "$(readlink "$bin/$1")" = "$home/current/bin/$1" ]; }
# Before there were versions, the executables were files of their own.
is_former() { [ ! -L "$bin/$1" ] && head -n 1 "$bin/$1" 2>/dev/null | grep -qxF "#!$home/venv/bin/python3 -IS"; }
is_there() { [ -e "$1" ] || [ -L "$1" ]; }
is_pristine() { cmp -s "$config" "$pristine" || cmp -s "$config" "$pristine.new"; }

# The lock is held by what this starts too: a pip whose installer was killed still writes.
lock() {
    command -v flock >/dev/null || fail "no flock, run: apt-get install util-linux"
    while :; do
        mkdir -p "$home" 2>/dev/null || fail "$prefix: cannot create directories, run as root or give --prefix DIR"
        (umask 077 && : >>"$home/.lock") 2>/dev/null || fail "$home: not writable, run as root or give --prefix DIR"
        exec 9<>"$home/.lock"
        flock -n 9 || {
            echo "install: waiting for another run below $prefix to end" >&2
            flock -w 300 9 || fail "another run below $prefix does not end, see: fuser -v $home/.lock"
        }
        if [ "$home/.lock" -ef /proc/self/fd/9 ]; then return; fi  # else it was removed with the installation
    done
}

# Also what is left below $home without a version; where anything else is, it stays.
remove_home() {
    [ -n "$(find "$home" -mindepth 1 -maxdepth 1 ! -name .lock ! -name made-prefix 2>/dev/null)" ] || rm -rf "$home"
}

remove_unused() {
    "$python" -IBc 'import sys
sys.path.insert(0, sys.argv[1])
from shim.installed import replaced
for path in replaced.remove_unused(sys.argv[2], unfinished=True):
    print("removed", path + ": nothing runs from it")' "$source" "$home"
}

# Below a prefix the directories are ours where they are empty; the prefix itself only where we made it.
remove_empty() {
    [ "$prefix" = /usr/local ] || rmdir "$prefix/etc" "$bin" "$prefix/lib" 2>/dev/null || :
    [ -z "$made_prefix" ] || rmdir "$prefix" 2>/dev/null || :
}

# What still needs this installation, a line each. A pod server has its version's lock open and libraries of it mapped,
# whichever version that is; records are the node's, whichever installation wrote them.
needed() {
    { grep -lsF " $home/" /proc/[0-9]*/maps || :; find /proc/[0-9]*/fd -lname "$home/*/in-use" 2>/dev/null || :; } |
        cut -d / -f 3 | sort -un | while read -r pid; do
        words=$({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) || continue
        case $words in
            "containerd-shim-pouchrich-v2 "*) echo "pod: ${words%% -address*} (pid $pid)" ;;
        esac
    done
    find "$records" -name '*.jsonl' 2>/dev/null | sed 's/^/poststop hooks: /'
}

# The executables first: nothing more is started from what goes.
remove() {
    for program in $programs; do
        if is_linked "$program" || is_former "$program"; then rm -f "$bin/$program"; fi
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
    if [ -w "$home" ]; then lock; fi
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

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null ||
    fail "$python: not a Python 3.11 to 3.14, name another with PYTHON=PATH"
made_prefix=; [ -d "$prefix" ] || made_prefix=1
lock
if [ -n "$made_prefix" ]; then : >"$home/made-prefix"; elif [ -e "$home/made-prefix" ]; then made_prefix=1; fi
made= replace=
undo() {
    status=$?
    trap - EXIT
    if [ -n "$made" ] && [ "$(readlink "$home/current")" != "$name" ]; then
        rm -rf "$place"
        [ -z "$replace" ] || rm -f "$config.new"
        rmdir "${config%/*}" 2>/dev/null || :
    fi
    remove_home
    remove_empty
    exit "$status"
}
trap undo EXIT
trap 'exit 1' HUP INT TERM

mkdir -p "$bin" 2>/dev/null || fail "$bin: cannot create, run as root or give --prefix DIR"
for program in $programs; do
    ! is_there "$bin/$program" || is_linked "$program" || is_former "$program" ||
        fail "$bin/$program: not of this program, remove it first"
done
if ! is_former containerd-shim-pouchrich-v2 && ! is_former pouchrich; then remove_unused; fi

# Nobody looks into it before `current` names it.
name=$version-$(date -u +%Y%m%dT%H%M%S)
place=$home/$name venv=$home/$name/venv
mkdir "$place" || fail "$place: already there, try again"
made=1
"$python" -m venv "$venv" >"$place/log" 2>&1 ||
    { cat "$place/log" >&2; fail "$python cannot make a virtual environment, run: apt-get install python3-venv"; }
# From a copy: building in the checkout would leave build/ and *.egg-info there.
mkdir "$place/source"
for part in pyproject.toml README.md LICENSE shim runtime protos pouchrich; do
    cp -R "$source/$part" "$place/source/" || fail "$source is not a whole checkout"
done
rm -rf "$place/source/runtime/libexec"
"$venv/bin/python3" -m pip --disable-pip-version-check install --quiet --no-compile "$place/source" ||
    fail "pip cannot install the package and protobuf"
site=$("$venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PYTHON=$venv/bin/python3 "$source/hack/build-dumb-init.sh" "$site/runtime/libexec/dumb-init"
"$source/hack/build-launcher.sh" "$site/runtime/libexec/launch"
"$source/hack/build-shim.sh" "$site/runtime/libexec/containerd-shim-pouchrich-v2"
"$source/hack/build-heap.sh" "$site/runtime/libexec/heap.so" ||
    echo "install: no heap.so: idle pods will take more memory" >&2
if [ "$config" != /etc/pouchrich/config.toml ]; then
    printf '"""Where the node'"'"'s configuration is: below the prefix of this installation."""\n\nNODE_FILE = "%s"\n' \
        "$config" >"$site/runtime/config/location.py"
fi
printf '"""Where this version of the package is installed."""\n\nVERSION_DIRECTORY = "%s"\n' "$place" >"$site/shim/installed/location.py"
# Nothing is ever installed into this environment again: another version brings its own.
"$venv/bin/python3" -m pip --disable-pip-version-check uninstall --quiet --yes setuptools pip 2>/dev/null ||
    fail "cannot remove pip from the environment"
rm -f "$site"/containerd_shim_pouchrich-*.dist-info/direct_url.json  # names the copy
"$venv/bin/python3" -m compileall -q "$site" || fail "cannot compile the package"

executable() { # file, module
    cat >"$1" <<END
#!$venv/bin/python3 -IS
import sys

sys.executable = "$venv/bin/python3"  # whatever the link named when the kernel read the line above
sys.path.insert(0, "$site")  # first: nothing else need be searched
from $2 import main

sys.exit(main())
END
    chmod 755 "$1"
}
mkdir "$place/bin"
executable "$place/bin/pouchrich" pouchrich.__main__
# The native program looks for these two beside itself.
executable "$site/runtime/libexec/containerd-shim-pouchrich-v2.py" shim.__main__
ln -s "$venv/bin/python3" "$site/runtime/libexec/python3"
ln -s "$site/runtime/libexec/containerd-shim-pouchrich-v2" "$place/bin/containerd-shim-pouchrich-v2"
"$place/bin/pouchrich" config --default >"$place/config.toml.default" || fail "the installed package does not work"
rm -rf "$place/source" "$place/log"
(umask 077 && : >"$place/in-use")
if [ ! -e "$config" ] || is_pristine; then
    replace=1
    mkdir -p "${config%/*}"
    cp "$place/config.toml.default" "$config.new"
fi
cp "$place/config.toml.default" "$place/config.toml.known"
sync --file-system "$place"  # a power cut must not leave names without what they name

former=$(readlink "$home/current") || :
link() { # what, where
    ln -sfn "$1" "$2.new"
    mv -T "$2.new" "$2"
}
link "$name" "$home/current"
for program in $programs; do is_linked "$program" || link "$home/current/bin/$program" "$bin/$program"; done
# Killed in between, the next run still knows the file for one that nobody has changed.
mv "$place/config.toml.known" "$pristine.new"
if [ -n "$replace" ]; then
    mv "$config.new" "$config"
else
    echo "kept $config: it was changed; the defaults of this version are in $pristine"
fi
mv "$pristine.new" "$pristine"
if [ -n "$former" ] || [ -e "$home/venv" ]; then
    echo "$home/${former:-venv} stays until nothing runs from it"
fi

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
