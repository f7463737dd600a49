"""SELinux labels for what a container is to reach of the host's: files, and sockets.

Each is a no-op where the label is empty, as it is wherever SELinux is not in force.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_ATTRIBUTE = "security.selinux"
_NEXT_SOCKETS = "/proc/thread-self/attr/sockcreate"
_AS_USUAL = b"\n"


def label_file(file: str | int, label: str) -> None:
    """Give the file, by its path or descriptor, its label. A directory's type goes to what is made in it later.

    Raises OSError.
    """
    if label:
        os.setxattr(file, _ATTRIBUTE, label.encode())


def copy_label(path: str, fd: int) -> None:
    """Give the file behind `fd` the label that the one at `path` has; nothing where that has none. Raises nothing."""
    with suppress(OSError):
        os.setxattr(fd, _ATTRIBUTE, os.getxattr(path, _ATTRIBUTE))


def files_label(spec: Mapping[str, Any]) -> str:
    """The label of a container's files, "" where it has none."""
    return str((spec.get("linux") or {}).get("mountLabel") or "")


@contextmanager
def sockets(label: str) -> Iterator[None]:
    """Sockets that this thread makes meanwhile are as if a process of that label had made them. Raises OSError.

    To connect(2) a process has to be allowed what the listener's label is, and that of a shim is none that containers
    are let near.
    """
    if not label:
        yield
        return
    _write(label.encode())
    try:
        yield
    finally:
        _write(_AS_USUAL)


def _write(value: bytes) -> None:
    fd = os.open(_NEXT_SOCKETS, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)
