"""The terminal of a process: receiving it from the OCI runtime, and its size.

The runtime makes the pseudo-terminal inside the container and sends its master through the unix socket named by
`--console-socket` (runc, docs/terminals.md). The socket is in the bundle and goes with that, whatever becomes of this
process. A socket's path has room for 107 bytes (unix(7)), which a bundle's may exceed, so it is named by a descriptor
of this process.
"""

import asyncio
import fcntl
import itertools
import os
import socket
import struct
import termios
from contextlib import suppress

from runtime.errors import RuntimeFailed

RECEIVE_TIMEOUT_S = 10.0
_TIOCGPTPEER = 0x5441  # Linux 4.13, ioctl_tty(2)

_numbers = itertools.count()


class ConsoleSocket:
    """A listening socket for one console, in the bundle. Use as a context manager; leaving it removes the socket.

    `path` is of use as long as it is not left, to processes that see this one. Raises OSError.
    """

    def __init__(self, bundle: str) -> None:
        own = os.readlink("/proc/self")
        self._name = f"console-{next(_numbers)}.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._bundle = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._listener.close()
            raise
        self.path = f"/proc/{own}/fd/{self._bundle}/{self._name}"

    def __enter__(self) -> "ConsoleSocket":
        try:
            self._listener.bind(self.path)
            os.chmod(self._name, 0o600, dir_fd=self._bundle)  # a bundle in a user namespace may be searched by others
            self._listener.listen(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._bundle)
        os.close(self._bundle)

    async def receive(self) -> int:
        """Return the master, non-blocking, once the runtime has connected. Raises RuntimeFailed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RECEIVE_TIMEOUT_S):
                connection, _ = await loop.sock_accept(self._listener)
                with connection:
                    await _readable(connection)
                    _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        except TimeoutError as err:
            raise RuntimeFailed("OCI runtime create failed: it sent no console") from err
        if not fds:
            raise RuntimeFailed("OCI runtime create failed: it connected but sent no console")
        os.set_blocking(fds[0], False)
        os.set_inheritable(fds[0], False)
        return fds[0]


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection.fileno())


def far_end(master: int) -> int:
    """Open the process's end of this very terminal, whatever its name is here. Raises OSError.

    While it is held, reading `master` gives no EIO, which is not the end: a process may open and close it at will.
    """
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def resize(master: int, *, width: int, height: int) -> None:
    """Tell the terminal its size in characters; the kernel keeps 16 bits of each. Raises OSError."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))
