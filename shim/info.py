"""`-info`: what the runtime offers, as a serialised `containerd.types.RuntimeInfo` (api/types/introspection.proto).

containerd 2.x asks to learn whether user namespaces and recursive read-only mounts work. The options on the standard
input decide which OCI runtime answers.
"""

import os

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from protos.gen import types_pb2
from runtime.errors import InvalidArgument, RuntimeFailed
from runtime.oci import argv
from runtime.oci.cli import MemoryFile
from shim import __version__
from shim.task import settings

NAME = "io.containerd.pouchrich.v2"
FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
LIMIT = 1 << 20


def answer(stdin: bytes) -> bytes:
    """Return the serialised RuntimeInfo. Features are left out where the OCI runtime cannot tell them.

    Raises InvalidArgument for options or a configuration at fault, and where the OCI runtime is not installed.
    """
    try:
        options = Any.FromString(stdin)
    except DecodeError as err:
        raise InvalidArgument("standard input: not a google.protobuf.Any with runtime options") from err
    binary = settings.read(options).oci_binary({}, "")
    info = types_pb2.RuntimeInfo(name=NAME, version=types_pb2.RuntimeVersion(version=__version__))
    if stdin:
        info.options.CopyFrom(options)
    try:
        features = _features(binary.path)
    except RuntimeFailed:
        pass
    else:
        info.features.type_url = FEATURES
        info.features.value = features
    return info.SerializeToString()


def _features(binary: str) -> bytes:
    with MemoryFile("features") as output:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output.fd, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        pid = os.posix_spawn(binary, [binary, *argv.features()], os.environ, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeFailed(f"{binary} features: exit status {os.waitstatus_to_exitcode(status)}")
        return output.read(LIMIT)
