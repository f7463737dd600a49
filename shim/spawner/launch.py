"""Begins a spawner when `start` finds none: a separate process, to which the starter then sends its request.

The spawner's socket listens before the spawner has imported anything. So the starters of a node that has just booted
wait for it, instead of each becoming a pod server that shares no memory with the others. A lock file beside the socket
says that a spawner lives or is being begun; the spawner inherits both. Of many starters, one begins the spawner. If
anything here fails, there is just no spawner: the pod's log has the reason, and so has a file beside the socket, for
the next pod's log and for `pouchrich doctor`.
"""

import os
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from runtime.errors import text_of
from shim.spawner import child, request
from shim.spawner.request import HUNG, LOCK_SUFFIX, READY

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

REFUSED_SUFFIX, WARMUP_SUFFIX = ".refused", ".warmup"
REFUSED_LIMIT = 1024
BACKLOG = 512
TITLE = "pouchrich-spawner"
TITLE_ROOM = 512
"""Bytes of padding in the spawner's command line, as room for its children's titles (runtime.linux.proctitle)."""

_LISTENING = b"l"
_BUSY = 3

PROGRAM = "import sys; sys.path[:] = sys.argv[1].split(':'); from shim.spawner import entry; entry.main(sys.argv[2:])"


def ensure_spawner(key: str, *, hung: int) -> bool:
    """Begin a spawner for `key`, unless another process does so or the configuration forbids it. Raises nothing.

    `hung` is the PID of a spawner that did not answer, which is replaced (HUNG: PID unknown); 0 for none. Return
    whether a spawner listens now or, if another process is beginning it, is about to.
    """
    path = request.socket_path(key)
    try:
        news, tell = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
    except OSError as err:
        _say(child.open_log(), f"fork: {err.strerror}")
        return False
    if pid == 0:
        _begin_in_child(key, path, hung, tell)
    os.close(tell)
    is_listening = os.read(news, 1) == _LISTENING
    os.close(news)
    return is_listening or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == _BUSY


def _begin_in_child(key: str, path: str, hung: int, tell: int) -> "NoReturn":
    log = -1
    try:
        # First of all, because containerd waits until its pipe is closed.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, tell)
        os.closerange(tell + 1, os.sysconf("SC_OPEN_MAX"))
        log = child.open_log()
        child.reset_signal_dispositions()
        os.setsid()
        os.chdir("/")
        _become_spawner(key, path, hung, tell)
    except BaseException as err:
        reason = text_of(err)
        record_refusal(path, reason)
        _say(log, reason)
    finally:
        os._exit(1)


def record_refusal(path: str, reason: str) -> None:
    """Record, in a file beside the socket `path`, why there is no spawner. Raises nothing."""
    try:
        _check_directory(os.path.dirname(path))
        new = f"{path}{REFUSED_SUFFIX}.{os.getpid()}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, reason.encode(errors="replace")[:REFUSED_LIMIT])
        finally:
            os.close(fd)
        os.rename(new, path + REFUSED_SUFFIX)
    except OSError:
        pass


def clear_refusal(path: str) -> None:
    """Remove the recorded reason: there is a spawner at `path`. Raises nothing."""
    with suppress(OSError):
        os.unlink(path + REFUSED_SUFFIX)


def read_refusal(path: str) -> str:
    """The recorded reason why there is no spawner at `path`, or "". Raises nothing."""
    try:
        _check_directory(os.path.dirname(path))
        fd = os.open(path + REFUSED_SUFFIX, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.read(fd, REFUSED_LIMIT).decode(errors="replace")
        finally:
            os.close(fd)
    except FileNotFoundError:
        return ""
    except OSError as err:
        return str(err)


def _say(log: int, reason: str) -> None:
    """Write to the pod's log, if anybody reads it. Raises nothing."""
    import logging

    from shim.pod.log import format_record

    words = f"no spawner can start, so each further pod uses about 18 MiB more: {reason}"
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": words})
    with suppress(OSError):
        os.write(log, format_record(record).encode(errors="replace"))


def _become_spawner(key: str, path: str, hung: int, tell: int) -> "NoReturn":
    containerd = request.containerd_of(key)
    pidfd = os.pidfd_open(containerd)
    lock = take_lock(path + LOCK_SUFFIX, hung=hung)
    if lock is None:
        os._exit(_BUSY)
    _remove_dead(os.path.dirname(path))
    from runtime import config
    from runtime.errors import PouchrichError

    try:
        spawner = config.load_node(programs=False).spawner
    except PouchrichError:  # each Create will report it
        spawner = config.DEFAULT.spawner
    if not spawner.enabled:
        os.unlink(path + LOCK_SUFFIX)
        os._exit(0)
    listener = _listen(path)
    for fd in (lock, pidfd, listener):
        os.set_inheritable(fd, True)
    os.write(tell, _LISTENING)
    given = [":".join(sys.path), path, key, str(lock), str(pidfd), str(listener), str(spawner.idle_timeout_s)]
    os.execv(sys.executable, [sys.executable, "-IS", "-c", PROGRAM, *given, " " * TITLE_ROOM])


def _listen(path: str) -> int:
    """A listening socket at `path`, replacing a dead spawner's socket. The caller has the lock. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket(AF_UNIX, SOCK_SEQPACKET)
    mask = os.umask(0o177)
    listener.bind(path)
    os.umask(mask)
    listener.listen(BACKLOG)
    return listener.detach()


def mark_ready(lock: int) -> None:
    """Note in the lock file that the spawner serves from now on. Raises OSError."""
    os.ftruncate(lock, 0)  # a successor's PID may have fewer digits
    os.pwrite(lock, f"{os.getpid()} {READY.decode()}".encode(), 0)


def take_lock(path: str, *, hung: int = 0) -> int | None:
    """Lock the file `path` and write our PID to it; None if a live process has the lock.

    If `hung` is the holder's PID, the file is replaced: the holder then notices that it has lost the lock. Raises
    OSError, also where others than root may write to the directory.
    """
    _check_directory(os.path.dirname(path))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not _lock(fd):
        holder = os.read(fd, 32).split()
        os.close(fd)
        if not hung or (hung != HUNG and holder[:1] != [str(hung).encode()]):
            return None
        os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(path.removesuffix(LOCK_SUFFIX))  # so that no other starter waits for it
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if not _lock(fd):
            return None
    if not is_file(fd, path):  # its last holder unlinked it before we locked it
        return None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd


def _remove_dead(directory: str) -> None:
    """Remove what killed spawners have left whose containerd has ended with them: nobody else would. Raises nothing.

    A lock file without a PID is just being made.
    """
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith("spawner-") and name.endswith(LOCK_SUFFIX):
                with suppress(OSError):
                    _remove_if_dead(f"{directory}/{name}")


def _remove_if_dead(lock: str) -> None:
    import shutil  # of no use to a starter

    fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not os.read(fd, 1) or not _lock(fd) or not is_file(fd, lock):
            return
        path = lock.removesuffix(LOCK_SUFFIX)
        with suppress(FileNotFoundError):
            os.unlink(path)
        shutil.rmtree(path + WARMUP_SUFFIX, ignore_errors=True)
        clear_refusal(path)
        os.unlink(lock)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_file(fd: int, path: str) -> bool:
    """Whether `path` still names the file behind `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _check_directory(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o711)
    found = os.stat(path, follow_symlinks=False)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{path}: found uid {found.st_uid} and mode {found.st_mode & 0o7777:04o}")
