"""`-info`: what the runtime offers, as a serialised `containerd.types.RuntimeInfo` (api/types/introspection.proto).

containerd runs it to learn whether user namespaces and recursive read-only mounts work: 2.0 and later for handlers of
type `io.containerd.runc.v2`, 2.2.7, 2.3.4, 2.4 and later for all. The options on the standard input select the OCI
runtime. For a runtime type that is not containerd's own, 2.2 and later run it before each task until one answer has
come: on a node that boots, for all of its first pods at once. And 2.0 and later run it before each container with
ID-mapped mounts.

For a pod with a user namespace containerd's CRI plugin adds the owner of the streams to the task's options. It can do
so only if there are no options or they are `containerd.runc.v1.Options` (client/task.go, getRuncOptions). A handler of
our type with an options table has another type, so its pods would be admitted and then fail to start. For such a
handler the answer says that the OCI runtime has no ID-mapped mounts; the kubelet then refuses pods with
`hostUsers: false`.
"""

import json
import os

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from protos.gen import types_pb2
from runtime.errors import InvalidArgument, RuntimeFailed
from runtime.oci import argv
from runtime.oci.cli import MemoryFile
from shim import __version__
from shim.task.create import options

NAME = "io.containerd.pouchrich.v2"
FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
LIMIT = 1 << 20


def answer(stdin: bytes) -> bytes:
    """Return the serialised RuntimeInfo for `stdin`, a serialised Any of the handler's options or nothing.

    Features are left out if the OCI runtime cannot report them.

    Raises InvalidArgument for bad options or a bad configuration, and if the OCI runtime is not installed.
    """
    try:
        packed = Any.FromString(stdin)
    except DecodeError as err:
        raise InvalidArgument("standard input: not a google.protobuf.Any with runtime options") from err
    binary = options.read(packed).oci_binary({}, "")
    info = types_pb2.RuntimeInfo(name=NAME, version=types_pb2.RuntimeVersion(version=__version__))
    if stdin:
        info.options.CopyFrom(packed)
    try:
        features = json.loads(_features(binary.path))
    except (RuntimeFailed, ValueError, RecursionError):
        return info.SerializeToString()
    if options.is_handlers_table(packed):
        _withdraw_idmap(features)
    info.features.type_url = FEATURES
    info.features.value = json.dumps(features).encode()
    return info.SerializeToString()


def _withdraw_idmap(features: object) -> None:
    """Set `linux.mountExtensions.idmap.enabled` of the runtime specification's features object to false."""
    for key in ("linux", "mountExtensions", "idmap"):
        if not isinstance(features, dict):
            return
        features = features.get(key)
    if isinstance(features, dict):
        features["enabled"] = False


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
