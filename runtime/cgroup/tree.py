"""Removes a tree of cgroups that a container has made: any number, any depth, in bounded time and memory.

Each step is relative to an open directory, so no path gets longer than the kernel allows. Empty cgroups are removed on
the way down, the others on the way up. The container's processes have already ended; a process that has not ended
keeps its cgroup and those above.
"""

import os
import time
from contextlib import suppress
from itertools import islice

_AT_ONCE = 4096
"""The most names of a directory that one walk considers."""
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_PAUSE_S = 0.01


def remove(top: str, *, until: float) -> bool:
    """Remove `top` and all below it. Return whether nothing is left by time.monotonic() `until`.

    A missing directory is no error. Cgroups whose processes are still dying are tried again until then.
    """
    while True:
        removed = _walk(top, until)
        if not os.path.isdir(top):
            return True
        pause_s = 0 if removed else _PAUSE_S
        if time.monotonic() + pause_s > until:
            return False
        time.sleep(pause_s)


def _walk(top: str, until: float) -> int:
    """Go down and up once; return the number of cgroups removed."""
    try:
        fd = os.open(top, _FLAGS)
    except OSError:
        return 0
    removed = 0
    trail: list[tuple[str, list[str]]] = []
    """The way down: the name of each directory entered, and the names that are left to enter beside it."""
    names = _children(fd)
    try:
        while True:
            if names and time.monotonic() < until:
                name = names.pop()
                if _rmdir(name, fd):
                    removed += 1
                    continue
                try:
                    inner = os.open(name, _FLAGS, dir_fd=fd)
                except OSError:  # gone, or no descriptor is left
                    continue
                os.close(fd)
                fd = inner
                trail.append((name, names))
                names = _children(fd)
                continue
            if not trail:
                break
            outer = os.open("..", _FLAGS, dir_fd=fd)
            os.close(fd)
            fd = outer
            name, names = trail.pop()
            removed += _rmdir(name, fd)
    except OSError:  # removed by somebody else meanwhile
        pass
    finally:
        os.close(fd)
    with suppress(OSError):
        os.rmdir(top)
    return removed


def _children(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        found = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return list(islice(found, _AT_ONCE))


def _rmdir(name: str, fd: int) -> bool:
    try:
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
