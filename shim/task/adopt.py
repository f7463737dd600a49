"""Taking the application over from a container's init: who may connect, its standard descriptors, how it ended.

What connects to the socket is container code until it is proven to be the launcher. So nothing is ever read from it
before that: a connection that stays silent holds nothing up, and every check is an answer of the kernel's.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum

from runtime import cgroup as cgroups
from runtime.errors import NotFound
from runtime.linux import pidfd, proc_events, statx

_BACKLOG = 8
# A container that connects in a loop gets this many lines in the log, and then its answers ever more slowly.
_LOGGED_REFUSALS = 8
_LONGEST_PAUSE_S = 0.05
_WAIT_STATUS = struct.Struct("=i")
_KILLED = 128 + 9

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """This connection is not the launcher's; the message says why."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The launcher, waiting for its answer. `pid` is a host pid, `pidfd` and `connection` are the holder's to close.

    Only the pidfd is fit for signals.
    """

    pid: int
    pidfd: int
    connection: socket.socket

    def release(self, stdio: Sequence[int]) -> None:
        """Let the launcher become the application, with these three as its 0, 1 and 2, and close the connection.

        They remain the caller's. Watch its exit first. Raises NotFound if it has ended meanwhile.
        """
        try:
            with self.connection:
                socket.send_fds(self.connection, [b"\0"], list(stdio), socket.MSG_NOSIGNAL)
        except ConnectionError as err:
            raise NotFound("the application's launcher has ended") from err

    def close(self) -> None:
        """Give it up: a launcher that was not released ends by itself."""
        self.connection.close()
        with suppress(OSError):
            os.close(self.pidfd)


class AppSocket:
    """Listens at `path` for the one launcher of a container.

    `init_pid` is the host pid of the container's PID 1, `launcher` what the launcher's file is on the host, and
    `root_uid` the host id of the container's uid 0, who alone may connect. Without a `cgroup`, that check is left out.
    `close` removes the socket. Raises OSError.
    """

    def __init__(
        self,
        path: str,
        *,
        init_pid: int,
        cgroup: cgroups.Cgroup | None,
        launcher: os.stat_result,
        root_uid: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._directory, self._name = os.path.split(path)
        self._pid_namespace = os.readlink(f"/proc/{init_pid}/ns/pid")
        self._cgroup = cgroup
        self._executable = (launcher.st_dev, launcher.st_ino)
        self._root_uid = root_uid
        self._loop = loop
        self._refusals = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        """A socket's address holds 107 bytes and `path` may be longer: its directory is named by a descriptor.

        Nobody can connect before listen(), so the mode and the owner are in time.
        """
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=directory)
            self._listener.bind(f"/proc/self/fd/{directory}/{self._name}")
            os.chmod(self._name, 0o600, dir_fd=directory)
            os.chown(self._name, self._root_uid, -1, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        self._listener.listen(_BACKLOG)

    async def accept(self) -> Adopted:
        """The launcher, once it has connected; the socket is closed then. Others are refused, and waiting goes on.

        It has no time limit of its own; cancelling it leaves the socket open.
        """
        while True:
            connection, _ = await self._loop.sock_accept(self._listener)
            try:
                adopted = self._check(connection)
            except _Refused as reason:
                connection.close()
                await self._refuse(reason)
                continue
            except BaseException:
                connection.close()
                raise
            self.close()
            return adopted

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/{self._name}")

    async def _refuse(self, reason: _Refused) -> None:
        self._refusals += 1
        if self._refusals <= _LOGGED_REFUSALS:
            _log.warning("%s/%s: refused a connection: %s", self._directory, self._name, reason)
            return
        await asyncio.sleep(min((self._refusals - _LOGGED_REFUSALS) / 1000, _LONGEST_PAUSE_S))

    def _check(self, connection: socket.socket) -> Adopted:
        """Raises _Refused. What /proc says of a pid is said of the pidfd's process, as that is alive afterwards."""
        uid = pidfd.peer_credentials(connection).uid
        if uid != self._root_uid:
            raise _Refused(f"uid {uid}, not the container's root ({self._root_uid})")
        try:
            with ExitStack() as undo:
                fd = _open_peer(connection)
                undo.callback(os.close, fd)
                pid = pidfd.pid_of(fd)
                self._check_process(pid)
                if not pidfd.is_alive(fd):
                    raise _Refused(f"pid {pid} has ended")
                undo.pop_all()
                return Adopted(pid, fd, connection)
        except (ProcessLookupError, FileNotFoundError, NotFound) as err:
            raise _Refused("it has ended") from err
        except PermissionError as err:
            raise _Refused(f"it does not let us look: {err}") from err

    def _check_process(self, pid: int) -> None:
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
        if namespace != self._pid_namespace:
            raise _Refused(f"pid {pid} in {namespace}, not the container's {self._pid_namespace}")
        if self._cgroup is not None and not _within(cgroups.locate(pid), self._cgroup):
            raise _Refused(f"pid {pid} outside of the container's cgroup")
        if statx.identity(f"/proc/{pid}/exe") != self._executable:
            raise _Refused(f"pid {pid} does not run the launcher")


