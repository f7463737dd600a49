"""The fast path of `delete`: nothing of the container is left, and only the answer to containerd is missing.

That is so after every task that was deleted properly. In all other cases `shim.manager.delete` does the work. The
conditions here match `shim.pod.cleanup`, which cleans up. Imports built-in modules, and two of ours that import
nothing.
"""

import posix
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, socket

from shim.contract import flags, peer, wire

KILLED = 137
POSTSTOP_RECORDS = "/var/lib/pouchrich/poststop"
RUN = "/run/pouchrich"
PROBE_TIMEOUT_S = 0.1


def main() -> None:
    """Answer for the command line in sys.argv and end the process; return if there is work left to do."""
    try:
        given = flags.parse(sys.argv[1:])
        if not (_is_plain(given.namespace) and _is_plain(given.id)):
            return  # report the error; or a valid name that is not a plain one
        bundle = given.bundle or posix.getcwd()
        if not is_clean(given, bundle):
            return
    except (OSError, ValueError, flags.UsageError):
        return
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    answer = wire.field_varint(1, _pid(bundle)) + wire.field_varint(2, KILLED)
    posix.write(1, answer + wire.field_bytes(3, wire.field_varint(1, seconds) + wire.field_varint(2, nanos)))
    posix._exit(0)


def is_clean(given: flags.Flags, bundle: str, *, records: str = POSTSTOP_RECORDS, run: str = RUN) -> bool:
    """Whether nothing of the container is left for `delete` to remove. Raises OSError."""
    left = (
        f"{bundle}/pouchrich.json",
        f"{records}/{given.namespace}/{given.id}.jsonl",
        f"{run}/bundles/{given.namespace}/{given.id}",
        f"{run}/pods/{given.namespace}/{given.id}",
    )
    if any(map(_is_there, left)) or _is_mounted(bundle):
        return False
    sandbox = _read(f"{bundle}/sandbox")
    if sandbox:  # the server belongs to the sandbox
        return _is_plain(sandbox) and not _is_there(f"{run}/pods/{given.namespace}/{sandbox}/{given.id}")
    address = _read(f"{bundle}/address")
    return address != "" and not _is_dead(address)


def _is_plain(name: str) -> bool:
    """Whether `name` is a usual identifier; a few unusual ones are valid too (shim.contract.identifiers)."""
    words = name.replace("_", "-").replace(".", "-").split("-")
    return len(name) <= 76 and name.isascii() and all(word.isalnum() for word in words)


def _is_there(path: str) -> bool:
    try:
        posix.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _is_mounted(bundle: str) -> bool:
    try:
        return posix.lstat(f"{bundle}/rootfs").st_dev != posix.lstat(bundle).st_dev
    except FileNotFoundError:
        return False


def _is_dead(address: str) -> bool:
    """Whether there is a socket at `address` on which no live process listens."""
    path = address.removeprefix("unix://")
    if not path.startswith("/") or not _is_there(path):
        return False
    probe = socket(AF_UNIX, SOCK_STREAM)
    probe.settimeout(PROBE_TIMEOUT_S)
    try:
        return probe.connect_ex(path) != 0 or peer.is_ending(probe)
    finally:
        probe.close()


def _read(path: str) -> str:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return posix.read(fd, 4096).decode()
    finally:
        posix.close(fd)


def _pid(bundle: str) -> int:
    try:
        return max(0, int(_read(f"{bundle}/init.pid")))
    except (OSError, ValueError):
        return 0
