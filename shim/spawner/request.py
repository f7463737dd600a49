"""The protocol between a starter and its containerd's spawner: the socket, the form of a request, and the answers.

A request is one SOCK_SEQPACKET message with the starter's working directory, the bundle, as a descriptor. The child
that takes it answers TAKEN at once, and later DONE with the text for the starter to print, or FAILED with the reason.
If it cannot take the request, it answers REFUSED with the reason. For a `delete`, WARNED may come first, with text for
standard error. Before TAKEN the starter may give up, and a request that was given up is never carried out. After TAKEN
the starter waits, and does the work itself only if the child dies.

`native/spawner.c` does the same. Imports built-in modules only, for `start`.
"""

import posix
import sys

DIRECTORY = "/run/pouchrich"
TAKEN, REFUSED, WARNED, DONE, FAILED = b"t", b"!", b"w", b"+", b"-"
ANSWER_LIMIT = 65536

HUNG = -1
"""Stands for the PID of a spawner that does not answer, if the PID is unknown."""

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

LOCK_SUFFIX = ".lock"
"""The suffix of the spawner's lock file beside its socket. It holds the PID and, once it serves, a blank and READY."""

READY = b"ready"
_HASH_MODULUS = (1 << 61) - 1


def key() -> str:
    """The key for this process, a starter."""
    return key_of(posix.getppid(), code=sys.modules["shim"].__path__[0], python=sys.executable)


def key_of(containerd: int, *, code: str, python: str) -> str:
    """What a spawner and its callers must have in common, as text.

    That is the containerd process, from which both have inherited limits, capabilities and labels; the directory of the
    installed code and the Python that runs it; the root directory and the namespaces.
    """
    files = [(found.st_dev, found.st_ino, found.st_mtime_ns) for found in (posix.stat(code), posix.stat(python))]
    root = posix.stat("/")
    namespaces = [posix.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    numbers = (containerd, *files[0], *files[1], root.st_dev, root.st_ino)
    return " ".join([*map(str, numbers), *namespaces])


def containerd_of(key: str) -> int:
    """The PID of the containerd in `key`."""
    return int(key.partition(" ")[0])


def socket_path(key: str) -> str:
    """Where the spawner for `key` listens. Two keys may have the same path, so a spawner compares the whole key."""
    return f"{DIRECTORY}/spawner-{int.from_bytes(key.encode(), 'big') % _HASH_MODULUS:016x}.sock"


def encode(key: str, containerd: int, args: list[str], environment: dict[bytes, bytes], stdin: bytes) -> bytes:
    """A request: words that each end with a zero byte, and contain none, followed by standard input unchanged.

    The words are the key, the PID of the starter's parent, the number of arguments, the arguments, the number of
    environment variables, and the variables as NAME=VALUE.
    """
    words = [key.encode(), b"%d" % containerd, b"%d" % len(args), *(arg.encode(*_AS_FILE_NAMES) for arg in args)]
    words += [b"%d" % len(environment), *(b"=".join(one) for one in environment.items())]
    return b"\0".join([*words, stdin])


class Request:
    """What `encode` packed. `containerd` is the PID of the starter's parent. Raises ValueError for other bytes."""

    __slots__ = ("args", "containerd", "environment", "key", "stdin")

    def __init__(self, message: bytes) -> None:
        key, containerd, count, rest = message.split(b"\0", 3)
        args, rest = _words(int(count), rest)
        count, rest = rest.split(b"\0", 1)
        variables, self.stdin = _words(int(count), rest)
        self.key = key.decode()
        self.containerd = int(containerd)
        self.args = [arg.decode(*_AS_FILE_NAMES) for arg in args]
        self.environment = {name: value for name, is_one, value in (one.partition(b"=") for one in variables) if is_one}


_AS_FILE_NAMES = ("utf-8", "surrogateescape")


def _words(count: int, rest: bytes) -> tuple[list[bytes], bytes]:
    if not 0 <= count <= len(rest):
        raise ValueError(f"request: found {count} words in {len(rest)} bytes")
    *words, rest = rest.split(b"\0", count)
    if len(words) != count:
        raise ValueError(f"request: found {len(words)} words, not {count}")
    return words, rest
