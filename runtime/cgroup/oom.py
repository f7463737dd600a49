"""Watches a cgroup for processes that the kernel killed for lack of memory.

Only growth of the `oom_kill` counter matters. `oom` also counts allocations that merely failed, and on v1 the wake-ups
also come for a limit hit further up and for the removal of the cgroup.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING, Protocol

from runtime.cgroup import files
from runtime.linux import syscalls, timerfd

if TYPE_CHECKING:
    from runtime.cgroup.model import Cgroup

_GONE = (errno.ENOENT, errno.ENODEV)

# v1 notifies before it kills, and may print the victim's state to a slow console in between. So after a notification
# without a kill the counter is read again after each of these delays, in seconds.
_SECOND_LOOKS_S = (0.01, 0.05, 0.25, 1.0)


class OomWatch(Protocol):
    """`fileno()` is readable when `drain()` should be called; `drain()` may also be called at any other time."""

    def fileno(self) -> int:
        """The descriptor to poll. It belongs to this object."""

    def drain(self) -> int:
        """How many processes were killed since the last call. Never blocks; 0 once the cgroup is gone."""

    def close(self) -> None:
        """Close the descriptors. May be repeated."""


class _Counter:
    """`oom_kill` in an open file. It stays open because the path might later name another container's cgroup."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.gone = False
        self._seen = self._read() or 0

    def _read(self) -> int | None:
        try:
            return files.flat(os.pread(self.fd, 4096, 0)).get("oom_kill")
        except OSError:
            self.gone = True
            return None

    def growth(self) -> int | None:
        """The counter's growth since the last call; None if it is gone or the kernel (before 4.13) has none."""
        now = self._read()
        if now is None:
            return None
        before, self._seen = self._seen, now
        return max(now - before, 0)


class _V1Watch:
    """An eventfd that the memory controller signals, and a timer for later looks, in one epoll."""

    def __init__(self, directory: str) -> None:
        with contextlib.ExitStack() as undo:
            self._counter = _Counter(f"{directory}/memory.oom_control")
            undo.callback(os.close, self._counter.fd)
            self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self._event)
            self._timer = timerfd.create()
            undo.callback(os.close, self._timer)
            self._epoll = select.epoll()
            undo.callback(self._epoll.close)
            self._epoll.register(self._event, select.EPOLLIN)
            self._epoll.register(self._timer, select.EPOLLIN)
            files.write(f"{directory}/cgroup.event_control", f"{self._event} {self._counter.fd}")
            self._descriptors = undo.pop_all()
        self._unseen = 0  # wake-ups without a kill so far
        self._looks = 0

    def fileno(self) -> int:
        return self._epoll.fileno()

    def _wake_ups(self) -> int:
        try:
            return os.eventfd_read(self._event)
        except BlockingIOError:
            return 0

    def drain(self) -> int:
        if self._epoll.closed:
            return 0
        timerfd.clear(self._timer)
        wake_ups = self._wake_ups()
        growth = self._counter.growth()
        if self._counter.gone:
            return 0
        if growth is None:  # a kernel without the counter: the wake-up is the only evidence
            return int(wake_ups > 0)
        self._look_again(wake_ups, growth)
        return growth

    def _look_again(self, wake_ups: int, kills: int) -> None:
        """Arm the timer while there were more wake-ups than kills, a limited number of times."""
        self._unseen = max(self._unseen + wake_ups - kills, 0)
        if wake_ups:
            self._looks = 0
        if self._unseen and self._looks < len(_SECOND_LOOKS_S):
            timerfd.arm(self._timer, _SECOND_LOOKS_S[self._looks])
            self._looks += 1
        else:
            self._unseen = 0
            timerfd.arm(self._timer, 0)

    def close(self) -> None:
        self._descriptors.close()


class _V2Watch:
    """inotify on `memory.events`, and on `cgroup.events` for a last look when the cgroup empties."""

    def __init__(self, directory: str) -> None:
        with contextlib.ExitStack() as undo:
            self._counter = _Counter(f"{directory}/memory.events")
            undo.callback(os.close, self._counter.fd)
            self._inotify = syscalls.inotify_init1()
            undo.callback(os.close, self._inotify)
            for name in ("memory.events", "cgroup.events"):
                syscalls.inotify_add_watch(self._inotify, f"{directory}/{name}", syscalls.IN_MODIFY)
            self._descriptors = undo.pop_all()
        self._closed = False

    def fileno(self) -> int:
        return self._inotify

    def drain(self) -> int:
        if self._closed:
            return 0
        with contextlib.suppress(BlockingIOError):
            while os.read(self._inotify, 4096):
                pass
        return self._counter.growth() or 0

    def close(self) -> None:
        self._closed = True
        self._descriptors.close()


def watch(cgroup: Cgroup) -> OomWatch | None:
    """Start watching; earlier kills do not count. None without a memory controller, or if the cgroup is gone.

    Raises OSError where the kernel refuses: on v2 most likely EMFILE, when fs.inotify.max_user_instances is used up. On
    v1 a kill in a child cgroup is counted there only and not seen here.
    """
    directory = cgroup.directory("memory")
    if not directory:
        return None
    try:
        return _V2Watch(directory) if cgroup.unified else _V1Watch(directory)
    except OSError as err:
        if err.errno in _GONE:
            return None
        raise