def _open_peer(connection: socket.socket) -> int:
    """A pidfd of who connected.

    Before Linux 6.5 the kernel keeps its number only, which a container can have reused by another process of its
    own: then that one passes or fails the checks, and at worst the container holds up its own start.
    """
    fd = pidfd.peer_pidfd(connection)
    if fd is not None:
        return fd
    pid = pidfd.peer_credentials(connection).pid
    if pid <= 0:
        raise ProcessLookupError("the peer has no pid here")
    return pidfd.open(pid)


def _within(inner: cgroups.Cgroup, outer: cgroups.Cgroup) -> bool:
    """Whether `inner` is `outer` or below it, in every hierarchy that `outer` names."""
    pairs = [(inner.unified, outer.unified)] if outer.unified else []
    pairs += [(inner.directory(controller), directory) for controller, directory in outer.controllers]
    return bool(pairs) and all(f"{below}/".startswith(f"{above}/") for below, above in pairs)


class Manner(Enum):
    """How an exit status is learnt of a process that is not our child. The value is what plan and doctor print."""

    PIDFD = "pidfd"
    CONNECTOR = "process connector"
    STAY = "launcher stays as parent"


def exit_manner() -> Manner:
    """The best manner that this kernel offers. STAY has to be known when init's unit is written: `launch stay app`."""
    if pidfd.supports_exit_info():
        return Manner.PIDFD
    return Manner.CONNECTOR if proc_events.available() else Manner.STAY


class ApplicationExit:
    """The exit of an adopted process. Make it before the release: what tells of an exit must be there by then.

    `close` it at last; it leaves the pidfd open. Raises OSError where `manner` is the connector and that refuses.
    """

    def __init__(self, adopted: Adopted, manner: Manner, loop: asyncio.AbstractEventLoop) -> None:
        self._pidfd = adopted.pidfd
        self._pid = adopted.pid
        self._loop = loop
        self._status: asyncio.Future[int] = loop.create_future()
        self._events = proc_events.ExitEvents(adopted.pid) if manner is Manner.CONNECTOR else None
        # The launcher's parent half writes to it when the application has ended.
        self._report = adopted.connection.dup() if manner is Manner.STAY else None
        self._source = self._events or self._report
        loop.add_reader(self._pidfd, self._ended)

    async def wait(self) -> int:
        """The exit code, or 128 + n when signal n killed it. Any number may wait, and be cancelled."""
        return await asyncio.shield(self._status)

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
        self._loop.remove_reader(self._pidfd)
        if self._source is not None:
            self._loop.remove_reader(self._source.fileno())
            self._source.close()
            self._source = self._events = self._report = None
        self._status.cancel()

    def _ended(self) -> None:
        """The pidfd is readable, and stays so: from here on another source tells, or PID 1's end does."""
        self._loop.remove_reader(self._pidfd)
        if not self._resolve() and self._source is not None:
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
        status = pidfd.exit_status(self._pidfd)
        if status is None and self._events is not None:
            return self._events.read()
        if status is None and self._report is not None:
            return self._read_report(self._report)
        if status is None:  # not reaped; if it is between the two questions, the first has an answer now
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
