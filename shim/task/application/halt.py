"""How an init reports the end of its shutdown where it cannot end itself: without CAP_SYS_BOOT, reboot(2) fails.

The last line of the shutdown runs `launch halt`, which connects to this socket. Root in the container can do the same
at any time; that ends only its own container, which it can end in other ways too.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from shim.task.application.listening import listen


class HaltSocket:
    """Listens at `path` and calls `halted` at the first connection. `root_uid` is the container's root on the host."""

    def __init__(self, path: str, halted: Callable[[], None], *, root_uid: int = 0) -> None:
        self._path = path
        self._halted = halted
        self._listener = listen(path, root_uid=root_uid, backlog=1)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._connected)

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
