#!/bin/sh
# Make an RPM package of a release.
#
#   hack/build-rpm.sh ARTEFACT [DIR]
#
# ARTEFACT is a pouchrich-VERSION-linux-amd64.tar.zst of hack/release.sh; DIR (default: beside it) gets
# pouchrich-VERSION-1.x86_64.rpm, the same for the same release. As hack/build-deb.sh does, the package holds the
# unpacked release, and its scripts run the release's own installer with links in /usr/bin: an upgrade restarts nothing
# and takes nothing from pods that run, and erasing is refused while pods or poststop hooks need the package. Erasing
# leaves nothing but a configuration that was changed, as config.toml.rpmsave. Needs rpmbuild (Debian's package rpm)
# and zstd.
set -eu
umask 022
export LC_ALL=C TZ=UTC

fail() { echo "build-rpm: $*" >&2; exit 1; }
usage="usage: hack/build-rpm.sh ARTEFACT [DIR]"
case ${1:-} in ""|-*) fail "$usage" ;; esac
[ $# -le 2 ] || fail "$usage"
artefact=$1
[ -r "$artefact" ] || fail "$artefact: cannot be read"
command -v rpmbuild >/dev/null || fail "rpmbuild not found, run: apt-get install rpm"
version=$(basename "$artefact" | sed -n 's/^pouchrich-\(.*\)-linux-amd64\.tar\.zst$/\1/p')
[ -n "$version" ] || fail "$artefact: not the name of a release"
case $version in *-*) fail "$version: an RPM's version has no -" ;; esac
dist=${2:-$(dirname "$artefact")}
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)

work=$(mktemp -d "$dist/.rpm.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/tree release=$work/tree/usr/lib/pouchrich/release
mkdir -p "$root/usr/lib/pouchrich" "$root/usr/bin" "$root/usr/share" "$work/top"
tar -C "$root/usr/lib/pouchrich" --zstd -xf "$artefact" --no-same-owner
mv "$root/usr/lib/pouchrich/pouchrich-$version" "$release"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(stat -c %Y "$release/install")}"
for program in containerd-shim-pouchrich-v2 pouchrich; do
    ln -s "/opt/pouchrich/current/bin/$program" "$root/usr/bin/$program"
done
cp -R "$release/share/." "$root/usr/share"
find "$root/usr/share/man" -type f -exec gzip -9n {} +

# A distribution has the directories of manual pages, but not those of each shell.
(cd "$root" && find usr/share -mindepth 1 \( -type f -printf '/%p\n' -o -type d ! -path 'usr/share/man*' -printf '%%dir /%p\n' \) |
    sort) >"$work/files"
cat >"$work/pouchrich.spec" <<'SPEC'
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w6.xzdio
%global _buildhost localhost
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global __brp_mangle_shebangs %{nil}

Name: pouchrich
Version: %{release_version}
Release: 1
Summary: containerd shim that runs rich containers
License: Apache-2.0
AutoReqProv: no
Requires: /bin/sh
Recommends: (crun or runc)

%description
An init is PID 1 of a rich container, and the image's command runs under it,
with services, agents of the node and hooks before and after.

The package brings its own Python and C library, and needs nothing of the
system's but an OCI runtime.

%install
mkdir -p %{buildroot}
cp -a %{tree}/. %{buildroot}

%files -f %{listed}
%defattr(-,root,root,-)
%dir /usr/lib/pouchrich
/usr/lib/pouchrich/release
%missingok /usr/bin/containerd-shim-pouchrich-v2
%missingok /usr/bin/pouchrich

%post
/usr/lib/pouchrich/release/install --bin /usr/bin >/dev/null

%preun
if [ "$1" = 0 ]; then
    /usr/lib/pouchrich/release/install --uninstall --bin /usr/bin >/dev/null || exit 1
    if [ -e /etc/pouchrich/config.toml ]; then
        mv -f /etc/pouchrich/config.toml /etc/pouchrich/config.toml.rpmsave
        echo "warning: /etc/pouchrich/config.toml saved as /etc/pouchrich/config.toml.rpmsave" >&2
    fi
fi
SPEC
rpmbuild -bb --quiet --target x86_64-linux --define "_topdir $work/top" --define "tree $root" \
    --define "listed $work/files" --define "release_version $version" "$work/pouchrich.spec" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "rpmbuild failed"; }
made=pouchrich-$version-1.x86_64.rpm
mv "$work/top/RPMS/x86_64/$made" "$dist/$made"
echo "$dist/$made: $(stat -c %s "$dist/$made") bytes"
