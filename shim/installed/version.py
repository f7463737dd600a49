"""Keeps the installed version that this process runs unchanged while the process lives.

hack/install.sh gives each version a directory of its own. Only a process that gets an exclusive lock on a replaced
version's file IN_USE removes the version (`shim.installed.replaced`). A process that goes on after its command holds a
shared lock (flock(2)). So do the processes that it forks, because the lock belongs to the open file, and the kernel
drops it with the last descriptor. Programs that it executes do not inherit the descriptor.
"""

import os
from fcntl import F_DUPFD_CLOEXEC, LOCK_NB, LOCK_SH, fcntl, flock

from shim.installed.location import VERSION_DIRECTORY

IN_USE = "in-use"
OUT_OF_THE_WAY = 64
"""The lowest number for the lock's descriptor, above the descriptors that programs are given."""

_held = -1


def lock_in_use(directory: str = VERSION_DIRECTORY) -> tuple[int, ...]:
    """Keep the version in `directory` from being removed while this process lives. Return the lock's descriptor.

    May be repeated. Returns () in a checkout, and where the file cannot be locked, for example by users other than
    root: the version then stays only while the process's command line names it. Raises FileNotFoundError where the
    version is being removed, or was.
    """
    global _held
    if _held < 0 and directory:
        _held = _lock(directory)
    return (_held,) if _held >= 0 else ()


def _lock(directory: str) -> int:
    try:
        fd = os.open(f"{directory}/{IN_USE}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    try:
        flock(fd, LOCK_SH | LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    except BlockingIOError:
        pass
    except OSError:
        return -1
    finally:
        os.close(fd)
    raise FileNotFoundError(f"{directory}: is being removed, another version has taken its place: try again")
