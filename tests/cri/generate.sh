#!/bin/sh
# Regenerate tests/cri/gen from the .proto files in tests/cri. PYTHON names an interpreter that has grpcio-tools.
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m grpc_tools.protoc -I tests/cri --python_out=tests/cri/gen --pyi_out=tests/cri/gen \
    containers.proto runtime.proto tasks.proto
# The stubs use bare generics, which strict mypy refuses.
sed -i '1i # mypy: ignore-errors' tests/cri/gen/*_pb2.pyi
