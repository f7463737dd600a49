"""The only caller of waitpid in a pod server: every child's exit passes here once.

Children are of two kinds. The PIDs of programs that the pod server starts (the OCI runtime, loggers, mount helpers) are
known before they can end. The containers' own processes become children of the pod server, a child subreaper, when the
OCI runtime that made them exits. Their PIDs are learnt later, from a pid file: an exit that arrives earlier is kept
while such a start is under way, and delivered on `watch`.
"""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from runtime import bundle as bundles
from runtime.linux import open_files, pidfd

# Python ignores these signals; a program that it starts must get the kernel's default actions.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


class Exit(NamedTuple):
    """How a process ended: `status` is its exit code, or 128 + n when signal n killed it; `at` is a time.time_ns()."""

    pid: int
    status: int
    at: int


class Child(NamedTuple):
    """A program that we started. One caller may await `ended` and be cancelled; the child is not affected."""

    pid: int
    ended: "asyncio.Future[Exit]"


def _is_child(pid: int) -> bool:
    """Whether `pid` is a child that lives or is not reaped: an exit kept for that PID is then an earlier process's."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Reaper:
    """Owns SIGCHLD and waitpid for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watchers: dict[int, Callable[[Exit], None]] = {}
        self._unclaimed: dict[int, Exit] = {}
        self._expecting = 0

    def install(self) -> None:
        """Handle SIGCHLD from now on, and reap the children that ended before."""
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def reap(self) -> None:
        """Reap every child that has ended, and call its watcher."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            exit = Exit(pid, pidfd.status_of(status), time.time_ns())
            watcher = self._watchers.pop(pid, None)
            if watcher is not None:
                watcher(exit)
            elif self._expecting:
                self._unclaimed[pid] = exit

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """A context around making a process whose PID is not known yet; `watch` the PID before leaving it."""
        self._expecting += 1
        try:
            yield
        finally:
            self._expecting -= 1
            if not self._expecting:
                self._unclaimed.clear()

    def watch(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Call `on_exit` once, when `pid` ends or if it has ended; from the loop, never from within this call."""
        exit = self._unclaimed.pop(pid, None)
        if exit is not None and not _is_child(pid):
            self._loop.call_soon(on_exit, exit)
        else:
            self._watchers[pid] = on_exit

    def kill(self, pid: int) -> None:
        """SIGKILL a child, whoever made it. No effect once it is reaped, since its PID may be another process's."""
        if _is_child(pid):
            os.kill(pid, signal.SIGKILL)

    def forget(self, pid: int) -> None:
        """Remove the watcher of `pid`."""
        self._watchers.pop(pid, None)

    def spawn(
        self,
        argv: Sequence[str],
        fds: Mapping[int, int],
        env: Mapping[str, str],
        *,
        program: str = "",
        session: bool = False,
    ) -> Child:
        """Start the program `argv[0]`, an absolute path; or the program at path `program`, with `argv[0]` as its name.

        `fds` maps the child's descriptors to ours; missing ones among 0, 1 and 2 are /dev/null. No others are
        inherited. With `session`, the child leads a new session. Raises OSError naming the program.
        """
        actions: list[tuple[object, ...]] = [
            (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2) if fd not in fds
        ]
        # A source that is also a target would be overwritten before its turn: duplicate it out of the way first.
        clear_of = max(fds, default=2) + 1
        moved = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, clear_of) for fd in fds.values() if fd < clear_of}
        try:
            sources = {theirs: moved.get(ours, ours) for theirs, ours in fds.items()}
            actions.extend((os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in sources.items())
            with open_files.of_spawned(max(sources.values(), default=0)):
                pid = os.posix_spawn(
                    program or argv[0],
                    list(argv),
                    dict(env),
                    file_actions=actions,
                    setsid=session,
                    setsigmask=(),
                    setsigdef=_DEFAULT_SIGNALS,
                )
        finally:
            for fd in moved.values():
                os.close(fd)
        ended: asyncio.Future[Exit] = self._loop.create_future()
        self._watchers[pid] = lambda exit: None if ended.done() else ended.set_result(exit)
        return Child(pid, ended)


async def make(call: Awaitable[None], pid_file: str, reaper: Reaper) -> int:
    """Await `call`, an `exec` of the OCI runtime, and return the PID that it has written to the file `pid_file`.

    If that fails or is cancelled, a process that was made nevertheless is killed, and the file removed. Raises what
    `call` raises; OSError or ValueError for the file.
    """
    try:
        await call
        return bundles.read_pid(pid_file)
    except BaseException:
        unmake(pid_file, reaper)
        raise


def unmake(pid_file: str, reaper: Reaper) -> None:
    """Kill the process whose PID is in the file `pid_file`, if there is one, and remove the file."""
    with suppress(OSError, ValueError):
        reaper.kill(bundles.read_pid(pid_file))
    bundles.unlink_if_exists(pid_file)
