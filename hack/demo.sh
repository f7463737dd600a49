#!/bin/sh
# Show a rich container on a fresh Debian machine: an image with an init, cron and syslog, run by a private containerd.
#
#   hack/demo.sh [systemd|sbin-init|dumb-init]      as root; default systemd; sbin-init uses sysvinit
#   hack/demo.sh MODE image                         only make the image, below the cache directory
#
# Installs missing packages with apt, makes the image from Debian packages, and finally removes everything except the
# installed packages and one cache directory (POUCHRICH_CACHE, default ~/.cache/pouchrich).
set -eu

mode=${1:-systemd}
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
prefix=$cache/prefix
fail() { echo "demo: $*" >&2; exit 1; }
. "$root/hack/packages.sh"
[ "$(id -u)" = 0 ] || fail "needs root"
case $mode in
    systemd) packages=procps,systemd,dbus,cron,rsyslog services='"cron", "rsyslog"' ;;
    sbin-init) packages=procps,sysvinit-core,cron services='"cron"' ;;
    dumb-init) packages=procps services= ;;
    *) fail "MODE: found $mode, allowed systemd, sbin-init, dumb-init" ;;
esac

# Makes an OCI image with a legacy-style daemon as its command; with systemd also with cron and rsyslog.
make_image() {
    image=$cache/demo-$mode.tar
    [ ! -f "$image" ] || return 0
    echo "making the image, which later runs use again"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cat >"$work/legacyd" <<'LEGACY'
#!/bin/sh
# Expects a whole machine: a syslog to log to, and an init that takes its orphans.
echo "legacyd: pid $$, parent $(cat /proc/$PPID/comm)"
logger -t legacyd "started" 2>/dev/null || true
trap 'echo "legacyd: stopping"; exit 42' TERM
(sleep 1 &)
while :; do sleep 1; done
LEGACY
    chmod 755 "$work/legacyd"
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --customize-hook="copy-in $work/legacyd /usr/local/bin" \
        --customize-hook='echo "* * * * * root date >>/var/log/cron-ran" >"$1/etc/cron.d/demo"' \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/rootfs.tar" >&2
    umoci init --layout "$work/layout"
    umoci new --image "$work/layout:latest"
    umoci raw add-layer --image "$work/layout:latest" "$work/rootfs.tar" >&2
    umoci config --image "$work/layout:latest" --config.cmd /usr/local/bin/legacyd
    tar -C "$work/layout" -cf "$image.new" .
    mv "$image.new" "$image"
    rm -rf "$work"
    trap - EXIT
}

if [ -z "${POUCHRICH_DEMO_INSIDE:-}" ]; then
    install_packages containerd crun runc mmdebstrap umoci python3-venv gcc libc6-dev musl-tools binutils
    mkdir -p "$cache"
    make_image
    if [ "${2:-}" = image ]; then exit 0; fi
    echo "installing the shim below $prefix"
    "$root/hack/install.sh" --prefix "$prefix" >"$cache/install.log" 2>&1 || { cat "$cache/install.log" >&2; exit 1; }
    # The demo's mounts, sockets and network are in its own namespaces and end with it.
    exec env POUCHRICH_DEMO_INSIDE=1 unshare --mount --net --propagation private "$0" "$mode"
fi

ip link set lo up 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/demo
# The demo also has its own records of owed hooks.
new_state=
[ -d /var/lib/pouchrich ] || { mkdir /var/lib/pouchrich; new_state=yes; }
mount -t tmpfs -o mode=755 tmpfs /var/lib/pouchrich
base=$(mktemp -d)
containerd= name=legacy
stop() {
    status=$?
    trap - EXIT
    ctr tasks kill --signal KILL $name >/dev/null 2>&1 || true
    ctr tasks delete $name >/dev/null 2>&1 || true
    if [ -n "$containerd" ]; then kill "$containerd"; wait "$containerd" || true; fi
    rm -rf "$base"
    umount -l /var/lib/pouchrich
    [ -z "$new_state" ] || rmdir /var/lib/pouchrich
    exit "$status"
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

cat >/run/demo/poststop <<'HOOK'
#!/bin/sh
echo "poststop on the node: $POUCHRICH_NAME ended, $POUCHRICH_EXIT_REASON, code $POUCHRICH_EXIT_CODE" >>/run/demo/hooks
HOOK
chmod 755 /run/demo/poststop
cat >/run/demo/config.toml <<CONFIG
version = 1

[rich]
mode = "$mode"

[services]  # up before the application is
enable = [$services]

[[hooks.prestart]]
name = "prepare"
where = "container"
command = ["/bin/sh", "-c", "echo prepared by the prestart hook >/etc/motd"]

[[hooks.poststop]]
name = "clean-up"
where = "host"
command = ["/run/demo/poststop"]
CONFIG

echo "starting a private containerd"
PATH=$prefix/bin:$PATH
export CONTAINERD_ADDRESS="$base/containerd.sock"
containerd --config /dev/null --root "$base/root" --state "$base/state" --address "$CONTAINERD_ADDRESS" \
    >"$base/log" 2>&1 &
containerd=$!
tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { cat "$base/log" >&2; fail "containerd does not answer"; }
    sleep 0.1
done
ctr images import --index-name demo:latest "$cache/demo-$mode.tar" >/dev/null

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
inside() { ctr tasks exec --exec-id "demo-$$-$(date +%N)" $name "$@"; }

say "A rich container in mode $mode, which containerd created and started:"
ctr run --detach --log-uri "file://$base/application.log" --runtime io.containerd.pouchrich.v2 \
    --runtime-config-path /run/demo/config.toml demo:latest $name
ctr tasks ls
sleep 3

say "PID 1 is $(inside cat /proc/1/comm). The processes in the container:"
inside ps -eo pid,ppid,user,args --forest
say "Zombies among them, which the init should have reaped: $(inside ps -eo stat= | grep -c Z || true)"
say "The prestart hook ran before the init and wrote this to /etc/motd:"
inside cat /etc/motd
if [ "$mode" = systemd ]; then
    say "systemd is $(inside systemctl is-system-running || true); the application has logged through rsyslog:"
    inside grep legacyd /var/log/syslog || true
    say "The states of cron and rsyslog: $(inside systemctl is-active cron rsyslog | tr '\n' ' ')"
fi

say "A graceful stop: the application gets SIGTERM and exits with status 42."
ctr tasks kill --signal TERM $name
until ctr tasks ls | grep -q "^$name .*STOPPED"; do sleep 0.1; done
ctr tasks delete $name || true
ctr containers delete $name
say "The container's log is the application's output:"
cat "$base/application.log"
say "The poststop hook ran on the node after the container had ended:"
cat /run/demo/hooks
say "Left behind: $(ctr tasks ls -q | wc -l) tasks, $(ls /run/containerd/s | wc -l) sockets."
