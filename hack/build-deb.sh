#!/bin/sh
# Make a Debian package of a release.
#
#   hack/build-deb.sh ARTEFACT [DIR]
#
# ARTEFACT is a pouchrich-VERSION-linux-amd64.tar.zst of hack/release.sh; DIR (default: beside it) gets
# pouchrich_VERSION_amd64.deb, the same for the same release. The package holds the unpacked release, and its scripts
# run the release's own installer with links in /usr/bin: dpkg would take away files of the version that pods run with,
# the installer leaves them until the last has gone. So nothing is restarted by an upgrade, removing is refused while
# pods or poststop hooks need the package, and purging removes a changed configuration too. Manual pages and completions
# are the package's own. DEBEMAIL is the maintainer, as NAME <ADDRESS>. Needs dpkg and zstd.
set -eu
umask 022
export LC_ALL=C TZ=UTC

fail() { echo "build-deb: $*" >&2; exit 1; }
usage="usage: hack/build-deb.sh ARTEFACT [DIR]"
case ${1:-} in ""|-*) fail "$usage" ;; esac
[ $# -le 2 ] || fail "$usage"
artefact=$1
[ -r "$artefact" ] || fail "$artefact: cannot be read"
source=$(cd "$(dirname "$0")/.." && pwd)
version=$(basename "$artefact" | sed -n 's/^pouchrich-\(.*\)-linux-amd64\.tar\.zst$/\1/p')
[ -n "$version" ] || fail "$artefact: not the name of a release"
dist=${2:-$(dirname "$artefact")}
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)

work=$(mktemp -d "$dist/.deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root documents=$work/root/usr/share/doc/pouchrich
overrides=$work/root/usr/share/lintian/overrides
mkdir -p "$root/DEBIAN" "$root/usr/lib/pouchrich" "$root/usr/bin" "$documents" "$overrides"
tar -C "$root/usr/lib/pouchrich" --zstd -xf "$artefact" --no-same-owner
mv "$root/usr/lib/pouchrich/pouchrich-$version" "$root/usr/lib/pouchrich/release"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(stat -c %Y "$root/usr/lib/pouchrich/release/install")}"
for program in containerd-shim-pouchrich-v2 pouchrich; do
    ln -s "/opt/pouchrich/current/bin/$program" "$root/usr/bin/$program"
done
mkdir -p "$root/usr/share"
cp -R "$root/usr/lib/pouchrich/release/share/." "$root/usr/share"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
find "$root/usr/share/man" -type f -exec gzip -9n {} +

when=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
maintainer="${DEBEMAIL:-containerd-shim-pouchrich developers <pouchrich@localhost.localdomain>}"
{
    printf 'pouchrich (%s) unstable; urgency=medium\n\n  * Release %s; CHANGELOG.md has what is new.\n\n' "$version" "$version"
    printf ' -- %s  %s\n' "$maintainer" "$when"
} | gzip -9n >"$documents/changelog.gz"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n'
    printf 'Files: *\nCopyright: %s containerd-shim-pouchrich developers\nLicense: Apache-2.0\n' \
        "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y)"
    printf ' On Debian systems, see /usr/share/common-licenses/Apache-2.0.\n'
    printf 'Comment: Python, the C library and other parts have licences of their own, which are in\n'
    printf ' /usr/lib/pouchrich/release/licences.\n'
} >"$documents/copyright"
gzip -9nc "$source/CHANGELOG.md" >"$documents/CHANGELOG.md.gz"
cat >"$overrides/pouchrich" <<'OVERRIDES'
# The interpreter and all that it loads are the package's own, compiled and the same on every system; what starts in a
# container's file system is static.
pouchrich: embedded-library
pouchrich: hardening-no-pie
pouchrich: package-installs-python-pycache-dir
pouchrich: shared-library-is-executable
pouchrich: shared-library-lacks-prerequisites
pouchrich: statically-linked-binary
pouchrich: undeclared-elf-prerequisites
pouchrich: unusual-interpreter
OVERRIDES
cat >"$root/DEBIAN/control" <<CONTROL
Package: pouchrich
Version: $version
Architecture: amd64
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f 1)
Recommends: crun | runc
Suggests: containerd
Section: admin
Priority: optional
Description: containerd shim that runs rich containers
 An init is PID 1 of a rich container, and the image's command runs under it,
 with services, agents of the node and hooks before and after.
 .
 The package brings its own Python and C library, and needs nothing of the
 system's but an OCI runtime.
CONTROL
cat >"$root/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    /usr/lib/pouchrich/release/install --bin /usr/bin >/dev/null
fi
SCRIPT
cat >"$root/DEBIAN/prerm" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    /usr/lib/pouchrich/release/install --uninstall --bin /usr/bin >/dev/null
fi
SCRIPT
cat >"$root/DEBIAN/postrm" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /etc/pouchrich
fi
SCRIPT
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zxz -z6 --build "$root" "$work/deb" >/dev/null
mv "$work/deb" "$dist/pouchrich_${version}_amd64.deb"
echo "$dist/pouchrich_${version}_amd64.deb: $(stat -c %s "$dist/pouchrich_${version}_amd64.deb") bytes"
