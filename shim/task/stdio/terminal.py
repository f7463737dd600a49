"""A process's terminal, copied to and from the client (containerd, pkg/process/init.go and io.go).

The OCI runtime makes the terminal; for an application under a real init the shim makes it.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from shim.task.stdio import console
from shim.task.stdio.app_terminal import AppTerminal, open_terminal
from shim.task.stdio.endpoints import Input, OpenOutput, Output, close_all
from shim.task.stdio.stdio import drained


class ConsoleSource(Protocol):
    """The source of a terminal."""

    @property
    def path(self) -> str:
        """The path for the OCI runtime's `--console-socket`; "" where the shim makes the terminal."""

    def child_fds(self) -> dict[int, int] | None:
        """The process's descriptors -> ours; None where the OCI runtime makes them."""

    async def receive(self) -> int:
        """The non-blocking master, which the caller then owns. Raises RuntimeFailed."""

    def close(self) -> None:
        """Close what is left. May be repeated."""


class AppConsole:
    """A terminal that the shim makes in the container's devpts, between the OCI runtime's create and start.

    `size` is its first size, an object with width and height (consoleSize of the OCI runtime spec), or None.
    """

    path = ""

    def __init__(self, size: Mapping[str, int] | None = None) -> None:
        self._size = size
        self._terminal: AppTerminal | None = None
        self._fds: list[int] = []

    def make(self, init_pid: int, *, uid: int) -> None:
        """Make it in the container of host process `init_pid`, for the user of host id `uid`. Raises RuntimeFailed."""
        self._terminal = open_terminal(init_pid, uid=uid)
        if self._size:
            console.resize(self._terminal.master, width=self._size.get("width", 0), height=self._size.get("height", 0))
        self._fds = [self._terminal.master, self._terminal.slave]

    def child_fds(self) -> dict[int, int]:
        """The process's end of the terminal."""
        assert self._terminal is not None
        return dict.fromkeys((0, 1, 2), self._terminal.slave)

    async def receive(self) -> int:
        """The master, which exists already."""
        assert self._terminal is not None
        self._fds.remove(self._terminal.master)
        return self._terminal.master

    def close(self) -> None:
        """Close our copy of the process's end, which the application has by now, and a master that nobody took."""
        close_all(self._fds)


class TerminalIO:
    """A pseudo-terminal, copied to and from the client until the process has ended, even while the process closes it.

    What others write to it after that is lost, and the end of the client's input hangs it up, as in containerd's runc
    shim (process/exec.go, setExited; runc/platform.go, CopyConsole). `after_close` ends the logging program, if the
    output goes to one.
    """

    def __init__(
        self,
        stdin: str,
        opener: OpenOutput | None,
        source: ConsoleSource,
        after_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stdin = stdin
        self._opener = opener
        self._source = source
        self._after_close = after_close
        self._master: int | None = None
        self._far_end: list[int] = []
        self._process_ended = False
        self._hangs_up = False
        self._size: tuple[int, int] | None = None
        self._ended_input = False
        self._input: Input | None = None
        self._output: Output | None = None

    @property
    def console_socket(self) -> str:
        """Where the OCI runtime sends the master, if it makes the terminal."""
        return self._source.path

    def child_fds(self) -> dict[int, int] | None:
        """None where the OCI runtime makes the terminal; else the process's end as 0, 1 and 2."""
        return self._source.child_fds()

    async def attach(self) -> None:
        """Take the master and connect it."""
        self._master = await self._source.receive()
        if not self._process_ended:
            self._far_end.append(console.open_pty_peer(self._master))
        self._source.close()
        if self._size is not None:
            self.resize(width=self._size[0], height=self._size[1])
        if self._stdin:
            self._input = Input(self._stdin, os.dup(self._master), self._input_has_ended)
            self._input.attach()
            if self._ended_input:
                self._input.end()
        self._output = Output(os.dup(self._master), self._opener or _discard, self._output_has_ended)
        if self._process_ended:
            self._output.finish()
        await self._output.attach()

    def _input_has_ended(self) -> None:
        self._hangs_up = True
        if self._output is not None:
            self._output.finish()

    def _output_has_ended(self) -> None:
        if self._hangs_up:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the master, unless it is closed already."""
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def close_stdin(self) -> None:
        """See Input.end."""
        self._ended_input = True
        if self._input is not None:
            self._input.end()

    def resize(self, *, width: int, height: int) -> None:
        """Set the size now, or as soon as there is a terminal."""
        self._size = (width, height)
        if self._master is not None:
            console.resize(self._master, width=width, height=height)

    def process_ended(self) -> None:
        """Close the process's end of the terminal, which was kept open until now, and copy what there is to read."""
        self._process_ended = True
        close_all(self._far_end)
        if self._output is not None:
            self._output.finish()

    def discard(self) -> None:
        """Nothing to do: the client's ends are not open before `attach`."""

    async def drain(self) -> None:
        """Wait until the client has what there is to read."""
        if self._output is not None:
            await drained([self._output])

    async def close(self) -> None:
        """Close the master, which hangs up the terminal."""
        self._source.close()
        close_all(self._far_end)
        for end in (self._input, self._output):
            if end is not None:
                end.close()
        self._hang_up()
        if self._after_close is not None:
            await self._after_close()


async def _discard() -> list[int]:
    return []
