"""How an adopted application ended: we are not its parent, and init reaps it."""

import asyncio
import logging
import os
import socket
import struct
from enum import Enum

from runtime.linux import pidfd, proc_events
from shim.task.application.adopt import Adopted

_WAIT_STATUS = struct.Struct("=i")
_KILLED = 128 + 9
_AGAIN_S = 0.2

_log = logging.getLogger(__name__)


class ExitStatusSource(Enum):
    """Where the exit status of a process that is not our child comes from. The value is what plan and doctor print."""

    PIDFD_INFO = "pidfd"
    PROC_CONNECTOR = "process connector"
    LAUNCHER_PARENT = "launcher stays as parent"


def exit_status_source() -> ExitStatusSource:
    """The best that this kernel offers. LAUNCHER_PARENT has to be known when the launcher's settings are written."""
    if pidfd.supports_exit_info():
        return ExitStatusSource.PIDFD_INFO
    return ExitStatusSource.PROC_CONNECTOR if proc_events.available() else ExitStatusSource.LAUNCHER_PARENT


class ApplicationExit:
    """The exit of an adopted process. Make it before the release: what tells of an exit must be there by then.

    `close` it at last; it leaves the pidfd open. Raises OSError where `source` is PROC_CONNECTOR and the kernel refuses
    it.
    """

    def __init__(self, adopted: Adopted, source: ExitStatusSource, loop: asyncio.AbstractEventLoop) -> None:
        self._pidfd = adopted.pidfd
        self._pid = adopted.pid
        self._loop = loop
        self._status: asyncio.Future[int] = loop.create_future()
        self._events = proc_events.ExitEvents(adopted.pid) if source is ExitStatusSource.PROC_CONNECTOR else None
        # The launcher's parent half writes to it when the application has ended.
        self._report = adopted.connection.dup() if source is ExitStatusSource.LAUNCHER_PARENT else None
        self._source = self._events or self._report
        self._again: asyncio.TimerHandle | None = None
        loop.add_reader(self._pidfd, self._ended)

    async def wait(self) -> int:
        """The exit code, or 128 + n when signal n killed it. Any number may wait, and be cancelled."""
        return await asyncio.shield(self._status)

    @property
    def status(self) -> int | None:
        """What `wait` returns, or None while it is not known."""
        return self._status.result() if self._status.done() and not self._status.cancelled() else None

    def settle(self) -> None:
        """To be told that the container's PID 1 has gone: nothing of the container is alive, and all of it is reaped.

        A status that is still unknown then never comes to be known; the application counts as killed with its init.
        """
        if self._resolve():
            return
        _log.warning("pid %d: its exit status was lost with its init", self._pid)
        self._finish(_KILLED)

    def close(self) -> None:
        """Stop watching. Who still waits is cancelled."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._pidfd)
        if self._source is not None:
            self._loop.remove_reader(self._source.fileno())
            self._source.close()
            self._source = self._events = self._report = None
        self._status.cancel()

    def _ended(self) -> None:
        """The pidfd is readable, and stays so: from here on another source tells, or PID 1's end does."""
        self._loop.remove_reader(self._pidfd)
        try:
            is_known = self._resolve()
        except OSError as err:  # no descriptor or memory for a look at /proc
            if self._again is None:
                _log.warning("pid %d: how it ended: %s", self._pid, err)
            self._again = self._loop.call_later(_AGAIN_S, self._ended)
            return
        if not is_known and self._source is not None:
            self._loop.add_reader(self._source.fileno(), self._resolve)

    def _resolve(self) -> bool:
        """Ask everyone who may know by now."""
        if self._status.done():
            return True
        status = self._ask()
        if status is None:
            return False
        self._finish(status)
        return True

    def _ask(self) -> int | None:
        if self._events is not None:
            return self._events.read()
        if self._report is not None:
            return self._read_report(self._report)
        status = pidfd.exit_status(self._pidfd)
        if status is None:  # not reaped; if that happens between the two questions, the first has an answer now
            status = pidfd.zombie_status(self._pidfd)
        return pidfd.exit_status(self._pidfd) if status is None else status

    def _read_report(self, report: socket.socket) -> int | None:
        try:
            said = report.recv(_WAIT_STATUS.size)
        except BlockingIOError:
            return None
        except ConnectionError:
            said = b""
        if len(said) != _WAIT_STATUS.size:
            _log.warning("pid %d: its launcher ended without a word", self._pid)
            return _KILLED
        wait_status = _WAIT_STATUS.unpack(said)[0]
        # Only these two are endings; the number comes from within the container.
        if not (os.WIFEXITED(wait_status) or os.WIFSIGNALED(wait_status)):
            return _KILLED
        return pidfd.status_of(wait_status)

    def _finish(self, status: int) -> None:
        if self._source is not None:
            self._loop.remove_reader(self._source.fileno())
        if not self._status.done():
            self._status.set_result(status)
