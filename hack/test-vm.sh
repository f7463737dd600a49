#!/bin/sh
# Check the shim on other hosts than this one: with Debian's kernel and containerd in a virtual machine.
#
#   hack/test-vm.sh [LAYOUT]...    as root, on Debian amd64; default: all layouts
#
# All have pure cgroup v2. Five have the containerd, crun and runc of Debian's later suites, four of them with its
# newest kernel: a current node. The others have the kernel and containerd of this machine's release.
#
#   v2          the cases of cgroup2 in pods, limits changed in place, user namespaces: hack/vm/v2.py. Booted twice, as
#               v2-cgroupfs and v2-systemd, for the OCI runtimes' two cgroup drivers
#   oldest      the same for pods and limits changed in place, on Linux 5.10, the oldest kernel that node install
#               accepts, with a release made for this, which has its own Python
#   kubelet     a kubelet with static pods: hack/vm/kubelet.py. Only if K8S_BIN (see hack/test-kubernetes.sh) is a
#               directory with a kubelet of 1.35 or later
#   engines     podman, containerd with this shim, and Docker inside a pod: hack/vm/engines.py. A round of each, or
#               POUCHRICH_VM_ROUNDS of those in POUCHRICH_VM_ENGINES (podman,containerd,dockerd)
#   nsdelegate, plain, systemd
#               cgroup v2 mounted with nsdelegate and without, in a guest with a minimal init; and with systemd as the
#               guest's PID 1, which the OCI runtimes ask for cgroups: hack/vm/cgroup2.py
#   delegate    cgroups delegated to a container: hack/vm/delegate.py
#   apparmor    the kernel enforces AppArmor: hack/vm/apparmor.py. Booted twice: apparmor-default with containerd's
#               profile, and apparmor-ours with the shim's own (hack/vm/own_profile.py) on Debian's newest kernel and
#               AppArmor; the latter with the cases in POUCHRICH_VM_CASES (lives,pods,signals,denies,unasked,
#               sandboxes,refuses)
#   selinux     the kernel enforces SELinux: hack/vm/selinux.py
#
# One line is printed per check; the exit status is 1 if one failed. The machine is emulated (QEMU without KVM), so that
# this runs anywhere; each boot with its checks takes ten minutes or more. Installs missing packages with apt, uses the
# demo's images and cache (POUCHRICH_CACHE, default ~/.cache/pouchrich), and leaves only those. With POUCHRICH_VM=DIR
# the guest's files are made once in DIR and kept, for trying changes; POUCHRICH_VM_OCIS is crun,runc or one of them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
fail() { echo "test-vm: $*" >&2; exit 1; }
. "$root/hack/packages.sh"
[ "$(id -u)" = 0 ] || fail "needs root"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "needs amd64"
all="v2 oldest engines nsdelegate plain systemd delegate apparmor selinux"
[ -z "${K8S_BIN:-}" ] || all="$all kubelet"
[ $# -gt 0 ] || set -- $all
ocis=${POUCHRICH_VM_OCIS:-crun,runc} rounds=${POUCHRICH_VM_ROUNDS:-1}
cases=${POUCHRICH_VM_CASES:-lives,pods,signals,denies,unasked,sandboxes,refuses}
engines=${POUCHRICH_VM_ENGINES:-podman,containerd,dockerd}
layouts=
for layout in "$@"; do
    case $layout in
        v2) layouts="$layouts v2-cgroupfs v2-systemd" ;;
        apparmor) layouts="$layouts apparmor-default apparmor-ours" ;;
        apparmor-default|apparmor-ours|v2-cgroupfs|v2-systemd|oldest|engines) layouts="$layouts $layout" ;;
        nsdelegate|plain|systemd|delegate|selinux) layouts="$layouts $layout" ;;
        kubelet) [ -x "${K8S_BIN:-}/kubelet" ] || fail "K8S_BIN: found '${K8S_BIN:-}', allowed a directory with kubelet"
            layouts="$layouts kubelet" ;;
        *) fail "LAYOUT: found $layout, allowed $all" ;;
    esac
done

