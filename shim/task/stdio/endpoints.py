"""The client's end of one stream: opening it, copying, and closing every descriptor."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from shim.task.stdio import fifo
from shim.task.stdio.relay import Relay

# Opens the target of an output. Returns descriptors: the first is written to, the others are only kept open. With an
# empty list the output is read, so that its writer does not block, and discarded.
OpenOutput = Callable[[], Awaitable[list[int]]]


class Output:
    """An output stream: copied from `source` to what `opener` opens. Owns both. `told` is called once it has ended."""

    def __init__(self, source: int, opener: OpenOutput, told: Callable[[], object] = lambda: None) -> None:
        self._fds = [source]
        self._opener = opener
        self._told = told
        self._relay: Relay | None = None
        self._finishing = False
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
        if self._finishing:
            self._relay.finish()

    def finish(self) -> None:
        """End once what is there has been copied, although others may have the source open for writing."""
        self._finishing = True
        if self._relay is not None:
            self._relay.finish()

    def close(self) -> None:
        """Stop copying; bytes that are still in the source are lost."""
        if self._relay is not None:
            self._relay.close()
        self._let_go()

    def _let_go(self) -> None:
        close_all(self._fds)
        self.ended.set()
        self._told()


class Input:
    """The input stream: copied from the client's FIFO at `path` to `target`, which this object owns.

    `told` is called once it has ended.
    """

    def __init__(self, path: str, target: int, told: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._told = told
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
        """Close our own writer of the FIFO: the stream ends when the client's writers are closed too."""
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
        self._told()


def close_all(fds: list[int]) -> None:
    """Close all of `fds` and empty it."""
    while fds:
        os.close(fds.pop())
