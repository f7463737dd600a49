"""Idmapped mounts: a tree's owners shifted by a user namespace's ID maps (mount_setattr(2)).

Such a mount takes its maps from an existing user namespace. Writing the maps takes a process in that namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runtime.errors import InvalidArgument
from runtime.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator

_WALL = 0x40000000  # <linux/wait.h>
_STACK_SIZE = 64 * 1024
_ID_LIMIT = 1 << 32

# The longest that a child outlives a parent that is killed before it ends the child.
_CHILD_LIFETIME_S = 10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *(ctypes.c_void_p,) * 4)


def parse_map(text: str) -> str:
    """`container:host:size[,...]` in the form of /proc/PID/uid_map, one range a line.

    Raises InvalidArgument where a range is not three numbers below 2^32, the last of them above 0.
    """
    lines = []
    for entry in text.split(","):
        fields = entry.split(":")
        if len(fields) != 3 or not all(field.isascii() and field.isdigit() for field in fields):
            raise InvalidArgument(f"id map {text!r}: {entry!r} is not of the form container:host:size")
        inside, outside, size = map(int, fields)
        if not size or max(inside, outside) + size > _ID_LIMIT:
            raise InvalidArgument(f"id map {text!r}: {entry!r} is empty or reaches beyond 2^32")
        lines.append(f"{inside} {outside} {size}\n")
    return "".join(lines)


def _clone_sleeper() -> int:
    """The PID of a child in a new user namespace.

    The child runs the C library's sleep() on a stack of its own and no Python, so any thread of a threaded process may
    call this. Its exit signal is 0, which hides it from every wait that does not ask for such children (waitpid(2),
    __WCLONE): the process's reaper never sees it.
    """
    stack = ctypes.create_string_buffer(_STACK_SIZE)
    top = (ctypes.addressof(stack) + _STACK_SIZE) & ~0xF
    function = ctypes.cast(_libc.sleep, ctypes.c_void_p)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid: int = _libc.clone(function, top, syscalls.CLONE_NEWUSER, _CHILD_LIFETIME_S, None, None, None)
        number = ctypes.get_errno()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    if pid < 0:
        raise OSError(number, os.strerror(number), "clone: user namespace")
    return pid


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())  # in one write: the kernel refuses a second one
    finally:
        os.close(fd)


@contextmanager
def user_namespace(uidmap: str, gidmap: str) -> Iterator[int]:
    """A descriptor of a user namespace with these maps (in the form of `parse_map`), closed at the end of the `with`.

    Raises InvalidArgument for a bad map, OSError where the kernel refuses.
    """
    uid_lines, gid_lines = parse_map(uidmap), parse_map(gidmap)
    pid = _clone_sleeper()
    try:
        _write(f"/proc/{pid}/uid_map", uid_lines)
        _write(f"/proc/{pid}/gid_map", gid_lines)
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)  # our child and not waited for yet: the PID cannot be another process's
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, _WALL)
    try:
        yield fd
    finally:
        os.close(fd)


def clone_mapped(path: str, userns: int, *, recursive: bool = False, read_only: bool = False) -> int:
    """A detached copy of the mount at `path`, mapped by `userns`; if `recursive`, with all mounts below it.

    The caller owns the descriptor. Raises OSError: EINVAL where the file system does not support idmapped mounts.
    """
    depth = syscalls.AT_RECURSIVE if recursive else 0
    tree = syscalls.open_tree(syscalls.AT_FDCWD, path, syscalls.OPEN_TREE_CLONE | depth)
    attributes = syscalls.MOUNT_ATTR_IDMAP | (syscalls.MOUNT_ATTR_RDONLY if read_only else 0)
    try:
        syscalls.mount_setattr(tree, depth, attr_set=attributes, userns_fd=userns)
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: str) -> None:
    """Mount a detached tree at `target`, which may be a link of /proc/self/fd."""
    syscalls.move_mount(tree, syscalls.AT_FDCWD, target, syscalls.MOVE_MOUNT_T_SYMLINKS)
