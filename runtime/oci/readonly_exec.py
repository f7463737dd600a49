"""Runs an OCI runtime from a read-only mount of its file, shared by all processes forked from the one that made it.

crun and runc must not run from a file that a container could write to through /proc/PID/exe (CVE-2019-5736). Run from
an ordinary file they first make a copy of themselves, or a mount like this one, and start again: crun at each call,
runc in the container. They trust a read-only mount (crun, src/libcrun/cloned_binary.c from 1.8; runc,
libcontainer/nsenter/cloned_binary.c before 1.2; is_self_cloned), and rightly: a process that has the file open can
neither write to it, nor change its mode, nor keep others from executing it. A lease (fcntl(2), F_SETLEASE) would delay
every pod's next call, but the kernel grants none on a file that another process has open for reading, and this module
holds it open. For crun this saves half of a short call.
"""

import fcntl
import os
import signal

from runtime.linux import readable, stamp, syscalls

NAMES = ("crun", "runc")
"""The programs for which this was verified; other versions simply do what they always do."""

TRY_TIMEOUT_S = 5.0
OUT_OF_THE_WAY = 64
"""The lowest number for our descriptors; programs that we run are given lower ones."""

_held: dict[str, tuple[tuple[int, ...], int]] = {}
"""By path, the identity of its file, and the file's descriptor, open for reading, in the mount."""


def mount_readonly(path: str) -> None:
    """Mount the program at `path` for this process and those that it forks. Raises OSError where that is not possible.

    The program must be an ELF binary, which can be executed through a descriptor's path, and must print its version
    when run from the mount. Needs Linux 5.12 (mount_setattr(2)).
    """
    if path in _held:
        return
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            raise OSError(f"{path}: not an ELF file")
    seen = stamp.of_file(path)
    fd = _mount(path)
    try:
        _try(_path(fd), path)
    except BaseException:
        os.close(fd)
        raise
    _held[path] = seen, fd


def executable(path: str) -> str:
    """What to execute for the program at `path`: its mount, unless another file is at `path` by now; then `path`.

    A program that has been uninstalled is still there in its mount, for the containers that were made with it.
    """
    if path in _held:
        seen, fd = _held[path]
        if stamp.of_file(path) in (seen, ()):
            return _path(fd)
    return path


def are_unchanged() -> bool:
    """Whether every program that is held is still the installed one."""
    return all(stamp.of_file(path) == seen for path, (seen, _) in _held.items())


def descriptors() -> tuple[int, ...]:
    """The descriptors that a forked process must keep, in ascending order."""
    return tuple(sorted(fd for _, fd in _held.values()))


def _mount(path: str) -> int:
    tree = syscalls.open_tree(syscalls.AT_FDCWD, path, syscalls.OPEN_TREE_CLONE)
    try:
        syscalls.mount_setattr(tree, attr_set=syscalls.MOUNT_ATTR_RDONLY)
        file = os.open(_path(tree), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tree)
    try:
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)  # the file keeps the mount
    finally:
        os.close(file)


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _try(program: str, path: str) -> None:
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    pid = os.posix_spawn(program, [path, "--version"], os.environ, file_actions=quiet)
    pidfd = os.pidfd_open(pid)
    try:
        if not readable.within(pidfd, TRY_TIMEOUT_S):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(f"{path}: exit status {status} of --version when run by a read-only mount")
