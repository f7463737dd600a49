"""Mounts by path: resolved inside a root filesystem, remounted, unmounted in whole trees."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runtime.linux import mountinfo, syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator

# A bind mount takes these from its source and ignores them in the request; a remount sets them.
PER_MOUNT = (
    syscalls.MS_RDONLY
    | syscalls.MS_NOSUID
    | syscalls.MS_NODEV
    | syscalls.MS_NOEXEC
    | syscalls.MS_NOATIME
    | syscalls.MS_NODIRATIME
)
# statvfs(3)'s flags -> mount(2)'s.
_STATVFS_FLAGS = {
    os.ST_RDONLY: syscalls.MS_RDONLY,
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: syscalls.MS_NODIRATIME,
    os.ST_RELATIME: syscalls.MS_RELATIME,
}

# containerd's limits for a busy mount (core/mount, `unmount`).
_BUSY_ATTEMPTS = 50
_BUSY_PAUSE_S = 0.05


@contextmanager
def resolved(rootfs: str, target: str) -> Iterator[str]:
    """A path to `target` that nothing in the root filesystem can redirect, valid inside the `with`.

    It names the topmost mount there, so resolve again to reach a mount made since.
    """
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = syscalls.openat2(root, target or ".", os.O_PATH)
    finally:
        os.close(root)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def remount_bind(path: str, flags: int) -> None:
    """Set the attributes `flags` on the bind mount at `path`.

    In a user namespace some attributes of the source are locked: without asking for them again the kernel answers
    EPERM (mount_namespaces(7)).
    """
    flags = (flags & ~syscalls.MS_REC) | syscalls.MS_REMOUNT
    try:
        syscalls.mount(None, path, None, flags)
    except PermissionError:
        present = os.statvfs(path).f_flag
        kept = sum(flag for said, flag in _STATVFS_FLAGS.items() if present & said)
        if kept & ~flags == 0:
            raise
        syscalls.mount(None, path, None, flags | kept)


def mount_points(path: str) -> tuple[str, ...]:
    """The mount points at or below `path`, each once, the deepest first."""
    root = os.path.realpath(path)
    return tuple(sorted(mountinfo.points_in(root), key=lambda point: (-point.count("/"), point)))


def _unmount_layer(points: tuple[str, ...]) -> tuple[bool, OSError | None]:
    """Unmount the topmost mount of each of `points`. Return whether any succeeded, and an EBUSY that occurred."""
    progress, busy = False, None
    for point in points:
        try:
            syscalls.umount2(point, syscalls.UMOUNT_NOFOLLOW)
            progress = True
        except OSError as err:
            if err.errno == errno.EBUSY:
                busy = err
            elif err.errno not in (errno.EINVAL, errno.ENOENT):
                raise
    return progress, busy


def unmount_tree(path: str) -> None:
    """Unmount everything at and below `path`, however many mounts are stacked, without lazy detaching.

    Each pass unmounts the visible mount of each mount point. Passes continue while they make progress, because a mount
    may be hidden under another or keep its parent busy. Then a busy mount gets 50 times 50 ms. EINVAL and ENOENT mean
    that the mount is gone. Raises OSError: EBUSY when the attempts are used up.
    """
    pauses = 0
    while points := mount_points(path):
        progress, busy = _unmount_layer(points)
        if progress:
            continue
        if busy is None:
            return
        if pauses == _BUSY_ATTEMPTS:
            raise busy
        pauses += 1
        time.sleep(_BUSY_PAUSE_S)
