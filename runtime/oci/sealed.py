"""An OCI runtime's program in a file that nobody can write to, shared by all processes forked from one that made it.

crun must not run from a file that a container could overwrite through /proc/PID/exe (CVE-2019-5736). From the one on
disk it makes itself such a file and begins again, at each call; from a sealed memfd it need not, and its authors mean
one to be shared (crun, src/libcrun/cloned_binary.c, is_self_cloned). That is half the time of a short call.
"""

import fcntl
import os
import shutil
from contextlib import suppress

CRUN = "crun"
"""runc is not worth its 9 MB: it copies only what it becomes in the container, once in `create` and `exec`."""

MFD_EXEC = 0x10  # Linux 6.3 (memfd_create(2))
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""Exactly those that crun asks for."""

OUT_OF_THE_WAY = 64
"""Descriptors from here on: below are those that a program is given."""

_sealed: dict[str, tuple[tuple[int, ...], int]] = {}
"""Path -> what told its file from another when it was copied, and the descriptor of the copy."""


def seal(path: str) -> None:
    """Copy the program at `path`, for this process and those that it forks. Raises OSError where the node forbids it.

    Only one that is a binary, which a descriptor can name as well as a path, and that says its version when run so.
    """
    stamp = _stamp(path)
    with open(path, "rb") as source:
        if source.read(4) != b"\x7fELF":
            raise OSError(f"{path}: not an ELF file")
        source.seek(0)
        fd = fcntl.fcntl(made := _memory_file(os.path.basename(path)), fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
        os.close(made)
        try:
            with open(fd, "wb", closefd=False) as copy:
                shutil.copyfileobj(source, copy)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            _try(_path(fd), path)
        except BaseException:
            os.close(fd)
            raise
    _sealed[path] = stamp, fd


def program(path: str) -> str:
    """What to execute for the program at `path`: its copy if there is one that still is one, else `path`."""
    if path in _sealed:
        stamp, fd = _sealed[path]
        with suppress(OSError):
            if _stamp(path) == stamp:
                return _path(fd)
    return path


def descriptors() -> tuple[int, ...]:
    """Those that a forked process must keep, in ascending order."""
    return tuple(sorted(fd for _, fd in _sealed.values()))


def _memory_file(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | MFD_EXEC)
    except OSError:  # a kernel that does not know the flag, where each may be executed
        return os.memfd_create(name, flags)


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _stamp(path: str) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _try(copy: str, path: str) -> None:
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    pid = os.posix_spawn(copy, [path, "--version"], os.environ, file_actions=quiet)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(f"{path}: {status} when run from memory")
