#!/bin/sh
# Check the shim under a real Kubernetes: kubelet and a control plane, built here from Debian's source package.
#
#   hack/test-kubernetes.sh [--containerd RELEASE|DIR] [--oci runc|crun] [WORD]...
#   hack/test-kubernetes.sh --release ARTEFACT [--helm PROGRAM] [--pods N] [--containerd RELEASE|DIR] [--oci runc|crun]
#
# As root, on Debian amd64; with words only the cases whose titles contain one of them. Checks restart policies, Jobs,
# probes, kubectl, hooks, deletion, accidents, and restarts of kubelet and containerd, with containerd's own shim beside
# ours. With a release of hack/release.sh it checks deploy/: the DaemonSet's image is made and run, upgraded, rolled
# back and uninstalled while N rich pods (default 20) run; with --helm by that helm and deploy/chart.
#
# K8S_BIN is a directory with another Kubernetes: kubelet, kube-apiserver, kube-controller-manager, kube-scheduler,
# kubectl and etcd. Its features newer than 1.20 are then checked too (tests/kubernetes/later.py), and from 1.32 on
# deploy/'s admission policy. With --release, KUBECTL is a static kubectl for the image, if the directory's is not
# static. --containerd is a release that the tests have, or a directory with another; the default is 1.7, and 2.1 from
# Kubernetes 1.26 on.
#
# Everything runs in a private mount and network namespace, and below one cgroup and one temporary directory. The checks
# are in tests/kubernetes/checks.py; one line is printed per check, and the exit status is 1 if one failed. Takes some
# ten minutes, and as much once for building (hack/build-kubernetes.sh). Installs missing packages with apt, and leaves
# only these and a cache (POUCHRICH_CACHE, default ~/.cache/pouchrich), which also has the logs of a failed run.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POUCHRICH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pouchrich}
export POUCHRICH_CACHE="$cache" POUCHRICH_PREFIX="${POUCHRICH_PREFIX:-$cache/kubernetes/prefix}"
fail() { echo "test-kubernetes: $*" >&2; exit 1; }
. "$root/hack/packages.sh"
[ "$(id -u)" = 0 ] || fail "needs root"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "needs amd64"

needed="iproute2 openssl"
case " $* " in *" --release "*) needed="$needed umoci busybox-static zstd" ;; esac
programs=${K8S_BIN:-$cache/kubernetes/bin}
for name in kubelet kube-apiserver kube-controller-manager kube-scheduler kubectl etcd; do
    [ -z "${K8S_BIN:-}" ] || [ -x "$programs/$name" ] || fail "K8S_BIN: found no executable $name in $programs"
done
[ -x "$programs/kube-apiserver" ] || [ -n "${K8S_BIN:-}" ] || needed="$needed golang-go dpkg-dev"
install_packages $needed
"$root/hack/test.sh" prepare >&2
[ -n "${K8S_BIN:-}" ] || "$root/hack/build-kubernetes.sh" "$programs"
cd "$root"
exec "$cache/venv/bin/python" -m tests.kubernetes --programs "$programs" "$@"
