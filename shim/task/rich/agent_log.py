"""What an agent prints, as lines of the shim's log: bounded in length and rate, and it cannot forge one."""

import logging
import os
from collections.abc import Callable

from shim.task.report.lines import LineFilter
from shim.task.report.reading import Reading

_CHUNK, _MOST = 1 << 14, 1 << 20
"""Bytes at once; and the most that a pipe holds, 16 pages (pipe(7)), where a page has 64 KiB."""
_log = logging.getLogger(__name__)


class AgentLog:
    """A pipe whose other end is an agent's standard output and error, for all of its lives.

    `keep` is given the lines that pass.
    """

    def __init__(self, prefix: str, keep: Callable[[list[str]], None] = lambda _: None) -> None:
        self._prefix = prefix
        self._keep = keep
        self._filter = LineFilter()
        self._fds: tuple[int, int] | None = None
        self._reading: Reading | None = None
        self._closed = False

    def writer(self, uid: int, gid: int) -> int:
        """The end to give to a process of this user on the host, still ours; /dev/stdout can be opened again by it."""
        if self._closed:
            raise BrokenPipeError("the agent's log is closed")
        if self._fds is None:
            self._fds = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._fds[0], False)
            os.fchown(self._fds[1], uid, gid)
            self._reading = Reading(self._fds[0], self._read)
        return self._fds[1]

    def _read(self) -> bool:
        """Whether there was something."""
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
        """Log what is there, and take no more. May be repeated."""
        self._closed = True
        if self._fds is not None and self._reading is not None:
            for _ in range(_MOST // _CHUNK):
                if not self._read():
                    break
            self._reading.close()
            for fd in self._fds:
                os.close(fd)
        self._fds = None
