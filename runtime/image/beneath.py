"""Files below a directory that an attacker may have filled: the root of an image, or of a running container.

This is the only way in which our code opens a file there. Opening a device runs its driver, whatever is done with the
descriptor afterwards (the open alone arms a watchdog); opening a FIFO may block for ever. So a path is first opened
with O_PATH, which does not open the file itself (open(2)). Only if that is a regular file is it opened, through the
O_PATH descriptor, as the path could lead elsewhere by then. No symbolic link and no `..` leads out (openat2(2)).
"""

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.linux.syscalls import RESOLVE_IN_ROOT, openat2

# Without O_NONBLOCK an open waits for a lease that a container holds on a file it shares with another (fcntl(2)).
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotRegularError(OSError):
    """The path leads to something that is no regular file, so it was not opened."""


@contextmanager
def place(root: int, path: str) -> Iterator[int]:
    """An O_PATH descriptor of what `path` leads to below directory descriptor `root`, valid inside the `with`.

    Raises OSError.
    """
    fd = openat2(root, path, os.O_PATH, 0, RESOLVE_IN_ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _itself(root: int, path: str) -> Iterator[int]:
    """Like `place`, but a symbolic link at `path` itself is not followed."""
    fd = openat2(root, path, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_IN_ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


def names(root: int, path: str, at_most: int) -> list[str]:
    """At most `at_most` names in the directory at `path` below directory descriptor `root`. Raises OSError."""
    with place(root, path) as found:
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in itertools.islice(entries, at_most)]
    finally:
        os.close(fd)


def below(root: int, path: str, at_most: int) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below the directory at `path`, at most `at_most` names of each directory; follows no link.

    Yields (path, stat result), reading each directory when it is reached. Raises OSError.
    """
    todo = [path]
    while todo:
        directory = todo.pop()
        for name in names(root, directory, at_most):
            at = f"{directory}/{name}"
            with _itself(root, at) as fd:
                about = os.fstat(fd)
            if stat.S_ISDIR(about.st_mode):
                todo.append(at)
            yield at, about


def mode_of(root: int, path: str) -> tuple[int, str]:
    """The mode of what is at `path` itself, and the target if it is a symbolic link, else "". Raises OSError."""
    with _itself(root, path) as fd:
        mode = os.fstat(fd).st_mode
        return mode, os.readlink("", dir_fd=fd) if stat.S_ISLNK(mode) else ""


def read(root: int, path: str, size: int) -> bytes:
    """The first `size` bytes of the regular file at `path` below directory descriptor `root`, or all of a shorter file.

    Raises OSError, including NotRegularError, and EAGAIN where the open would have to wait for somebody's lease.
    """
    with place(root, path) as found:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file", path)
        fd = os.open(f"/proc/self/fd/{found}", _FLAGS)
    with open(fd, "rb", buffering=0) as file:
        parts, left = [], size
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
