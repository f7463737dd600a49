"""Takes the application over from a container's init: who may connect, and the standard descriptors that it gets.

A peer that connects to the socket is container code until the shim has recognised it as the launcher. Until then the
shim reads nothing from the peer, so a silent connection delays nothing. Each check relies only on the kernel.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from runtime import cgroup as cgroups
from runtime.errors import NotFound
from runtime.linux import pidfd, statx
from shim.task.application.listening import listen

_BACKLOG = 8
# After this many logged refusals, a container that connects in a loop is answered ever more slowly.
_LOGGED_REFUSALS = 8
_LONGEST_PAUSE_S = 0.05
_INFINITY = 2**64 - 1

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """This connection is not the launcher's; the message says why."""


class Adopted(NamedTuple):
    """The launcher, waiting for the shim's answer. `pid` is a host PID; the holder closes `pidfd` and `connection`.

    Send signals through `pidfd` only.
    """

    pid: int
    pidfd: int
    connection: socket.socket

    def release(self, stdio: Sequence[int], rlimits: Iterable[tuple[int, int, int]] = ()) -> None:
        """Let the launcher become the application, with `stdio` as its descriptors 0, 1 and 2; close the connection.

        `rlimits` are those of `AppProcess`, which the launcher sets. The caller keeps the descriptors and has made the
        `ApplicationExit`. Raises NotFound if the launcher has ended.
        """
        for number, _, hard in rlimits:
            self._allow(number, -1 if hard == _INFINITY else hard)
        try:
            with self.connection:
                socket.send_fds(self.connection, [b"\0"], list(stdio), socket.MSG_NOSIGNAL)
        except ConnectionError as err:
            raise NotFound("the application's launcher has ended") from err

    def _allow(self, number: int, hard: int) -> None:
        """Let the launcher set the hard limit `hard` (-1: none), which only a privileged process may raise.

        Some versions of systemd lower their own for good: RLIMIT_NOFILE before 234, RLIMIT_MEMLOCK in 239 to 243
        (src/core/main.c, bump_rlimit_memlock). The launcher reports what could not be raised here.
        """
        with suppress(OSError):
            soft, now = resource.prlimit(self.pid, number)
            if now != resource.RLIM_INFINITY and (hard > now or hard == resource.RLIM_INFINITY):
                resource.prlimit(self.pid, number, (soft, hard))

    def close(self) -> None:
        """Close both descriptors. A launcher that was not released then ends by itself."""
        self.connection.close()
        with suppress(OSError):
            os.close(self.pidfd)


class AppSocket:
    """Listens at `path`, in the container's run directory, for the one launcher of a container.

    `init_pid` is the host PID of the container's PID 1, `launcher` identifies the launcher's file on the host, and
    `root_uid` is the host id of the container's uid 0, the only user who may connect. Without `cgroup` the cgroup is
    not checked. `close` removes the socket. Raises OSError.
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
        self._path = path
        self._pid_namespace = os.readlink(f"/proc/{init_pid}/ns/pid")
        self._cgroup = cgroup
        self._executable = (launcher.st_dev, launcher.st_ino)
        self._root_uid = root_uid
        self._loop = loop
        self._refusals = 0
        self._listener = listen(path, root_uid=root_uid, backlog=_BACKLOG)

    async def accept(self) -> Adopted:
        """Wait for the launcher to connect, then close the socket and return the launcher. Other peers are refused.

        There is no time limit. Cancelling leaves the socket open.
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
            os.unlink(self._path)

    async def _refuse(self, reason: _Refused) -> None:
        self._refusals += 1
        if self._refusals <= _LOGGED_REFUSALS:
            directory, name = os.path.split(self._path)
            _log.warning("container %s: %s: refused a connection: %s", os.path.basename(directory), name, reason)
            return
        await asyncio.sleep(min((self._refusals - _LOGGED_REFUSALS) / 1000, _LONGEST_PAUSE_S))

    def _check(self, connection: socket.socket) -> Adopted:
        """Raises _Refused. /proc described the right process, because the pidfd shows it alive after the checks."""
        uid = pidfd.peer_of(connection).uid
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
    """A pidfd of the peer.

    Before Linux 6.5 the kernel keeps only the peer's PID, which the container can reuse for another of its processes.
    The checks then apply to that process, and at worst the container delays its own start.
    """
    fd = pidfd.peer_pidfd(connection)
    if fd is not None:
        return fd
    pid = pidfd.peer_of(connection).pid
    if pid <= 0:
        raise ProcessLookupError("the peer has no pid here")
    try:
        return pidfd.open(pid)
    except OSError as err:
        if err.errno == errno.EINVAL:  # up to Linux 6.4, when the PID now belongs to a thread or a session
            raise ProcessLookupError(f"pid {pid} has ended") from err
        raise


def _within(inner: cgroups.Cgroup, outer: cgroups.Cgroup) -> bool:
    """Whether `inner` is `outer` or below it, in every hierarchy that `outer` names."""
    pairs = [(inner.unified, outer.unified)] if outer.unified else []
    pairs += [(inner.directory(controller), directory) for controller, directory in outer.controllers]
    return bool(pairs) and all(f"{below}/".startswith(f"{above}/") for below, above in pairs)
