"""A listening socket in a container's run directory, which only the container's root may connect to."""

import os
import socket
from contextlib import suppress


def listen(path: str, *, root_uid: int, backlog: int) -> socket.socket:
    """A non-blocking socket that listens at `path`, in place of one that is there. Raises OSError.

    `root_uid` is the container's root on the host. Nobody can connect before listen(), so mode and owner are set early
    enough.
    """
    above, name = os.path.split(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        directory = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            listener.bind(f"/proc/self/fd/{directory}/{name}")  # a socket address holds 107 bytes
            os.chmod(name, 0o600, dir_fd=directory)
            os.chown(name, root_uid, -1, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
