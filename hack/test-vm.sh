#!/bin/sh
# Check the shim on hosts that this one is not: Debian's kernel and containerd in a virtual machine.
#
#   hack/test-vm.sh [nsdelegate|plain|systemd|delegate|apparmor|selinux]...    as root, on Debian amd64; without one all
#
# All have nothing but cgroup v2. nsdelegate and plain are how it is mounted, by a guest without an init to speak of; in
# the third the guest's PID 1 is systemd, which the OCI runtimes ask for cgroups: hack/vm/cgroup2.py has what is checked
# in these. The fourth is for what a container may be given of its cgroups: hack/vm/delegate.py. In the last two the
# kernel enforces AppArmor or SELinux: hack/vm/apparmor.py, selinux.py. One line is printed a check; exit status 1 where
# one failed. The machine is emulated (QEMU without KVM), so that it runs anywhere; each takes some ten minutes. Installs
# what is missing with apt, uses the demo's images and cache (POUCHRICH_CACHE, default ~/.cache/pouchrich), and leaves
# nothing but those.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
fail() { echo "test-vm: $*" >&2; exit 1; }
. "$root/hack/packages.sh"
[ "$(id -u)" = 0 ] || fail "needs root"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "needs amd64"
[ $# -gt 0 ] || set -- nsdelegate plain systemd delegate apparmor selinux
for layout in "$@"; do
    case $layout in
        nsdelegate|plain|systemd|delegate|apparmor|selinux) ;;
        *) fail "unknown layout $layout, allowed: nsdelegate, plain, systemd, delegate, apparmor, selinux" ;;
    esac
done

install_packages qemu-system-x86 mmdebstrap e2fsprogs containerd python3-venv gcc libc6-dev musl-tools binutils
mkdir -p "$cache"
for mode in systemd sbin-init; do "$root/hack/demo.sh" "$mode" image; done

work=$(mktemp -d "$cache/vm.XXXXXX")  # a /tmp is emptied by systemd at boot
child=
stop() {
    status=$?
    trap - EXIT
    if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; wait "$child" || true; fi
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

# The guest is of the same release, as an installed shim is bound to the minor version of its Python. It stays where it
# was installed, too.
echo "making the guest"
mmdebstrap --quiet --variant=minbase \
    --include=linux-image-cloud-amd64,initramfs-tools,containerd,crun,runc,python3,procps,kmod,iproute2,systemd-sysv,dbus \
    --include=apparmor,secilc,python3-grpcio "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/guest" >&2
"$root/hack/install.sh" --prefix "$work/prefix" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
chmod 755 "$work"
mkdir -p "$work/guest$work" "$work/guest/vm/tests"
cp -a "$work/prefix" "$work/guest$work/"
cp "$root/hack/vm"/*.py "$root/hack/vm/init" "$work/guest/vm/"
cp -r "$root/tests/__init__.py" "$root/tests/cri" "$work/guest/vm/tests/"
chmod 755 "$work/guest/vm/init"
echo "127.0.0.1 localhost" >"$work/guest/etc/hosts"  # the CRI copies both into pods
: >"$work/guest/etc/resolv.conf"
for name in vmlinuz initrd.img; do cp "$work/guest/boot/$name"-* "$work/$name"; done
# The images are unpacked here, natively, into what will be the guest's /var/lib/containerd; k8s.io is the CRI's namespace.
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n' \
    >"$work/guest/vm/containerd.toml"
containerd --config "$work/guest/vm/containerd.toml" --root "$work/guest/var/lib/containerd" --state "$work/state" \
    --address "$work/containerd.sock" >"$work/log" 2>&1 &
child=$!
tries=0
until ctr --address "$work/containerd.sock" version >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { cat "$work/log" >&2; fail "containerd does not answer"; }
    sleep 0.1
done
for mode in systemd sbin-init; do
    ctr --address "$work/containerd.sock" images import --index-name "$mode" "$cache/demo-$mode.tar" >/dev/null
    ctr --address "$work/containerd.sock" --namespace k8s.io images import --base-name "localhost/$mode" \
        "$cache/demo-$mode.tar" >/dev/null
done
kill "$child"
wait "$child" || true
child=
# As container-selinux has it; to the kernel here it is an attribute like any other.
chcon -R -h system_u:object_r:container_ro_file_t:s0 \
    "$work/guest/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
python=$work/prefix/lib/pouchrich/current/venv/bin/python3
site=$("$python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
truncate -s 4G "$work/disk"
mke2fs -q -t ext4 -d "$work/guest" "$work/disk"
rm -rf "$work/guest"

failed=0
for layout in "$@"; do
    driver=cgroupfs init=/vm/init options=nsdelegate,memory_recursiveprot checks=cgroup2 more=
    case $layout in
        nsdelegate) ;;
        plain) options=memory_recursiveprot ;;
        systemd)
            driver=systemd init=/lib/systemd/systemd
            more="systemd.run=/vm/init systemd.run_success_action=none systemd.run_failure_action=none"
            more="$more systemd.mask=containerd.service systemd.show_status=0" ;;
        delegate) checks=delegate ;;
        apparmor) checks=apparmor more="security=apparmor apparmor=1" ;;
        selinux) checks=selinux more="security=selinux selinux=1 enforcing=0" ;;  # until there is a policy
    esac
    echo "booting: $layout"
    mkfifo "$work/console"
    tee "$work/said" <"$work/console" &
    printer=$!
    kernel="console=ttyS0 quiet panic=-1 no_timer_check root=/dev/vda rw init=$init $more"
    qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 3G -nodefaults -display none \
        -no-reboot -serial stdio -snapshot -drive "file=$work/disk,format=raw,if=virtio" \
        -kernel "$work/vmlinuz" -initrd "$work/initrd.img" -append "$kernel vm.mount=$options vm.driver=$driver \
vm.checks=$checks vm.python=$python vm.site=$site" </dev/null >"$work/console" 2>&1 &
    child=$!
    wait "$child" || true
    child=
    wait "$printer"
    rm "$work/console"
    grep -q '^checks ended with status 0' "$work/said" || failed=1
done
exit "$failed"
