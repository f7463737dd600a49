"""A terminal for the application of a container whose PID 1 has another one: made in the container's own devpts.

So `tty` and /dev/pts inside name it as in any container. It is opened at Create, when the mounts are still the OCI
runtime's and no code of the container has run; nothing is opened before it is known to be the right device.
"""

import fcntl
import os
import stat
import struct
from typing import NamedTuple

from runtime.errors import RuntimeFailed, text_of
from runtime.linux import syscalls
from shim.task.stdio import console

_PTMX = "dev/pts/ptmx"  # /dev/ptmx is a link to this
_PTMX_DEVICE = os.makedev(5, 2)
_TIOCSPTLCK = 0x40045431
_FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC


class AppTerminal(NamedTuple):
    """Both ends; the holder closes them. Keep the slave open: once nobody has it open, the master reads EIO."""

    master: int
    slave: int


def open_terminal(init_pid: int, *, uid: int = 0) -> AppTerminal:
    """A new terminal in the devpts of the container whose PID 1 has host PID `init_pid`.

    `uid` is the host id of the application's user, who gets the slave, as with an OCI runtime's terminal. The master
    is non-blocking. Raises RuntimeFailed with the reason.
    """
    try:
        root = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open_in(root, uid)
        finally:
            os.close(root)
    except OSError as err:
        raise RuntimeFailed(f"terminal of the application: /{_PTMX} in the container: {text_of(err)}") from err


def _open_in(root: int, uid: int) -> AppTerminal:
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    place = syscalls.openat2(root, _PTMX, os.O_PATH, resolve=resolve)
    try:
        found = os.fstat(place)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX_DEVICE:
            raise RuntimeFailed(f"terminal of the application: /{_PTMX} in the container: not a terminal multiplexer")
        master = os.open(f"/proc/self/fd/{place}", _FLAGS | os.O_NONBLOCK)
    finally:
        os.close(place)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = console.open_pty_peer(master)
    except BaseException:
        os.close(master)
        raise
    try:
        os.fchown(slave, uid, -1)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return AppTerminal(master, slave)
