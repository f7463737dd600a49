"""The installed version that this process runs, which stays as it is for as long as the process lives.

hack/install.sh gives each version a directory of its own, and a version that has been replaced is removed by whoever
gets the lock on its file IN_USE alone (`shim.installed.replaced`). A process that goes on after its command has the
lock shared with others (flock(2)); so have the processes that it forks, as the lock is the open file's, and the kernel
drops it with the last descriptor of that. The programs that it executes get none.
"""

import os
from fcntl import F_DUPFD_CLOEXEC, LOCK_NB, LOCK_SH, fcntl, flock

from shim.installed.location import VERSION_DIRECTORY

IN_USE = "in-use"
OUT_OF_THE_WAY = 64
"""Descriptors from here on: below are those that a program is given."""

_held = -1


def hold(directory: str = VERSION_DIRECTORY) -> tuple[int, ...]:
    """Keep the version in `directory` from being removed while this process lives; the descriptors that do it, one.

    May be repeated. None in a checkout, and where the file cannot be locked, as by users other than root: the version
    is then only kept while the process's command line names it. Raises FileNotFoundError where the version is being
    removed, or was.
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
