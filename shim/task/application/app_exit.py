"""How an adopted application ended. The shim is not its parent; the container's init reaps it."""

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
    """How to learn the exit status of a process that is not our child. The plan and `doctor` print the value."""

    PIDFD_INFO = "pidfd"
    PROC_CONNECTOR = "process connector"
    LAUNCHER_PARENT = "launcher stays as parent"


def exit_status_source() -> ExitStatusSource:
    """The best source of this kernel. The launcher's settings depend on it: LAUNCHER_PARENT must be known by then."""
    if pidfd.supports_exit_info():
        return ExitStatusSource.PIDFD_INFO
    return ExitStatusSource.PROC_CONNECTOR if proc_events.available() else ExitStatusSource.LAUNCHER_PARENT


class ApplicationExit:
    """The exit of a container's application. Make it before `Adopted.release`: the watch must exist before any exit.

    `close` it in the end; that leaves the pidfd open. Raises OSError where `source` is PROC_CONNECTOR and the kernel
    refuses the subscription.
    """

    def __init__(
        self, container_id: str, adopted: Adopted, source: ExitStatusSource, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._id = container_id
        self._pidfd = adopted.pidfd
        self._pid = adopted.pid
        self._loop = loop
        self._status: asyncio.Future[int] = loop.create_future()
        self._events = proc_events.ExitEvents(adopted.pid) if source is ExitStatusSource.PROC_CONNECTOR else None
        # The launcher that stays as parent writes the wait status here when the application has ended.
        self._report = adopted.connection.dup() if source is ExitStatusSource.LAUNCHER_PARENT else None
        self._source = self._events or self._report
        self._again: asyncio.TimerHandle | None = None
        loop.add_reader(self._pidfd, self._ended)

    async def wait(self) -> int:
        """The exit code, or 128 + n when signal n killed it. Any number of callers may wait and be cancelled."""
        return await asyncio.shield(self._status)

    @property
    def status(self) -> int | None:
        """What `wait` returns, or None while it is not known."""
        return self._status.result() if self._status.done() and not self._status.cancelled() else None

    def settle(self) -> None:
        """Call this once the container's PID 1 is gone: all of the container's processes are then dead and reaped.

        A status that is still unknown then stays unknown; the application counts as killed together with its init.
        """
        if self._resolve():
            return
        _log.warning(
            "container %s: the exit status of its application, pid %d, was lost with its init", self._id, self._pid
        )
        self._finish(_KILLED)

    def close(self) -> None:
        """Stop watching, and cancel every `wait`."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._pidfd)
        if self._source is not None:
            self._loop.remove_reader(self._source.fileno())
            self._source.close()
            self._source = self._events = self._report = None
        self._status.cancel()

    def _ended(self) -> None:
        """The pidfd is readable, and stays so. If the status is unknown, `_source` or PID 1's end settles it later."""
        self._loop.remove_reader(self._pidfd)
        try:
            is_known = self._resolve()
        except OSError as err:  # no descriptor or memory left to read /proc
            if self._again is None:
                _log.warning("container %s: how its application, pid %d, ended: %s", self._id, self._pid, err)
            self._again = self._loop.call_later(_AGAIN_S, self._ended)
            return
        if not is_known and self._source is not None:
            self._loop.add_reader(self._source.fileno(), self._resolve)

    def _resolve(self) -> bool:
        """Ask the source for the status. Return whether it is known now."""
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
        if status is None:  # not reaped yet; if init reaps it between the two calls, exit_status has the answer
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
            _log.warning(
                "container %s: the launcher of its application, pid %d, ended without an exit status to report",
                self._id,
                self._pid,
            )
            return _KILLED
        wait_status = _WAIT_STATUS.unpack(said)[0]
        # The number comes from within the container: accept only a wait status that means an end.
        if not (os.WIFEXITED(wait_status) or os.WIFSIGNALED(wait_status)):
            return _KILLED
        return pidfd.status_of(wait_status)

    def _finish(self, status: int) -> None:
        if self._source is not None:
            self._loop.remove_reader(self._source.fileno())
        if not self._status.done():
            self._status.set_result(status)
