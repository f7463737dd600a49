"""The client's end of one stream: opening it, copying, and letting go of every descriptor."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from shim.task.stdio import fifo
from shim.task.stdio.relay import Relay

# Opens where an output goes: descriptors, of which the first is written to and the others are only kept open. None at
# all: the output is read, so that its writer is not held up, and discarded.
OpenOutput = Callable[[], Awaitable[list[int]]]


class Output:
    """One stream on its way out: from `source` to what `opener` opens. Owns both."""

    def __init__(self, source: int, opener: OpenOutput) -> None:
        self._fds = [source]
        self._opener = opener
        self._relay: Relay | None = None
        self.ended = asyncio.Event()

    async def attach(self) -> None:
        """Open the client's end and start copying."""
        targets = await self._opener()
        if self.ended.is_set():  # closed meanwhile
            close_all(targets)
            return
        source = self._fds[0]
        self._fds += targets
        os.set_blocking(source, False)
        target = targets[0] if targets else None
        self._relay = Relay(asyncio.get_running_loop(), source, target, self._let_go)

    def close(self) -> None:
        """Stop copying; what is still in the source is lost."""
        if self._relay is not None:
            self._relay.close()
        self._let_go()

    def _let_go(self) -> None:
        close_all(self._fds)
        self.ended.set()


class Input:
    """The stream on its way in: from the client's FIFO at `path` to `target`, which it owns."""

    def __init__(self, path: str, target: int) -> None:
        self._path = path
        self._fds = [target]
        self._keep_open: list[int] = []
        self._closing = False
        self._relay: Relay | None = None

    def attach(self) -> None:
        """Open the client's FIFO and start copying."""
        source, keep_open = fifo.open_input(self._path)
        target = self._fds[0]
        self._fds.append(source)
        self._keep_open.append(keep_open)
        os.set_blocking(target, False)
        self._relay = Relay(asyncio.get_running_loop(), source, target, self._let_go)
        if self._closing:
            self.end()

    def end(self) -> None:
        """Give up our own writer: the stream ends when the client's are gone too."""
        self._closing = True
        close_all(self._keep_open)

    def close(self) -> None:
        """Stop copying."""
        if self._relay is not None:
            self._relay.close()
        self._let_go()

    def _let_go(self) -> None:
        close_all(self._fds)
        close_all(self._keep_open)


def close_all(fds: list[int]) -> None:
    """Close all of `fds` and empty it."""
    while fds:
        os.close(fds.pop())
