#!/bin/sh
# Build the Python that a release brings along, from Debian's source package, with its own loader and C library.
#
#   hack/build-python.sh DEST
#
# DEST gets
#   bin/python3        all modules that are used are part of it; with room for any loader's path, as yet the usual one
#   lib/               the loader, the C library and what else of it a module may ask for, of this machine's Debian
#   lib/python3.13/    the standard library's source, less what nobody here uses
#   licences/          of all of these
#   components         a line each: name, version, licence (SPDX), purl; blanks in none
#
# It runs on any Linux of its processor from what the C library needs on, with no library of the node's. Pod servers
# are forked and share memory for as long as they write nothing to it: the interpreter can be told to specialize no more
# code (heap/specialize.c), it has no documentation strings, and it can make objects immortal (heap/immortal.c).
# The compiler optimizes it for what it executes in hack/python-training.py.
#
# Does nothing where DEST was made by this very program, with this compiler and C library. Else it needs gcc, make,
# dpkg-dev, patchelf, libc6-dev and libffi-dev, Debian's archive by apt (a configuration of its own: the machine's is
# only read), and some three minutes (JOBS, default 2: how many compilers at once), at the lowest priority. Two builds
# are the same, byte for byte, in whatever directory, unless a container forbids personality(2). VERSION_DATE (seconds)
# is what the interpreter says it was built.
# With ARCHITECTURE (hack/architecture.sh) for another processor DEST is DIR-ARCHITECTURE; DIR gets this machine's.
set -eu
umask 022
export LC_ALL=C

SUITE=trixie
SOURCE=python3.13
SERIES=3.13
LOADER_ROOM=240 # ROOM of pouchrich/node/interpreter.py

# Nobody uses these: the first would ask for libraries, the second are for developers of Python.
WITHOUT="_ssl _hashlib _sqlite3 _tkinter _curses _curses_panel _dbm _gdbm readline _bz2 _lzma zlib _uuid _decimal pyexpat
    _elementtree _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _multibytecodec _statistics
    _interpreters _interpchannels _interpqueues _lsprof _csv cmath _scproxy
    xxsubtype _xxtestfuzz _ctypes_test xxlimited xxlimited_35"
UNUSED="test idlelib tkinter turtledemo turtle.py ensurepip venv pydoc_data pydoc.py doctest.py _pyrepl curses dbm
    sqlite3 ssl.py xmlrpc xml wsgiref lib2to3 antigravity.py this.py __phello__ profile.py cProfile.py pstats.py
    _aix_support.py _ios_support.py _android_support.py _apple_support.py site-packages"
LIBRARIES="libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1 libutil.so.1"

fail() { echo "build-python: $*" >&2; exit 1; }
. "$(dirname "$0")/architecture.sh"
. "$(dirname "$0")/own-apt.sh"
[ $# = 1 ] || fail "usage: hack/build-python.sh DEST"
case $1 in -*) fail "usage: hack/build-python.sh DEST" ;; esac
mkdir -p "$(dirname "$1")"
dest=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
choose_architecture
[ -n "$loader" ] || fail "found $machine, allowed x86_64 and aarch64"

for tool in "$gcc" make dpkg-source patchelf apt-get; do
    command -v $tool >/dev/null || fail "$tool not found, run: apt-get install gcc make dpkg-dev patchelf"
