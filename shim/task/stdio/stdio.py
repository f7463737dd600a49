"""The three streams of a process, in each form that a client may ask for (containerd, pkg/process/io.go).

A form is opened before the OCI runtime makes the process, provides the process's descriptors, is attached to the
client's ends once the process is made, and is closed at Delete. The scheme of `stdout` alone decides the form.
"""

import asyncio
import os
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from shim.task.stdio import fifo
from shim.task.stdio.endpoints import Input, OpenOutput, Output, close_all
from shim.task.stdio.url import path_of

DRAIN_TIMEOUT_S = 10.0


class StdioPaths(NamedTuple):
    """The paths of the request, which State returns unchanged; "" is a stream that the client does not want."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False

    @property
    def scheme(self) -> str:
        """`fifo` for plain paths, else the scheme of stdout's URL."""
        return urlsplit(self.stdout).scheme or "fifo"


class Owner(NamedTuple):
    """The owner of the ends that the process gets (`io_uid` and `io_gid` of the runc options)."""

    uid: int = 0
    gid: int = 0


class Stdio(Protocol):
    """What a process needs of its streams, whatever their form."""

    @property
    def console_socket(self) -> str:
        """The path for the OCI runtime's `--console-socket`; "" without a terminal."""

    def child_fds(self) -> dict[int, int] | None:
        """The process's descriptor -> ours; missing ones are /dev/null. None with a terminal."""

    async def attach(self) -> None:
        """Connect with the client's ends. Raises OSError or DeadlineExceeded."""

    def close_stdin(self) -> None:
        """The client sends no more input. May be repeated."""

    def resize(self, *, width: int, height: int) -> None:
        """Set the terminal's size, where there is one."""

    def process_ended(self) -> None:
        """The process is gone: its streams end with their last holder. May be repeated, and precede `attach`."""

    def discard(self) -> None:
        """No process will get the streams, which are not attached: let the client see EOF.

        containerd waits for EOF before it sends Delete (client/task.go), and at its own start before it serves.
        """

    async def drain(self) -> None:
        """Wait until the client has all output, for 10 s at most: a stray child may hold a stream open."""

    async def close(self) -> None:
        """Close everything, in whatever state. May be repeated."""


class PipeIO:
    """Anonymous pipes to the process, copied from and to the client's FIFOs; for a stream that is unwanted, no pipe.

    They outlive any client, and their ends can belong to the process's user. Outputs in `direct` are the client's FIFOs
    themselves: descriptor of the process -> (end that the process gets, end kept open against EPIPE). Owns both ends.
    """

    console_socket = ""

    def __init__(
        self, stdin: str, outputs: dict[int, OpenOutput], owner: Owner, *, direct: dict[int, tuple[int, int]]
    ) -> None:
        self._child_ends = {fd: theirs for fd, (theirs, _) in direct.items()}
        self._kept = [ours for _, ours in direct.values()]
        self._input: Input | None = None
        self._outputs: list[Output] = []
        try:
            for theirs in self._child_ends.values():
                _give(theirs, owner)
            if stdin:
                theirs, ours = self._pipe(owner)
                self._child_ends[0] = theirs
                self._input = Input(stdin, ours)
            for fd, opener in outputs.items():
                ours, theirs = self._pipe(owner)
                self._child_ends[fd] = theirs
                self._outputs.append(Output(ours, opener))
        except BaseException:
            self._close_now()
            raise

    def _pipe(self, owner: Owner) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        _give(ends[0], owner)  # both ends share one inode
        return ends

    def child_fds(self) -> dict[int, int]:
        """The pipes' far ends."""
        return self._child_ends

    async def attach(self) -> None:
        """Close the process's ends, or no stream would ever end, and connect ours to the client."""
        self._close_child_ends()
        if self._input is not None:
            self._input.attach()
        for output in self._outputs:
            await output.attach()

    def close_stdin(self) -> None:
        """See Input.end."""
        if self._input is not None:
            self._input.end()

    def resize(self, *, width: int, height: int) -> None:
        """No terminal, no effect."""

    def process_ended(self) -> None:
        """Nothing to do: the process's ends are closed with it."""

    def discard(self) -> None:
        """Close every pipe; a later `attach` has no effect."""
        self._close_now()
        self._input, self._outputs = None, []

    async def drain(self) -> None:
        """Wait for the end of each copied output. Does not wait if no process ever got the pipes."""
        if not self._child_ends:
            await drained(self._outputs)

    async def close(self) -> None:
        """Close every pipe."""
        self._close_now()

    def _close_now(self) -> None:
        self._close_child_ends()
        close_all(self._kept)
        if self._input is not None:
            self._input.close()
        for output in self._outputs:
            output.close()

    def _close_child_ends(self) -> None:
        ends, self._child_ends = self._child_ends, {}
        close_all(list(ends.values()))


def _give(fd: int, owner: Owner) -> None:
    if owner.uid or owner.gid:
        os.fchown(fd, owner.uid, owner.gid)


async def drained(outputs: list[Output]) -> None:
    """Wait until all `outputs` have ended, for DRAIN_TIMEOUT_S at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            for output in outputs:
                await output.ended.wait()


def to_client(path: str) -> OpenOutput:
    """Opens an output to the client's FIFO, or to a plain file, at `path`."""
    return partial(fifo.open_output, path)


def to_file(url: str) -> OpenOutput:
    """Opens an output that is appended to the file of a `file://` URL; makes missing directories and the file."""

    async def open_file() -> list[int]:
        path = path_of(url)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)]

    return open_file
