"""Files below a directory that somebody hostile has filled: the root of an image, or of a container that runs.

The one way in which anything of ours opens a file there. To open a device runs its driver, whatever is done with it
afterwards (a watchdog is armed by its open alone); to open a FIFO may block for ever. So what a path leads to is first
taken with O_PATH, which opens nothing (open(2)), and only what is then seen to be a regular file is opened, by way of
that descriptor: a path could lead elsewhere by then. No symbolic link and no `..` leads out (openat2(2)).
"""

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.linux.syscalls import RESOLVE_IN_ROOT, openat2

# A lease that a container holds on a file it shares with another (fcntl(2)) makes an open wait, but for this flag.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotRegularError(OSError):
    """It is there and is no regular file, so it was not opened."""


@contextmanager
def place(root: int, path: str) -> Iterator[int]:
    """An O_PATH descriptor of what `path` leads to below directory descriptor `root`, good while the `with` lasts.

    Raises OSError.
    """
    fd = openat2(root, path, os.O_PATH, 0, RESOLVE_IN_ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _itself(root: int, path: str) -> Iterator[int]:
    """As `place`, but of a symbolic link where `path` is one."""
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
    """All that is in the directory at `path` and in those below it, of each at most `at_most`; no link is followed.

    (Path, what is told of it), one after the other as they are asked for. Raises OSError.
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
    """Mode of what is at `path` itself, and where it points if it is a symbolic link, else "". Raises OSError."""
    with _itself(root, path) as fd:
        mode = os.fstat(fd).st_mode
        return mode, os.readlink("", dir_fd=fd) if stat.S_ISLNK(mode) else ""


def read(root: int, path: str, size: int) -> bytes:
    """The first `size` bytes of the regular file at `path` below directory descriptor `root`, or all of a shorter one.

    Raises OSError, NotRegularError among them; EAGAIN where somebody's lease on the file would make it wait.
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