done
libc=$(version_of libc6) libffi=$(version_of libffi-dev)
hack=$(cd "$(dirname "$0")" && pwd)
heap=${hack%/*}/heap training=$hack/python-training.py
made_by="$(cat "$0" "$heap/immortal.c" "$heap/specialize.c" "$training" | sha256sum) $("$gcc" -dumpfullversion) $machine $libc $libffi"
if [ -x "$dest/bin/python3" ] && [ "$(cat "$dest/.made-by" 2>/dev/null)" = "$made_by" ]; then exit 0; fi

work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
echo "fetching $SOURCE of $SUITE" >&2
own_apt "$here" "$SUITE"
fetch source -q --download-only "$SOURCE"
version=$(sed -n 's/^Version: //p' "$work/packages"/*.dsc)
quietly dpkg-source --no-check -x "$work/packages"/*.dsc "$work/source"  # apt has checked it

# What the shim wants changed in the interpreter: without _Py_specializes it writes to no instruction. That a branch was
# taken is recorded for a compiler that this interpreter does not have (_Py_TIER2).
change() { # file, how many lines, what in them (sed), its replacement
    found=$(grep -c "$3" "$work/source/$1") || true
    [ "$found" = "$2" ] || fail "$1: found $found lines with $3, expected $2"
    sed -i "s@$3@$4@" "$work/source/$1"
}
change Include/internal/pycore_code.h 1 '^#define ENABLE_SPECIALIZATION 1' '&\nextern int _Py_specializes;'
change Python/ceval_macros.h 1 'backoff_counter_triggers(.*' '(_Py_specializes \&\& &)'
change Python/ceval_macros.h 1 '(COUNTER) = advance_backoff_counter' 'if (_Py_specializes) &'
change Python/generated_cases.c.h 1 'FT_ATOMIC_STORE_UINT8_RELAXED(this_instr->op.code, RESUME_CHECK)' 'if (_Py_specializes) &'
change Python/generated_cases.c.h 8 'this_instr\[1\].cache = (this_instr\[1\].cache << 1) | .*flag;' ';'

# Part of the build is done by a Python of the same version, a released one of this machine's; and configure runs no
# programs to see what Linux has.
options="CC=$gcc"
if [ "$architecture" != "$here" ]; then
    ARCHITECTURE=$here "$0" "${dest%-*}"
    options="$options --build=$(gcc -dumpmachine) --host=$triplet --with-build-python=${dest%-*}/bin/python3
        ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no"
fi

echo "building Python ${version%%-*} for $architecture (once)" >&2
for module in $WITHOUT; do export "py_cv_module_$module=n/a"; done
export SOURCE_DATE_EPOCH="${VERSION_DATE:-1767225600}" TZ=UTC MODULE_BUILDTYPE=static ac_cv_header_zlib_h=no
export LIBFFI_CFLAGS="-idirafter $root/usr/include/$triplet" LIBFFI_LIBS="-L$root/usr/lib/$triplet -l:libffi.a"
export OPT="-DNDEBUG -O3 -Wall"
# Not position independent, like Debian's own: then the interpreter's tables need no relocation in each process.
export CFLAGS="-g0 -fno-pie -ffile-prefix-map=$work=." LINKFORSHARED="-Xlinker -export-dynamic"
# An rpath is for what modules ask for too, and goes before LD_LIBRARY_PATH; a runpath would not.
export LDFLAGS='-no-pie -Wl,--disable-new-dtags -Wl,-rpath,\$$ORIGIN/../lib -Wl,--build-id=sha1 -Wl,-z,relro -Wl,-z,now'
mkdir -p "$work/build/Modules"
cp "$heap/immortal.c" "$heap/specialize.c" "$work/source/Modules"
printf '*static*\n_immortal immortal.c\n_specialize specialize.c\n' >"$work/build/Modules/Setup.local"
cd "$work/build"
quietly nice -n 19 ../source/configure --prefix=/opt/pouchrich/python --without-ensurepip --disable-shared \
    --disable-test-modules --without-doc-strings --without-static-libpython --with-pkg-config=no $options

# The first interpreter counts what it executes, and the compiler optimizes the second for that. The counts do not depend
# on the directory, because every path that the first one sees begins with /proc/self/cwd, nor on randomly chosen
# addresses. The first of its two runs writes bytecode, which the second one reads, as a shim does.
compile() { # flags of compiler and linker, words for make
    flags=$1
    shift
    quietly nice -n 19 make -j "$jobs" "AR=$gcc-ar" \
        "CFLAGS_NODIST=$configured $flags" "LDFLAGS_NODIST=$flags" "$@" python
}
train() {
    rm -rf counts
    quietly nice -n 19 env -i PATH=/usr/bin:/bin PYTHONHOME=/proc/self/cwd/home PYTHONHASHSEED=0 \
        PYTHONPYCACHEPREFIX=/proc/self/cwd/bytecode $fixed $emulated /proc/self/cwd/python -SP /proc/self/cwd/training.py
}
fixed="setarch -R"
$fixed true 2>/dev/null || { echo "may not fix addresses (personality(2)): another build will differ" >&2; fixed=; }
emulated=${run:+"$run $root/lib/$triplet/${loader##*/} --library-path $root/lib/$triplet --argv0 /proc/self/cwd/python"}
jobs=${JOBS:-2} configured=$(sed -n 's/^CONFIGURE_CFLAGS_NODIST=//p' Makefile)
counts="-fprofile-prefix-path=$work/build"
compile "-fprofile-generate=/proc/self/cwd/counts $counts"
mkdir -p home/lib
ln -s ../../../source/Lib "home/lib/python$SERIES"
cp "$training" training.py
train
train
[ -e "counts/Python#ceval.gcda" ] || fail "the training left no counts"
find . -name '*.o' -delete
rm python
compile "-flto=$jobs -fprofile-use=$work/build/counts $counts" -o _bootstrap_python -o Programs/_freeze_module

