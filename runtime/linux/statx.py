"""The identity of the file that a path names, without a request to the file system that holds it (statx(2)).

A FUSE file system may be served by the very container that is examined, and need not answer.
"""

from __future__ import annotations

import ctypes
import os
import struct

from runtime.linux import syscalls

_AT_STATX_DONT_SYNC = 0x4000
_AT_NO_AUTOMOUNT = 0x800
_STATX_INO = 0x100
_SIZE = 256
_Answer = ctypes.c_char * _SIZE
"""Made once: a ctypes type takes kilobytes that only the garbage collector frees."""
_INO = struct.Struct("=32xQ")
_DEVICE = struct.Struct("=136xII")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)


def identity(path: str) -> tuple[int, int]:
    """The st_dev and st_ino of the file at `path`, as far as the kernel has them cached. Raises OSError."""
    room = _Answer()
    flags = _AT_STATX_DONT_SYNC | _AT_NO_AUTOMOUNT
    if _libc.statx(syscalls.AT_FDCWD, os.fsencode(path), flags, _STATX_INO, room) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"statx: {path}")
    (inode,) = _INO.unpack_from(room)
    major, minor = _DEVICE.unpack_from(room)
    return os.makedev(major, minor), inode
