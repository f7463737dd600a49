#!/bin/sh
# usage: hack/gen-protos.sh [--check]
#
# Makes protos/gen/*_pb2.py and their stubs from protos/*.proto. --check makes them in a temporary directory instead and
# exits 1 with a diff if the committed files differ. PYTHON is the interpreter that has grpcio-tools.
#
# The version of grpcio-tools is pinned, because it determines the oldest protobuf runtime that loads the files. 1.80.0
# makes code for protobuf 6.31.1, which every later 6.x runtime and every 7.x runtime loads.
set -eu
pinned=1.80.0
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

found=$("$python" -c 'from importlib.metadata import version; print(version("grpcio-tools"))' 2>/dev/null || echo none)
if [ "$found" != "$pinned" ]; then
    echo "gen-protos: grpcio-tools of $python is $found, needed is $pinned" >&2
    exit 2
fi

# Map the sources to the import path protos/gen, so that the modules import each other from that package.
generate() {
    (cd "$root" && "$python" -m grpc_tools.protoc --proto_path=protos/gen=protos \
        --python_out="$1" --pyi_out="$1" $(cd protos && printf 'protos/gen/%s ' *.proto))
}

case "${1:-}" in
--check)
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    generate "$out"
    touch "$out/protos/gen/__init__.py"
    diff -ru --exclude=__pycache__ "$root/protos/gen" "$out/protos/gen" || exit 1
    ;;
"")
    rm -f "$root"/protos/gen/*_pb2.py "$root"/protos/gen/*_pb2.pyi
    generate "$root"
    ;;
*)
    echo "usage: hack/gen-protos.sh [--check]" >&2
    exit 2
    ;;
esac
