"""What a starter asks of its containerd's spawner: where that listens, the form of a request, and what is answered.

A request is one SOCK_SEQPACKET message with the starter's working directory, the bundle, as a descriptor. Whoever takes
it answers TAKEN at once, and later DONE with what the starter is to print or FAILED with the reason; who cannot take
it, REFUSED with the reason. In a `delete` WARNED may come before, with text for standard error. Before TAKEN the
starter may give up, and a request that was given up is never carried out; after it there is somebody at work, and only
their death makes the starter do the work itself.

`native/spawner.c` does the same. Imports built-in modules only, for `start`.
"""

import posix
import sys

DIRECTORY = "/run/pouchrich"
TAKEN, REFUSED, WARNED, DONE, FAILED = b"t", b"!", b"w", b"+", b"-"
ANSWER_LIMIT = 65536

HUNG = -1
"""In the place of the pid of a spawner that does not answer, where it is not known."""

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

LOCK_SUFFIX = ".lock"
"""Of the file beside a spawner's socket that it has locked: its pid and, once it serves, a blank and READY."""

READY = b"ready"
_HASH_MODULUS = (1 << 61) - 1


def key() -> str:
    """The key of this process, a starter."""
    return key_of(posix.getppid(), code=sys.modules["shim"].__path__[0], python=sys.executable)


def key_of(containerd: int, *, code: str, python: str) -> str:
    """What a spawner must share with its callers, as text.

    The containerd process, from which both have inherited limits, capabilities and labels; the directory of the
    installed code and the Python that runs it; the root directory and the namespaces.
    """
    files = [(found.st_dev, found.st_ino, found.st_mtime_ns) for found in (posix.stat(code), posix.stat(python))]
    root = posix.stat("/")
    namespaces = [posix.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    numbers = (containerd, *files[0], *files[1], root.st_dev, root.st_ino)
    return " ".join([*map(str, numbers), *namespaces])


def containerd_of(key: str) -> int:
    """The pid of the containerd that a key is of."""
    return int(key.partition(" ")[0])


def socket_path(key: str) -> str:
    """Where the spawner for `key` listens. Two keys may meet in one path: a spawner compares the whole key."""
    return f"{DIRECTORY}/spawner-{int.from_bytes(key.encode(), 'big') % _HASH_MODULUS:016x}.sock"


def encode(key: str, containerd: int, args: list[str], environment: dict[bytes, bytes], stdin: bytes) -> bytes:
    """A request: words that each end with a zero byte, of which none holds one, and standard input as it is.

    The words are the key, the pid of the starter's parent, the number of arguments, the arguments, the number of
    environment variables, and these as NAME=VALUE.
    """
    words = [key.encode(), b"%d" % containerd, b"%d" % len(args), *(arg.encode(*_AS_FILE_NAMES) for arg in args)]
    words += [b"%d" % len(environment), *(b"=".join(one) for one in environment.items())]
    return b"\0".join([*words, stdin])


class Request:
    """What `encode` packed. `containerd` is the pid of the starter's parent. Raises ValueError for anything else."""

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
