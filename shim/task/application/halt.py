"""How an init reports the end of its shutdown where it cannot end itself: without CAP_SYS_BOOT, reboot(2) fails.

The last line of the shutdown runs `launch halt`, which connects to this socket. Root in the container can do the same
at any time; that ends only its own container, which it can end in other ways too.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress


class HaltSocket:
    """Listens at `path` and calls `halted` at the first connection. `root_uid` is the container's root on the host."""

    def __init__(self, path: str, halted: Callable[[], None], *, root_uid: int = 0) -> None:
        self._path = path
        self._halted = halted
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._listen(root_uid)
        except BaseException:
            self._listener.close()
            raise
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._connected)

    def _listen(self, root_uid: int) -> None:
        directory_name, name = os.path.split(self._path)
        directory = os.open(directory_name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{directory}/{name}")  # the whole path may exceed a socket address
            os.chmod(name, 0o600, dir_fd=directory)
            os.chown(name, root_uid, -1, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        self._listener.listen(1)

    def _connected(self) -> None:
        self.close()
        self._halted()

    def close(self) -> None:
        """Stop listening and remove the socket. May be repeated."""
        if self._listener.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)
