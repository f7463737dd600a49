"""The client's streams for an application under an init: three descriptors, which the shim sends to the launcher."""

import os
import stat
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runtime.linux import null
from shim.task.stdio.endpoints import close_all
from shim.task.stdio.stdio import Stdio


class AppStreams:
    """The streams of one application. `uid` is the host id of the application's user.

    With `again` init may restart the application, which then gets the same streams: they stay open until `close`. A
    terminal is given with its first settings each time, and without input that the former process has not read.
    """

    def __init__(self, stdio: Stdio, *, uid: int, again: bool) -> None:
        self._stdio = stdio
        self._uid = uid
        self._again = again
        self._kept_fds: list[int] = []
        self._kept_numbers: list[int] = []
        self._settings: list[Any] = []
        """The first settings of a terminal (termios(3)) for each of `_kept_fds`; empty without a terminal."""

    @contextmanager
    def application_fds(self) -> Iterator[list[int]]:
        """The application's descriptors 0, 1 and 2, owned by its user; /dev/null stands for a stream nobody asked for.

        Pass them on within the context. Raises OSError.
        """
        fds = self._far_ends()
        self._give(fds.values())
        own = null.open_own()
        try:
            yield [fds.get(number, own) for number in (0, 1, 2)]
        finally:
            os.close(own)

    def _far_ends(self) -> dict[int, int]:
        """The ends that the application gets: its descriptor -> ours."""
        if not self._again:
            return self._stdio.child_fds() or {}
        if not self._kept_fds:
            fds = self._stdio.child_fds() or {}
            self._kept_numbers = sorted(fds)
            self._kept_fds = [os.dup(fds[number]) for number in self._kept_numbers]
            self._settings = [termios.tcgetattr(fd) for fd in self._kept_fds if os.isatty(fd)]
        else:
            self._reset_terminal()
        return dict(zip(self._kept_numbers, self._kept_fds, strict=True))

    def _reset_terminal(self) -> None:
        with suppress(termios.error):  # hung up
            for fd, settings in zip(self._kept_fds, self._settings, strict=False):
                termios.tcsetattr(fd, termios.TCSANOW, settings)
                termios.tcflush(fd, termios.TCIFLUSH)

    def _give(self, fds: Iterable[int]) -> None:
        """Give FIFOs to the application's user, who may then reopen /dev/stdout. OCI runtimes do the same for init."""
        for fd in fds:
            about = os.fstat(fd)
            if stat.S_ISFIFO(about.st_mode) and about.st_uid != self._uid:
                with suppress(OSError):  # a FIFO of the client that cannot change its owner stays as it is
                    os.fchown(fd, self._uid, -1)

    def close(self) -> None:
        """The application is not started again: close the streams, so that the client sees EOF. May be repeated."""
        close_all(self._kept_fds)
        self._stdio.process_ended()
