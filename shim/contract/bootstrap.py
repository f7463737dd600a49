"""What containerd writes to the standard input of `start`, in each of its formats, and reads from its output. Pure.

containerd up to 2.2 writes a `google.protobuf.Any` with the runtime options, or nothing; 2.3 and later write a
`containerd.runtime.bootstrap.v1.BootstrapParams`. The input does not say which it is, and an Any decodes as
BootstrapParams with the type URL as instance id: only a message whose fields 1 and 2 equal `-id` and `-namespace` is
BootstrapParams.
"""

from shim.contract import wire

INSTANCE_ID, NAMESPACE, LOG_LEVEL, TTRPC_ADDRESS, GRPC_ADDRESS, EXTENSIONS, SOCKET_DIR = 1, 2, 3, 5, 6, 8, 9
EXTENSION_VALUE = 1
TYPE_URL, VALUE = 1, 2
RUNC_OPTIONS = "containerd.runc.v1.Options"
SHIM_CGROUP = 3  # of RUNC_OPTIONS
DEBUG = -4  # log_level; TRACE is lower, INFO is 0
SOCKET_DIR_LIMIT = 42  # containerd's own limit; a socket address holds 107 bytes, of which the name takes 65


class StartInput:
    """What `start` needs from its standard input. Strings that were not given are empty.

    `is_params`: the input was BootstrapParams, so containerd is 2.3 or later.
    """

    __slots__ = ("debug", "grpc_address", "is_params", "shim_cgroup", "socket_dir", "ttrpc_address")

    def __init__(self) -> None:
        self.shim_cgroup = self.ttrpc_address = self.grpc_address = self.socket_dir = ""
        self.debug = self.is_params = False


def parse(data: bytes, *, id: str, namespace: str) -> StartInput:
    """Read the standard input of `start`. Raises ValueError when it has neither format."""
    found = StartInput()
    if not data:
        return found
    message = wire.fields(data)
    if not (_is(message, INSTANCE_ID, id) and _is(message, NAMESPACE, namespace)):
        found.shim_cgroup = _shim_cgroup(data)
        return found
    found.is_params = True
    found.ttrpc_address = wire.text(message, TTRPC_ADDRESS)
    found.grpc_address = wire.text(message, GRPC_ADDRESS)
    found.socket_dir = _socket_dir(wire.text(message, SOCKET_DIR))
    level = next((value for number, value in reversed(message) if number == LOG_LEVEL), 0)
    found.debug = isinstance(level, int) and (level if level < 1 << 63 else level - (1 << 64)) <= DEBUG
    for number, extension in message:
        if number == EXTENSIONS and isinstance(extension, bytes):
            found.shim_cgroup = found.shim_cgroup or _shim_cgroup(wire.raw(wire.fields(extension), EXTENSION_VALUE))
    return found


def _is(message: list[tuple[int, int | bytes]], number: int, expected: str) -> bool:
    return any(found == number and value == expected.encode() for found, value in message)


def _shim_cgroup(packed: bytes) -> str:
    options = wire.fields(packed)
    if wire.text(options, TYPE_URL).rpartition("/")[2] != RUNC_OPTIONS:
        return ""
    return wire.text(wire.fields(wire.raw(options, VALUE)), SHIM_CGROUP)


def _socket_dir(path: str) -> str:
    if path and (path[0] != "/" or len(path.encode()) > SOCKET_DIR_LIMIT):
        raise ValueError(f"socket_dir: found {path!r}, allowed an absolute path of at most {SOCKET_DIR_LIMIT} bytes")
    return path


def start_answer(address: str, *, version: int) -> str:
    """The standard output of `start`: the bare `address`, which every containerd accepts, or JSON for version 3.

    Also the bare `address` if JSON would have to escape it (containerd, core/runtime/v2/shim.go, parseStartResponse).
    """
    if version < 3 or not (address.isascii() and address.isprintable()) or '"' in address or "\\" in address:
        return address
    return f'{{"version":{version},"address":"{address}","protocol":"ttrpc"}}'


def delete_response(pid: int, exit_status: int, seconds: int, nanos: int) -> bytes:
    """A serialised `containerd.task.v2.DeleteResponse`, the whole standard output of `delete`."""
    exited_at = wire.field_varint(1, seconds) + wire.field_varint(2, nanos)
    return wire.field_varint(1, pid) + wire.field_varint(2, exit_status) + wire.field_bytes(3, exited_at)
