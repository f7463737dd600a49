"""Logs what an agent prints as lines of the shim's log, bounded in length and rate. An agent cannot forge a line."""

import logging
import os
from collections.abc import Callable

from shim.task.report.lines import LineFilter
from shim.task.report.reading import ThrottledReader

_CHUNK, _MOST = 1 << 14, 1 << 20
"""Bytes per read; and the most that a pipe holds: 16 pages (pipe(7)) of 64 KiB, the largest page size."""
_log = logging.getLogger(__name__)


class AgentLog:
    """A pipe for an agent's standard output and error, kept over restarts of the agent.

    `keep` is called with the lines that pass the limits.
    """

    def __init__(self, prefix: str, keep: Callable[[list[str]], None] = lambda _: None) -> None:
        self._prefix = prefix
        self._keep = keep
        self._filter = LineFilter()
        self._fds: tuple[int, int] | None = None
        self._reading: ThrottledReader | None = None
        self._closed = False

    def writer(self, uid: int, gid: int) -> int:
        """The write end, for a process with these host ids, which may then reopen /dev/stdout. Do not close it."""
        if self._closed:
            raise BrokenPipeError("the agent's log is closed")
        if self._fds is None:
            self._fds = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._fds[0], False)
            os.fchown(self._fds[1], uid, gid)
            self._reading = ThrottledReader(self._fds[0], self._read)
        return self._fds[1]

    def _read(self) -> bool:
        """Read once. Return whether there was anything."""
        assert self._fds is not None
        try:
            data = os.read(self._fds[0], _CHUNK)
        except BlockingIOError:
            return False
        lines = self._filter.feed(data)
        for line in lines:
            _log.info("%s: %s", self._prefix, line)
        if lines:
            self._keep(lines)
        return True

    def close(self) -> None:
        """Log what is in the pipe, and close it. May be repeated."""
        self._closed = True
        if self._fds is not None and self._reading is not None:
            for _ in range(_MOST // _CHUNK):
                if not self._read():
                    break
            self._reading.close()
            for fd in self._fds:
                os.close(fd)
        self._fds = None
