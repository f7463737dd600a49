"""SELinux labels for what a container may reach of the host: files and sockets.

Every function does nothing for an empty label, which is the case wherever SELinux is not enabled.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_ATTRIBUTE = "security.selinux"
_NEXT_SOCKETS = "/proc/thread-self/attr/sockcreate"
_AS_USUAL = b"\n"


def label_file(file: str | int, label: str) -> None:
    """Set the label of a file, given by path or descriptor. What is later made in a directory inherits its type.

    Raises OSError.
    """
    if label:
        os.setxattr(file, _ATTRIBUTE, label.encode())


def copy_label(path: str, fd: int) -> None:
    """Give the file of descriptor `fd` the label of the one at `path`, if that has one. Raises nothing."""
    with suppress(OSError):
        os.setxattr(fd, _ATTRIBUTE, os.getxattr(path, _ATTRIBUTE))


def files_label(spec: Mapping[str, Any]) -> str:
    """The SELinux label of a container's files, "" where it has none."""
    return str((spec.get("linux") or {}).get("mountLabel") or "")


@contextmanager
def sockets(label: str) -> Iterator[None]:
    """Sockets that this thread makes inside the `with` have `label`, like those of a process with it. Raises OSError.

    A process may only connect(2) if policy allows it for the listener's label, and containers have no access to that of
    a shim.
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
