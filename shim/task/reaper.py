"""The only caller of waitpid in a pod server: every child's exit passes here once.

Children are of two kinds. Programs that we start (the OCI runtime, loggers, mount helpers) are known by pid before
they can end. The containers' own processes become our children when the runtime that made them exits (we are a child
subreaper), and their pids are learnt later, from a pid file: an exit that arrives before that is kept while some such
start is under way, and delivered on `watch`.
"""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.linux import open_files, pidfd

# Python ignores these in itself; a program must find them as the kernel makes them.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `status` is its exit code, or 128 + n when signal n killed it; `at` is a time.time_ns()."""

    pid: int
    status: int
    at: int


@dataclass(frozen=True, slots=True)
class Child:
    """A program that we started. `ended` may be awaited by one and cancelled; the child goes on regardless."""

    pid: int
    ended: "asyncio.Future[Exit]"


def _is_child(pid: int) -> bool:
    """Whether `pid` is a child of ours, alive or not collected: an exit kept under that pid is an earlier process's."""
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
        """Take SIGCHLD, and collect whatever ended before."""
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def reap(self) -> None:
        """Collect every child that has ended, and tell who watches it."""
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
        """Hold while a process is made whose pid is not known yet; `watch` it before leaving."""
        self._expecting += 1
        try:
            yield
        finally:
            self._expecting -= 1
            if not self._expecting:
                self._unclaimed.clear()

    def watch(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Call `on_exit` once, from the loop and never from within this call, when `pid` has ended (or if it has)."""
        exit = self._unclaimed.pop(pid, None)
        if exit is not None and not _is_child(pid):
            self._loop.call_soon(on_exit, exit)
        else:
            self._watchers[pid] = on_exit

    def kill(self, pid: int) -> None:
        """SIGKILL a child, whoever made it; nothing once it is collected, as its number may be another process's."""
        if _is_child(pid):
            os.kill(pid, signal.SIGKILL)

    def forget(self, pid: int) -> None:
        """Do not tell anybody about `pid` any more."""
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
        """Start the program `argv[0]`, an absolute path, or the one at `program` by that name.

        `fds` maps the child's descriptors to ours; those of 0, 1, 2 that it leaves out are /dev/null. No other is
        inherited. With `session`, the child leads a session of its own. Raises OSError naming the program.
        """
        actions: list[tuple[object, ...]] = [
            (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2) if fd not in fds
        ]
        # A source among the targets would be overwritten before its turn: such a one is first moved out of the way.
        clear_of = max(fds, default=2) + 1
        moved = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, clear_of) for fd in fds.values() if fd < clear_of}
        try:
            actions.extend((os.POSIX_SPAWN_DUP2, moved.get(ours, ours), theirs) for theirs, ours in fds.items())
            with open_files.of_spawned():
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
