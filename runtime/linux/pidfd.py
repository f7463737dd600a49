"""Processes by descriptor (pidfd_open(2)): a PID can be reused for another process, a pidfd never is.

Functions raise OSError; ProcessLookupError means that the process is gone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from typing import NamedTuple

from runtime.linux import readable

_SO_PEERPIDFD = 77  # Linux 6.5, <asm-generic/socket.h>
_UCRED = struct.Struct("=iII")  # struct ucred of the kernel's include/linux/socket.h

# <linux/pidfd.h>: struct pidfd_info in its first published size. In Linux 6.15 the exit code replaced the spare word at
# its end, so this size is all that is needed from 6.13 on, whatever later versions add.
_INFO_SIZE = 64
_INFO_MASK = struct.Struct("=Q")
_INFO_EXIT_CODE_AT = 60
_INFO_EXIT = 1 << 3
_GET_INFO = 3 << 30 | _INFO_SIZE << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, struct pidfd_info)

# ENOTTY before 6.13, or EINVAL where the ioctl only knows namespaces; ESRCH before 6.15 once reaped.
_NO_INFO = frozenset({errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ESRCH})

_WALL = 0x40000000  # <linux/wait.h>
_CLONE_VM, _CLONE_VFORK, _CLONE_PIDFD = 0x100, 0x4000, 0x1000
_STACK_SIZE = 64 * 1024
_PROBE_STATUS = 42


class Peer(NamedTuple):
    """Who connected, in our namespaces. `pid` is 0 where the process is outside of our PID namespace."""

    pid: int
    uid: int
    gid: int


def open(pid: int) -> int:
    """A close-on-exec pidfd of the process that has this PID now. The caller owns it."""
    return os.pidfd_open(pid)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def peer_of(sock: socket.socket) -> Peer:
    """What SO_PEERCRED recorded at the connect(): the process may be gone since, and its PID another process's.

    Raises OSError.
    """
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def peer_pidfd(sock: socket.socket) -> int | None:
    """A pidfd of the process that connected, which the caller owns; None on a kernel older than 6.5.

    Raises ProcessLookupError where that process has been reaped; later kernels give a pidfd even then.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    except OSError as err:
        if err.errno == errno.ENOPROTOOPT:
            return None
        if err.errno in (errno.ESRCH, errno.EINVAL, errno.ENODATA):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), "SO_PEERPIDFD") from err
        raise
    return int.from_bytes(raw, sys.byteorder)  # close-on-exec, as all pidfds are made


def pid_of(pidfd: int) -> int:
    """The process's PID here. Raises ProcessLookupError once it is reaped, or where our PID namespace has none."""
    for line in _read(f"/proc/self/fdinfo/{pidfd}").splitlines():
        if line.startswith(b"Pid:"):
            pid = int(line[4:])
            if pid <= 0:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"pidfd {pidfd}")
            return pid
    raise OSError(errno.EBADF, os.strerror(errno.EBADF), f"fd {pidfd} is no pidfd")


def send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2). Raises ProcessLookupError once the process is reaped; a zombie ignores signals silently."""
    signal.pidfd_send_signal(pidfd, number)


def is_alive(pidfd: int) -> bool:
    """Whether the process has not ended. A zombie has ended: nothing of it runs, but its PID is not reused yet."""
    return not readable.within(pidfd, 0.0)


def exit_status(pidfd: int) -> int | None:
    """The exit code, or 128 + n when signal n killed it. The caller need not be its parent.

    None until the process is reaped, and always on kernels before 6.15, which do not keep the status. The pidfd must
    have been opened before the end.
    """
    info = bytearray(_INFO_SIZE)
    _INFO_MASK.pack_into(info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError as err:
        if err.errno in _NO_INFO:
            return None
        raise
    if not _INFO_MASK.unpack_from(info)[0] & _INFO_EXIT:
        return None
    (wait_status,) = struct.unpack_from("=i", info, _INFO_EXIT_CODE_AT)
    return status_of(wait_status)


def zombie_status(pidfd: int) -> int | None:
    """The same for a process that has ended and is not reaped, by the last field of /proc/PID/stat (proc_pid_stat(5)).

    None if it is alive, reaped, or not readable for us (a ptrace access check, which root passes). The kernel shows the
    first thread's status: correct unless that thread ended before the others, which 6.18 is known to account for.
    """
    if is_alive(pidfd):
        return None
    try:
        pid = pid_of(pidfd)
        stat = _read(f"/proc/{pid}/stat")
        # A reader without permission sees 0 in this field. Following this link takes the same check.
        permitted = os.access(f"/proc/{pid}/ns/pid", os.F_OK)
        if not permitted or pid_of(pidfd) != pid:
            return None
    except (ProcessLookupError, FileNotFoundError):
        return None
    return status_of(int(stat.split()[-1]))


def status_of(wait_status: int) -> int:
    """A wait(2) status as a shell and OCI give it: the exit code, or 128 + n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def supports_exit_info() -> bool:
    """Whether `exit_status` works on this kernel.

    Up to Linux 6.14 the information on a live process is the same as later, so only a dead process shows a difference.
    This makes one, in some 0.1 ms: a child that shares our memory (no page table is copied) and runs the C library's
    _exit() on a stack of its own, hidden from every wait that does not ask for it (exit signal 0).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *(ctypes.c_void_p,) * 4)
    stack = ctypes.create_string_buffer(_STACK_SIZE)
    top = (ctypes.addressof(stack) + _STACK_SIZE) & ~0xF
    pidfd = ctypes.c_int(-1)
    function = ctypes.cast(libc._exit, ctypes.c_void_p)
    flags = _CLONE_VM | _CLONE_VFORK | _CLONE_PIDFD
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid: int = libc.clone(function, top, flags, _PROBE_STATUS, ctypes.addressof(pidfd), None, None)
        number = ctypes.get_errno()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    if pid < 0:
        raise OSError(number, os.strerror(number), "clone: probe")
    os.waitpid(pid, _WALL)
    try:
        return exit_status(pidfd.value) == _PROBE_STATUS
    finally:
        os.close(pidfd.value)
