"""The lock of a home: one installer, uninstaller, or `start` that removes replaced versions, at a time."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pouchrich.node import InstallError
from pouchrich.node.layout import Layout
from shim.installed.replaced import LOCK

PATIENCE_S = 300
_POLL_S = 0.1


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Hold the lock within the `with`; home is made if it does not exist.

    Processes that inherit descriptors from this one hold the lock too: a pip still writes after its installer was
    killed. Raises InstallError if the lock is not released in time, or the directory cannot be written.
    """
    fd = _acquire(layout)
    try:
        yield
    finally:
        os.close(fd)


def _acquire(layout: Layout) -> int:
    path = f"{layout.home}/{LOCK}"
    end = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            layout.make()
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # the lock file was removed with the installation
        except OSError as err:
            hint = "run as root or give --prefix DIR"
            raise InstallError(f"{err.filename or path}: {str(err.strerror).lower()}, {hint}") from err
        os.set_inheritable(fd, True)
        while not _try(fd):
            if not told:
                told = True
                sys.stderr.write(f"install: waiting for another run below {layout.where} to end\n")
                sys.stderr.flush()
            if time.monotonic() > end:
                raise InstallError(
                    f"another run below {layout.where} does not end; fuser -v {path} shows which process that is"
                )
            time.sleep(_POLL_S)
        if _is_at(fd, path):
            return fd
        os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
