"""A cgroup file that is read repeatedly, through a descriptor that is kept open between the reads.

Opening and closing take four times as long as reading. An open file does not keep its cgroup: the cgroup can be
removed, and a read then fails with ENODEV (kernel, fs/kernfs/file.c, kernfs_seq_start). The kernel uses some 5 KB for
each open file that has been read, most of it a buffer (fs/seq_file.c), so a process keeps at most KEPT_LIMIT open;
further files are opened for each read.
"""

import errno
import os
from contextlib import suppress

from runtime.errors import Unavailable

KEPT_LIMIT = 256
FIRST_SIZE = 64
"""The first read's size in bytes, enough for a number. A longer file is read with a larger size from then on."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_CLOSED = -1
_kept = 0


class KeptFile:
    """The file at `path`. `close` closes the descriptor, and so does the object's end."""

    __slots__ = ("_fd", "_path", "_size")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = _CLOSED
        self._size = FIRST_SIZE

    def read(self) -> bytes:
        """The whole content.

        Raises OSError where the file never existed, was removed (ENODEV) or is disabled (EOPNOTSUPP); Unavailable where
        no descriptor is left to open it.
        """
        fd = self._fd
        if fd == _CLOSED:
            fd = self._open()
        try:
            # In a single read: a second one would see other values (fs/seq_file.c, traverse).
            while len(text := os.pread(fd, self._size, 0)) == self._size:
                self._size *= 8
            return text
        finally:
            if fd != self._fd:
                os.close(fd)

    def _open(self) -> int:
        global _kept
        try:
            fd = os.open(self._path, _FLAGS)
        except OSError as err:
            if err.errno in (errno.EMFILE, errno.ENFILE):
                raise Unavailable(f"{self._path}: {err.strerror}") from err
            raise
        if _kept < KEPT_LIMIT:
            _kept += 1
            self._fd = fd
        return fd

    def close(self) -> None:
        """Close the descriptor; the next `read` opens the file again. May be repeated."""
        global _kept
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            _kept -= 1
            with suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        self.close()
