"""A mount that is attached nowhere (fsopen(2), fsconfig(2), fsmount(2); Linux 5.2)."""

from __future__ import annotations

import ctypes
import os

# One number on all architectures but alpha (kernel: scripts/syscall.tbl).
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432

# <linux/mount.h>
_FSOPEN_CLOEXEC = 0x1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def mount(fstype: str, attributes: int = 0) -> int:
    """Mount a file system that needs no source or options. Return a descriptor of its root, for the caller to close.

    `attributes` are MOUNT_ATTR_ bits (`runtime.linux.syscalls`). The mount ends with the last descriptor opened through
    it. Raises OSError.
    """
    context = _call("fsopen", fstype, _SYS_FSOPEN, ctypes.c_char_p(fstype.encode()), _long(_FSOPEN_CLOEXEC))
    try:
        nothing = ctypes.c_char_p(None)
        _call(
            "fsconfig", fstype, _SYS_FSCONFIG, _long(context), _long(_FSCONFIG_CMD_CREATE), nothing, nothing, _long(0)
        )
        return _call("fsmount", fstype, _SYS_FSMOUNT, _long(context), _long(_FSMOUNT_CLOEXEC), _long(attributes))
    finally:
        os.close(context)


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


def _call(name: str, fstype: str, number: int, *arguments: ctypes.c_long | ctypes.c_char_p) -> int:
    result: int = _libc.syscall(_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"{name}: {fstype}")
    return result
