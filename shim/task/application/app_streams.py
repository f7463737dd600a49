"""The client's streams as the application under an init gets them: three descriptors, which the launcher is sent."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from runtime.linux import null
from shim.task.stdio.endpoints import close_all
from shim.task.stdio.stdio import Stdio


class AppStreams:
    """`uid` is the application's user as the host sees it.

    With `again` init may start a next application, which gets the same streams: they stay open until `close`.
    """

    def __init__(self, stdio: Stdio, *, uid: int, again: bool) -> None:
        self._stdio = stdio
        self._uid = uid
        self._again = again
        self._kept_fds: list[int] = []
        self._kept_numbers: list[int] = []

    @contextmanager
    def given(self) -> Iterator[list[int]]:
        """The application's 0, 1 and 2, which are its user's; a /dev/null in the place of each that is not wanted.

        They are to be passed on within the context. Raises OSError.
        """
        fds = self._far_ends()
        self._give(fds.values())
        own = null.open_own()
        try:
            yield [fds.get(number, own) for number in (0, 1, 2)]
        finally:
            os.close(own)

    def _far_ends(self) -> dict[int, int]:
        """The process's descriptor -> ours, of the far ends of the client's streams."""
        if not self._again:
            return self._stdio.child_fds() or {}
        if not self._kept_fds:
            fds = self._stdio.child_fds() or {}
            self._kept_numbers = sorted(fds)
            self._kept_fds = [os.dup(fds[number]) for number in self._kept_numbers]
        return dict(zip(self._kept_numbers, self._kept_fds, strict=True))

    def _give(self, fds: Iterable[int]) -> None:
        """To the application's user, which may then open /dev/stdout again, as the OCI runtimes do with init's."""
        for fd in fds:
            about = os.fstat(fd)
            if stat.S_ISFIFO(about.st_mode) and about.st_uid != self._uid:
                with suppress(OSError):  # one of the client's that cannot be given away stays as it is
                    os.fchown(fd, self._uid, -1)

    def close(self) -> None:
        """There is no next application: let the client see the end of what is written. May be repeated."""
        close_all(self._kept_fds)
        self._stdio.process_ended()
