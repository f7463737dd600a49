"""The terminal of a process: receiving it from the OCI runtime, and setting its size.

The OCI runtime makes the pseudo-terminal inside the container and sends its master through the unix socket named by
`--console-socket` (runc, docs/terminals.md). The socket is in the bundle and is removed with it, even if this process
is killed. A socket address holds 107 bytes (unix(7)) and a bundle's path may be longer, so the socket is named through
a descriptor of this process.
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
    """The source of a terminal that the OCI runtime makes and sends: a listening socket in the bundle. Raises OSError.

    `path` is valid until `close`, for processes that see this process in /proc, and then "".
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
        try:
            self._listener.bind(self.path)
            os.chmod(self._name, 0o600, dir_fd=self._bundle)  # others may search a user-namespace pod's bundle
            self._listener.listen(1)
        except BaseException:
            self.close()
            raise

    def child_fds(self) -> None:
        """None: the OCI runtime makes them."""

    async def receive(self) -> int:
        """Return the master, non-blocking, once the OCI runtime has connected. Raises RuntimeFailed."""
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

    def close(self) -> None:
        """Remove the socket. May be repeated."""
        if not self.path:
            return
        self.path = ""
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._bundle)
        os.close(self._bundle)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection.fileno())


def open_pty_peer(master: int) -> int:
    """Open the process's end of the terminal `master`, whatever its path is here. Raises OSError.

    While this end is open, reading `master` never fails with EIO. EIO does not mean the end of the output: the process
    may close and reopen its terminal at any time.
    """
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def resize(master: int, *, width: int, height: int) -> None:
    """Set the terminal's size in characters; the kernel keeps 16 bits of each number. Raises OSError."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))
