"""A file whose open waits until it is let go, as one on a file system that does not answer: fanotify(7)."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# <linux/fanotify.h>
_CLOEXEC, _NONBLOCK, _CLASS_CONTENT = 0x1, 0x2, 0x4
_MARK_ADD, _OPEN_PERM, _ALLOW = 0x1, 0x10000, 1
_AT_FDCWD = -100
_EVENT, _ANSWER = struct.Struct("=IBBHQii"), struct.Struct("=iI")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)


class Held:
    """`waiting` says whether somebody waits in an open of the file by now."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._opened: list[int] = []

    def waiting(self) -> bool:
        try:
            *_, fd, _pid = _EVENT.unpack_from(os.read(self._fd, _EVENT.size))
            self._opened.append(fd)
        except BlockingIOError:
            pass
        return bool(self._opened)

    def let_go(self) -> None:
        """Let those go on that wait by now."""
        while self._opened:
            os.write(self._fd, _ANSWER.pack(self._opened[-1], _ALLOW))
            os.close(self._opened.pop())


@contextmanager
def held(path: Path) -> Iterator[Held]:
    """Each open of the file at `path` waits; the end of the `with` lets all go on."""
    fd: int = _libc.fanotify_init(_CLOEXEC | _NONBLOCK | _CLASS_CONTENT, os.O_RDONLY)
    if fd < 0 or _libc.fanotify_mark(fd, _MARK_ADD, _OPEN_PERM, _AT_FDCWD, os.fsencode(path)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    try:
        yield Held(fd)
    finally:
        os.close(fd)
