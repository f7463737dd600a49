#!/bin/sh
# Make the image for deploy/'s DaemonSet from a release, without a registry.
#
#   hack/build-image.sh ARTEFACT [FILE]
#
# ARTEFACT is a pouchrich-VERSION-linux-ARCHITECTURE.tar.zst of hack/release.sh; FILE (default: beside it,
# pouchrich-node-VERSION.tar, with -ARCHITECTURE unless it is amd64) gets an OCI archive for `ctr images import` and
# other tools. IMAGE is its name (default localhost/pouchrich-node:VERSION). KUBECTL and BUSYBOX are the programs to
# include (default: the machine's); they must be static and of the release's architecture. The image has the unpacked
# release, kubectl, and busybox, whose init is PID 1 of probe pods of mode sbin-init; its entry point is the release's
# own command. The same inputs make the same image, byte for byte. Needs umoci, busybox-static, zstd and a static
# kubectl (Debian: kubernetes-client).
set -eu
umask 022
export LC_ALL=C TZ=UTC

fail() { echo "build-image: $*" >&2; exit 1; }
case ${1:-} in ""|-*) fail "usage: hack/build-image.sh ARTEFACT [FILE]" ;; esac
[ $# -le 2 ] || fail "usage: hack/build-image.sh ARTEFACT [FILE]"
artefact=$1
[ -r "$artefact" ] || fail "$artefact: cannot be read"
named=$(basename "$artefact" | sed -nE 's/^pouchrich-(.*)-linux-(amd64|arm64)\.tar\.zst$/\1 \2/p')
[ -n "$named" ] || fail "$artefact: not the name of a release"
version=${named% *} architecture=${named#* }
case $architecture in
    amd64) machine=X86-64 suffix= ;;
    arm64) machine=AArch64 suffix=-arm64 ;;
esac
file=${2:-$(dirname "$artefact")/pouchrich-node-$version$suffix.tar}
image=${IMAGE:-localhost/pouchrich-node:$version}
kubectl=${KUBECTL:-$(command -v kubectl || true)}
busybox=${BUSYBOX:-$(command -v busybox || true)}
for tool in umoci readelf zstd tar; do
    command -v $tool >/dev/null || fail "$tool not found, run: apt-get install umoci binutils zstd"
done
[ -n "$kubectl" ] && [ -x "$kubectl" ] || fail "no kubectl, run: apt-get install kubernetes-client, or set KUBECTL"
[ -n "$busybox" ] && [ -x "$busybox" ] || fail "no busybox, run: apt-get install busybox-static, or set BUSYBOX"
for program in "$kubectl" "$busybox"; do
    ! readelf -lW "$program" | grep -q INTERP || fail "$program: not static"
    readelf -hW "$program" | grep -q "Machine:.*$machine" || fail "$program: not for $architecture: set KUBECTL or BUSYBOX"
done

work=$(mktemp -d "$(dirname "$file")/.image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/tmp" "$root/run" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/host"
chmod 1777 "$root/tmp"
tar -C "$root" --zstd -xf "$artefact" --no-same-owner
mv "$root/pouchrich-$version" "$root/pouchrich"
epoch=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$root/pouchrich/install")}
cp -L "$kubectl" "$root/usr/bin/kubectl"
cp -L "$busybox" "$root/bin/busybox"
for applet in cat chroot echo env id kill ls ps sh sleep test '['; do ln -s busybox "$root/bin/$applet"; done
ln -s ../bin/busybox "$root/sbin/init"
ln -s /pouchrich/pouchrich "$root/usr/bin/pouchrich"
echo "root:x:0:0:root:/:/bin/sh" >"$root/etc/passwd"
echo "root:x:0:" >"$root/etc/group"
chmod 755 "$root/usr/bin/kubectl" "$root/bin/busybox"
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" --format=posix \
    --pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f -cf "$work/layer.tar" .

when=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
layout=$work/layout
umoci init --layout "$layout"
umoci new --image "$layout:node"
umoci raw add-layer --image "$layout:node" --history.created "$when" --history.created_by "hack/build-image.sh" \
    "$work/layer.tar"
umoci config --image "$layout:node" --created "$when" --history.created "$when" --no-history \
    --architecture "$architecture" --os linux --config.entrypoint /pouchrich/pouchrich --config.cmd help \
    --config.env PATH=/usr/bin:/bin:/sbin --config.workingdir / \
    --config.label "org.opencontainers.image.version=$version" 2>/dev/null ||
umoci config --image "$layout:node" --created "$when" --history.created "$when" \
    --architecture "$architecture" --os linux --config.entrypoint /pouchrich/pouchrich --config.cmd help \
    --config.env PATH=/usr/bin:/bin:/sbin --config.workingdir / \
    --config.label "org.opencontainers.image.version=$version"
umoci gc --layout "$layout"
# The annotation from which containerd takes an imported image's name.
sed -i "s|\"org.opencontainers.image.ref.name\":\"node\"|\"io.containerd.image.name\":\"$image\",\"org.opencontainers.image.ref.name\":\"$version\"|" \
    "$layout/index.json"
grep -qF "$image" "$layout/index.json" || fail "$layout/index.json: the image's name did not get in"
tar -C "$layout" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" --format=ustar -cf "$work/image" .
mv "$work/image" "$file"
echo "$file: $(stat -c %s "$file") bytes, $image"
