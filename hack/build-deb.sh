#!/bin/sh
# Make a Debian package of a release.
#
#   hack/build-deb.sh ARTEFACT [DIR]
#
# ARTEFACT is a pouchrich-VERSION-linux-ARCHITECTURE.tar.zst of hack/release.sh; DIR (default: beside it) gets
# pouchrich_VERSION_ARCHITECTURE.deb, reproducible for a release. The package holds the unpacked release, and its
# scripts run the release's own installer with links in /usr/bin: dpkg would remove files of the version that pods run
# with, but the installer keeps them until the last such pod is gone. So an upgrade restarts nothing, removing is
# refused while pods or poststop hooks need the package, and purging also removes a changed configuration. dpkg manages
# the manual pages and completions. DEBEMAIL is the maintainer, as NAME <ADDRESS>. Needs dpkg and zstd.
name=build-deb
. "$(dirname "$0")/package.sh"
unpack_release "$@"
documents=$root/usr/share/doc/pouchrich overrides=$root/usr/share/lintian/overrides
mkdir -p "$root/DEBIAN" "$documents" "$overrides"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"

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
gzip -9nc "$checkout/CHANGELOG.md" >"$documents/CHANGELOG.md.gz"
cat >"$overrides/pouchrich" <<'OVERRIDES'
# The package needs no other packages: it has its own interpreter and libraries, and the programs that start in a
# container's file system are static.
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
Architecture: $architecture
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
install="/usr/lib/pouchrich/release/install --bin /usr/bin"
if [ "$1" = configure ] && [ -e /etc/pouchrich/hold ]; then # else apt would fail as long as the file exists
    echo "pouchrich: held by /etc/pouchrich/hold, so what runs stays as it was; when that has gone: $install" >&2
elif [ "$1" = configure ]; then
    $install >/dev/null
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
deliver "$work/deb" "pouchrich_${version}_$architecture.deb"
