"""File handles (open_by_handle_at(2)), by which a mount shows the whole of its file system."""

import ctypes
import errno
import os

_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    """The kernel's struct file_handle."""

    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128))


def handle_of(path: str) -> Handle:
    """The handle of the file at `path`."""
    handle, mount = Handle(128, 0), ctypes.c_int()
    if _libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return handle


def opens(mount: str, handle: Handle) -> bool:
    """Whether what is mounted at `mount`, a file or a directory, leads to that file."""
    fd = os.open(mount, os.O_RDONLY)
    try:
        found: int = _libc.open_by_handle_at(fd, ctypes.byref(handle), os.O_RDONLY)
        if found < 0:
            assert ctypes.get_errno() == errno.ESTALE, os.strerror(ctypes.get_errno())
            return False
        os.close(found)
        return True
    finally:
        os.close(fd)
