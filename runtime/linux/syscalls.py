"""Typed system calls that Python 3.11's `os` lacks.

Every function raises `OSError(errno, strerror, "OPERATION: WHAT")` on failure, so that `str(err)` says everything:
`[Errno 2] No such file or directory: 'mount: /run/x'`. Nothing here decides anything. Importing it does no I/O beyond
loading ctypes: the C library is the one already in the process (`CDLL(None)`).

ctypes releases the GIL during each call, so a blocking mount blocks only its own thread.
"""

from __future__ import annotations

import ctypes
import errno
import os

# Since Linux 5.1 a new system call has one number on all architectures but alpha (kernel:
# scripts/syscall.tbl), so these are right on x86-64 and arm64.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# <sys/mount.h>
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

# <linux/openat2.h>
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# <linux/mount.h>
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_SYMLINKS = 0x10
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_IDMAP = 0x100000

# <linux/sched.h>
CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# <linux/inotify.h>
IN_MODIFY = 0x2
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SCHED_CORE = 62
_PR_SCHED_CORE_CREATE = 1
_PR_SCHED_CORE_SCOPE_PROCESS_GROUP = 2

_RESOLVE_ATTEMPTS = 64

Path = str | bytes | os.PathLike[str]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
# syscall(2) by a function pointer with known argument types, so that no call has to convert its arguments by hand.
_openat2 = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, use_errno=True
)(("syscall", _libc))
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def _error(number: int, operation: str, what: Path) -> OSError:
    return OSError(number, os.strerror(number), f"{operation}: {os.fsdecode(what)}")


def _check(result: int, operation: str, what: Path) -> int:
    if result < 0:
        raise _error(ctypes.get_errno(), operation, what)
    return result


def _c_string(value: Path, operation: str) -> bytes:
    """`value` as the kernel reads it. Raises OSError (EINVAL) for a NUL, at which ctypes would silently cut it."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise _error(errno.EINVAL, operation, encoded)
    return encoded


def mount(source: Path | None, target: Path, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). `None` is a null pointer, as remounts, binds and propagation changes need."""
    _check(
        _libc.mount(
            None if source is None else _c_string(source, "mount"),
            _c_string(target, "mount"),
            None if fstype is None else _c_string(fstype, "mount"),
            flags,
            None if data is None else _c_string(data, "mount"),
        ),
        "mount",
        target,
    )


def umount2(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_c_string(target, "umount"), flags), "umount", target)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """openat2(2), Linux 5.6; always close-on-exec. The caller owns the descriptor.

    By default `dirfd` is the root of the walk: `/`, `..` and symbolic links cannot lead out of it. A rename or mount
    that races with a `..` makes the kernel give up with EAGAIN, which is retried a limited number of times (openat2(2),
    ERRORS). `mode` must be 0 unless `flags` creates a file.
    """
    encoded = _c_string(path, "openat2")
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RESOLVE_ATTEMPTS):
        fd: int = _openat2(_SYS_OPENAT2, dirfd, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0 or ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return _check(fd, "openat2", path)


def open_tree(dirfd: int, path: Path, flags: int) -> int:
    """open_tree(2), Linux 5.2: a descriptor of a mount, or with OPEN_TREE_CLONE of a detached copy of it."""
    result: int = _libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE),
        ctypes.c_long(dirfd),
        ctypes.c_char_p(_c_string(path, "open_tree")),
        ctypes.c_ulong(flags | OPEN_TREE_CLOEXEC),
    )
    return _check(result, "open_tree", path)


def move_mount(tree: int, to_fd: int, to_path: Path, flags: int = 0) -> None:
    """move_mount(2), Linux 5.2: attach the detached mount `tree`, or move an attached one."""
    result: int = _libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT),
        ctypes.c_long(tree),
        ctypes.c_char_p(b""),
        ctypes.c_long(to_fd),
        ctypes.c_char_p(_c_string(to_path, "move_mount")),
        ctypes.c_ulong(flags | MOVE_MOUNT_F_EMPTY_PATH),
    )
    _check(result, "move_mount", to_path)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(tree: int, flags: int = 0, *, attr_set: int, userns_fd: int = 0) -> None:
    """mount_setattr(2), Linux 5.12, for the mount `tree`. `userns_fd` counts only with MOUNT_ATTR_IDMAP."""
    attr = _MountAttr(attr_set, 0, 0, userns_fd)
    result: int = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(tree),
        ctypes.c_char_p(b""),
        ctypes.c_ulong(flags | AT_EMPTY_PATH),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
    _check(result, "mount_setattr", "")


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _check(_libc.unshare(flags), "unshare", hex(flags))


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2) for the calling thread; `fd` is a namespace file or a pidfd."""
    _check(_libc.setns(fd, nstype), "setns", f"fd {fd}")


def _prctl(operation: str, option: int, *args: int) -> None:
    _check(_libc.prctl(option, *args, *(0,) * (4 - len(args))), "prctl", operation)


def set_child_subreaper() -> None:
    """Make this process the parent of descendants that lose theirs. Not inherited by fork."""
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def set_pdeathsig(signal_number: int) -> None:
    """Set the signal that this process gets when the *thread* that made it ends; 0 clears it.

    fork and a set-id exec clear it.
    """
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal_number)


def set_name(comm: str) -> None:
    """Set the calling thread's `comm`; the kernel keeps the first 15 bytes."""
    name = ctypes.create_string_buffer(_c_string(comm, "prctl"))
    _prctl("PR_SET_NAME", _PR_SET_NAME, ctypes.addressof(name))


def sched_core_create_pgrp() -> None:
    """Give this process's group its own core-scheduling cookie (containerd's SCHED_CORE=1).

    Raises ENODEV without SMT and EINVAL on a kernel without CONFIG_SCHED_CORE.
    """
    _prctl("PR_SCHED_CORE", _PR_SCHED_CORE, _PR_SCHED_CORE_CREATE, 0, _PR_SCHED_CORE_SCOPE_PROCESS_GROUP)


def inotify_init1(flags: int = IN_NONBLOCK | IN_CLOEXEC) -> int:
    """inotify_init1(2). The caller owns the descriptor."""
    return _check(_libc.inotify_init1(flags), "inotify_init1", "")


def inotify_add_watch(fd: int, path: Path, mask: int) -> int:
    """inotify_add_watch(2). Returns the watch descriptor."""
    return _check(_libc.inotify_add_watch(fd, _c_string(path, "inotify_add_watch"), mask), "inotify_add_watch", path)
