"""What an agent prints, as lines of the shim's log: bounded in length and rate, and it cannot forge one."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress

LINE_BYTES = 512
BURST = 50
LINES_PER_S = 5.0

_CHUNK = 1 << 16
_log = logging.getLogger(__name__)


def printable(line: bytes) -> str:
    """The first LINE_BYTES of a line for the log: what is no text, or would steer a terminal, is shown as an escape."""
    cut = line[:LINE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)


class LineFilter:
    """Lines out of chunks of bytes, of which at most BURST at once and LINES_PER_S on average pass. No I/O."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._rest = b""
        self._skipping = False
        self._credit = float(BURST)
        self._at = now()
        self._dropped = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines to log now that `data` has come; a line longer than LINE_BYTES is cut."""
        passed: list[str] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._skipping:
                self._offer(self._rest + line, passed)
            self._rest, self._skipping = b"", False
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > LINE_BYTES:
                self._offer(self._rest, passed)
                self._rest, self._skipping = b"", True
        return passed

    def _offer(self, line: bytes, passed: list[str]) -> None:
        now = self._now()
        self._credit = min(float(BURST), self._credit + (now - self._at) * LINES_PER_S)
        self._at = now
        if self._credit < 1:
            self._dropped += 1
            return
        if self._dropped:
            passed.append(f"({self._dropped} lines left out)")
            self._dropped = 0
        self._credit -= 1
        passed.append(printable(line))


class AgentLog:
    """A pipe whose other end is an agent's standard output and error, for all of its lives."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._filter = LineFilter()
        self._fds: tuple[int, int] | None = None
        self._closed = False

    def writer(self, uid: int, gid: int) -> int:
        """The end to give to a process of this user on the host, still ours; /dev/stdout can be opened again by it."""
        if self._closed:
            raise BrokenPipeError("the agent's log is closed")
        if self._fds is None:
            self._fds = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._fds[0], False)
            os.fchown(self._fds[1], uid, gid)
            asyncio.get_running_loop().add_reader(self._fds[0], self._read, self._fds[0])
        return self._fds[1]

    def _read(self, fd: int) -> None:
        with suppress(BlockingIOError):
            for line in self._filter.feed(os.read(fd, _CHUNK)):
                _log.info("%s: %s", self._prefix, line)

    def close(self) -> None:
        """Log what is there, and take no more. May be repeated."""
        self._closed = True
        fds, self._fds = self._fds, None
        if fds is not None:
            self._read(fds[0])
            asyncio.get_running_loop().remove_reader(fds[0])
            os.close(fds[0])
            os.close(fds[1])
