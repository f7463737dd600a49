#!/bin/sh
# Build Kubernetes' programs from Debian's source package, with etcd and kubectl beside them, in DIR; nothing is
# installed.
#
#   hack/build-kubernetes.sh DIR
#
# The source is bookworm's, the only Debian release whose source package has all dependencies of Kubernetes, so that
# building needs no network. DIR gets kubelet, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and
# etcd; nothing happens if they exist already. Needs golang-go and dpkg-dev, some 3 GB of disk while it builds, and some
# seven minutes of CPU time (JOBS, default 2: how many compilers run at once), at the lowest priority.
set -eu
umask 022

SUITE=bookworm
BUILT="kubelet kube-apiserver kube-controller-manager kube-scheduler"
PROGRAMS="$BUILT kubectl etcd"

fail() { echo "build-kubernetes: $*" >&2; exit 1; }
. "$(dirname "$0")/own-apt.sh"
[ $# = 1 ] || fail "usage: hack/build-kubernetes.sh DIR"
case $1 in -*) fail "usage: hack/build-kubernetes.sh DIR" ;; esac
mkdir -p "$1"
dest=$(cd "$1" && pwd)
complete=yes
for name in $PROGRAMS; do [ -x "$dest/$name" ] || complete=; done
[ -z "$complete" ] || exit 0
for tool in go dpkg-source; do
    command -v $tool >/dev/null || fail "$tool not found, run: apt-get install golang-go dpkg-dev"
done

work=$(mktemp -d "$dest/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "fetching Kubernetes' source" >&2
own_apt "$(dpkg --print-architecture)" "$SUITE"
fetch download -q etcd-server kubernetes-client
fetch source -q --download-only kubernetes
for package in "$work/packages"/*.deb; do dpkg -x "$package" "$work/packages"; done

# The source gets its packages' names from its place in GOPATH: it is too old for today's Go modules.
export GOPATH="$work/go" GOCACHE="$work/compiled" GO111MODULE=off GOPROXY=off GOFLAGS= CGO_ENABLED=0
source=$GOPATH/src/k8s.io/kubernetes
mkdir -p "$GOPATH/src/k8s.io" "$work/bin"
quietly dpkg-source --no-check -x "$work"/packages/kubernetes_*.dsc "$source"
cd "$source"
version=$(sed -n '1s/^kubernetes (.*really\([0-9.]*\)-.*/\1/p' debian/changelog)
flags="-s -w"
for package in client-go/pkg/version component-base/version; do
    rest=${version#*.}
    for value in "gitVersion=v$version" "gitMajor=${version%%.*}" "gitMinor=${rest%%.*}"; do
        flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package.$value"
    done
done
compile() { quietly nice -n 19 go build -p "${JOBS:-2}" "$@"; }

# The only generated file that the source lacks: kube-apiserver's description of the API. Its generator reports violated
# rules, which must be the known ones.
echo "building Kubernetes $version (once)" >&2
compile -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
described=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg cmd plugin vendor/k8s.io/*/ |
    grep -v -e /code-generator/ -e /sample- -e /kube-openapi/ | xargs -n 1 dirname | sort -u |
    sed 's,^,k8s.io/kubernetes/,' | paste -s -d ,)
quietly nice -n 19 "$work/openapi-gen" --logtostderr --input-dirs "$described" --output-base "$GOPATH/src" \
    --output-package k8s.io/kubernetes/pkg/generated/openapi --output-file-base zz_generated.openapi \
    --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt --report-filename "$work/violations"
cmp -s "$work/violations" api/api-rules/violation_exceptions.list || fail "the API's description has unknown violations"

for name in $BUILT; do
    echo "building $name" >&2
    compile -ldflags "$flags" -o "$work/bin/$name" "./cmd/$name"
    "$work/bin/$name" --version >/dev/null || fail "$name does not run"
done
mv "$work/packages/usr/bin/etcd" "$work/packages/usr/bin/kubectl" "$work/bin/"
for name in $PROGRAMS; do mv "$work/bin/$name" "$dest/$name"; done