install_packages qemu-system-x86 mmdebstrap e2fsprogs containerd python3-venv gcc libc6-dev musl-tools binutils \
    patchelf umoci zstd busybox-static
mkdir -p "$cache" "${POUCHRICH_VM:-$cache}"
for mode in systemd sbin-init; do "$root/hack/demo.sh" "$mode" image; done
"$root/hack/fetch-runtimes.py" "$cache/runtimes" --kernel

versions="containerd-2.1 crun-1.21 runc-1.3"
work=$(mktemp -d "$cache/vm.XXXXXX")  # systemd empties /tmp at boot
kept=${POUCHRICH_VM:-$work}
guest=$kept/guest
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

# The guest has the same Debian release, because an installed shim needs the same minor version of Python. The shim
# keeps its path. The guest has its own kernel, the newest and the oldest one.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
newest=$(ls "$cache/runtimes/kernel/usr/lib/modules")
oldest=$(ls "$cache/runtimes/kernel-5.10/usr/lib/modules")
make_guest() {
    echo "making the guest's root filesystem"
    rm -rf "$guest.new"
    mmdebstrap --quiet --variant=minbase \
        --include=linux-image-cloud-amd64,initramfs-tools,zstd,containerd,crun,runc,python3,procps,kmod,iproute2 \
        --include=systemd-sysv,dbus,apparmor,secilc,python3-grpcio,containernetworking-plugins \
        "$suite" "$guest.new" >&2
    for name in kernel kernel-5.10; do
        version=$(ls "$cache/runtimes/$name/usr/lib/modules")
        cp -a "$cache/runtimes/$name/usr/." "$guest.new/usr/"
        cp "$guest.new/usr/lib/modules/$version/config" "$guest.new/boot/config-$version"
        chroot "$guest.new" depmod "$version"
        chroot "$guest.new" update-initramfs -c -k "$version" >&2
    done
    echo "127.0.0.1 localhost" >"$guest.new/etc/hosts"  # the CRI plugin copies both into pods
    : >"$guest.new/etc/resolv.conf"
    mkdir "$guest.new/vm"
    printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n' \
        >"$guest.new/vm/containerd.toml"
    mkdir -p "$guest.new$cache/runtimes"
    for name in $versions; do cp -a "$cache/runtimes/$name" "$guest.new$cache/runtimes/"; done
    mv "$guest.new" "$guest"
}
# Images are unpacked on the host, which is fast, into the guest's later /var/lib/containerd; k8s.io is the CRI's
# namespace.
#
#   unpack_image NAME FILE
unpack_image() {
    [ ! -e "$guest/vm/$1.unpacked" ] || return 0
    containerd --config "$guest/vm/containerd.toml" --root "$guest/var/lib/containerd" --state "$work/state" \
        --address "$work/containerd.sock" >"$work/log" 2>&1 &
    child=$!
    tries=0
    until ctr --address "$work/containerd.sock" version >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 300 ] || { cat "$work/log" >&2; fail "containerd does not answer"; }
        sleep 0.1
    done
    ctr --address "$work/containerd.sock" images import --index-name "$1" "$2" >/dev/null
    ctr --address "$work/containerd.sock" --namespace k8s.io images import --base-name "localhost/$1" "$2" >/dev/null
    kill "$child"
    wait "$child" || true
    child=
    # The label is container-selinux's; for the kernel of this host it is an attribute like any other.
    chcon -R -h system_u:object_r:container_ro_file_t:s0 \
        "$guest/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    : >"$guest/vm/$1.unpacked"
}
make_release() { [ -d "$work/release" ] || "$root/hack/release.sh" "$work/release" >&2; }
[ -d "$guest" ] || make_guest
for mode in systemd sbin-init; do unpack_image "$mode" "$cache/demo-$mode.tar"; done
case " $layouts " in *" engines "*)
    if [ ! -e "$guest/vm/engines.unpacked" ]; then
        echo "making the image with the container engines"
        make_release
        "$root/hack/vm/engines-image.sh" "$work/release"/*.tar.zst "$work/engines.tar"
        unpack_image engines "$work/engines.tar"
    fi ;;
esac
case " $layouts " in *" oldest "*)
    make_release
    cp "$work/release"/*.tar.zst "$guest/vm/release.tar.zst" ;;
esac
"$root/hack/install.sh" --prefix "$kept/prefix" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
chmod 755 "$work" "$kept"
rm -rf "$guest$kept/prefix" "$guest/vm/tests"
mkdir -p "$guest$kept" "$guest/vm/tests"
cp -a "$kept/prefix" "$guest$kept/"
rm -rf "$guest$cache/runtimes/apparmor"
cp -a "$cache/runtimes/apparmor" "$guest$cache/runtimes/"
cp "$root/hack/vm"/*.py "$root/hack/vm/init" "$guest/vm/"
cp "$root/docs/engines.md" "$root/tests/unit/docs/manifests.py" "$guest/vm/"
cp -r "$root/tests/__init__.py" "$root/tests/cri" "$guest/vm/tests/"
[ -z "${K8S_BIN:-}" ] || cp "$K8S_BIN/kubelet" "$guest/vm/"
chmod 755 "$guest/vm/init"
python=$kept/prefix/lib/pouchrich/current/venv/bin/python3
site=$("$python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
runtimes=
for name in $versions; do runtimes=$runtimes$cache/runtimes/$name/bin:; done
parser=$cache/runtimes/apparmor/bin
own=$(ls "$guest/boot" | sed -n 's/^vmlinuz-//p')
cp "$guest/boot"/vmlinuz-* "$guest/boot"/initrd.img-* "$work/"
for version in "$newest" "$oldest"; do cp "$guest/usr/lib/modules/$version/vmlinuz" "$work/vmlinuz-$version"; done
truncate -s 6G "$work/disk"
mke2fs -q -t ext4 -d "$guest" "$work/disk"
[ -n "${POUCHRICH_VM:-}" ] || rm -rf "$guest"

failed=0
for layout in $layouts; do
    driver=cgroupfs init=/vm/init options=nsdelegate,memory_recursiveprot checks=cgroup2 more= path= version=$own
    case $layout in
        v2*) checks=v2 path=$runtimes version=$newest ;;
        kubelet) checks=kubelet path=$runtimes version=$newest ;;
    esac
    case $layout in
        nsdelegate|v2-cgroupfs) ;;
        plain) options=memory_recursiveprot ;;
        systemd|v2-systemd|kubelet)
            driver=systemd init=/lib/systemd/systemd
            more="systemd.run=/vm/init systemd.run_success_action=none systemd.run_failure_action=none"
            more="$more systemd.mask=containerd.service systemd.show_status=0" ;;
        delegate) checks=delegate ;;
        oldest) checks=v2 path=$runtimes version=$oldest more="vm.cases=lives,resized vm.prefix=/opt/released" ;;
        engines) checks=engines path=$runtimes version=$newest more="vm.rounds=$rounds vm.engines=$engines" ;;
        apparmor-default) checks=apparmor more="security=apparmor apparmor=1" ;;
        apparmor-ours) checks=own_profile path=$parser:$runtimes version=$newest
            more="security=apparmor apparmor=1 vm.cases=$cases" ;;
        selinux) checks=selinux more="security=selinux selinux=1 enforcing=0" ;;  # until there is a policy
    esac
    echo "booting: $layout"
    mkfifo "$work/console"
    tee "$work/said" <"$work/console" &
    printer=$!
    kernel="console=ttyS0 quiet panic=-1 no_timer_check root=/dev/vda rw init=$init $more"
    qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 3G -nodefaults -display none \
        -no-reboot -serial stdio -snapshot -drive "file=$work/disk,format=raw,if=virtio" \
        -kernel "$work/vmlinuz-$version" -initrd "$work/initrd.img-$version" -append "$kernel vm.mount=$options \
vm.driver=$driver vm.checks=$checks vm.ocis=$ocis vm.path=$path vm.python=$python vm.site=$site" \
        </dev/null >"$work/console" 2>&1 &
    child=$!
    wait "$child" || true
    child=
    wait "$printer"
    rm "$work/console"
    grep -q '^checks ended with status 0' "$work/said" || failed=1
done
exit "$failed"
