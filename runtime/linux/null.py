"""A /dev/null of its own for a process in a container (null(4)).

Root in a container without a user namespace owns the node's /dev/null, and through a descriptor of it can change who
may open it: for example nobody but root. The OCI runtimes replace it with the container's own for a container's init
(runc, reOpenDevNull; crun, libcrun_reopen_dev_null), but not for later execs.
"""

import os
import stat

from runtime.errors import NotFound
from runtime.linux import detached, selinux

MODE = 0o666


class ContainerNull:
    """The /dev/null of one container's execs, made for the first of them: that takes 0.05 to 0.3 ms.

    Root in the container may change it, as it may the container's own.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._closed = False

    def open(self) -> int:
        """Open it, for the caller to close. Raises NotFound after `close`; OSError.

        Each exec opens it anew: flags and locks belong to an open file (open(2), flock(2)), and execs share none.
        """
        if self._closed:
            raise NotFound("no such container")
        if self._fd < 0:
            self._fd = open_own()
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Let it go: the container is gone. May be repeated."""
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_own() -> int:
    """Open a /dev/null that nobody else has, for reading and writing; the caller closes it. Raises OSError.

    Its file system is mounted nowhere and ends with the last descriptor.
    """
    return _open_own("null", os.O_RDWR)


def open_own_sink() -> int:
    """As `open_own`, for writing only, and no /dev/null to an OCI runtime: a /dev/zero, which ignores what is written.

    Raises OSError.
    """
    return _open_own("zero", os.O_WRONLY)


def _open_own(name: str, flags: int) -> int:
    root = detached.mount("tmpfs")
    try:
        os.mkdir("dev", 0o755, dir_fd=root)  # for the name that /proc shows
        os.mknod(f"dev/{name}", stat.S_IFCHR, os.stat(f"/dev/{name}").st_rdev, dir_fd=root)
        fd = os.open(f"dev/{name}", flags | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    os.fchmod(fd, MODE)
    selinux.copy_label(f"/dev/{name}", fd)  # every domain may use a file with that label
    return fd
