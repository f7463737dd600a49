"""The terminal of a process: receiving it from the OCI runtime, and its size.

The runtime makes the pseudo-terminal inside the container and sends its master through the unix socket named by
`--console-socket` (runc, docs/terminals.md). A socket's path has room for 107 bytes, which a bundle's may exceed, so
the socket gets a short-lived directory of its own.
"""

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import termios

from runtime.errors import RuntimeFailed

RECEIVE_TIMEOUT_S = 10.0


class ConsoleSocket:
    """A listening socket for one console. Use as a context manager; leaving it removes the socket."""

    def __init__(self) -> None:
        import tempfile  # brings `random`, which draws a new state in every fork of the spawner

        self._directory = tempfile.mkdtemp(prefix="pouchrich-pty")
        self.path = f"{self._directory}/s"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> "ConsoleSocket":
        try:
            self._listener.bind(self.path)
            self._listener.listen(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)

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


def resize(master: int, *, width: int, height: int) -> None:
    """Tell the terminal its size in characters; the kernel keeps 16 bits of each. Raises OSError."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))
