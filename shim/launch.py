"""Leave a spawner behind for the next `start`, at nobody's expense: after the answer, in a process of its own.

A lock file beside the socket says that a spawner lives or is on its way; the spawner inherits the lock. Of many
starters that find none, one starts one. Everything here may fail, and then there is just no spawner.
"""

import os
import sys
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from shim import start, starter

LOCK_SUFFIX = ".lock"
TITLE = "pouchrich-spawner"
TITLE_ROOM = 512
"""Bytes of command line that a spawner is started with: its children's titles go there (runtime.linux.proctitle)."""

PROGRAM = "import sys; sys.path[:] = sys.argv[1].split(':'); from shim import spawner; spawner.main(sys.argv[2:])"


def leave_spawner(key: str, *, hung: int) -> None:
    """Start a spawner for `key` unless there is one, or the configuration says no. Returns at once, raises nothing.

    `hung` is the pid of one that did not answer (starter.HUNG: not known), and is replaced; 0 for none.
    """
    try:
        if os.fork():
            return
    except OSError:
        return
    try:
        # First of all: containerd waits until nobody holds its pipe any more.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        start.ignore_no_signal()
        os.setsid()
        os.chdir("/")
        _become_spawner(key, starter.socket_path(key), hung)
    finally:
        os._exit(1)


def _become_spawner(key: str, path: str, hung: int) -> None:
    containerd = int(key.split()[4])
    pidfd = os.pidfd_open(containerd)
    lock = take_lock(path + LOCK_SUFFIX, hung=hung)
    if lock is None:
        return
    from runtime import config
    from runtime.errors import PouchrichError

    try:
        spawner = config.load_node().spawner
    except PouchrichError:  # each Create will say so
        spawner = config.DEFAULT.spawner
    if not spawner.enabled:
        os.unlink(path + LOCK_SUFFIX)
        return
    for fd in (lock, pidfd):
        os.set_inheritable(fd, True)
    given = [":".join(sys.path), path, key, str(lock), str(pidfd), str(spawner.idle_timeout_s)]
    os.execv(sys.executable, [sys.executable, "-IS", "-c", PROGRAM, *given, " " * TITLE_ROOM])


def take_lock(path: str, *, hung: int = 0) -> int | None:
    """Lock the file `path`, which then holds our pid; None while another lives who has it.

    With `hung`, the pid of its holder, the file is replaced: the holder has lost it, and finds out. Raises OSError,
    also where the directory is not root's alone to write in.
    """
    _check_directory(os.path.dirname(path))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not _lock(fd):
        holder = os.read(fd, 16)
        os.close(fd)
        if not hung or (hung != starter.HUNG and holder != str(hung).encode()):
            return None
        os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(path.removesuffix(LOCK_SUFFIX))  # let nobody else wait for it
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if not _lock(fd):
            return None
    if not is_file(fd, path):  # its last holder unlinked it while we waited to open it
        return None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd


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
