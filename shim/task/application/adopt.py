"""Taking the application over from a container's init: who may connect, and its standard descriptors.

What connects to the socket is container code until it is proven to be the launcher. So nothing is ever read from it
before that: a connection that stays silent holds nothing up, and every check is an answer of the kernel's.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from runtime import cgroup as cgroups
from runtime.errors import NotFound
from runtime.linux import pidfd, statx

_BACKLOG = 8
# A container that connects in a loop gets this many lines in the log, and then its answers ever more slowly.
_LOGGED_REFUSALS = 8
_LONGEST_PAUSE_S = 0.05

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

        They remain the caller's. Make its `ApplicationExit` first. Raises NotFound if it has ended meanwhile.
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
    try:
        return pidfd.open(pid)
    except OSError as err:
        if err.errno == errno.EINVAL:  # up to Linux 6.4, of a number that is a thread's or a session's by now
            raise ProcessLookupError(f"pid {pid} has ended") from err
        raise


def _within(inner: cgroups.Cgroup, outer: cgroups.Cgroup) -> bool:
    """Whether `inner` is `outer` or below it, in every hierarchy that `outer` names."""
    pairs = [(inner.unified, outer.unified)] if outer.unified else []
    pairs += [(inner.directory(controller), directory) for controller, directory in outer.controllers]
    return bool(pairs) and all(f"{below}/".startswith(f"{above}/") for below, above in pairs)
