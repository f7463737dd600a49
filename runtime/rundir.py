"""The directory of one container in /run/pouchrich, which the container sees read-only at the same place.

It holds what its init and the launcher are given, and the socket they report to. It is not the bundle, whose files
are the host's business, and goes with the container.
"""

import os
import shutil
from contextlib import suppress

from runtime.boot import Boot
from runtime.launch import encode
from runtime.linux import selinux

ROOT = "/run/pouchrich/containers"
LAUNCHER = "launch"
SETTINGS = "app"
APP_SOCKET = "app.sock"
HALT_SOCKET = "halt.sock"


def path_of(namespace: str, container_id: str, *, root: str = ROOT) -> str:
    """Where the run directory of a container is; both names are checked identifiers."""
    return f"{root}/{namespace}/{container_id}"


def make(path: str, *, label: str = "") -> None:
    """Make the directory, empty; what an earlier container of the name left is removed first. Raises OSError.

    `label` is SELinux's for the container's files.
    """
    remove(path)
    os.makedirs(path, mode=0o711)
    selinux.label_file(path, label)


def fill(path: str, boot: Boot, *, stay: bool = False, owner: tuple[int, int] = (0, 0)) -> None:
    """Write the files of `boot`; `stay` is for the launcher's settings (see `runtime.launch.encode`).

    `owner` is the container's root as the host sees it. Raises OSError, InvalidArgument.
    """
    _write(path, LAUNCHER, b"", 0o555, owner)  # the mount point of the launcher itself
    for file in boot.files:
        _write(path, file.name, file.text.encode(errors="surrogateescape"), file.mode, owner)
    if boot.launch is not None:
        _write(path, SETTINGS, encode(boot.launch, stay=stay), 0o600, owner)


def forget_settings(path: str) -> None:
    """Unlink the launcher's settings, the application's environment among them, once the launcher has read them."""
    with suppress(FileNotFoundError):
        os.unlink(f"{path}/{SETTINGS}")


def remove(path: str) -> None:
    """Remove the directory; what is not there (any more) is no error. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _write(path: str, name: str, data: bytes, mode: int, owner: tuple[int, int]) -> None:
    fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
