"""The fast path of `start`: hand everything to the node's spawner, and print what it answers.

This runs once per container, so it must cost little more than the interpreter itself. It imports built-in modules only
(`_socket` is one where Python is built like Debian's) and reads neither the configuration nor config.json. Where no
spawner answers, `start` does the same work within its own process, and afterwards leaves a spawner for the next one
(`shim.launch`): nothing depends on a spawner.

A request is one SOCK_SEQPACKET message: a marshalled tuple (see `request`) and the working directory as a descriptor.
Whoever takes it answers TAKEN at once, and later DONE with the address or FAILED with the reason; who cannot take it,
REFUSED with the reason. Before TAKEN the
starter may give up, and a request that was given up is never carried out; after it there is somebody at work, and
only their death makes the starter do the work itself.
"""

import posix
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SHUT_RDWR, SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, socket

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

DIRECTORY = "/run/pouchrich"
SWITCH = b"POUCHRICH_SPAWNER"
"""The environment variable that, as `off`, keeps `start` from using or leaving a spawner."""

TAKEN_TIMEOUT_S = 1.0
"""How long a spawner may take to fork and say so, usually 1 ms.

Long enough for a machine that starts a hundred pods at once, where doing the work here would make matters worse. A
spawner that hangs costs it only once: it is replaced.
"""

TAKEN, REFUSED, DONE, FAILED = b"t", b"!", b"+", b"-"
ANSWER_LIMIT = 65536
HUNG = -1
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class NoSpawner(Exception):
    """No spawner took the request. `hung` is the pid of one that does not answer, HUNG where not known, else 0."""

    def __init__(self, reason: str, hung: int = 0) -> None:
        super().__init__(reason)
        self.hung = hung


def key() -> str:
    """What a spawner must share with its callers, as text.

    The installed code and the Python it is for; the containerd process, from which both have inherited limits,
    capabilities and labels; the namespaces and root directory.
    """
    code = posix.stat(sys.modules["shim"].__path__[0])
    root = posix.stat("/")
    namespaces = [posix.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    parts = [code.st_dev, code.st_ino, code.st_mtime_ns, sys.hexversion, posix.getppid(), root.st_dev, root.st_ino]
    return " ".join([*map(str, parts), *namespaces])


def socket_path(key: str) -> str:
    """Where the spawner for `key` listens. Two keys may meet in one path: a spawner compares the whole key."""
    # The hash of an integer is its remainder by a prime, the same in every process; hashlib would cost an import.
    return f"{DIRECTORY}/spawner-{hash(int.from_bytes(key.encode())):016x}.sock"


def request(key: str, stdin: bytes) -> bytes:
    """The request of this process: key, containerd's pid, command line, environment, standard input."""
    import marshal  # written and read by the same Python, between processes of root

    return marshal.dumps((key, posix.getppid(), sys.argv[1:], dict(posix.environ), stdin))


def ask(path: str, message: bytes) -> bytes:
    """Have the spawner at `path` carry out `message` in this directory; return DONE or FAILED and the text.

    Raises NoSpawner.
    """
    peer = socket(AF_UNIX, SOCK_SEQPACKET)
    hung = HUNG
    try:
        peer.settimeout(TAKEN_TIMEOUT_S)
        peer.connect(path)
        pid, uid = _peer(peer)
        if uid != posix.geteuid():
            raise NoSpawner(f"{path}: found a socket of uid {uid}, allowed uid {posix.geteuid()}")
        hung = pid
        directory = posix.open(".", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        peer.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, directory.to_bytes(4, sys.byteorder))])
        posix.close(directory)
        _await_taken(peer)
        hung = 0
        peer.settimeout(None)
        answer = peer.recv(ANSWER_LIMIT)
    except TimeoutError:
        raise NoSpawner(f"{path}: no answer within {TAKEN_TIMEOUT_S} s", hung) from None
    except OSError as err:
        raise NoSpawner(f"{path}: {err.strerror}") from None
    finally:
        peer.close()
    if not answer:
        raise NoSpawner(f"{path}: the process that took the request ended before it answered")
    return answer


def _peer(peer: socket) -> tuple[int, int]:
    """Pid and uid of who listens (unix(7), SO_PEERCRED)."""
    found = peer.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    return int.from_bytes(found[:4], sys.byteorder), int.from_bytes(found[4:8], sys.byteorder)


def _await_taken(peer: socket) -> None:
    """Return once the request is taken. Raises TimeoutError after making sure that it never will be, OSError."""
    try:
        word = peer.recv(ANSWER_LIMIT)
    except TimeoutError:
        # From here on TAKEN cannot be sent any more (EPIPE); if it was sent before, it is there to be read.
        peer.shutdown(SHUT_RDWR)
        word = peer.recv(ANSWER_LIMIT)
        if not word:
            raise
    if word[:1] == REFUSED:
        raise ConnectionResetError(0, word[1:].decode(errors="replace"))
    if word != TAKEN:
        raise ConnectionResetError(0, "the spawner hung up")


def main() -> "NoReturn":
    """Do `start` for the command line in sys.argv and end the process; containerd's word for the action comes last."""
    stdin = b"".join(iter(lambda: posix.read(0, 65536), b""))
    own_key = key()
    message = request(own_key, stdin)
    if posix.environ.get(SWITCH) == b"off":
        answer, hung = _alone(message, f"{SWITCH.decode()}=off"), None
    else:
        try:
            answer, hung = ask(socket_path(own_key), message), None
        except NoSpawner as err:
            from shim import launch

            known = launch.refusal(socket_path(own_key))
            answer, hung = _alone(message, f"{err} ({known})" if known else str(err)), err.hung
    kind, text = answer[:1], answer[1:]
    if kind == DONE:
        _write(1, text)
    else:
        _write(2, b"containerd-shim-pouchrich-v2: " + text + b"\n")
    if hung is not None:
        launch.leave_spawner(own_key, hung=hung)
    posix._exit(kind != DONE)


def _alone(message: bytes, reason: str) -> bytes:
    from shim import start

    return start.within_own_process(message, note=reason)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]
