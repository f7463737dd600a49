"""`start`: hands everything to the node's spawner, and prints the spawner's answer (`shim.spawner.request`).

This runs once per container where the native program does not (`native/`), so it must cost little more than the
interpreter itself: it imports built-in modules only (`_socket` is built in where Python is built like Debian's) and
reads neither the configuration nor config.json. If no spawner answers, it begins one and asks that one
(`shim.spawner.launch`). If no spawner can be begun, it does the work in its own process: nothing depends on a spawner.
`-info` begins a spawner too, if containerd runs it.
"""

import posix
import sys
import time
from _socket import AF_UNIX, SCM_RIGHTS, SHUT_RDWR, SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, socket

from shim.spawner.request import (
    ANSWER_LIMIT,
    DIRECTORY,
    DONE,
    HUNG,
    LOCK_SUFFIX,
    READY,
    REFUSED,
    TAKEN,
    encode,
    key,
    socket_path,
)

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

SWITCH = b"POUCHRICH_SPAWNER"
"""The environment variable that, as `off`, keeps `start` from using or leaving a spawner."""

CONTAINERD = b"containerd"

TAKEN_TIMEOUT_S = 1.0
"""How long a spawner may take to fork and answer TAKEN, which usually takes 1 ms.

Long enough for a machine that starts a hundred pods at once, where doing the work here would make things worse. A
spawner that hangs costs this time only once, because it is then replaced.
"""

BOOT_TIMEOUT_S = 10.0
"""How long a spawner that is just being begun may take; it needs half a second of CPU time."""

BEGIN_TRIES = 3
"""How often a spawner is begun for one request: it may be killed before it serves."""

ABSENT_PAUSE_S, ABSENT_TRIES = 0.01, 100


class NoSpawner(Exception):
    """No spawner took the request. `hung` is the PID of a spawner that does not answer, HUNG if unknown, else 0.

    `is_absent`: nobody listened.
    """

    def __init__(self, reason: str, hung: int = 0, *, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.hung = hung
        self.is_absent = is_absent


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
        _await_taken(peer, path + LOCK_SUFFIX)
        hung = 0
        peer.settimeout(None)
        answer = peer.recv(ANSWER_LIMIT)
    except TimeoutError:
        raise NoSpawner(f"{path}: no answer in time", hung) from None
    except OSError as err:
        is_absent = isinstance(err, (FileNotFoundError, ConnectionRefusedError))
        raise NoSpawner(f"{path}: {err.strerror}", is_absent=is_absent) from None
    finally:
        peer.close()
    if not answer:
        raise NoSpawner(f"{path}: the process that took the request ended before it answered")
    return answer


def _peer(peer: socket) -> tuple[int, int]:
    """PID and uid of the process that listens (unix(7), SO_PEERCRED)."""
    found = peer.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    return int.from_bytes(found[:4], sys.byteorder), int.from_bytes(found[4:8], sys.byteorder)


def _await_taken(peer: socket, lock: str) -> None:
    """Return once the request is taken. Raises TimeoutError after making sure that it never will be, OSError."""
    try:
        word = _first_word(peer, lock)
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


def _first_word(peer: socket, lock: str) -> bytes:
    """The spawner's first message. Waits longer for a spawner that is being begun. Raises TimeoutError, OSError."""
    began = time.monotonic()
    while True:
        try:
            return peer.recv(ANSWER_LIMIT)
        except TimeoutError:
            if _has_served_for(lock) >= TAKEN_TIMEOUT_S or time.monotonic() - began >= BOOT_TIMEOUT_S:
                raise


def _has_served_for(lock: str) -> float:
    """For how many seconds the spawner with this lock file has served; 0 if it does not serve yet."""
    try:
        fd = posix.open(lock, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
        try:
            is_ready = posix.read(fd, 32).endswith(READY)
            return max(0.0, time.time() - posix.fstat(fd).st_mtime) if is_ready else 0.0
        finally:
            posix.close(fd)
    except OSError:
        return TAKEN_TIMEOUT_S  # replaced or gone: do not wait longer


def main() -> "NoReturn":
    """Do `start` for the command line in sys.argv, whose last word is the action, and end the process."""
    stdin = b"".join(iter(lambda: posix.read(0, 65536), b""))
    own_key = key()
    message = encode(own_key, posix.getppid(), sys.argv[1:], posix.environ, stdin)
    if posix.environ.get(SWITCH) == b"off":
        answer = _run_without_spawner(message, f"{SWITCH.decode()}=off")
    else:
        try:
            answer = ask(socket_path(own_key), message)
        except NoSpawner as err:
            answer = _ask_new_spawner(own_key, message, err)
    kind, text = answer[:1], answer[1:]
    if kind == DONE:
        _write(1, text)
    else:
        _write(2, b"containerd-shim-pouchrich-v2: " + text + b"\n")
    posix._exit(kind != DONE)


def begin_spawner_for_containerd() -> None:
    """Begin a spawner on `-info`, which containerd runs before the first pods. Raises nothing: the answer needs none.

    Only if containerd is the parent: a spawner lives as long as its parent process, which could be a shell.
    """
    if posix.environ.get(SWITCH) != b"off" and is_containerd(posix.getppid()):
        from shim.spawner import launch

        try:
            launch.ensure_spawner(key(), hung=0)
            _release_native_lock()
        except OSError:  # `start` will fail the same way, and report it
            pass


def is_containerd(pid: int) -> bool:
    """Whether the kernel's name of a process begins with "containerd" (proc_pid_comm(5)). `native/` checks the same."""
    try:
        fd = posix.open(f"/proc/{pid}/comm", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return posix.read(fd, 16).startswith(CONTAINERD)
        finally:
            posix.close(fd)
    except OSError:  # it has ended
        return False


def _ask_new_spawner(key: str, message: bytes, why: NoSpawner) -> bytes:
    """Begin a spawner and have it do the work; do the work here only if no spawner can be begun."""
    from shim.spawner import launch

    path = socket_path(key)
    for _ in range(BEGIN_TRIES):
        is_there = launch.ensure_spawner(key, hung=why.hung)
        _release_native_lock()
        if not is_there:
            break
        try:
            return _ask_when_there(path, message)
        except NoSpawner as err:
            why = err
        if why.hung:  # do not wait for a hung spawner again
            break
    known = launch.read_refusal(path)
    return _run_without_spawner(message, f"{why} ({known})" if known else str(why))


def _release_native_lock() -> None:
    """Release the native program's lock, now that a spawner listens or never will: other starters wait (spawner.c)."""
    for name in posix.listdir("/proc/self/fd"):
        try:
            if posix.readlink(f"/proc/self/fd/{name}") == DIRECTORY:
                posix.close(int(name))
        except OSError:  # the descriptor of the listing itself
            pass


def _ask_when_there(path: str, message: bytes) -> bytes:
    """As `ask`, but retry while another starter is about to make a spawner listen. Raises NoSpawner."""
    for _ in range(ABSENT_TRIES):
        try:
            return ask(path, message)
        except NoSpawner as err:
            if not err.is_absent:
                raise
        time.sleep(ABSENT_PAUSE_S)
    return ask(path, message)


def _run_without_spawner(message: bytes, reason: str) -> bytes:
    from shim.spawner import child

    return child.run_without_spawner(message, note=reason)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]