made=$work/made
mkdir -p "$made/bin" "$made/lib/python$SERIES/lib-dynload" "$made/licences"
"$strip" -o "$made/bin/python3" python
for library in $LIBRARIES "${loader##*/}"; do cp -L "$root/lib/$triplet/$library" "$made/lib/$library"; done
chmod 644 "$made"/lib/lib*
(cd "$work/source/Lib" && rm -rf $UNUSED && find . -name '*.py' -print0 | xargs -0 cp --parents -t "$made/lib/python$SERIES")
find "$made/lib" \( -name test -o -name tests -o -name idle_test \) -prune -exec rm -rf {} +
cp "$work/source/LICENSE" "$made/licences/python"
cp "$root/usr/share/doc/libc6/copyright" "$made/licences/libc6"
cp "$root/usr/share/doc/libffi-dev/copyright" "$made/licences/libffi"
cat >"$made/components" <<COMPONENTS
python $version PSF-2.0 pkg:deb/debian/$SOURCE@$version?arch=source&distro=$SUITE
glibc $libc LGPL-2.1-or-later pkg:deb/debian/libc6@$libc?arch=$architecture
libffi $libffi MIT pkg:deb/debian/libffi-dev@$libffi?arch=$architecture
COMPONENTS

# Room first, with a path as long, and then the usual loader in it.
patchelf --set-interpreter "$(printf "/%0$((LOADER_ROOM - 2))d" 0)" "$made/bin/python3"
room=$(printf "/%0$((LOADER_ROOM - 2))d" 0)
at=$(grep -abo "$room" "$made/bin/python3" | head -n 1 | cut -d : -f 1)
{ printf %s "$loader"; head -c $((LOADER_ROOM - ${#loader})) /dev/zero; } |
    dd of="$made/bin/python3" bs=1 seek="$at" conv=notrunc status=none

for path in bin/python3 lib; do
    ! grep -rqF "$work" "$made/$path" || fail "$path: names the directory it was built in"
done
python=$made/bin/python3
$run "$made/lib/${loader##*/}" --library-path "$made/lib" --argv0 "$python" "$python" -IBS -c 'import _ctypes, _immortal, _specialize, asyncio, json, tomllib, sys
assert sys.prefix.endswith("/made"), sys.prefix' || fail "the interpreter does not work"
echo "$made_by" >"$made/.made-by"
rm -rf "$dest"
mv "$made" "$dest"
