#!/bin/sh
# Make a directory for building and running programs of another architecture: its unpacked Debian packages.
#
#   ARCHITECTURE=arm64 hack/build-cross.sh DEST
#
# DEST gets
#   root/            libc6, libffi-dev, libffi8 and musl-dev of this machine's Debian release, not installed; and
#                    `versions`, with a line for each
#   bin/musl-gcc     the cross compiler with musl as the C library
#   bin/run          qemu's user mode, of Debian 13, which runs a program; programs that this one starts must be of this
#                    machine's architecture, unless qemu is registered with the kernel (binfmt_misc)
#
# hack/architecture.sh runs this. Does nothing if DEST exists. Needs Debian's cross compiler, and its archive by apt.
set -eu
umask 022

PACKAGES="libc6 libffi-dev libffi8 musl-dev"
QEMU_SUITE=trixie  # bookworm's qemu refuses PR_SET_CHILD_SUBREAPER

fail() { echo "build-cross: $*" >&2; exit 1; }
. "$(dirname "$0")/own-apt.sh"
[ $# = 1 ] || fail "usage: ARCHITECTURE=arm64 hack/build-cross.sh DEST"
case $1 in -*) fail "usage: ARCHITECTURE=arm64 hack/build-cross.sh DEST" ;; esac
[ "${ARCHITECTURE:-}" = arm64 ] || fail "ARCHITECTURE: found ${ARCHITECTURE:-nothing}, allowed arm64"
machine=aarch64
mkdir -p "$(dirname "$1")"
dest=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
[ ! -x "$dest/bin/run" ] || exit 0
compiler=$machine-linux-gnu-gcc
command -v $compiler >/dev/null ||
    fail "$compiler not found, run: apt-get install gcc-$machine-linux-gnu libc6-dev-$ARCHITECTURE-cross"

work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
made=$work/made
mkdir -p "$made/root" "$made/bin"
echo "fetching packages of $ARCHITECTURE (once)" >&2
own_apt "$ARCHITECTURE" "$suite" "$suite-security"
fetch download -q $PACKAGES
for package in "$work/packages"/*.deb; do
    dpkg -x "$package" "$made/root"
    dpkg-deb -W --showformat '${Package} ${Version}\n' "$package" >>"$made/root/versions"
done
[ -e "$made/root/lib" ] || ln -s usr/lib "$made/root/lib"
rm -rf "$work/apt" "$work/packages"
own_apt "$(dpkg --print-architecture)" "$QEMU_SUITE"
fetch download -q qemu-user
dpkg -x "$work"/packages/qemu-user_*.deb "$work/qemu"
mv "$work/qemu/usr/bin/qemu-$machine" "$made/bin/run"
sed -e "s,/usr/,$dest/root/usr/,g" "$made/root/usr/lib/$machine-linux-musl/musl-gcc.specs" >"$made/bin/musl-gcc.specs"
printf '#!/bin/sh\nexec %s "$@" -specs "%s/bin/musl-gcc.specs"\n' $compiler "$dest" >"$made/bin/musl-gcc"
chmod 755 "$made" "$made/bin/run" "$made/bin/musl-gcc"
rm -rf "$dest"
mv "$made" "$dest"
