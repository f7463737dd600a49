#!/bin/sh
# Make the image of the layout engines: Debian's engines, a registry on the loopback, and the shim's release.
#
#   hack/vm/engines-image.sh RELEASE IMAGE     RELEASE is pouchrich-VERSION-linux-amd64.tar.zst
set -eu

export release="$1"
image=$2
here=$(cd "$(dirname "$0")" && pwd)
export work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The registry's content: an image with only busybox.
umoci init --layout "$work/base"
umoci new --image "$work/base:latest"
mkdir -p "$work/busybox/bin" "$work/busybox/tmp"
cp "$(command -v busybox)" "$work/busybox/bin/"
for name in sh cat echo sleep; do ln -s busybox "$work/busybox/bin/$name"; done
tar -C "$work/busybox" --owner 0 --group 0 -cf "$work/busybox.tar" .
umoci raw add-layer --image "$work/base:latest" "$work/busybox.tar" >&2
umoci config --image "$work/base:latest" --config.cmd /bin/sh --config.env PATH=/bin
python3 "$here/registry.py" "$work/base" base "$work/registry"

cat >"$work/hook" <<'HOOK'
set -eu
cp -r "$work/registry/." "$1/var/lib/docker-registry/"
chroot "$1" chown -R docker-registry: /var/lib/docker-registry
sed -i '/^auth:/,/^health:/{/^health:/!d}' "$1/etc/docker/registry/config.yml"
for unit in docker.service docker.socket containerd.service podman.service podman.socket podman-restart.service; do
    chroot "$1" systemctl --quiet disable "$unit" 2>/dev/null || true
done
mkdir -p "$1/srv/build"
printf '[[registry]]\nlocation = "localhost:5000"\ninsecure = true\n' >"$1/etc/containers/registries.conf.d/local.conf"
printf 'FROM localhost:5000/base:latest\nRUN echo made >/made\nCMD ["cat", "/made"]\n' >"$1/srv/build/Dockerfile"
mkdir -p "$1/etc/systemd/system/containerd.service.d"
printf '[Service]\n%s\n%s\n%s\n' RuntimeDirectory=pouchrich-inner RuntimeDirectoryPreserve=yes \
    BindPaths=/run/pouchrich-inner:/run/pouchrich >"$1/etc/systemd/system/containerd.service.d/pouchrich.conf"
zstd -dc "$release" | tar -C "$1/srv" -x
chroot "$1" sh -c '/srv/pouchrich-*/install >/dev/null && rm -rf /srv/pouchrich-*'
HOOK
engines=podman,buildah,crun,netavark,nftables,aardvark-dns,docker.io,docker-cli,containerd,runc,docker-registry
mmdebstrap --quiet --variant=minbase --include="systemd,systemd-sysv,dbus,procps,iptables,ca-certificates,$engines" \
    --customize-hook='sh "$work/hook" "$1"' trixie "$work/root.tar" >&2

umoci init --layout "$work/layout"
umoci new --image "$work/layout:latest"
umoci raw add-layer --image "$work/layout:latest" "$work/root.tar" >&2
umoci config --image "$work/layout:latest" --config.cmd sleep --config.cmd infinity
tar -C "$work/layout" -cf "$image.new" .
mv "$image.new" "$image"
