"""The directory of one container in /run/pouchrich, which a real init sees read-only at that place.

It holds the files for the container's init and launcher, and the socket that they report to. It is not the bundle,
whose files are for the host only. It is removed with the container.

It is a file system of its own, in memory, with nothing else on it. So what a container gets is no way to anything of
the host or of another container: neither by a file handle (open_by_handle_at(2) reaches the whole file system of which
a mount shows a part) nor by a lease (fcntl(2), F_SETLEASE), which delays everybody who opens the same file. For this
reason our programs that run in containers are copied here, for each container.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

from runtime import directories, libexec, paths
from runtime.init.boot import Boot
from runtime.init.launcher_settings import encode
from runtime.linux import selinux, syscalls

LAUNCHER = "launch"
SETTINGS = "app"
APP_SOCKET = "app.sock"
HALT_SOCKET = "halt.sock"

_OPTIONS = "size=64m,mode={mode:04o},gid={gid}"


def path_of(namespace: str, container_id: str, *, root: str = paths.CONTAINERS) -> str:
    """The path of a container's run directory. Both names are checked identifiers."""
    return f"{root}/{namespace}/{container_id}"


def make(path: str, *, label: str = "", group: int = 0) -> None:
    """Make the directory, empty; what an earlier container of the name left is removed first. Raises OSError.

    `label` is the SELinux label of the container's files. Only root can enter the directory, and the host's group
    `group` if it is not 0: in a user namespace the OCI runtime makes mounts as the container's root, who has that
    group.
    """
    remove(path)
    directories.make(path, mode=0o700)
    options = _OPTIONS.format(mode=directories.mode_for(group), gid=group)
    syscalls.mount("pouchrich", path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    selinux.label_file(path, label)


def add_programs(path: str, names: Iterable[str], *, directory: str = libexec.DIRECTORY) -> None:
    """Copy the programs `names` from the host directory `directory`, owned by the host's root. Raises OSError."""
    for name in names:
        source = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                while os.sendfile(target, source, None, 1 << 30):
                    pass
                os.fchmod(target, 0o555)
            finally:
                os.close(target)
        finally:
            os.close(source)


def fill(path: str, boot: Boot, *, stay: bool = False, owner: tuple[int, int] = (0, 0)) -> None:
    """Write the files of `boot`; `stay` is for the launcher's settings (see `runtime.init.launcher_settings.encode`).

    `owner` is the host's uid and gid of the container's root. Raises OSError, InvalidArgument.
    """
    for file in boot.files:
        _write(path, file.name, file.text.encode(errors="surrogateescape"), file.mode, owner)
    if boot.launch is not None:
        _write(path, SETTINGS, encode(boot.launch, stay=stay, passes_on=boot.kind.has_units), 0o600, owner)


def rewrite(path: str, name: str, text: str) -> None:
    """Replace the text of the file `name` in the run directory; binds of the file show it. Raises OSError.

    BlockingIOError: a process of the container has a lease on the file (fcntl(2), F_SETLEASE), and has now been told to
    give it up.
    """
    data = text.encode(errors="surrogateescape")
    fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def forget_settings(path: str) -> None:
    """Unlink the launcher's settings, the application's environment among them, once the launcher has read them."""
    with suppress(FileNotFoundError):
        os.unlink(f"{path}/{SETTINGS}")


def remove(path: str) -> None:
    """Unmount and remove the directory. A missing one is no error. Raises OSError."""
    with suppress(OSError):  # EINVAL: nothing is mounted
        while True:
            syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _write(path: str, name: str, data: bytes, mode: int, owner: tuple[int, int]) -> None:
    fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
