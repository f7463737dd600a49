#!/bin/sh
# Make an RPM package of a release.
#
#   hack/build-rpm.sh ARTEFACT [DIR]
#
# ARTEFACT is a pouchrich-VERSION-linux-ARCHITECTURE.tar.zst of hack/release.sh; DIR (default: beside it) gets
# pouchrich-VERSION-1.x86_64.rpm or .aarch64.rpm, reproducible for a release. As with hack/build-deb.sh, the package
# holds the unpacked release, and its scripts run the release's own installer with links in /usr/bin: an upgrade
# restarts nothing and removes no files of running pods, and erasing is refused while pods or poststop hooks need the
# package. Erasing leaves only a changed configuration, as config.toml.rpmsave. Needs rpmbuild (Debian's package rpm)
# and zstd.
name=build-rpm
. "$(dirname "$0")/package.sh"
command -v rpmbuild >/dev/null || fail "rpmbuild not found, run: apt-get install rpm"
unpack_release "$@"
case $version in *-*) fail "$version: an RPM's version has no -" ;; esac
case $architecture in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
mkdir -p "$work/top"

# The distribution owns the directories of manual pages, but not those of each shell's completions.
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
install="/usr/lib/pouchrich/release/install --bin /usr/bin"
if [ -e /etc/pouchrich/hold ]; then
    echo "pouchrich: held by /etc/pouchrich/hold, so what runs stays as it was; when that has gone: $install" >&2
else
    $install >/dev/null
fi

%preun
if [ "$1" = 0 ]; then
    /usr/lib/pouchrich/release/install --uninstall --bin /usr/bin >/dev/null || exit 1
    if [ -e /etc/pouchrich/config.toml ]; then
        mv -f /etc/pouchrich/config.toml /etc/pouchrich/config.toml.rpmsave
        echo "warning: /etc/pouchrich/config.toml saved as /etc/pouchrich/config.toml.rpmsave" >&2
    fi
fi
SPEC
rpmbuild -bb --quiet --target $machine-linux --define "_topdir $work/top" --define "tree $root" \
    --define "listed $work/files" --define "release_version $version" "$work/pouchrich.spec" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "rpmbuild failed"; }
made=pouchrich-$version-1.$machine.rpm
deliver "$work/top/RPMS/$machine/$made" "$made"
